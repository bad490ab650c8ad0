//! The system calls that need `unsafe`, each behind a safe function. Everything else goes through
//! rustix.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;

use crate::exit::{ExitStatus, Usage};

/// What [`fork`] returned in.
pub(crate) enum Forked {
    /// The new process.
    Child,
    /// The old one.
    Parent(Pid),
}

/// Forks. Only the helper calls this, which has one thread: the child may do all that the parent
/// may.
pub(crate) fn fork() -> io::Result<Forked> {
    // SAFETY: the calling process has a single thread (it is the helper, or a program that has not
    // started any), so no lock can be held by a thread that the child lacks.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Pid::from_raw(pid).map(Forked::Parent).ok_or_else(|| io::ErrorKind::Other.into()),
    }
}

/// Enters new namespaces.
pub(crate) fn unshare(namespaces: UnshareFlags) -> io::Result<()> {
    debug_assert!(!namespaces.contains(UnshareFlags::FILES));
    // SAFETY: descriptors stay shared; namespaces are not memory.
    Ok(unsafe { rustix::thread::unshare_unsafe(namespaces) }?)
}

/// Ends the process without running anything of it.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` does not return and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// Adds attributes to the mount that a descriptor stands for, and to those below it.
pub(crate) fn set_mount_attributes(
    mount: impl AsFd,
    below: bool,
    attributes: MountAttrFlags,
) -> rustix::io::Result<()> {
    let change =
        libc::mount_attr { attr_set: attributes.bits().into(), attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if below { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and `change` is valid for its size during the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const change,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Loads a filter for this process and its children.
pub(crate) fn load_seccomp(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions from `filter`, which outlives the call, and
    // writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(result)
}

/// Loads a filter that hands calls to the holder of the descriptor.
pub(crate) fn load_seccomp_with_listener(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    /// A signal does not interrupt a call that the holder has received; from Linux 5.19 on.
    const WAIT_KILLABLE_RECV: libc::c_ulong = 1 << 5;
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let load = |flags: libc::c_ulong| {
        // SAFETY: as in `load_seccomp`.
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) }
    };
    let listener = match load(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | WAIT_KILLABLE_RECV) {
        -1 => load(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER),
        listener => listener,
    };
    check(listener)?;
    let listener = i32::try_from(listener).map_err(|_| io::ErrorKind::Other)?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(listener) })
}

/// A call that waits for its tracer.
pub(crate) struct StoppedCall {
    id: u64,
    /// Of the thread, as this process's PID namespace knows it.
    pub(crate) pid: u32,
    pub(crate) number: u32,
    pub(crate) arch: u32,
    pub(crate) arguments: [u64; 6],
}

/// Lets the traced thread and its tracer take turns on one processor, which halves the time of a
/// call; from Linux 6.6 on.
pub(crate) fn take_turns(listener: impl AsFd) {
    const SET_FLAGS: libc::c_ulong = 0x4008_2104;
    const SYNC_WAKE_UP: libc::c_ulong = 1;
    // SAFETY: the argument is a number. A kernel that does not know it changes nothing.
    unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), SET_FLAGS as _, SYNC_WAKE_UP) };
}

/// The next call that waits; `None` if it was killed in the meantime.
pub(crate) fn next_stopped_call(listener: impl AsFd) -> io::Result<Option<StoppedCall>> {
    const RECEIVE: libc::c_ulong = 0xc050_2100;
    // SAFETY: zeroes are a valid `seccomp_notif`, and the kernel demands them; it writes one of
    // them, which is ours.
    let call = unsafe {
        let mut call: libc::seccomp_notif = std::mem::zeroed();
        check(libc::ioctl(listener.as_fd().as_raw_fd(), RECEIVE as _, &raw mut call).into()).map(|()| call)
    };
    match call {
        Ok(call) => Ok(Some(StoppedCall {
            id: call.id,
            pid: call.pid,
            number: call.data.nr.cast_unsigned(),
            arch: call.data.arch,
            arguments: call.data.args,
        })),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets a call go on as if nothing had been.
pub(crate) fn let_call_go_on(listener: impl AsFd, call: &StoppedCall) -> io::Result<()> {
    const SEND: libc::c_ulong = 0xc018_2101;
    const CONTINUE: u32 = 1;
    let mut answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags: CONTINUE };
    // SAFETY: the kernel reads one answer.
    let sent = unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), SEND as _, &raw mut answer) };
    match check(sent.into()) {
        // It was killed.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        sent => sent,
    }
}

/// Reads memory of another process; less than asked for where it ends.
pub(crate) fn read_memory(pid: u32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let pid = i32::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    let address = usize::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?;
    let ours = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let theirs =
        libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(address), iov_len: buffer.len() };
    // SAFETY: the kernel writes into `buffer` alone; the other address is the other process's.
    let read = unsafe { libc::process_vm_readv(pid, &raw const ours, 1, &raw const theirs, 1, 0) };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Whether the kernel knows filters at all.
pub(crate) fn seccomp_is_there() -> bool {
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one u32.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// Leaves the caller's session keyring for a new, empty one.
pub(crate) fn join_new_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) })
}

/// Blocks every signal of this process.
pub(crate) fn block_signals() -> io::Result<()> {
    // SAFETY: the set is initialised by `sigfillset` before it is read.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()).into())
    }
}

/// Gives every signal its default action and blocks none: what a program expects to start with.
pub(crate) fn reset_signals() {
    /// Of the kernel, not of the C library.
    const SIGNALS: libc::c_int = 64;
    // The kernel's own structure, all zero: default action, no flags, no restorer, an empty mask.
    // The C library would refuse the two signals that it keeps for itself, which may have come
    // ignored.
    let default = [0_u64; 4];
    for signal in 1..=SIGNALS {
        // SAFETY: the kernel reads its `sigaction`, 32 bytes at most, and the set's size is that of
        // 64 bits. Default actions run no code of ours; KILL and STOP are refused without harm.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null_mut::<u64>(), 8);
        }
    }
    // SAFETY: the set is initialised by `sigemptyset` before it is read.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Replaces the program. Returns only on failure.
pub(crate) fn exec(path: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end with null, and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the helper owns no object that would close one of these again: callers pass numbers
    // above all descriptors that are still held.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) })
}

/// Closes every descriptor but the standard ones and these.
pub(crate) fn close_all_but(keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers {
        if first < number {
            // SAFETY: the one caller is a forked child that never drops what its parent owned.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, number - 1, 0) })?;
        }
        first = number + 1;
    }
    close_from(first)
}

/// Marks every descriptor from `first` on to be closed by exec.
pub(crate) fn close_from_on_exec(first: u32) -> io::Result<()> {
    // SAFETY: nothing is closed now.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
}

/// Makes `number` (0, 1 or 2) another name of a descriptor.
pub(crate) fn set_stdio(number: i32, fd: impl AsFd) -> io::Result<()> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: the standard descriptors are owned by no object of ours.
    check(unsafe { libc::dup2(fd.as_fd().as_raw_fd(), number) }.min(0).into())
}

/// Another descriptor for a standard stream, closed by exec.
pub(crate) fn duplicate_stdio(number: i32) -> io::Result<OwnedFd> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: nothing is taken over; a closed descriptor is an error.
    let fd = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Switches the loopback device on.
pub(crate) fn loopback_up() -> io::Result<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: zeroes are a valid `ifreq`; the kernel reads and writes one of them, which is ours.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request).into())?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request).into())
    }
}

/// Waits for a child; says how it ended and what it used.
pub(crate) fn wait_with_usage(pid: Pid) -> io::Result<(ExitStatus, Usage)> {
    let mut status = 0;
    // SAFETY: zeroes are a valid `rusage`.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to locals of the right type.
        let got = unsafe { libc::wait4(pid.as_raw_pid(), &raw mut status, 0, &raw mut usage) };
        if got >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let status = if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    };
    let time = |time: libc::timeval| {
        std::time::Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_usec).unwrap_or(0).saturating_mul(1000),
        )
    };
    let max_rss = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
    Ok((status, Usage { user: time(usage.ru_utime), system: time(usage.ru_stime), max_rss }))
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Major and minor version of the running kernel.
pub(crate) fn kernel_version() -> (u32, u32) {
    parse_version(&rustix::system::uname().release().to_string_lossy())
}

/// Whether the limit of process ids belongs to a PID namespace; before Linux 6.14 it is that of the
/// whole machine.
pub(crate) fn pid_limit_is_per_namespace() -> bool {
    kernel_version() >= (6, 14)
}

fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse_version("6.18.44-fc-v669"), (6, 18));
        assert_eq!(parse_version("5.4"), (5, 4));
        assert_eq!(parse_version("6.1-rc3"), (6, 1));
        assert_eq!(parse_version("odd"), (0, 0));
    }
}
