//! The config of a record's artifact.

use dbuild_cache::{Ingredient, key_of_ingredients};
use dbuild_digest::{BlobDigest, StepKey, TreeDigest};
use dbuild_events::Origin;
use dbuild_store::Record;
use serde::{Deserialize, Serialize};

use crate::Refusal;
use crate::format::FORMAT;

/// What a key led to, on any machine: [`dbuild_store::Record`] without what belongs to one store,
/// and with the ingredients that its key is made of.
///
/// Values of secrets are no ingredients, so they are in no record. Values of ARG and ENV are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteRecord {
    format: u32,
    /// The key.
    pub key: StepKey,
    /// The strategy that made the key.
    pub strategy: String,
    /// Its version.
    pub strategy_version: u32,
    /// The step's own words ([`dbuild_cache::definition`]).
    pub definition: StepKey,
    /// The instruction, on one line.
    pub text: String,
    /// The name of the stage that the step stood in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stage: String,
    /// What the step contained: the chain of layers up to it.
    pub output: TreeDigest,
    /// The digest of the step's own layer, which is that of its index.
    pub layer: TreeDigest,
    /// The layer has no entries.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub layer_is_empty: bool,
    /// The digest of the layer's tar. `None` where there is no layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff_id: Option<BlobDigest>,
    /// What the step stood on and took from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Origin>,
    /// What those inputs contained that the strategy knows by their keys alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made_from: Vec<TreeDigest>,
    /// How long the step took, in milliseconds.
    pub duration_ms: u64,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// The platform of the machine that made it: `linux/amd64`. For people.
    pub platform: String,
    /// The version of dbuild that made it. For people.
    pub dbuild: String,
    /// What the key is made of, in the order of the walk.
    pub ingredients: Vec<Ingredient>,
}

/// What a record of a store needs besides, to become a [`RemoteRecord`].
#[derive(Clone, Debug)]
pub struct NewRecord<'a> {
    /// The record.
    pub record: &'a Record,
    /// The version of its strategy.
    pub strategy_version: u32,
    /// What its key is made of.
    pub ingredients: Vec<Ingredient>,
    /// The digest of the layer's tar; `None` where there is no layer.
    pub diff_id: Option<BlobDigest>,
    /// The platform of this machine.
    pub platform: String,
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl RemoteRecord {
    /// The record for other machines. Fails where the ingredients do not give the key: nobody would
    /// take it.
    pub fn new(new: NewRecord<'_>) -> Result<Self, Refusal> {
        let NewRecord { record, strategy_version, ingredients, diff_id, platform } = new;
        let made = Self {
            format: FORMAT,
            key: record.key,
            strategy: record.strategy.clone(),
            strategy_version,
            definition: record.definition,
            text: record.text.clone(),
            stage: record.stage.clone(),
            output: record.output,
            layer: record.layer,
            layer_is_empty: record.layer_is_empty,
            diff_id,
            inputs: record.inputs.clone(),
            made_from: record.made_from.clone(),
            duration_ms: record.duration_ms,
            created_ms: record.created_ms,
            platform,
            dbuild: env!("CARGO_PKG_VERSION").to_owned(),
            ingredients,
        };
        made.verified(&record.key)
    }

    /// Its JSON. Equal records give equal bytes.
    pub fn to_json(&self) -> Vec<u8> {
        // Of texts and numbers alone: cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads what [`RemoteRecord::to_json`] wrote, and checks that its ingredients give the key
    /// that it was found by.
    pub fn parse(bytes: &[u8], key: &StepKey) -> Result<Self, Refusal> {
        let head: Head = serde_json::from_slice(bytes).map_err(|_| Refusal::Damaged("the record"))?;
        if head.format != FORMAT {
            return Err(Refusal::Version(head.format));
        }
        let record: Self = serde_json::from_slice(bytes).map_err(|_| Refusal::Damaged("the record"))?;
        record.verified(key)
    }

    /// The record in a store, with the snapshot that the layer became there.
    pub fn to_record(&self, snapshot: Option<dbuild_digest::SnapshotId>) -> Record {
        Record {
            key: self.key,
            strategy: self.strategy.clone(),
            definition: self.definition,
            text: self.text.clone(),
            output: self.output,
            layer: self.layer,
            layer_is_empty: self.layer_is_empty,
            snapshot,
            stage: self.stage.clone(),
            inputs: self.inputs.clone(),
            made_from: self.made_from.clone(),
            duration_ms: self.duration_ms,
            created_ms: self.created_ms,
            hits: 0,
            last_used_ms: 0,
        }
    }

    fn verified(self, key: &StepKey) -> Result<Self, Refusal> {
        let made = key_of_ingredients(&self.strategy, self.strategy_version, &self.ingredients);
        if made != *key || self.key != *key {
            return Err(Refusal::OtherKey);
        }
        Ok(self)
    }
}
