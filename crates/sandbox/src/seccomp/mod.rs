//! The system call filter: what Docker's default profile allows to a process with its 14
//! capabilities, for every architecture that this machine's kernel runs.
//!
//! The filter is a search tree over runs of system call numbers with the same answer, a few
//! comparisons deep. The kernel walks every filter once for each number when it is loaded, and for
//! each call that looks at arguments, so a tree is quicker in both than a list of comparisons.

mod bpf;
mod table;
pub(crate) mod traced;

use std::os::fd::OwnedFd;

use libc::sock_filter;

use crate::sys;
use bpf::{Answer, Block, Segment};

/// A name and its numbers on x86_64, x86, x32, aarch64 and arm.
type Syscall = (&'static str, [u32; 5]);

/// Set in the numbers of x32 calls, which come with the architecture of x86_64.
const X32_BIT: u32 = 0x4000_0000;

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;

/// One architecture of the filter.
struct Arch {
    audit: u32,
    /// Columns of the table, with what is added to their numbers.
    columns: &'static [(usize, u32)],
}

const X86: &[Arch] = &[
    Arch { audit: AUDIT_ARCH_X86_64, columns: &[(0, 0), (2, X32_BIT)] },
    Arch { audit: AUDIT_ARCH_I386, columns: &[(1, 0)] },
];
const ARM: &[Arch] = &[
    Arch { audit: AUDIT_ARCH_AARCH64, columns: &[(3, 0)] },
    Arch { audit: AUDIT_ARCH_ARM, columns: &[(4, 0)] },
];

/// Loads the filter for this process and its children.
pub(crate) fn load_default() -> std::io::Result<()> {
    sys::load_seccomp(&program(arches()?, false))
}

/// Loads the same filter, which stops at every call that names a path until the holder of the
/// descriptor lets it go on.
pub(crate) fn load_traced() -> std::io::Result<OwnedFd> {
    sys::load_seccomp_with_listener(&program(arches()?, true))
}

fn arches() -> std::io::Result<&'static [Arch]> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(X86),
        "aarch64" => Ok(ARM),
        _ => Err(std::io::Error::from_raw_os_error(libc::ENOSYS)),
    }
}

/// The filter for some architectures; calls of any other kill the process.
fn program(arches: &[Arch], traced: bool) -> Vec<sock_filter> {
    let blocks: Vec<_> = arches.iter().map(|arch| (arch.audit, block(arch, traced))).collect();
    bpf::by_architecture(&blocks)
}

fn block(arch: &Arch, traced: bool) -> Vec<sock_filter> {
    let mut segments = Vec::new();
    for (column, offset) in arch.columns {
        let mut answers: Vec<(u32, Answer)> = table::ALLOWED
            .iter()
            .map(|(name, numbers)| match traced && traced::traced(name).is_some() {
                true => (numbers[*column], Answer::Notify),
                false => (numbers[*column], Answer::Allow),
            })
            .chain(table::SPECIAL.iter().map(|(name, numbers)| (numbers[*column], special(name, traced))))
            .filter(|(number, _)| *number != u32::MAX)
            .collect();
        answers.sort_unstable_by_key(|(number, _)| *number);
        // A call that this list is too old for is "not implemented", so that programs fall back; a
        // call that the profile leaves out is "not permitted". The private calls of arm lie far
        // above the rest.
        let newest = answers.iter().map(|(number, _)| *number).filter(|number| *number < 0xf0000).max();
        let mut next = 0;
        for (number, answer) in answers {
            if number > next {
                let missing =
                    if newest.is_some_and(|newest| next > newest) { libc::ENOSYS } else { libc::EPERM };
                segments.push(Segment { from: offset + next, answer: Answer::Errno(missing) });
            }
            segments.push(Segment { from: offset + number, answer });
            next = number + 1;
        }
        segments.push(Segment { from: offset + next, answer: Answer::Errno(libc::ENOSYS) });
    }
    bpf::search(Block::Number, segments)
}

fn special(name: &str, traced: bool) -> Answer {
    let allow = |from| Segment { from, answer: Answer::Allow };
    let network = |from| Segment { from, answer: if traced { Answer::Notify } else { Answer::Allow } };
    let refuse = |from| Segment { from, answer: Answer::Errno(libc::EPERM) };
    match name {
        // Not into new namespaces.
        "clone" => Answer::IfNoneOf(namespace_flags()),
        // Its flags lie in memory that a filter cannot read; programs fall back to clone.
        "clone3" => Answer::Errno(libc::ENOSYS),
        // Linux as it is, 32-bit, under a name of old (UNAME26), both, and the question which it
        // is. Not: with addresses that are not randomised.
        "personality" => Answer::ByFirstArgument(vec![
            allow(0),
            refuse(1),
            allow(8),
            refuse(9),
            allow(0x2_0000),
            refuse(0x2_0001),
            allow(0x2_0008),
            refuse(0x2_0009),
            allow(u32::MAX),
        ]),
        // Neither the kernel's crypto (AF_ALG, 38) nor the hypervisor (AF_VSOCK, 40).
        "socket" => Answer::ByFirstArgument(vec![
            allow(0),
            network(libc::AF_INET.cast_unsigned()),
            allow(3),
            network(libc::AF_INET6.cast_unsigned()),
            allow(11),
            refuse(38),
            allow(39),
            refuse(40),
            allow(41),
        ]),
        _ => Answer::Errno(libc::EPERM),
    }
}

/// `CLONE_NEW*`, but for the time namespace, whose bit means something else to clone.
fn namespace_flags() -> u32 {
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    flags.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::bpf::interpret;
    use super::{ARM, AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM, AUDIT_ARCH_I386, AUDIT_ARCH_X86_64, X32_BIT, X86};
    use super::{namespace_flags, program, table};

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

    /// Every number of every architecture gets what the table says: the tree loses nothing.
    #[test]
    fn the_tree_answers_as_the_table() {
        for (arches, audit, column, offset) in [
            (X86, AUDIT_ARCH_X86_64, 0, 0),
            (X86, AUDIT_ARCH_I386, 1, 0),
            (X86, AUDIT_ARCH_X86_64, 2, X32_BIT),
            (ARM, AUDIT_ARCH_AARCH64, 3, 0),
            (ARM, AUDIT_ARCH_ARM, 4, 0),
        ] {
            let program = program(arches, false);
            let special: Vec<u32> = table::SPECIAL.iter().map(|(_, numbers)| numbers[column]).collect();
            let allowed: Vec<u32> = table::ALLOWED.iter().map(|(_, numbers)| numbers[column]).collect();
            let newest =
                allowed.iter().chain(&special).copied().filter(|number| *number < 0xf0000).max().unwrap();
            for number in (0..1200).chain(983_040..983_050).filter(|number| !special.contains(number)) {
                let expected = match number {
                    number if allowed.contains(&number) => ALLOW,
                    number if number > newest => ENOSYS,
                    _ => EPERM,
                };
                let got = interpret(&program, audit, offset + number, [0; 6]);
                assert_eq!(got, expected, "call {number} of {audit:x}");
            }
        }
    }

    #[test]
    fn dangerous_calls_are_refused() {
        let program = program(X86, false);
        // mount, umount2, unshare, setns, keyctl, bpf, reboot, init_module, kexec_load,
        // open_by_handle_at, perf_event_open, userfaultfd, io_uring_setup, pivot_root.
        for number in [165, 166, 272, 308, 250, 321, 169, 175, 246, 304, 298, 323, 425, 155] {
            assert_eq!(interpret(&program, AUDIT_ARCH_X86_64, number, [0; 6]), EPERM, "{number}");
            assert_eq!(interpret(&program, AUDIT_ARCH_X86_64, X32_BIT + number, [0; 6]), EPERM, "{number}");
        }
        assert_eq!(interpret(&program, AUDIT_ARCH_X86_64, 435, [0; 6]), ENOSYS);
        assert_eq!(interpret(&program, 0xdead, 0, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn arguments_decide_where_they_must() {
        let program = program(X86, false);
        let call =
            |number, argument| interpret(&program, AUDIT_ARCH_X86_64, number, [argument, 0, 0, 0, 0, 0]);
        let (clone, personality, socket) = (56, 135, 41);
        assert_eq!(call(clone, 0x0120_0011), ALLOW);
        for bit in (0..32).map(|bit| 1_u32 << bit).filter(|bit| namespace_flags() & bit != 0) {
            assert_eq!(call(clone, u64::from(bit)), EPERM, "{bit:x}");
        }
        for value in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
            assert_eq!(call(personality, value), ALLOW, "{value:x}");
        }
        for value in [1, 4, 7, 9, 0x4_0000, 0x1_ffff, 0x2_0001, 0xffff_fffe] {
            assert_eq!(call(personality, value), EPERM, "{value:x}");
        }
        for family in [1, 2, 10, 16, 17, 39, 44] {
            assert_eq!(call(socket, family), ALLOW, "{family}");
        }
        assert_eq!((call(socket, 38), call(socket, 40)), (EPERM, EPERM));
        // The kernel looks at 32 bits of it, so the filter must.
        assert_eq!(call(socket, 0x1_0000_0028), EPERM);
    }

    #[test]
    fn the_filter_is_small() {
        for arches in [X86, ARM] {
            let length = program(arches, false).len();
            assert!(length < 1000, "{length} instructions");
        }
    }

    #[test]
    fn the_table_is_sorted_and_unique() {
        assert!(table::ALLOWED.is_sorted_by_key(|(name, _)| *name));
        for column in 0..5 {
            let all = table::ALLOWED.iter().chain(table::SPECIAL);
            let mut numbers: Vec<u32> =
                all.map(|(_, numbers)| numbers[column]).filter(|number| *number != u32::MAX).collect();
            let count = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), count, "column {column}");
        }
    }
}
