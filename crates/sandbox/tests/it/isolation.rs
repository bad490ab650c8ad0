//! What a process sees of the host, and what it may do.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;

use dbuild_sandbox::rootless::{Identity, identity};
use dbuild_sandbox::{ExitStatus, Mount, MountSource, Network, Security};

use crate::support::{ROLE, Scene, say};
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("there_is_no_way_out_of_the_root", Needs::Nothing, no_way_out),
    ("capabilities_of_root", Needs::Nothing, capabilities_of_root),
    ("capabilities_of_others", Needs::Ids, capabilities_of_others),
    ("users_and_groups", Needs::Ids, users_and_groups),
    ("system_calls_that_are_refused", Needs::Nothing, system_calls),
    ("no_new_privs_is_a_choice", Needs::Nothing, no_new_privs),
    ("masked_paths_are_empty", Needs::Nothing, masked),
    ("kernel_settings_cannot_be_written", Needs::Nothing, read_only_paths),
    ("the_environment_is_exactly_what_was_given", Needs::Nothing, environment),
    ("only_three_descriptors", Needs::Nothing, descriptors),
    ("an_empty_standard_input", Needs::Nothing, stdin_is_empty),
    ("its_own_processes_only", Needs::Nothing, processes),
    ("host_name", Needs::Nothing, hostname),
    ("no_network", Needs::Nothing, no_network),
    ("the_hosts_network", Needs::Nothing, host_network),
    ("devices", Needs::Nothing, devices),
    ("a_limit_of_processes", Needs::Nothing, process_limit),
    ("resource_limits", Needs::Nothing, resource_limits),
    ("signals_are_as_programs_expect", Needs::Nothing, signals),
    ("insecure_means_it", Needs::Nothing, insecure),
];

const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

/// `/proc/self/status` in a scene, by name.
pub(crate) fn status(scene: &Scene) -> BTreeMap<String, String> {
    let text = scene.output();
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// A mount stacked over the root would not be seen at "/", but at "..".
fn no_way_out() {
    let script = "
        for way in /.. /../../.. /proc/1/root/.. /proc/self/cwd/..; do echo $(ls $way); done
        cut -d' ' -f5 /proc/self/mountinfo | grep -vE '^/(proc|dev|sys)(/|$)'";
    let root = "bin dev etc proc root sys tmp usr\n".repeat(4);
    assert_eq!(Scene::sh(script).output(), root + "/");
}

fn capabilities_of_root() {
    let status = status(&Scene::program(&["cat", "/proc/self/status"]));
    for name in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status[name], DEFAULT_CAPABILITIES, "{name}");
    }
    for name in ["CapInh", "CapAmb"] {
        assert_eq!(status[name], "0000000000000000", "{name}");
    }
    assert_eq!((status["Seccomp"].as_str(), status["NoNewPrivs"].as_str()), ("2", "0"));
    assert_eq!(status["NSpid"].split_whitespace().last(), Some("1"));
}

fn capabilities_of_others() {
    let scene = Scene::program(&["cat", "/proc/self/status"]).with(|spec| {
        (spec.uid, spec.gid) = (1000, 1000);
    });
    let status = status(&scene);
    for name in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(status[name], "0000000000000000", "{name}");
    }
    assert_eq!(status["CapBnd"], DEFAULT_CAPABILITIES);
}

fn users_and_groups() {
    let scene =
        Scene::sh("id -u; id -g; id -G; touch /tmp/mine; echo out > /dev/stdout; touch /etc/x || echo no")
            .with(|spec| (spec.uid, spec.gid, spec.groups) = (1000, 100, vec![7, 8]));
    assert_eq!(scene.output(), "1000\n100\n100 7 8\nout\nno");
    if identity() == Identity::Root {
        use std::os::unix::fs::MetadataExt as _;
        let file = fs::metadata(scene.upper("tmp/mine")).unwrap();
        assert_eq!((file.uid(), file.gid()), (1000, 100));
    }
}

/// Runs this very program, with the host's libraries, to make the calls one by one.
fn system_calls() {
    let scene = Scene::program(&["/tmp/calls"]).with(|spec| {
        spec.env.push((ROLE.to_owned(), "calls".to_owned()));
        let program = std::env::current_exe().unwrap();
        let libraries = ["/usr", "/lib", "/lib64"].map(|dir| (dir, fs::canonicalize(dir)));
        let libraries = libraries.into_iter().filter_map(|(target, path)| Some((target, path.ok()?)));
        for (target, path) in libraries.chain([("/tmp/calls", program)]) {
            let source = MountSource::Bind { path, readonly: true };
            spec.mounts.push(Mount { target: target.into(), source });
        }
    });
    let text = scene.output();
    let got: BTreeMap<&str, i32> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, errno)| (name, errno.parse().unwrap()))
        .collect();
    for name in [
        "mount",
        "unshare",
        "setns",
        "keyctl",
        "bpf",
        "io_uring_setup",
        "reboot",
        "alg",
        "vsock",
        "no_randomisation",
    ] {
        assert_eq!(got[name], libc::EPERM, "{name}");
    }
    for name in ["clone3", "from_the_future"] {
        assert_eq!(got[name], libc::ENOSYS, "{name}");
    }
    for name in ["uname26", "chroot", "unix"] {
        assert_eq!(got[name], 0, "{name}");
    }
    #[cfg(target_arch = "x86_64")]
    assert_eq!((got["mount_x86"], got["getpid_x86"]), (libc::EPERM, 0));
}

/// The inside of [`system_calls`]: `name errno` per line.
pub(crate) fn make_calls() {
    let null = std::ptr::null::<libc::c_void>();
    let call = |name: &str, number: libc::c_long, arguments: [libc::c_long; 3]| {
        // SAFETY: the calls are refused, or harmless with these arguments: null pointers and small
        // numbers.
        let result = unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2], null, 0) };
        let errno = if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 };
        say(&format!("{name} {errno}"));
    };
    let stream = libc::SOCK_STREAM.into();
    call("mount", libc::SYS_mount, [0; 3]);
    call("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0]);
    call("setns", libc::SYS_setns, [0; 3]);
    call("keyctl", libc::SYS_keyctl, [0; 3]);
    call("bpf", libc::SYS_bpf, [0; 3]);
    call("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0]);
    call("reboot", libc::SYS_reboot, [0; 3]);
    call("clone3", libc::SYS_clone3, [0; 3]);
    call("from_the_future", 1023, [0; 3]);
    call("alg", libc::SYS_socket, [libc::AF_ALG.into(), libc::SOCK_SEQPACKET.into(), 0]);
    call("vsock", libc::SYS_socket, [libc::AF_VSOCK.into(), stream, 0]);
    call("unix", libc::SYS_socket, [libc::AF_UNIX.into(), stream, 0]);
    call("uname26", libc::SYS_personality, [libc::UNAME26.into(), 0, 0]);
    call("no_randomisation", libc::SYS_personality, [libc::ADDR_NO_RANDOMIZE.into(), 0, 0]);
    call("chroot", libc::SYS_chroot, [c"/".as_ptr() as libc::c_long, 0, 0]);
    #[cfg(target_arch = "x86_64")]
    for (name, number) in [("mount_x86", 21_i64), ("getpid_x86", 20)] {
        let result: i64;
        // SAFETY: a call by the 32-bit table, without pointers; rbx, which compilers reserve, is
        // kept.
        unsafe {
            std::arch::asm!(
                "push rbx", "xor ebx, ebx", "int 0x80", "pop rbx",
                inlateout("rax") number => result,
                in("rcx") 0, in("rdx") 0, in("rsi") 0, in("rdi") 0,
                lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            );
        }
        let result = result as i32;
        say(&format!("{name} {}", if result < 0 { -result } else { 0 }));
    }
}

fn no_new_privs() {
    let scene = Scene::program(&["cat", "/proc/self/status"]).with(|spec| spec.no_new_privs = true);
    assert_eq!(status(&scene)["NoNewPrivs"], "1");
}

fn masked() {
    let script = "
        for file in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
            test ! -e $file || echo \"$(head -c 100 $file | wc -c)\" $file
        done
        for dir in /proc/acpi /proc/scsi /sys/firmware; do test ! -e $dir || echo \"$(ls $dir | wc -l)\" $dir; done";
    let output = Scene::sh(script).output();
    assert!(output.contains("/proc/keys") || output.contains("/proc/timer_list"), "{output}");
    assert!(output.lines().all(|line| line.starts_with("0 ")), "{output}");
}

fn read_only_paths() {
    let script = "
        for file in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel/mm/ksm/run /proc/irq/x; do
            { echo 1 > $file; } 2>/dev/null && echo written $file
        done
        mkdir /sys/fs/cgroup/x 2>/dev/null && echo made
        awk '$5 == \"/proc/sys\" || $5 == \"/sys\" { print $5, substr($6, 1, 2) }' /proc/self/mountinfo; true";
    assert_eq!(Scene::sh(script).output(), "/sys ro\n/proc/sys ro");
}

fn environment() {
    let scene = Scene::program(&["/bin/env"]).with(|spec| {
        spec.env = vec![("B".into(), "two = 2\nlines".into()), ("A".into(), String::new())];
    });
    assert_eq!(scene.output(), "B=two = 2\nlines\nA=");
}

/// Many descriptors are open in this process, and some of them are not closed by exec.
fn descriptors() {
    let kept = fs::File::open("/").unwrap();
    // SAFETY: makes the flag of a descriptor that this test owns inheritable.
    unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&kept), libc::F_SETFD, 0) };
    assert_eq!(Scene::sh("ls /proc/1/fd; true").output(), "0\n1\n2");
    assert_eq!(Scene::program(&["ls", "/proc/self/fd"]).output(), "0\n1\n2\n3");
}

fn stdin_is_empty() {
    assert_eq!(Scene::sh("cat | wc -c; readlink /proc/self/fd/0").output(), "0\n/dev/null");
}

fn processes() {
    // The shell itself looks, so that nothing else is there.
    let output = Scene::sh("echo $$; set -- /proc/[0-9]*; echo $#; cat /proc/1/comm; true").output();
    assert_eq!(output, "1\n1\nsh");
}

fn hostname() {
    let scene =
        Scene::sh("hostname; cat /proc/sys/kernel/hostname").with(|spec| spec.hostname = "box".into());
    assert_eq!(scene.output(), "box\nbox");
}

fn no_network() {
    let scene = Scene::sh("ls /sys/class/net; ip addr show lo | grep -c 'inet 127.0.0.1'; ping -c1 -W1 127.0.0.1 >/dev/null && echo up")
        .with(|spec| spec.network = Network::None);
    assert_eq!(scene.output(), "lo\n1\nup");
}

fn host_network() {
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    let theirs = Scene::sh("readlink /proc/self/ns/net");
    assert_eq!(theirs.output(), ours.to_str().unwrap());
    for namespace in ["mnt", "pid", "ipc", "uts", "cgroup"] {
        let ours = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        let theirs = Scene::sh(&format!("readlink /proc/self/ns/{namespace}")).output();
        assert_ne!(theirs, ours.to_str().unwrap());
    }
}

fn devices() {
    let output = Scene::sh("ls /dev; echo x > /dev/null; head -c 2 /dev/zero | wc -c; echo > /dev/full || echo full; ls -A /dev/shm /dev/mqueue | wc -w; readlink /dev/stdin; stat -c %a /dev/shm /dev/null").output();
    let expected = "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n\
                    2\nfull\n2\n/proc/self/fd/0\n1777\n666";
    assert_eq!(output, expected);
}

fn process_limit() {
    let scene = Scene::sh("i=0; while [ $i -lt 500 ] && sleep 30 & do i=$((i+1)); done; echo $i")
        .with(|spec| spec.limits.pids = Some(310));
    if fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().starts_with("5.") {
        return assert!(scene.spawn().notes().len() < 2);
    }
    // The shell gives up when it cannot fork; the sleeping ones go with it.
    let outcome = scene.run();
    assert_ne!(outcome.exit.status, ExitStatus::Code(0), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("fork"), "{}", outcome.stderr);
}

fn resource_limits() {
    let output = Scene::sh("ulimit -Sn; ulimit -Sc; test $(ulimit -Hn) -le 1048576 && echo bounded").output();
    assert_eq!(output, "1024\n0\nbounded");
}

/// The Rust runtime ignores SIGPIPE, and the helper blocks everything: nothing of that may be
/// inherited.
fn signals() {
    let status = status(&Scene::program(&["cat", "/proc/self/status"]));
    for name in ["SigBlk", "SigIgn", "SigCgt", "SigPnd"] {
        assert_eq!(status[name], "0000000000000000", "{name}");
    }
}

fn insecure() {
    let scene = Scene::program(&["cat", "/proc/self/status"]).with(|spec| spec.security = Security::Insecure);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let status = status(&scene);
    assert_eq!((status["CapEff"].as_str(), status["Seccomp"].as_str()), (own, "0"));
    let scene = Scene::sh("mount -t tmpfs x /tmp && touch /tmp/x && ls /tmp")
        .with(|spec| spec.security = Security::Insecure);
    assert_eq!(scene.output(), "x");
    assert!(!scene.upper("tmp/x").exists());
}
