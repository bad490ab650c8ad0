//! dbuild's own terminal, connected to the one of a process.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios};

use crate::spec::TerminalSize;

/// The size of the terminal that dbuild writes to; 24 lines of 80 where there is none.
pub fn size() -> TerminalSize {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
            TerminalSize { rows: size.ws_row, columns: size.ws_col }
        }
        _ => TerminalSize { rows: 24, columns: 80 },
    }
}

/// Whether dbuild reads from a terminal and writes to one.
pub fn is_interactive() -> bool {
    rustix::termios::isatty(io::stdin()) && rustix::termios::isatty(io::stdout())
}

/// Copies between dbuild's standard streams and the outside of a process' terminal
/// ([`crate::Running::take_terminal`]) until the process is gone. Meanwhile dbuild's terminal is
/// raw (Ctrl-C goes to the process) and a change of its size is passed on. It is restored in every
/// case.
///
/// # Errors
/// When one of the streams breaks. The end of dbuild's input is none: it is passed on as Ctrl-D.
pub fn attach(outside: OwnedFd) -> io::Result<()> {
    let _raw = RawMode::enter(io::stdin())?;
    let resized = ResizeSignal::watch()?;
    let mut outside = std::fs::File::from(outside);
    let (mut input_open, mut buffer) = (true, [0; 16 << 10]);
    loop {
        let stdin = io::stdin();
        let mut polled =
            vec![PollFd::new(&outside, PollFlags::IN), PollFd::new(&resized.reader, PollFlags::IN)];
        if input_open {
            polled.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match rustix::event::poll(&mut polled, None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let ready: Vec<bool> = polled.iter().map(|fd| !fd.revents().is_empty()).collect();
        if ready[1] {
            resized.drain();
            let size = rustix::termios::tcgetwinsize(io::stdout());
            // A size that is not known is no reason to end.
            let _ = size.and_then(|size| rustix::termios::tcsetwinsize(&outside, size));
        }
        if ready.get(2) == Some(&true) {
            match rustix::io::read(&stdin, &mut buffer) {
                Ok(0) => {
                    input_open = false;
                    outside.write_all(&[4])?;
                }
                Ok(count) => outside.write_all(&buffer[..count])?,
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if ready[0] {
            match outside.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&buffer[..count])?;
                    stdout.flush()?;
                }
                // The inside is closed: the process is gone.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Keeps a terminal raw; dropping restores it. Without a terminal it does nothing.
#[derive(Debug)]
pub struct RawMode<T: AsFd> {
    terminal: T,
    before: Option<Termios>,
}

impl<T: AsFd> RawMode<T> {
    /// Makes the terminal raw.
    pub fn enter(terminal: T) -> io::Result<RawMode<T>> {
        let before = match rustix::termios::tcgetattr(&terminal) {
            Ok(before) => before,
            Err(Errno::NOTTY) => return Ok(RawMode { terminal, before: None }),
            Err(error) => return Err(error.into()),
        };
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Drain, &raw)?;
        Ok(RawMode { terminal, before: Some(before) })
    }
}

impl<T: AsFd> Drop for RawMode<T> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, before);
        }
    }
}

/// Where the signal handler writes; -1 when nobody watches.
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// One watcher at a time: there is one terminal.
static WATCHING: Mutex<()> = Mutex::new(());

/// SIGWINCH as something to poll.
struct ResizeSignal {
    reader: OwnedFd,
    writer: Option<OwnedFd>,
    before: libc::sigaction,
    _only: std::sync::MutexGuard<'static, ()>,
}

impl ResizeSignal {
    fn watch() -> io::Result<ResizeSignal> {
        let only = WATCHING.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK;
        let (reader, writer) = rustix::pipe::pipe_with(flags)?;
        WAKE.store(writer.as_raw_fd(), Ordering::SeqCst);
        // SAFETY: zeroes are a valid `sigaction`; the handler does only what handlers may.
        let before = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_resize as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_RESTART;
            let mut before = std::mem::zeroed();
            if libc::sigaction(libc::SIGWINCH, &raw const action, &raw mut before) < 0 {
                return Err(io::Error::last_os_error());
            }
            before
        };
        Ok(ResizeSignal { reader, writer: Some(writer), before, _only: only })
    }

    fn drain(&self) {
        let mut bytes = [0; 64];
        while rustix::io::read(&self.reader, &mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }
}

impl Drop for ResizeSignal {
    fn drop(&mut self) {
        // SAFETY: `before` is what the kernel gave.
        unsafe { libc::sigaction(libc::SIGWINCH, &raw const self.before, std::ptr::null_mut()) };
        WAKE.store(-1, Ordering::SeqCst);
        self.writer.take();
    }
}

extern "C" fn on_resize(_signal: libc::c_int) {
    let fd = WAKE.load(Ordering::SeqCst);
    if fd >= 0 {
        // SAFETY: `write` may be called in handlers. A full pipe is awake already; the error number
        // is put back.
        unsafe {
            let errno = *libc::__errno_location();
            libc::write(fd, [0_u8].as_ptr().cast(), 1);
            *libc::__errno_location() = errno;
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::pty::OpenptFlags;
    use rustix::termios::{LocalModes, tcgetattr};

    use super::RawMode;

    #[test]
    fn a_terminal_is_raw_only_meanwhile() {
        let outside = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        rustix::pty::unlockpt(&outside).unwrap();
        let inside =
            rustix::pty::ioctl_tiocgptpeer(&outside, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let echoes = || tcgetattr(&inside).unwrap().local_modes.contains(LocalModes::ECHO);
        assert!(echoes());
        let raw = RawMode::enter(&inside).unwrap();
        assert!(!echoes());
        drop(raw);
        assert!(echoes());
    }

    #[test]
    fn what_is_no_terminal_is_left_alone() {
        assert!(RawMode::enter(std::fs::File::open("/dev/null").unwrap()).unwrap().before.is_none());
    }
}
