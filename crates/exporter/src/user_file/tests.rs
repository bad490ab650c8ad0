use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};

use super::{Waiting, read_input, write_result};

/// Waits for a moment only, and sends what is said.
fn impatient() -> (Waiting, mpsc::Receiver<String>) {
    let (sender, said) = mpsc::channel();
    let waiting = Waiting::new(move |text| sender.send(text.to_owned()).is_ok());
    (waiting.bounded(Duration::ZERO, Duration::from_millis(1)), said)
}

fn fifo(dir: &Path) -> PathBuf {
    let path = dir.join("fifo");
    mkfifoat(CWD, &path, Mode::from_raw_mode(0o600)).unwrap();
    path
}

#[test]
fn a_regular_file_is_replaced_and_keeps_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("result");
    write_result(&path, b"one", &Waiting::default()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let before = File::open(&path).unwrap();
    write_result(&path, b"two", &Waiting::default()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
    let mut old = String::new();
    (&before).read_to_string(&mut old).unwrap();
    assert_eq!(old, "one", "who reads the old one is not disturbed");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "and nothing is beside it");
}

#[test]
fn links_stay_and_their_targets_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("sub")).unwrap();
    symlink("sub/target", at("link")).unwrap();
    symlink("link", at("link-to-link")).unwrap();
    for bytes in [&b"made"[..], b"replaced"] {
        write_result(&at("link-to-link"), bytes, &Waiting::default()).unwrap();
        assert_eq!(fs::read(at("sub/target")).unwrap(), bytes);
        assert!(at("link").is_symlink() && at("link-to-link").is_symlink());
    }
    symlink("circle", at("circle")).unwrap();
    assert!(write_result(&at("circle"), b"x", &Waiting::default()).is_err());
}

#[test]
fn what_is_no_file_is_written_into() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path());
    symlink("fifo", dir.path().join("link")).unwrap();
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || fs::read(fifo).unwrap()
    });
    write_result(&dir.path().join("link"), b"through", &Waiting::default()).unwrap();
    assert_eq!(reader.join().unwrap(), b"through");
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
    write_result(Path::new("/dev/null"), b"x", &Waiting::default()).unwrap();
    assert!(fs::symlink_metadata("/dev/null").unwrap().file_type().is_char_device());
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let refused = write_result(&dir.path().join("socket"), b"x", &Waiting::default()).unwrap_err();
    assert!(refused.to_string().contains("is a socket"), "{refused}");
    assert!(write_result(dir.path(), b"x", &Waiting::default()).is_err());
}

#[test]
fn an_own_descriptor_goes_on_where_it_is() {
    use std::os::fd::AsRawFd as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = File::create(&path).unwrap();
    log.write_all(b"before ").unwrap();
    for name in [format!("/dev/fd/{}", log.as_raw_fd()), format!("/proc/self/fd/{}", log.as_raw_fd())] {
        write_result(Path::new(&name), b"result ", &Waiting::default()).unwrap();
    }
    log.write_all(b"after").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "before result result after");
}

#[test]
fn a_pipe_without_another_end_is_told_and_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path());
    let (waiting, said) = impatient();
    let error = write_result(&fifo, b"x", &waiting).unwrap_err().to_string();
    assert!(error.contains("fifo") && error.contains("the reader of the pipe"), "{error}");
    assert!(said.try_iter().all(|text| text.contains("waiting for the reader of the pipe")));
    let error = read_input(&fifo, 10, &waiting).unwrap_err().to_string();
    assert!(error.contains("the writer of the pipe"), "{error}");
    let said_last: Vec<String> = said.try_iter().collect();
    assert!(!said_last.is_empty());
    assert!(said_last.iter().all(|text| text.contains("waiting for the writer of the pipe")));
    // The user has had enough.
    drop(said);
    assert_eq!(write_result(&fifo, b"x", &waiting).unwrap_err().to_string(), "interrupted");
    assert_eq!(read_input(&fifo, 10, &waiting).unwrap_err().to_string(), "interrupted");
}

#[test]
fn pipes_are_read_to_their_end_and_no_further_than_told() {
    use std::os::fd::AsRawFd as _;
    let dir = tempfile::tempdir().unwrap();
    let fifo = fifo(dir.path());
    let write = |bytes: &'static [u8]| {
        let fifo = fifo.clone();
        std::thread::spawn(move || drop(fs::write(fifo, bytes)))
    };
    for (bytes, limit, is_read) in [(&b"text"[..], 4, true), (b"text", 3, false), (b"", 4, true)] {
        let writer = write(bytes);
        let got = read_input(&fifo, limit, &Waiting::default());
        assert_eq!(got.as_deref().ok(), is_read.then_some(bytes), "{bytes:?} {limit}");
        writer.join().unwrap();
    }
    // An anonymous pipe whose writer has gone, as the shell leaves it.
    for bytes in [&b"text"[..], b""] {
        let (read, write) = rustix::pipe::pipe().unwrap();
        File::from(write).write_all(bytes).unwrap();
        let path = format!("/dev/fd/{}", read.as_raw_fd());
        assert_eq!(read_input(Path::new(&path), 10, &Waiting::default()).unwrap(), bytes);
    }
    assert!(read_input(dir.path(), 10, &Waiting::default()).is_err(), "a directory");
    fs::write(dir.path().join("large"), [0; 11]).unwrap();
    assert!(read_input(&dir.path().join("large"), 10, &Waiting::default()).is_err());
}
