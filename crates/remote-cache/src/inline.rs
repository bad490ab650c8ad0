//! `type=inline`: the cache is the image. Its config holds the records of its own layers, so it
//! travels wherever the image does, and the layers are the image's.

use std::sync::Arc;

use dbuild_digest::BlobDigest;
use dbuild_oci::Descriptor;
use serde::Deserialize;

use crate::format::inline::{InlineRecords, MEMBER};
use crate::hit::{Answer, RemoteHit};
use crate::{PublicKey, Refusal, RemoteRecord, SigningKey};

/// The member for an image's config that holds these records: its name and its value.
pub fn inline_records<'a>(
    records: impl IntoIterator<Item = &'a RemoteRecord>,
    sign: Option<&SigningKey>,
) -> (String, serde_json::Value) {
    let records = InlineRecords::new(records, sign);
    // Of texts and numbers alone: cannot fail.
    (MEMBER.to_owned(), serde_json::to_value(records).unwrap_or_default())
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "rootfs", default)]
    root_fs: RootFs,
    #[serde(flatten)]
    members: std::collections::BTreeMap<String, serde_json::Value>,
}

#[derive(Default, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Vec<BlobDigest>,
}

/// The records in an image's config, as answers by key. `layers` are the descriptors of the image's
/// manifest, lowest first. None where the image holds no cache.
///
/// A hit has no index: it is made from the layer when it is needed, and then compared with the
/// record.
pub fn read_inline(
    config: &[u8],
    layers: &[Descriptor],
    trust: &[PublicKey],
) -> Result<Vec<Answer>, Refusal> {
    let config: Config =
        serde_json::from_slice(config).map_err(|_| Refusal::Damaged("the image's config"))?;
    let Some(member) = config.members.get(MEMBER) else { return Ok(Vec::new()) };
    let diff_ids = &config.root_fs.diff_ids;
    if diff_ids.len() != layers.len() {
        return Err(Refusal::Damaged("the image's config"));
    }
    let read = InlineRecords::read(member, diff_ids, trust)?;
    let answer = |(record, signer): (RemoteRecord, Option<PublicKey>)| {
        let at = record.diff_id.and_then(|diff_id| diff_ids.iter().position(|one| *one == diff_id));
        let layer = at.and_then(|at| layers.get(at)).cloned();
        Answer::Hit(Arc::new(RemoteHit { record, layer, signer, index: None, index_bytes: None }))
    };
    Ok(read.into_iter().map(|one| one.map_or_else(Answer::Refused, answer)).collect())
}
