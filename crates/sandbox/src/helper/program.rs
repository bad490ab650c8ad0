//! Finds the program and becomes it.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Access, AtFlags, CWD, FileType};

use crate::error::{ExecError, ExecErrorKind, SandboxError};
use crate::spec::Spec;
use crate::sys;

/// Returns only when it cannot. Called inside the container, as the user: what may be executed is
/// for the kernel to say.
pub(super) fn become_program(spec: &Spec) -> SandboxError {
    let program = &spec.argv[0];
    let (argv, env) = match strings(spec) {
        Ok(strings) => strings,
        Err(error) => return error,
    };
    let failed = |path: Option<&str>, kind| {
        SandboxError::Exec(ExecError { program: program.clone(), path: path.map(str::to_owned), kind })
    };
    if program.contains('/') {
        return failed(Some(program), try_program(program, &argv, &env));
    }
    let path = spec.env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value.as_str());
    // As shells do: one that may not be executed is worth a word only if no later one can.
    let mut denied = None;
    for dir in path.split(':') {
        let candidate = match dir {
            "" => format!("./{program}"),
            dir => format!("{}/{program}", dir.trim_end_matches('/')),
        };
        match try_program(&candidate, &argv, &env) {
            ExecErrorKind::NotFound { .. } => {}
            ExecErrorKind::PermissionDenied => denied = denied.or(Some(candidate)),
            kind => return failed(Some(&candidate), kind),
        }
    }
    match denied {
        Some(candidate) => failed(Some(&candidate), ExecErrorKind::PermissionDenied),
        None => failed(None, ExecErrorKind::NotFound { searched: Some(path.to_owned()) }),
    }
}

fn try_program(path: &str, argv: &[CString], env: &[CString]) -> ExecErrorKind {
    let Ok(c_path) = CString::new(path) else { return ExecErrorKind::NotFound { searched: None } };
    let error = sys::exec(&c_path, argv, env);
    match error.raw_os_error().unwrap_or(0) {
        libc::ENOENT | libc::ENOTDIR | libc::ELOOP => missing(path),
        libc::EACCES | libc::EPERM => PERMISSION,
        libc::ENOEXEC | libc::EINVAL | libc::ELIBBAD => {
            ExecErrorKind::Format { made_for: elf_machine(path), machine: std::env::consts::ARCH.to_owned() }
        }
        libc::E2BIG => ExecErrorKind::TooLong,
        errno => ExecErrorKind::Other { errno },
    }
}

const PERMISSION: ExecErrorKind = ExecErrorKind::PermissionDenied;

/// The kernel says "no such file" of a program, too, whose interpreter is not there.
fn missing(path: &str) -> ExecErrorKind {
    let is_file = rustix::fs::stat(path)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    let interpreter = if is_file { interpreter(path).ok().flatten() } else { None };
    match interpreter {
        Some(interpreter)
            if rustix::fs::accessat(CWD, &interpreter, Access::EXISTS, AtFlags::empty()).is_err() =>
        {
            ExecErrorKind::Interpreter { interpreter }
        }
        // A handler of binfmt_misc is there, and its emulator is not in this root.
        _ if is_file && let Some(arch) = elf_machine(path) => {
            ExecErrorKind::Format { made_for: Some(arch), machine: std::env::consts::ARCH.to_owned() }
        }
        _ => ExecErrorKind::NotFound { searched: None },
    }
}

/// What the file's first line, or its ELF program headers, name.
fn interpreter(path: &str) -> io::Result<Option<String>> {
    interpreter_of(&File::open(path)?)
}

/// As [`interpreter`], of an open file.
pub(super) fn interpreter_of(file: &File) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    file.take(256).read_to_end(&mut head)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let word =
            line.trim_ascii_start().split(|byte| byte.is_ascii_whitespace()).next().unwrap_or_default();
        return Ok(Some(String::from_utf8_lossy(word).into_owned()));
    }
    elf_interpreter(file, &head)
}

fn elf_interpreter(file: &File, head: &[u8]) -> io::Result<Option<String>> {
    const PT_INTERP: u64 = 3;
    if head.len() < 64 || !head.starts_with(b"\x7fELF") || head[5] != 1 {
        return Ok(None);
    }
    let number = |bytes: &[u8], at: usize, size: usize| -> u64 {
        bytes[at..at + size].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    // Offsets of: the headers' place, size and count; in each header: offset and size of its part
    // of the file.
    let (place, entry, count, offset, size, word) = match head[4] {
        2 => (number(head, 32, 8), number(head, 54, 2), number(head, 56, 2), 8, 32, 8),
        _ => (number(head, 28, 4), number(head, 42, 2), number(head, 44, 2), 4, 16, 4),
    };
    let mut header = [0; 56];
    for index in 0..count.min(64) {
        let header = &mut header[..if word == 8 { 56 } else { 32 }];
        file.read_exact_at(header, place.saturating_add(index * entry))?;
        if number(header, 0, 4) == PT_INTERP {
            let length = usize::try_from(number(header, size, word)).unwrap_or(0).min(4096);
            let mut text = vec![0; length];
            file.read_exact_at(&mut text, number(header, offset, word))?;
            let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
            return Ok(Some(String::from_utf8_lossy(text).into_owned()));
        }
    }
    Ok(None)
}

/// The architecture of an ELF file that is not this machine's.
fn elf_machine(path: &str) -> Option<String> {
    elf_machine_of(&File::open(path).ok()?)
}

/// As [`elf_machine`], of an open file.
pub(super) fn elf_machine_of(file: &File) -> Option<String> {
    let mut head = [0; 20];
    file.read_exact_at(&mut head, 0).ok()?;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let number = if head[5] == 2 {
        u16::from_be_bytes([head[18], head[19]])
    } else {
        u16::from_le_bytes([head[18], head[19]])
    };
    let name = match number {
        3 => "x86",
        8 => "mips",
        20 => "powerpc",
        21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        other => return Some(format!("ELF machine {other}")),
    };
    (name != std::env::consts::ARCH).then(|| name.to_owned())
}

fn strings(spec: &Spec) -> Result<(Vec<CString>, Vec<CString>), SandboxError> {
    let nul = |_| SandboxError::Spec("an argument or a variable has a NUL byte".to_owned());
    let argv = spec.argv.iter().map(|word| CString::new(word.as_str())).collect::<Result<_, _>>();
    let env = spec.env.iter().map(|(name, value)| CString::new(format!("{name}={value}")));
    Ok((argv.map_err(nul)?, env.collect::<Result<_, _>>().map_err(nul)?))
}

#[cfg(test)]
mod tests {
    use super::{elf_machine, interpreter, missing};
    use crate::ExecErrorKind;

    #[test]
    fn interpreters_are_read_from_scripts_and_programs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("script");
        let path = path.to_str().unwrap();
        std::fs::write(path, "#! /no/such/python3 -u\nprint()").unwrap();
        assert_eq!(interpreter(path).unwrap().as_deref(), Some("/no/such/python3"));
        assert_eq!(missing(path), ExecErrorKind::Interpreter { interpreter: "/no/such/python3".into() });
        std::fs::write(path, "text").unwrap();
        assert_eq!(interpreter(path).unwrap(), None);

        let own = std::env::current_exe().unwrap();
        let loader = interpreter(own.to_str().unwrap()).unwrap().unwrap();
        assert!(loader.contains("ld-"), "{loader}");
    }

    #[test]
    fn broken_programs_are_no_danger() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        let path = path.to_str().unwrap();
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        for length in [0, 4, 19, 20, 63, 64, 100, 400] {
            std::fs::write(path, &own[..length]).unwrap();
            let _ = interpreter(path);
            assert_eq!(elf_machine(path), None);
        }
        let mut foreign = own[..64].to_vec();
        foreign[18..20].copy_from_slice(&[22, 0]);
        foreign[32..40].fill(0xff);
        std::fs::write(path, &foreign).unwrap();
        assert_eq!(elf_machine(path).as_deref(), Some("s390x"));
        assert!(interpreter(path).is_err());
    }
}
