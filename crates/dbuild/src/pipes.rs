//! Waiting for the other end of a pipe, as the user sees it: one line that says so, and Ctrl-C ends
//! it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, mpsc};

use dbuild_exporter::{ExportError, Waiting, read_input};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;
use crate::progress;

/// Largest Dockerfile, ignore file or secret from a pipe that is read, in bytes.
pub(crate) const LARGEST: u64 = 16 << 20;

/// A signal came since a pipe was waited for.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Says on standard error what is waited for.
pub(crate) fn waiting() -> Waiting {
    waiting_and(progress::say)
}

/// The same, said by `tell`, once.
pub(crate) fn waiting_and(tell: impl Fn(&str) + Send + Sync + 'static) -> Waiting {
    let said = Mutex::new(String::new());
    Waiting::new(move |text| {
        listen();
        if let Ok(mut said) = said.lock()
            && *said != text
        {
            tell(text);
            text.clone_into(&mut said);
        }
        !INTERRUPTED.load(Ordering::Relaxed)
    })
}

/// Says what is read from standard input where that is a terminal: else a build would wait there
/// without a word.
pub(crate) fn say_if_typed(what: &str) {
    if std::io::stdin().is_terminal() {
        progress::say(&format!("note: {what} is read from standard input; Ctrl-D ends it"));
    }
}

/// All that a pipe gives. It gives it once, and is asked several times: for the context, for the
/// build, for a shell after a failure.
pub(crate) fn read_once(path: &Path) -> std::io::Result<Vec<u8>> {
    static READ: Mutex<BTreeMap<PathBuf, Vec<u8>>> = Mutex::new(BTreeMap::new());
    let mut read = READ.lock().map_err(|_| std::io::Error::other("it was not read to its end"))?;
    if let Some(bytes) = read.get(path) {
        return Ok(bytes.clone());
    }
    let bytes = read_input(path, LARGEST, &waiting())?;
    read.insert(path.to_owned(), bytes.clone());
    Ok(bytes)
}

/// What is said where an input cannot be read.
pub(crate) fn cannot_read(what: &str, error: std::io::Error) -> Error {
    match error.downcast::<ExportError>() {
        Ok(ExportError::Interrupted) => Error::interrupted(),
        Ok(error) => Error::failed(format!("cannot read {what}: {error}")),
        Err(error) => Error::failed(format!("cannot read {what}: {error}")),
    }
}

/// Writes a result, as [`dbuild_exporter::write_result`] does.
pub(crate) fn write_result(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    dbuild_exporter::write_result(path, bytes, &waiting())
}

/// Notices signals from now on. Once a build has listened to them they no longer end the process of
/// themselves, and the thread that waits may be the one that its runtime would need to notice them.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (ready, listens) = mpsc::channel::<()>();
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let both = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
                drop(ready);
                let (Ok(mut int), Ok(mut term)) = both else { return };
                tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
                INTERRUPTED.store(true, Ordering::Relaxed);
            });
        });
        // Until it listens, or cannot.
        let _ = listens.recv();
    });
}
