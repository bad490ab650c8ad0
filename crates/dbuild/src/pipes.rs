//! Waiting for the other end of a pipe, as the user sees it: one line that says so, and Ctrl-C ends it.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, mpsc};

use dbuild_exporter::{ExportError, Waiting};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::Error;
use crate::progress;

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

/// Notices signals from now on. Once a build has listened to them they no longer end the process of themselves, and the thread that
/// waits may be the one that its runtime would need to notice them.
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
