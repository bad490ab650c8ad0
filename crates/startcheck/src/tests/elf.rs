use super::{ElfError, parse};
use crate::tests::ElfFile;

fn read(bytes: &[u8]) -> Result<super::Elf, ElfError> {
    parse(&|offset, len| {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        Some(bytes[start..bytes.len().min(start.saturating_add(len))].to_vec())
    })
}

const FULL: ElfFile<'static> = ElfFile {
    machine: 183,
    interpreter: Some("/lib/ld-linux-aarch64.so.1"),
    needed: &["libm.so.6", "libc.so.6"],
    runpath: Some("$ORIGIN/../lib:/opt/lib"),
    rpath: None,
    needs: &[("libc.so.6", &["GLIBC_2.17", "GLIBC_2.34"]), ("libm.so.6", &["GLIBC_2.29"])],
    provides: &["app", "APP_1"],
};

#[test]
fn all_that_matters_is_read() {
    let elf = read(&FULL.bytes()).unwrap();
    assert_eq!(elf.machine.architecture(), Some("arm64"));
    assert!(elf.loadable);
    assert_eq!(elf.interpreter.as_deref(), Some("/lib/ld-linux-aarch64.so.1"));
    assert_eq!(elf.needed, ["libm.so.6", "libc.so.6"]);
    assert_eq!(elf.runpath, ["$ORIGIN/../lib", "/opt/lib"]);
    let versions = |list: &[&str]| list.iter().map(|&version| version.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        elf.needs,
        [
            ("libc.so.6".to_owned(), versions(&["GLIBC_2.17", "GLIBC_2.34"])),
            ("libm.so.6".to_owned(), versions(&["GLIBC_2.29"])),
        ]
    );
    assert_eq!(elf.provides, ["app", "APP_1"]);
}

/// The program that runs this test was not written by these tests.
#[test]
fn a_real_program_is_read() {
    let bytes = std::fs::read("/proc/self/exe").unwrap();
    let elf = read(&bytes).unwrap();
    assert!(elf.interpreter.is_some_and(|path| path.contains("/ld-")));
    assert!(elf.needed.iter().any(|name| name.starts_with("libc.")));
    let libc = elf.needs.iter().find(|(library, _)| library.starts_with("libc."));
    assert!(libc.is_none_or(|(_, versions)| versions.iter().all(|version| version.starts_with("GLIBC_"))));
}

#[test]
fn what_is_hostile_is_refused_and_never_followed_for_ever() {
    assert_eq!(read(b""), Err(ElfError::NotElf));
    assert_eq!(read(b"#!/bin/sh\n"), Err(ElfError::NotElf));
    let whole = FULL.bytes();
    for end in 4..whole.len() {
        assert!(read(&whole[..end]).is_err(), "cut at {end}");
    }
    // Every byte turned to something else: any answer will do, but there must be one.
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let _ = read(&bytes);
        }
    }
    assert_eq!(parse(&|_, _| None), Err(ElfError::Unread));
}
