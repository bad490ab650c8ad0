//! Blobs into the store: the scheduler's `BlobSource`.
//!
//! A download that ends early goes on where it ended, at the same server or the next: its bytes are
//! named by their digest. Only where a server cannot do that, or where bytes of two attempts do not
//! make the blob, it begins anew.

use std::io::Write;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use dbuild_digest::BlobDigest;
use dbuild_oci::{Descriptor, Platform, Reference};
use dbuild_scheduler::{BlobSource, BlobSourceError};
use dbuild_store::{BlobWriter, Incoming, Store, StoreError};
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::sync::mpsc;

use crate::Registry;
use crate::endpoint::Endpoint;
use crate::error::{Problem, RegistryError};
use crate::http::Answer;
use crate::resolve::{PullPolicy, failed, local_attempt};
use crate::resolved_image::ResolvedImage;
use crate::transport::Request;

type Progress<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Pieces of a body that wait for the disk. The network stops when this many do.
const WAITING_PIECES: usize = 32;

/// A blob that is fetched, with the receivers of its bytes and its progress.
#[derive(Clone, Copy)]
struct BlobRequest<'a> {
    blob: &'a Descriptor,
    incoming: Option<&'a Incoming>,
    progress: Progress<'a>,
    /// Bytes that an attempt that ended early has written, for the next.
    partial: &'a Mutex<Option<BlobWriter>>,
}

#[async_trait]
impl BlobSource for Registry {
    /// `progress` gets the bytes of this blob that have come so far; an attempt that begins anew
    /// starts again from 0.
    async fn fetch(
        &self,
        reference: &str,
        digest: &BlobDigest,
        size: u64,
        media_type: &str,
        incoming: Option<&Incoming>,
        progress: Progress<'_>,
    ) -> Result<(), BlobSourceError> {
        let blob = Descriptor::new(media_type, *digest, size);
        self.fetch_blob(reference, &blob, incoming, progress).await.map_err(Into::into)
    }
}

impl Registry {
    /// Pulls a whole image: resolves it, fetches its layers side by side, and tags it in the store.
    /// `progress` gets each layer's index and its bytes so far.
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
                self.fetch_blob(name, layer, None, &report).await
            })
            .buffer_unordered(self.transport.hosts.limits.connections)
            .try_collect::<()>()
            .await?;
        let parsed: Reference = name.parse()?;
        self.local.tag_pulled(&image).await.map_err(|p| failed("pull", &parsed, local_attempt(p)))?;
        Ok(image)
    }

    pub(crate) async fn fetch_blob(
        &self,
        reference: &str,
        blob: &Descriptor,
        incoming: Option<&Incoming>,
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
        let wanted = &BlobRequest { blob, incoming, progress, partial: &Mutex::default() };
        let fetched = self
            .everywhere(&reference, &self.transport.hosts.limits, |endpoint| {
                Box::pin(async move { self.fetch_from(&endpoint, wanted).await })
            })
            .await;
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner).remove(&blob.digest);
        fetched.map_err(|attempts| {
            failed(&format!("pull a layer ({}) of", blob.digest.short()), &reference, attempts)
        })
    }

    /// One attempt with one endpoint. `Ok` means that the blob is whole and verified in the store.
    async fn fetch_from(&self, endpoint: &Endpoint, wanted: &BlobRequest<'_>) -> Result<(), Problem> {
        let partial = wanted.partial.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(partial) = partial else { return self.fetch_rest(endpoint, wanted, None).await };
        match self.fetch_rest(endpoint, wanted, Some(partial)).await {
            // What was there was wrong, or cannot be asked for: all of it once more.
            Err(
                Problem::WrongDigest { .. } | Problem::Malformed(_) | Problem::Unexpected { status: 416, .. },
            ) => self.fetch_rest(endpoint, wanted, None).await,
            other => other,
        }
    }

    /// The rest of a blob that was begun, or the whole blob.
    async fn fetch_rest(
        &self,
        endpoint: &Endpoint,
        wanted: &BlobRequest<'_>,
        partial: Option<BlobWriter>,
    ) -> Result<(), Problem> {
        let blob = wanted.blob;
        let mut request = Request::pull(Method::GET, endpoint, &format!("blobs/{}", blob.digest));
        let range = partial.as_ref().map(|partial| format!("bytes={}-", partial.size()));
        if let Some(range) = range.and_then(|range| HeaderValue::try_from(range).ok()) {
            request.headers.insert(RANGE, range);
        }
        let mut answer = match self.transport.send(endpoint, &request).await {
            Ok(answer) => answer,
            Err(problem) => {
                wanted.keep(partial, &problem);
                return Err(problem);
            }
        };
        // A server that cannot do this sends all of it.
        let partial = partial.filter(|partial| is_rest(&answer, partial.size()));
        let there = partial.as_ref().map_or(0, BlobWriter::size);
        if there == 0 && answer.response.status() == StatusCode::PARTIAL_CONTENT {
            return Err(Problem::Malformed("it sends another part than was asked for".to_owned()));
        }
        if let Some(length) = answer.response.content_length().filter(|length| *length != blob.size - there) {
            return Err(Problem::Malformed(format!(
                "it has {length} bytes for {}, where the manifest says {}",
                blob.digest,
                blob.size - there
            )));
        }
        (wanted.progress)(there);
        // The store is synchronous: one thread hashes and writes while this task reads on.
        let (sender, pieces) = mpsc::channel::<Piece>(WAITING_PIECES);
        let (store, incoming) = (self.local.store.clone(), wanted.incoming.cloned());
        let expected = (blob.digest, blob.size);
        let writing = tokio::task::spawn_blocking(move || {
            let writer = match partial {
                Some(partial) => partial,
                None => new_writer(&store, incoming.as_ref())?,
            };
            write(writer, pieces, &expected)
        });
        let read = read(&mut answer, wanted, there, &sender).await;
        drop(sender);
        let unfinished = writing.await.map_err(|error| Problem::Local(error.to_string()))??;
        if let Err(problem) = &read {
            wanted.keep(unfinished, problem);
        }
        read
    }
}

impl BlobRequest<'_> {
    /// Keeps what was written for the next attempt, if there will be one that can use it.
    fn keep(&self, unfinished: Option<BlobWriter>, problem: &Problem) {
        let of_use = |writer: &BlobWriter| (1..self.blob.size).contains(&writer.size());
        let unfinished = unfinished.filter(|writer| problem.is_transient() && of_use(writer));
        *self.partial.lock().unwrap_or_else(PoisonError::into_inner) = unfinished;
    }
}

/// Whether an answer is what comes after so many bytes.
fn is_rest(answer: &Answer, there: u64) -> bool {
    let range = answer.header(CONTENT_RANGE.as_str()).unwrap_or_default();
    answer.response.status() == StatusCode::PARTIAL_CONTENT && range.starts_with(&format!("bytes {there}-"))
}

fn new_writer(store: &Store, incoming: Option<&Incoming>) -> Result<BlobWriter, Problem> {
    let writer = match incoming {
        Some(incoming) => store.shown_blob_writer(incoming),
        None => store.blob_writer(),
    };
    Ok(writer?)
}

/// Writes what comes. Gives the writer back if the end does not come.
fn write(
    mut writer: BlobWriter,
    mut pieces: mpsc::Receiver<Piece>,
    expected: &(BlobDigest, u64),
) -> Result<Option<BlobWriter>, Problem> {
    while let Some(piece) = pieces.blocking_recv() {
        match piece {
            Piece::Bytes(bytes) => writer.write_all(&bytes)?,
            Piece::End => {
                return match writer.commit(Some(expected)) {
                    Ok(_) => Ok(None),
                    Err(error) => Err(refused(&expected.0, error)),
                };
            }
        }
    }
    Ok(Some(writer))
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
        _ => error.into(),
    }
}

/// Reads a body that begins after so many bytes of the blob.
async fn read(
    answer: &mut Answer,
    wanted: &BlobRequest<'_>,
    there: u64,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), Problem> {
    let gone = |_| Problem::Local("the store cannot be written".to_owned());
    let blob = wanted.blob;
    let mut got = there;
    let truncated = |got| Problem::Truncated { digest: blob.digest, got, expected: blob.size };
    loop {
        let piece = match answer.chunk().await {
            Ok(Some(piece)) => piece,
            Ok(None) if got < blob.size => return Err(truncated(got)),
            Ok(None) => break,
            Err(Problem::Unreachable { .. }) => return Err(truncated(got)),
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
        (wanted.progress)(got);
    }
    sender.send(Piece::End).await.map_err(gone)
}
