//! Signals that end a build.

use dbuild_scheduler::Canceller;

use crate::error::EXIT_INTERRUPTED;

/// The first signal stops the build in order, the second at once.
pub(crate) async fn cancel_on_signal(canceller: Canceller) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    for last in [false, true] {
        tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
        if last {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
        canceller.cancel();
    }
}
