//! Signatures of records: Ed25519 over the key and the digests of all that a record consists of.
//!
//! Keys are kept as PEM files in the forms that other programs write, too: the private one as
//! PKCS#8, the public one as SubjectPublicKeyInfo.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dbuild_digest::{BlobDigest, StepKey};
use dbuild_oci::Descriptor;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::Refusal;

/// What every SubjectPublicKeyInfo of an Ed25519 key begins with.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PRIVATE: &str = "PRIVATE KEY";
const PUBLIC: &str = "PUBLIC KEY";
/// Number of signatures of one record that are looked at.
const MOST_SIGNATURES: usize = 16;

/// A key file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It has no block of this kind.
    #[error("it holds no PEM block `{0}`")]
    NoBlock(&'static str),
    /// What the block holds is no Ed25519 key.
    #[error("the PEM block `{0}` holds no Ed25519 key")]
    NoKey(&'static str),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// Signs records. Its secret is in no text that is shown.
#[derive(Clone)]
pub struct SigningKey(Arc<Ed25519KeyPair>);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

/// Verifies what the [`SigningKey`] that it belongs to signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.id())
    }
}

/// A new pair of keys as the two files.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPairText {
    /// The private key, as PEM; for the one that exports, and readable by nobody else.
    pub private: String,
    /// The public key, as PEM; for those that import.
    pub public: String,
}

impl fmt::Debug for KeyPairText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPairText").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Makes a pair of keys.
pub fn new_key_pair() -> Result<KeyPairText, KeyError> {
    let document =
        Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NoRandomness)?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| KeyError::NoRandomness)?;
    let public = [&SPKI[..], pair.public_key().as_ref()].concat();
    Ok(KeyPairText { private: pem(PRIVATE, document.as_ref()), public: pem(PUBLIC, &public) })
}

impl SigningKey {
    /// Reads a private key from the text of a PEM file.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let block = blocks(text, PRIVATE).into_iter().next().ok_or(KeyError::NoBlock(PRIVATE))?;
        // Other programs leave the public half out.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&block);
        pair.map(|pair| Self(Arc::new(pair))).map_err(|_| KeyError::NoKey(PRIVATE))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }

    /// The signature of a record that consists of these blobs.
    pub(crate) fn sign(&self, key: &StepKey, blobs: &[&Descriptor]) -> String {
        let signature = self.0.sign(&payload(key, blobs));
        format!("ed25519:{}:{}", self.public().id(), STANDARD.encode(signature.as_ref()))
    }
}

impl PublicKey {
    /// Reads all public keys from the text of a PEM file; at least one.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, KeyError> {
        let blocks = blocks(text, PUBLIC);
        if blocks.is_empty() {
            return Err(KeyError::NoBlock(PUBLIC));
        }
        let key = |block: &Vec<u8>| {
            let key = block.strip_prefix(&SPKI).and_then(|key| key.try_into().ok());
            key.map(Self).ok_or(KeyError::NoKey(PUBLIC))
        };
        blocks.iter().map(key).collect()
    }

    /// A short name: 16 hexadecimal digits of the key's digest.
    pub fn id(&self) -> String {
        BlobDigest::of(&self.0).hex()[..16].to_owned()
    }

    /// The key as a PEM file.
    pub fn to_pem(&self) -> String {
        pem(PUBLIC, &[&SPKI[..], &self.0].concat())
    }

    fn verifies(&self, payload: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(payload, signature).is_ok()
    }
}

/// The key of the trusted ones that signed a record of these blobs; why none did.
pub(crate) fn trusted_signer(
    key: &StepKey,
    blobs: &[&Descriptor],
    signatures: Option<&str>,
    trusted: &[PublicKey],
) -> Result<PublicKey, Refusal> {
    let Some(signatures) = signatures else { return Err(Refusal::Unsigned) };
    let payload = payload(key, blobs);
    let mut known = false;
    for signature in signatures.split(' ').take(MOST_SIGNATURES) {
        let mut parts = signature.splitn(3, ':');
        let (Some("ed25519"), Some(id), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let Ok(bytes) = STANDARD.decode(text) else { continue };
        for one in trusted.iter().filter(|one| one.id() == id) {
            known = true;
            if one.verifies(&payload, &bytes) {
                return Ok(*one);
            }
        }
    }
    Err(if known { Refusal::Altered } else { Refusal::UntrustedKey })
}

/// What is signed: a line for the version, the key, the config and each blob.
fn payload(key: &StepKey, blobs: &[&Descriptor]) -> Vec<u8> {
    let mut text = format!("dbuild cache record 1\nkey {key}\n");
    for blob in blobs {
        text.push_str(&format!("blob {} {} {}\n", blob.digest, blob.size, blob.media_type));
        text.push_str(&annotation_lines(&blob.annotations));
    }
    text.into_bytes()
}

/// What a reader of the layer believes besides, framed by length.
fn annotation_lines(annotations: &BTreeMap<String, String>) -> String {
    let line = |(name, value): (&String, &String)| {
        format!("annotation {} {name} {} {value}\n", name.len(), value.len())
    };
    annotations.iter().map(line).collect()
}

fn pem(kind: &str, bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// What the PEM blocks of a kind hold.
fn blocks(text: &str, kind: &str) -> Vec<Vec<u8>> {
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&begin) {
        let Some((block, after)) = after.split_once(&end) else { break };
        let packed: String = block.split_whitespace().collect();
        // A block that is no base64 is one without a key.
        found.push(STANDARD.decode(packed).unwrap_or_default());
        rest = after;
    }
    found
}
