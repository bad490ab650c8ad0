//! What is read once: a Dockerfile, a secret, an archive, from a file or a pipe.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, Timespec};
use rustix::io::Errno;

use super::Waiting;
use super::descriptor::{duplicate, own_descriptor};
use super::waiting::TURN;

/// An open file, pipe or device. Reading from what can be silent goes on as [`Waiting`] says.
#[derive(Debug)]
pub struct Input {
    file: File,
    /// What is waited for, in words; `None` for a regular file, which is never silent.
    awaited: Option<String>,
    waiting: Waiting,
}

/// Whether a path leads to something whose bytes come once: a pipe, a device, a socket.
pub fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
}

impl Input {
    /// Opens a path; `-` is standard input. A FIFO is opened at once: its writer is waited for when
    /// it is read.
    pub fn open(path: &Path, waiting: &Waiting) -> io::Result<Self> {
        if path == Path::new("-") {
            let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
            return Self::of(file, "standard input", waiting.clone().without_limit());
        }
        let file = match open(path) {
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
                return Err(io::Error::other("it is a socket, which is not read"));
            }
            other => other?,
        };
        Self::of(file, &path.display().to_string(), waiting.clone())
    }

    fn of(file: File, shown: &str, waiting: Waiting) -> io::Result<Self> {
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(io::Error::other("it is a directory"));
        }
        Ok(Self { file, awaited: awaited(&meta, shown), waiting })
    }

    /// All of it, if it has no more than `limit` bytes.
    pub fn read_all(self, limit: u64) -> io::Result<Vec<u8>> {
        let size = self.file.metadata()?.len();
        let mut bytes = Vec::new();
        self.take(limit + 1).read_to_end(&mut bytes)?;
        let size = size.max(bytes.len() as u64);
        if size > limit {
            return Err(io::Error::other(format!("it has more than the {limit} bytes that are read")));
        }
        Ok(bytes)
    }
}

/// All bytes of a file or pipe, of which there must be no more than `limit`.
pub fn read_input(path: &Path, limit: u64, waiting: &Waiting) -> io::Result<Vec<u8>> {
    Input::open(path, waiting)?.read_all(limit)
}

impl Input {
    /// Waits until a read gives something, or the end.
    pub fn ready(&self) -> io::Result<()> {
        let Some(awaited) = &self.awaited else { return Ok(()) };
        let began = Instant::now();
        loop {
            // A FIFO that was never opened for writing is not ready, although it would read as if
            // it had ended.
            let mut fds = [PollFd::new(&self.file, PollFlags::IN)];
            let turn = Timespec { tv_sec: 0, tv_nsec: TURN.subsec_nanos().into() };
            match poll(&mut fds, Some(&turn)) {
                Ok(0) | Err(Errno::INTR) => self.waiting.turn(began, awaited)?,
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.ready()?;
            match self.file.read(buffer) {
                // Another reader was faster.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }
}

/// Opens without waiting for a writer, and without making a terminal the controlling one.
fn open(path: &Path) -> io::Result<File> {
    let mut at = path.to_owned();
    // `/dev/stdin` is a link to an own descriptor.
    for _ in 0..dbuild_support::resolve_links::KERNEL_MAX_LINKS {
        if let Some(file) = own_descriptor(&at).and_then(|number| duplicate(number).ok()) {
            return Ok(file);
        }
        match fs::read_link(&at) {
            Ok(target) => at = at.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => break,
        }
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

fn awaited(meta: &Metadata, shown: &str) -> Option<String> {
    let kind = meta.file_type();
    if kind.is_file() || kind.is_block_device() {
        return None;
    }
    Some(if shown == "standard input" {
        "standard input: nothing comes from there (Ctrl-D ends it in a terminal)".to_owned()
    } else if kind.is_fifo() {
        format!("the writer of the pipe {shown}")
    } else {
        format!("{shown}: nothing comes from there")
    })
}
