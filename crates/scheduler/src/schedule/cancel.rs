//! One signal that ends a build: given by the user, or by the first step that fails.

use tokio::sync::watch;

/// The giving end. Dropping it does not cancel.
#[derive(Debug)]
pub struct Canceller(watch::Sender<bool>);

/// The receiving end; clones hear the same signal.
#[derive(Debug, Clone)]
pub struct Cancel(watch::Receiver<bool>);

impl Canceller {
    /// A signal that was not given yet.
    pub fn new() -> (Self, Cancel) {
        let (sender, receiver) = watch::channel(false);
        (Self(sender), Cancel(receiver))
    }

    /// Gives the signal; later calls change nothing.
    pub fn cancel(&self) {
        self.0.send_replace(true);
    }
}

impl Cancel {
    /// Whether the signal was given.
    pub fn is_canceled(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for the signal; for ever, where it can no longer be given.
    pub async fn canceled(&mut self) {
        if self.0.wait_for(|canceled| *canceled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
