use super::search::read_cache;
use super::{Libc, Surroundings, load};
use crate::elf::read_elf;
use crate::tests::{ElfFile, Image};
use crate::user::User;
use crate::view::View;

/// What becomes of the libraries of `/app/app`.
fn shown(image: &Image, libc: Libc) -> String {
    let view = View::new(image, User::default());
    let elf = read_elf(&view, "/app/app").unwrap();
    let loaded = load(&view, "/app/app", elf, libc, &Surroundings::default());
    let found = loaded.found.iter().map(|(name, path)| format!("{name}={path}"));
    let missing = loaded.missing.iter().map(|(name, by)| format!("!{name} for {by}"));
    let uncached = loaded.uncached.iter().map(|(name, path, _)| format!("?{name}={path}"));
    let versions = loaded
        .versions
        .iter()
        .map(|missing| format!("{}<{}", missing.newest.as_deref().unwrap_or("-"), missing.version));
    found.chain(missing).chain(uncached).chain(versions).collect::<Vec<_>>().join(" ")
}

fn library(needed: &'static [&'static str]) -> ElfFile<'static> {
    ElfFile { needed, ..ElfFile::default() }
}

#[test]
fn libraries_of_libraries_and_run_paths() {
    let app = ElfFile { runpath: Some("$ORIGIN/lib"), ..ElfFile::glibc(&["liba.so", "libc.so.6"]) };
    let image =
        Image::glibc(&["app"]).program("/app/app", &app).program("/app/lib/liba.so", &library(&["libb.so"]));
    // A runpath is for the program's own libraries only.
    let image = image.program("/app/lib/libb.so", &library(&[]));
    assert_eq!(
        shown(&image, Libc::Glibc),
        "liba.so=/app/lib/liba.so libc.so.6=/lib/x86_64-linux-gnu/libc.so.6 !libb.so for /app/lib/liba.so"
    );
    // An old RPATH is for theirs, too; musl has only that.
    let app = ElfFile { rpath: Some("/app/lib"), runpath: None, ..app };
    let image = image.program("/app/app", &app);
    assert_eq!(
        shown(&image, Libc::Glibc),
        "liba.so=/app/lib/liba.so libb.so=/app/lib/libb.so libc.so.6=/lib/x86_64-linux-gnu/libc.so.6"
    );
    assert_eq!(shown(&image, Libc::Musl), "liba.so=/app/lib/liba.so libb.so=/app/lib/libb.so");
}

#[test]
fn another_machines_library_is_passed_over() {
    let image = Image::glibc(&["app"])
        .program("/app/app", &ElfFile::glibc(&["liba.so"]))
        .program("/usr/lib/liba.so", &ElfFile { machine: 183, ..ElfFile::default() });
    assert_eq!(shown(&image, Libc::Glibc), "!liba.so for /app/app");
}

#[test]
fn what_only_ldconfig_would_find() {
    let image = Image::glibc(&["app"])
        .program("/app/app", &ElfFile::glibc(&["liba.so"]))
        .program("/usr/local/lib/liba.so", &library(&[]))
        .file("/etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n")
        .file("/etc/ld.so.conf.d/libc.conf", "# libc default configuration\n/usr/local/lib\n");
    assert_eq!(shown(&image, Libc::Glibc), "liba.so=/usr/local/lib/liba.so ?liba.so=/usr/local/lib/liba.so");
    let cached = image.file("/etc/ld.so.cache", cache("liba.so", "/usr/local/lib/liba.so"));
    assert_eq!(shown(&cached, Libc::Glibc), "liba.so=/usr/local/lib/liba.so");
}

#[test]
fn versions_that_a_library_does_not_have() {
    let app = ElfFile {
        needs: &[("libc.so.6", &["GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.38"])],
        ..ElfFile::glibc(&["libc.so.6"])
    };
    let image = Image::glibc(&["app"]).program("/app/app", &app);
    assert_eq!(shown(&image, Libc::Glibc), "libc.so.6=/lib/x86_64-linux-gnu/libc.so.6 GLIBC_2.31<GLIBC_2.38");
}

/// A cache as ldconfig writes it, with one library.
fn cache(name: &str, path: &str) -> Vec<u8> {
    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    let strings = format!("{name}\0{path}\0");
    let start = 48 + 24;
    for number in [1, strings.len() as u32, 0, 0, 0, 0, 0] {
        bytes.extend(u32::to_le_bytes(number));
    }
    for number in [0x303, start, start + name.len() as u32 + 1, 0, 0, 0] {
        bytes.extend(u32::to_le_bytes(number));
    }
    bytes.extend(strings.bytes());
    bytes
}

#[test]
fn a_damaged_cache_is_empty() {
    let whole = cache("liba.so", "/x/liba.so");
    assert_eq!(read_cache(&whole)["liba.so"], ["/x/liba.so"]);
    for end in 0..whole.len() {
        read_cache(&whole[..end]);
    }
    let mut many = whole.clone();
    many[20..24].fill(0xff);
    assert!(read_cache(&many).len() <= 2);
}

#[test]
fn relative_and_empty_directories_and_kinds_of_processors() {
    let image = Image::glibc(&["app"])
        .program("/app/app", &ElfFile::glibc(&["liba.so", "libb.so", "libc.so.6"]))
        .program("/app/liba.so", &library(&[]))
        .program("/app/lib/glibc-hwcaps/x86-64-v2/libb.so", &library(&[]));
    let view = View::new(&image, User::default());
    let load = |library_path: &str| {
        let around = Surroundings {
            cwd: "/app".to_owned(),
            library_path: library_path.to_owned(),
            ..Surroundings::default()
        };
        let loaded = load(&view, "/app/app", read_elf(&view, "/app/app").unwrap(), Libc::Glibc, &around);
        let missing: Vec<String> = loaded.missing.into_iter().map(|(name, _)| name).collect();
        let perhaps: Vec<String> = loaded.perhaps.into_iter().map(|(name, _)| name).collect();
        format!("missing {missing:?}, perhaps {perhaps:?}")
    };
    assert_eq!(load(""), r#"missing ["liba.so", "libb.so"], perhaps []"#);
    assert_eq!(load("/x:"), r#"missing ["libb.so"], perhaps []"#);
    assert_eq!(load("lib:$ORIGIN"), r#"missing [], perhaps ["libb.so"]"#);
}
