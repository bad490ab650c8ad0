//! A registry on loopback whose every answer a test can change.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use dbuild_digest::BlobDigest;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub method: String,
    /// With the query.
    pub path: String,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The connection ends after this many bytes of the body.
    pub cut: Option<usize>,
    /// Nothing more comes after the head and this many bytes of the body, and the connection stays
    /// open.
    pub stall: Option<usize>,
    /// No `Content-Length`.
    pub chunked: bool,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }
}

/// What a registry holds: blobs by digest, manifests by digest and tag.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    pub blobs: HashMap<String, Vec<u8>>,
    pub manifests: HashMap<String, (String, Vec<u8>)>,
}

type Handler = dyn Fn(&Seen, usize) -> Option<Reply> + Send + Sync;

pub(super) struct Fake {
    /// `127.0.0.1:port`
    pub host: String,
    pub content: Arc<Mutex<Content>>,
    log: Arc<Mutex<Vec<Seen>>>,
    server: AbortHandle,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Fake {
    /// A well-behaved registry, but for the requests that `handler` answers. Its number counts
    /// equal requests before.
    pub(super) async fn new(
        content: Content,
        handler: impl Fn(&Seen, usize) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let content = Arc::new(Mutex::new(content));
        let handler: Arc<Handler> = Arc::new(handler);
        let (seen, held) = (log.clone(), content.clone());
        let server = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, handler.clone(), seen.clone(), held.clone()));
            }
        });
        Self { host, content, log, server: server.abort_handle() }
    }

    pub(super) async fn good(content: Content) -> Self {
        Self::new(content, |_, _| None).await
    }

    /// The requests so far: `GET /v2/app/manifests/latest`.
    pub(super) fn requests(&self) -> Vec<String> {
        self.log.lock().unwrap().iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    pub(super) fn take_requests(&self) -> Vec<String> {
        let requests = self.requests();
        self.log.lock().unwrap().clear();
        requests
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    /// `127.0.0.1:port/app`
    pub(super) fn app(&self) -> String {
        format!("{}/app", self.host)
    }
}

/// An address where nothing listens.
pub(super) async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

impl Content {
    /// `app:latest` with one layer, as an OCI image without an index.
    pub(super) fn app(layer: &[u8]) -> Self {
        let mut content = Self::default();
        let manifest = content.image("amd64", layer);
        content.tag("latest", "application/vnd.oci.image.manifest.v1+json", manifest);
        content
    }

    /// `app:latest` as an index of several architectures, each with a layer of its own, in Docker's
    /// media types.
    pub(super) fn several(architectures: &[&str]) -> Self {
        let mut content = Self::default();
        let mut entries = Vec::new();
        for architecture in architectures {
            let manifest = content.image(architecture, architecture.as_bytes());
            let media_type = "application/vnd.docker.distribution.manifest.v2+json";
            entries.push(json!({
                "mediaType": media_type, "digest": BlobDigest::of(&manifest), "size": manifest.len(),
                "platform": {"os": "linux", "architecture": architecture},
            }));
            content.tag(&BlobDigest::of(&manifest).to_string(), media_type, manifest);
        }
        let media_type = "application/vnd.docker.distribution.manifest.list.v2+json";
        let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).to_string();
        content.tag("latest", media_type, index.into_bytes());
        content
    }

    fn image(&mut self, architecture: &str, layer: &[u8]) -> Vec<u8> {
        let config = json!({
            "os": "linux", "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": [BlobDigest::of(layer)]},
        })
        .to_string()
        .into_bytes();
        let entry = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "digest": BlobDigest::of(bytes), "size": bytes.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": entry("application/vnd.oci.image.config.v1+json", &config),
            "layers": [entry("application/vnd.oci.image.layer.v1.tar", layer)],
        });
        self.blobs.insert(BlobDigest::of(&config).to_string(), config);
        self.blobs.insert(BlobDigest::of(layer).to_string(), layer.to_vec());
        manifest.to_string().into_bytes()
    }

    pub(super) fn tag(&mut self, tag: &str, media_type: &str, manifest: Vec<u8>) {
        self.manifests
            .insert(BlobDigest::of(&manifest).to_string(), (media_type.to_owned(), manifest.clone()));
        self.manifests.insert(tag.to_owned(), (media_type.to_owned(), manifest));
    }

    pub(super) fn manifest(&self, tag: &str) -> Vec<u8> {
        self.manifests[tag].1.clone()
    }

    fn answer(&mut self, seen: &Seen) -> Reply {
        let path = seen.path.split('?').next().unwrap_or_default();
        let (rest, last) = path.rsplit_once('/').unwrap_or_default();
        let query = seen.path.split_once('?').map(|(_, query)| query.replace("%3A", ":")).unwrap_or_default();
        match (seen.method.as_str(), rest.rsplit('/').next().unwrap_or_default()) {
            ("GET" | "HEAD", "manifests") => match self.manifests.get(last) {
                Some((media_type, bytes)) => Reply::new(200, bytes.clone())
                    .with("Content-Type", media_type)
                    .with("Docker-Content-Digest", BlobDigest::of(bytes)),
                None => Reply::new(
                    404,
                    r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                ),
            },
            ("GET" | "HEAD", "blobs") => match self.blobs.get(last) {
                Some(bytes) => Reply::new(200, bytes.clone()),
                None => Reply::new(404, r#"{"errors":[{"code":"BLOB_UNKNOWN"}]}"#),
            },
            ("POST", "uploads") => Reply::new(202, "").with("Location", "/upload/1?state=x"),
            ("PUT", "manifests") => {
                let media_type = seen.headers.get("content-type").cloned().unwrap_or_default();
                self.tag(last, &media_type, seen.body.clone());
                Reply::new(201, "").with("Location", path)
            }
            ("PUT", "upload") => {
                let digest =
                    query.split('&').find_map(|part| part.strip_prefix("digest=")).unwrap_or_default();
                if BlobDigest::of(&seen.body).to_string() != digest {
                    return Reply::new(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
                }
                self.blobs.insert(digest.to_owned(), seen.body.clone());
                Reply::new(201, "").with("Location", "/done")
            }
            _ => Reply::new(404, ""),
        }
    }
}

/// One request a connection, which keeps the order of the log simple.
async fn serve(
    mut connection: TcpStream,
    handler: Arc<Handler>,
    log: Arc<Mutex<Vec<Seen>>>,
    content: Arc<Mutex<Content>>,
) {
    let Some(seen) = read(&mut connection).await else { return };
    let same = |other: &&Seen| other.method == seen.method && other.path == seen.path;
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(same).count();
        log.push(seen.clone());
        before
    };
    let reply = handler(&seen, before).unwrap_or_else(|| content.lock().unwrap().answer(&seen));
    let _ = write(&mut connection, &seen, reply).await;
}

async fn read(connection: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if connection.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        // What a server without TLS says to a client that begins with it.
        if bytes[0] == 0x16 {
            let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if connection.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { method: first.next()?, path: first.next()?, headers, body })
}

async fn write(connection: &mut TcpStream, seen: &Seen, reply: Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    if !reply.chunked {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    connection.write_all(head.as_bytes()).await?;
    if seen.method == "HEAD" {
        return Ok(());
    }
    let end = reply.cut.or(reply.stall).unwrap_or(reply.body.len()).min(reply.body.len());
    connection.write_all(&reply.body[..end]).await?;
    connection.flush().await?;
    if reply.stall.is_some() {
        // Until the other side gives up.
        let _ = connection.read(&mut [0]).await;
    }
    Ok(())
}
