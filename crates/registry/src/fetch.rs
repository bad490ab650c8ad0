//! Blobs into the store: the registry's side of the store's `BlobSource`.

use std::io::Write;
use std::sync::PoisonError;

use async_trait::async_trait;
use bytes::Bytes;
use dbuild_digest::BlobDigest;
use dbuild_store::{BlobSource, BlobSourceError, StoreError};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::Method;
use tokio::sync::mpsc;

use crate::endpoint::Endpoint;
use crate::error::{Problem, RegistryError};
use crate::manifest::{BlobDescriptor, Platform};
use crate::resolve::{PullPolicy, ResolvedImage, failed, local_attempt};
use crate::transport::{Answer, Request};
use crate::{Reference, Registry};

type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Pieces of a body that wait for the disk. The network stops when this many do.
const WAITING_PIECES: usize = 32;

#[async_trait]
impl BlobSource for Registry {
    /// `progress` is told the bytes of this blob that have come so far; a new attempt starts again from 0.
    async fn fetch(
        &self,
        reference: &str,
        digest: &BlobDigest,
        size: u64,
        media_type: &str,
        progress: Progress<'_>,
    ) -> Result<(), BlobSourceError> {
        let blob = BlobDescriptor { digest: *digest, size, media_type: media_type.to_owned() };
        self.fetch_blob(reference, &blob, progress).await.map_err(Into::into)
    }
}

impl Registry {
    /// Pulls a whole image: resolves it, fetches its layers side by side, and tags it in the store. `progress` is told of each layer's index
    /// and of its bytes so far.
    pub async fn pull(
        &self,
        reference: &str,
        platform: &Platform,
        policy: PullPolicy,
        progress: &(dyn Fn(usize, u64) + Send + Sync),
    ) -> Result<ResolvedImage, RegistryError> {
        let image = self.resolve(reference, platform, policy).await?;
        let name = &image.reference;
        futures_util::stream::iter(image.layers.iter().enumerate())
            .map(|(index, layer)| async move {
                let report = move |bytes: u64| progress(index, bytes);
                self.fetch_blob(name, layer, &report).await
            })
            .buffer_unordered(self.transport.limits.connections)
            .try_collect::<()>()
            .await?;
        let parsed: Reference = name.parse()?;
        self.local.tag_pulled(&image).await.map_err(|p| failed("pull", &parsed, local_attempt(p)))?;
        Ok(image)
    }

    async fn fetch_blob(
        &self,
        reference: &str,
        blob: &BlobDescriptor,
        progress: Progress<'_>,
    ) -> Result<(), RegistryError> {
        let reference: Reference = reference.parse()?;
        let lock = {
            let mut fetching = self.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            fetching.entry(blob.digest).or_default().clone()
        };
        let _only_one = lock.lock().await;
        let there =
            self.local.has(&blob.digest).await.map_err(|p| failed("pull", &reference, local_attempt(p)))?;
        if there == Some(blob.size) {
            progress(blob.size);
            return Ok(());
        }
        let fetched = self
            .everywhere(&reference, &self.transport.limits, |endpoint| {
                Box::pin(async move { self.fetch_from(&endpoint, blob, progress).await })
            })
            .await;
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner).remove(&blob.digest);
        fetched.map_err(|attempts| {
            failed(&format!("pull a layer ({}) of", blob.digest.short()), &reference, attempts)
        })
    }

    /// One attempt with one endpoint. `Ok` means that the blob is whole and verified in the store.
    async fn fetch_from(
        &self,
        endpoint: &Endpoint,
        blob: &BlobDescriptor,
        progress: Progress<'_>,
    ) -> Result<(), Problem> {
        let request = Request::pull(Method::GET, endpoint, &format!("blobs/{}", blob.digest));
        let mut answer = self.transport.send(endpoint, &request).await?;
        if let Some(length) = answer.response.content_length().filter(|length| *length != blob.size) {
            return Err(Problem::Malformed(format!(
                "it has {length} bytes for {}, where the manifest says {}",
                blob.digest, blob.size
            )));
        }
        progress(0);
        // The store is synchronous: one thread hashes and writes while this task reads on.
        let (sender, mut pieces) = mpsc::channel::<Piece>(WAITING_PIECES);
        let store = self.local.store.clone();
        let expected = (blob.digest, blob.size);
        let writing = tokio::task::spawn_blocking(move || -> Result<(), Problem> {
            let mut writer = store.blob_writer().map_err(|error| Problem::Local(error.to_string()))?;
            while let Some(piece) = pieces.blocking_recv() {
                match piece {
                    Piece::Bytes(bytes) => {
                        writer.write_all(&bytes).map_err(|error| Problem::Local(error.to_string()))?
                    }
                    Piece::End => {
                        return writer.commit(Some(&expected)).map(drop).map_err(|e| refused(&expected.0, e));
                    }
                }
            }
            // The sender gave up; what was written goes with the writer.
            Ok(())
        });
        let read = read(&mut answer, blob, &sender, progress).await;
        drop(sender);
        let written = writing.await.map_err(|error| Problem::Local(error.to_string()))?;
        // A full disk stops the reading too; it is the reason, then.
        written.and(read)
    }
}

enum Piece {
    Bytes(Bytes),
    /// The body is over.
    End,
}

/// Why the store does not take a blob: it is another one, or the disk is full.
fn refused(expected: &BlobDigest, error: StoreError) -> Problem {
    match &error {
        StoreError::Mismatch { found, .. } => match found.parse() {
            Ok(got) => Problem::WrongDigest { expected: *expected, got },
            Err(_) => Problem::Local(error.to_string()),
        },
        _ => Problem::Local(error.to_string()),
    }
}

async fn read(
    answer: &mut Answer,
    blob: &BlobDescriptor,
    sender: &mpsc::Sender<Piece>,
    progress: Progress<'_>,
) -> Result<(), Problem> {
    let gone = |_| Problem::Local("the store cannot be written".to_owned());
    let mut got = 0;
    let truncated = |got| Problem::Truncated { digest: blob.digest, got, expected: blob.size };
    loop {
        let piece = match answer.chunk().await {
            Ok(Some(piece)) => piece,
            Ok(None) if got < blob.size => return Err(truncated(got)),
            Ok(None) => break,
            Err(Problem::Unreachable(_)) => return Err(truncated(got)),
            Err(other) => return Err(other),
        };
        got += piece.len() as u64;
        if got > blob.size {
            return Err(Problem::TooLarge {
                what: format!("what it sends for {}", blob.digest),
                limit: blob.size,
            });
        }
        sender.send(Piece::Bytes(piece)).await.map_err(gone)?;
        progress(got);
    }
    sender.send(Piece::End).await.map_err(gone)
}
