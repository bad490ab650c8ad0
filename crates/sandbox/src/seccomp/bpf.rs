//! Classic BPF over `seccomp_data`: search trees, and an interpreter for tests.

use libc::sock_filter;

const LD: u16 = 0x20; // A = 32 bits of the data at k
const AND: u16 = 0x54; // A &= k
const JUMP: u16 = 0x05; // forward by k
const IF_EQ: u16 = 0x15;
const IF_GE: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The low half of the first argument: of all architectures here, the least significant bytes come
/// first.
const FIRST_ARGUMENT: u32 = 16;

/// What a segment looks at.
#[derive(Clone, Copy)]
pub(super) enum Block {
    /// The number of the call.
    Number,
    /// The low 32 bits of its first argument.
    FirstArgument,
}

/// All values from this one up to the next segment's have this answer.
#[derive(Clone, PartialEq)]
pub(super) struct Segment {
    pub(super) from: u32,
    pub(super) answer: Answer,
}

/// What a call gets.
#[derive(Clone, PartialEq)]
pub(super) enum Answer {
    Allow,
    /// Stops until the tracer lets it go on.
    Notify,
    Errno(i32),
    /// Allowed if none of these bits is set in the first argument, else not permitted.
    IfNoneOf(u32),
    /// By the value of the first argument.
    ByFirstArgument(Vec<Segment>),
}

/// A program that finds the segment of a value. Segments are in order, and the first one starts at
/// 0.
pub(super) fn search(what: Block, mut segments: Vec<Segment>) -> Vec<sock_filter> {
    segments.dedup_by(|next, before| next.answer == before.answer);
    let offset = match what {
        Block::Number => NUMBER,
        Block::FirstArgument => FIRST_ARGUMENT,
    };
    let mut program = vec![statement(LD, offset)];
    program.extend(tree(&segments));
    program
}

/// A program that goes to one of the blocks, and kills where there is none.
pub(super) fn by_architecture(blocks: &[(u32, Vec<sock_filter>)]) -> Vec<sock_filter> {
    let mut program = vec![statement(LD, ARCH)];
    for (arch, block) in blocks {
        // Over the long jump, which leads over the block.
        program.push(branch(IF_EQ, *arch, 1, 0));
        program.push(statement(JUMP, distance(block)));
        program.extend_from_slice(block);
    }
    program.push(statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS));
    program
}

fn tree(segments: &[Segment]) -> Vec<sock_filter> {
    match segments {
        [] => vec![statement(RETURN, libc::SECCOMP_RET_KILL_PROCESS)],
        [one] => leaf(&one.answer),
        _ => {
            let (below, above) = segments.split_at(segments.len() / 2);
            let (middle, below, above) = (above[0].from, tree(below), tree(above));
            let mut program = match u8::try_from(below.len()) {
                Ok(short) => vec![branch(IF_GE, middle, short, 0)],
                Err(_) => vec![branch(IF_GE, middle, 0, 1), statement(JUMP, distance(&below))],
            };
            program.extend(below);
            program.extend(above);
            program
        }
    }
}

fn leaf(answer: &Answer) -> Vec<sock_filter> {
    let refuse = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.cast_unsigned();
    match answer {
        Answer::Allow => vec![statement(RETURN, libc::SECCOMP_RET_ALLOW)],
        Answer::Notify => vec![statement(RETURN, libc::SECCOMP_RET_USER_NOTIF)],
        Answer::Errno(errno) => vec![statement(RETURN, refuse(*errno))],
        Answer::IfNoneOf(bits) => vec![
            statement(LD, FIRST_ARGUMENT),
            statement(AND, *bits),
            branch(IF_EQ, 0, 0, 1),
            statement(RETURN, libc::SECCOMP_RET_ALLOW),
            statement(RETURN, refuse(libc::EPERM)),
        ],
        Answer::ByFirstArgument(segments) => search(Block::FirstArgument, segments.clone()),
    }
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

fn distance(over: &[sock_filter]) -> u32 {
    // The kernel takes 4096 instructions at most, and refuses the program if that is not so.
    u32::try_from(over.len()).unwrap_or(u32::MAX)
}

/// What the kernel would answer.
#[cfg(test)]
pub(super) fn interpret(program: &[sock_filter], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let (mut at, mut value) = (0_usize, 0_u32);
    loop {
        let instruction = &program[at];
        at += 1;
        let k = instruction.k;
        let mut go = |yes: bool| at += usize::from(if yes { instruction.jt } else { instruction.jf });
        match instruction.code {
            LD => {
                value = match k {
                    NUMBER => number,
                    ARCH => arch,
                    FIRST_ARGUMENT => (arguments[0] & 0xffff_ffff) as u32,
                    _ => panic!("no field at {k}"),
                }
            }
            AND => value &= k,
            JUMP => at += k as usize,
            IF_EQ => go(value == k),
            IF_GE => go(value >= k),
            RETURN => return k,
            code => panic!("unknown instruction {code:x}"),
        }
    }
}
