//! The end of an export.

use crate::prune::PruneRequest;
use crate::{RemoteCache, RemoteCacheError};

impl RemoteCache {
    /// Ends an export: writes the catalogue, and brings a directory below its limit.
    ///
    /// What was published is found without this, too, one by one.
    pub async fn finish(&self) -> Result<(), RemoteCacheError> {
        let Some(lease) = self.inner.lease.lock().await.take() else { return Ok(()) };
        let written = self.write_catalogue().await;
        lease.end().await;
        written?;
        if let Some(max_size) = self.inner.options.max_size {
            let policy = Some(self.inner.options.policy);
            self.prune(&PruneRequest { keep_size: Some(max_size), policy, ..PruneRequest::default() })
                .await?;
        }
        Ok(())
    }
}
