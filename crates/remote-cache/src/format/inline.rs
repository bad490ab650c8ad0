//! Records in the config of the image whose layers they made (`type=inline`).

use dbuild_digest::{BlobDigest, StepKey};
use dbuild_oci::Descriptor;
use dbuild_oci::media_type::OCI_LAYER;
use serde::{Deserialize, Serialize};

use crate::format::signature::{PublicKey, trusted_signer};
use crate::format::{FORMAT, RECORD_CONFIG};
use crate::{Refusal, RemoteRecord, SigningKey};

/// The member of an image's config that holds the records.
pub(crate) const MEMBER: &str = "dev.dbuild.cache.v1";
/// Number of records that are read of an image.
const MOST: usize = 1000;

/// A record that may be used, and the trusted key that signed it.
pub(crate) type VerifiedRecord = (RemoteRecord, Option<PublicKey>);

/// What [`MEMBER`] holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InlineRecords {
    format: u32,
    records: Vec<InlineRecord>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct InlineRecord {
    key: StepKey,
    record: serde_json::Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
}

impl InlineRecords {
    /// These records, signed where there is a key.
    pub fn new<'a>(records: impl IntoIterator<Item = &'a RemoteRecord>, sign: Option<&SigningKey>) -> Self {
        let inline = |record: &RemoteRecord| {
            let blobs = blobs(record);
            let signature = sign.map(|key| key.sign(&record.key, &blobs.iter().collect::<Vec<_>>()));
            // Of texts and numbers alone: cannot fail.
            InlineRecord {
                key: record.key,
                record: serde_json::to_value(record).unwrap_or_default(),
                signature,
            }
        };
        Self { format: FORMAT, records: records.into_iter().map(inline).collect() }
    }

    /// Each record that is there, or why it may not be used. `diff_ids` are those of the image: a
    /// record of a layer that is not in it is of no use.
    pub(crate) fn read(
        config_member: &serde_json::Value,
        diff_ids: &[BlobDigest],
        trusted: &[PublicKey],
    ) -> Result<Vec<Result<VerifiedRecord, Refusal>>, Refusal> {
        let format = config_member.get("format").and_then(serde_json::Value::as_u64);
        match format {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => return Err(Refusal::Version(u32::try_from(format).unwrap_or(u32::MAX))),
            None => return Err(Refusal::NoRecord),
        }
        let read = Self::deserialize(config_member).map_err(|_| Refusal::Damaged("the record"))?;
        let one = |inline: &InlineRecord| {
            let record = RemoteRecord::parse(inline.record.to_string().as_bytes(), &inline.key)?;
            if record.diff_id.is_some_and(|diff_id| !diff_ids.contains(&diff_id)) {
                return Err(Refusal::Missing("its layer"));
            }
            if record.diff_id.is_none() != record.layer_is_empty {
                return Err(Refusal::Damaged("the record"));
            }
            if trusted.is_empty() {
                return Ok((record, None));
            }
            let blobs = blobs(&record);
            let blobs: Vec<&Descriptor> = blobs.iter().collect();
            let signer = trusted_signer(&inline.key, &blobs, inline.signature.as_deref(), trusted)?;
            Ok((record, Some(signer)))
        };
        Ok(read.records.iter().take(MOST).map(one).collect())
    }
}

/// What a signature of an inline record covers: the record as dbuild writes it, since the order of
/// members may change in an image's config; and the layer by the digest of its tar, since an
/// image's layers may be compressed anew.
fn blobs(record: &RemoteRecord) -> Vec<Descriptor> {
    let json = record.to_json();
    let config = Descriptor::new(RECORD_CONFIG, BlobDigest::of(&json), json.len() as u64);
    let layer = record.diff_id.map(|diff_id| Descriptor::new(OCI_LAYER, diff_id, 0));
    std::iter::once(config).chain(layer).collect()
}
