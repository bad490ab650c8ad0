//! A bucket that speaks S3, as a place of objects by name.
//!
//! Requests, their signatures, and the ways in which a machine learns who it is (variables, roles
//! of containers and instances) are `object_store`'s; its connections are ours
//! (`bucket_transport`). Nothing is known here of what the objects are.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dbuild_oci::Descriptor;
use dbuild_store::{Incoming, Store, StoreError};
use dbuild_support::escape::one_line;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
    RetryConfig, WriteMultipart,
};
use tokio::sync::mpsc;

use crate::bucket_transport::{Connector, problem_of};
use crate::config::is_loopback;
use crate::error::Problem;
use crate::limits::Limits;

/// From this size on an object is sent in parts.
const PART: usize = 8 << 20;
/// Parts that are on their way at a time.
const PARTS: usize = 3;
/// Pieces of a body that wait for the disk.
const WAITING_PIECES: usize = 32;

/// A bucket, and how it is reached. What is `None` comes from the variables `AWS_…`, and where
/// these say nothing, from the role of the machine.
#[derive(Clone, Default)]
pub struct BucketConfig {
    /// Its name.
    pub bucket: String,
    /// The region.
    pub region: Option<String>,
    /// The address of a server that is not AWS.
    pub endpoint_url: Option<String>,
    /// The bucket is part of the path, not of the host's name.
    pub use_path_style: bool,
    /// Who we are.
    pub access_key_id: Option<String>,
    /// What proves it.
    pub secret_access_key: Option<String>,
    /// Where it is proven for a while only.
    pub session_token: Option<String>,
    /// How long it may take to open a connection.
    pub connect: Option<Duration>,
}

impl std::fmt::Debug for BucketConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BucketConfig")
            .field("bucket", &self.bucket)
            .field("endpoint_url", &self.endpoint_url)
            .finish_non_exhaustive()
    }
}

/// A bucket did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the bucket {bucket}: {problem}")]
pub struct BucketError {
    /// `read`, `write`, `list`.
    pub action: &'static str,
    /// Its name.
    pub bucket: String,
    /// What is wrong.
    pub problem: Problem,
}

/// An object as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketObject {
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was written, in milliseconds since 1970.
    pub modified_ms: u64,
}

/// A bucket. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Bucket {
    objects: Arc<AmazonS3>,
    bucket: String,
}

impl Bucket {
    /// The bucket of this configuration. Opens no connection.
    pub fn new(config: &BucketConfig) -> Result<Self, BucketError> {
        let url = config.endpoint_url.as_deref().unwrap_or_default();
        let host = url.split_once("://").map_or("", |(_, host)| host);
        let limits = Limits::default();
        let connect = config.connect.unwrap_or(limits.connect);
        let limits = Arc::new(Limits { connect, ..limits });
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&config.bucket)
            .with_http_connector(Connector { limits, is_loopback: is_loopback(host) })
            .with_client_options(ClientOptions::new().with_allow_http(url.starts_with("http://")))
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_virtual_hosted_style_request(!config.use_path_style);
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some(url) = &config.endpoint_url {
            builder = builder.with_endpoint(endpoint(url, config));
        }
        if let (Some(id), Some(secret)) = (&config.access_key_id, &config.secret_access_key) {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        if let Some(token) = &config.session_token {
            builder = builder.with_token(token);
        }
        let bucket = config.bucket.clone();
        let objects = builder.build().map_err(|error| BucketError {
            action: "use",
            bucket: bucket.clone(),
            problem: Problem::Local(one_line(&error.to_string())),
        })?;
        Ok(Self { objects: Arc::new(objects), bucket })
    }

    /// The bytes of an object, at most `limit`; `None` where there is none.
    pub async fn get(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, BucketError> {
        let found = match self.objects.get(&Path::from(name)).await {
            Err(error) if is_missing(&error) => return Ok(None),
            found => found.map_err(|error| self.failed("read", &error))?,
        };
        let too_large = || Problem::TooLarge { what: "an object of the cache".to_owned(), limit };
        if found.meta.size > limit {
            return Err(self.problem("read", too_large()));
        }
        let (mut stream, mut bytes) = (found.into_stream(), Vec::new());
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.map_err(|error| self.failed("read", &error))?);
            if bytes.len() as u64 > limit {
                return Err(self.problem("read", too_large()));
            }
        }
        Ok(Some(bytes))
    }

    /// The size of an object; `None` where there is none.
    pub async fn size(&self, name: &str) -> Result<Option<u64>, BucketError> {
        match self.objects.head(&Path::from(name)).await {
            Err(error) if is_missing(&error) => Ok(None),
            found => found.map(|meta| Some(meta.size)).map_err(|error| self.failed("read", &error)),
        }
    }

    /// Stores bytes as an object; with `only_new` only if there is none of this name. Whether they
    /// were stored.
    pub async fn put(&self, name: &str, bytes: Vec<u8>, only_new: bool) -> Result<bool, BucketError> {
        let mode = if only_new { PutMode::Create } else { PutMode::Overwrite };
        let options = PutOptions { mode, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(Bytes::from(bytes));
        match self.objects.put_opts(&Path::from(name), payload, options).await {
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) if only_new => Ok(false),
            put => put.map(|_| true).map_err(|error| self.failed("write", &error)),
        }
    }

    /// The objects whose names begin with a text that ends a folder, at most so many.
    pub async fn list(&self, folder: &str, most: usize) -> Result<Vec<BucketObject>, BucketError> {
        let listed = self.objects.list(Some(&Path::from(folder)));
        let object = |meta: object_store::ObjectMeta| BucketObject {
            name: meta.location.to_string(),
            size: meta.size,
            modified_ms: u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or_default(),
        };
        let objects = listed.map_ok(object).take(most).try_collect().await;
        objects.map_err(|error| self.failed("list", &error))
    }

    /// Removes objects; those that are not there are fine.
    pub async fn remove(&self, names: Vec<String>) -> Result<(), BucketError> {
        let names = futures_util::stream::iter(names.into_iter().map(|name| Ok(Path::from(name)))).boxed();
        let mut removed = self.objects.delete_stream(names);
        while let Some(one) = removed.next().await {
            match one {
                Ok(_) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(self.failed("remove from", &error)),
            }
        }
        Ok(())
    }

    /// Brings an object into the store as this blob. `Ok` means that it is there, whole and
    /// verified.
    pub async fn fetch(
        &self,
        name: &str,
        blob: &Descriptor,
        store: &Store,
        incoming: Option<&Incoming>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), BucketError> {
        if store.has_blob(&blob.digest) == Some(blob.size) {
            progress(blob.size);
            return Ok(());
        }
        let found = self.objects.get(&Path::from(name)).await.map_err(|error| self.failed("read", &error))?;
        if found.meta.size != blob.size {
            let (got, expected) = (found.meta.size, blob.size);
            return Err(self.problem("read", Problem::Truncated { digest: blob.digest, got, expected }));
        }
        // The store is synchronous: one thread hashes and writes while this task reads on.
        let (sender, mut pieces) = mpsc::channel::<Option<Bytes>>(WAITING_PIECES);
        let (store, incoming) = (store.clone(), incoming.cloned());
        let expected = (blob.digest, blob.size);
        let writing = tokio::task::spawn_blocking(move || -> Result<(), Problem> {
            let mut writer = match &incoming {
                Some(incoming) => store.shown_blob_writer(incoming)?,
                None => store.blob_writer()?,
            };
            while let Some(piece) = pieces.blocking_recv() {
                match piece {
                    Some(bytes) => writer.write_all(&bytes)?,
                    None => {
                        writer.commit(Some(&expected)).map_err(|error| refused(error, &expected.0))?;
                        return Ok(());
                    }
                }
            }
            Err(Problem::Cut { got: writer.size() })
        });
        let (mut stream, mut got) = (found.into_stream(), 0);
        let mut broken = None;
        while let Some(piece) = stream.next().await {
            match piece {
                Ok(piece) => {
                    got += piece.len() as u64;
                    if got > blob.size || sender.send(Some(piece)).await.is_err() {
                        break;
                    }
                    progress(got);
                }
                Err(error) => {
                    broken = Some(self.failed("read", &error));
                    break;
                }
            }
        }
        if broken.is_none() && got == blob.size {
            let _ = sender.send(None).await;
        }
        drop(sender);
        let written = writing.await.unwrap_or_else(|error| Err(Problem::Local(error.to_string())));
        match broken {
            Some(error) => Err(error),
            None => written.map_err(|problem| self.problem("read", problem)),
        }
    }

    /// Sends a blob of the store as an object; the bytes that were sent. Its memory does not grow
    /// with the blob.
    pub async fn send(
        &self,
        name: &str,
        blob: &Descriptor,
        store: &Store,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<u64, BucketError> {
        let write = |error: &Error| self.failed("write", error);
        let mut pieces = blob_pieces(blob, store);
        let path = Path::from(name);
        if blob.size < PART as u64 {
            let mut bytes = Vec::new();
            while let Some(piece) = pieces.recv().await {
                bytes.extend_from_slice(&piece.map_err(|problem| self.problem("write", problem))?);
            }
            let size = bytes.len() as u64;
            let sent = self.put(name, bytes, true).await?;
            progress(size);
            return Ok(if sent { size } else { 0 });
        }
        let upload = self.objects.put_multipart(&path).await.map_err(|error| write(&error))?;
        let (mut upload, mut sent) = (WriteMultipart::new_with_chunk_size(upload, PART), 0);
        while let Some(piece) = pieces.recv().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(problem) => {
                    let _ = upload.abort().await;
                    return Err(self.problem("write", problem));
                }
            };
            if let Err(error) = upload.wait_for_capacity(PARTS).await {
                let _ = upload.abort().await;
                return Err(write(&error));
            }
            sent += piece.len() as u64;
            upload.put(piece);
            progress(sent);
        }
        upload.finish().await.map_err(|error| write(&error))?;
        Ok(sent)
    }

    fn failed(&self, action: &'static str, error: &Error) -> BucketError {
        let problem = match problem_of(error) {
            Problem::NotFound(what) if what.is_empty() => Problem::NotFound("what we asked for".to_owned()),
            problem => problem,
        };
        self.problem(action, problem)
    }

    fn problem(&self, action: &'static str, problem: Problem) -> BucketError {
        BucketError { action, bucket: self.bucket.clone(), problem }
    }
}

/// Whether there is no such object, in a bucket that is there.
fn is_missing(error: &Error) -> bool {
    match problem_of(error) {
        Problem::NotFound(what) => what.is_empty(),
        _ => matches!(error, Error::NotFound { .. }),
    }
}

/// The address of the server, with the bucket where it is part of the host's name.
fn endpoint(url: &str, config: &BucketConfig) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) if !config.use_path_style => format!("{scheme}://{}.{rest}", config.bucket),
        _ => url.to_owned(),
    }
}

/// The bytes of a blob, read on a thread.
fn blob_pieces(blob: &Descriptor, store: &Store) -> mpsc::Receiver<Result<Bytes, Problem>> {
    let (sender, pieces) = mpsc::channel(4);
    let (store, digest) = (store.clone(), blob.digest);
    tokio::task::spawn_blocking(move || {
        let mut reader = match store.open_blob(&digest) {
            Ok(reader) => reader,
            Err(error) => return drop(sender.blocking_send(Err(error.into()))),
        };
        loop {
            let mut piece = vec![0; 256 << 10];
            match std::io::Read::read(&mut reader, &mut piece) {
                Ok(0) => return,
                Ok(count) => piece.truncate(count),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return drop(sender.blocking_send(Err(error.into()))),
            }
            if sender.blocking_send(Ok(Bytes::from(piece))).is_err() {
                return;
            }
        }
    });
    pieces
}

fn refused(error: StoreError, expected: &dbuild_digest::BlobDigest) -> Problem {
    match &error {
        StoreError::Mismatch { found, .. } => match found.parse() {
            Ok(got) => Problem::WrongDigest { expected: *expected, got },
            Err(_) => Problem::Local(error.to_string()),
        },
        _ => error.into(),
    }
}
