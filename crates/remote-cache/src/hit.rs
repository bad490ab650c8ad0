//! What a look-up gives.

use std::sync::Arc;

use dbuild_oci::Descriptor;

use crate::{PublicKey, Refusal, RemoteRecord};

/// What a cache answers for a key.
#[derive(Clone, Debug)]
pub enum Answer {
    /// It has no record.
    Absent,
    /// It has one that may be used.
    Hit(Arc<RemoteHit>),
    /// It has one that may not be used.
    Refused(Refusal),
}

/// A record that was found: verified, but for its index and its layer, which are when they are
/// fetched.
#[derive(Clone, Debug)]
pub struct RemoteHit {
    /// The record.
    pub record: RemoteRecord,
    /// The packed layer; `None` where it has no entries. Its blob is verified when it is fetched,
    /// its diff_id and its tree when it is unpacked.
    pub layer: Option<Descriptor>,
    /// The trusted key that signed it, where signatures are required.
    pub signer: Option<PublicKey>,
    /// The index. `None` in an image (`type=inline`): it is made from the layer.
    pub(crate) index: Option<Descriptor>,
    pub(crate) index_bytes: Option<Vec<u8>>,
}

impl RemoteHit {
    /// Whether the index comes with the record. Otherwise it is made by unpacking the layer.
    pub fn has_index(&self) -> bool {
        self.index.is_some()
    }

    /// Bytes of the packed layer; 0 where there is none.
    pub fn layer_size(&self) -> u64 {
        self.layer.as_ref().map_or(0, |layer| layer.size)
    }
}

impl From<Result<RemoteHit, Refusal>> for Answer {
    fn from(verified: Result<RemoteHit, Refusal>) -> Self {
        match verified {
            Ok(hit) => Self::Hit(Arc::new(hit)),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}
