//! The servers that tests start, each for itself.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;

use crate::{Location, S3Location};

/// A docker-registry on a free port, which counts the requests that it answers.
pub(super) struct RegistryServer {
    child: Child,
    pub host: String,
    pub requests: Arc<AtomicUsize>,
    _dir: tempfile::TempDir,
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RegistryServer {
    pub(super) fn start() -> Self {
        Self::with("")
    }

    /// With more lines of configuration.
    pub(super) fn with(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\nstorage: {{delete: {{enabled: true}}, filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n{more}",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this test needs Debian's docker-registry: run scripts/test.sh, or `apt-get install docker-registry`");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, address) = line.split_once("listening on ")?;
                Some(address.chars().take_while(|c| !"\",  ".contains(*c)).collect::<String>())
            })
            .expect("docker-registry says where it listens");
        let requests = Arc::new(AtomicUsize::new(0));
        let count = requests.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains("response completed") || line.contains("response error") {
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { child, host, requests, _dir: dir }
    }

    pub(super) fn location(&self) -> Location {
        Location::Registry { reference: format!("{}/team/app:cache", self.host) }
    }
}

pub(super) const BUCKET: &str = "caches";
pub(super) const ACCESS_KEY: &str = "AKIATEST";
pub(super) const SECRET_KEY: &str = "a-secret-of-tests";

/// A server that speaks S3, with one bucket, for as long as the runtime of the test runs.
pub(super) struct S3Server {
    pub address: String,
    pub dir: tempfile::TempDir,
}

impl S3Server {
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(BUCKET)).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let server =
                        hyper_util::server::conn::auto::Builder::new(hyper_util::rt::TokioExecutor::new());
                    let _ = server.http1_only().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, dir }
    }

    pub(super) fn s3(&self) -> S3Location {
        S3Location {
            bucket: BUCKET.to_owned(),
            region: Some("eu-central-1".to_owned()),
            endpoint_url: Some(format!("http://{}", self.address)),
            use_path_style: true,
            prefix: "ci/".to_owned(),
            name: "cache".to_owned(),
            access_key_id: Some(ACCESS_KEY.to_owned()),
            secret_access_key: Some(SECRET_KEY.to_owned()),
            session_token: None,
        }
    }

    pub(super) fn location(&self) -> Location {
        Location::S3(self.s3())
    }

    pub(super) fn bucket_dir(&self) -> std::path::PathBuf {
        self.dir.path().join(BUCKET)
    }
}

/// All files below a directory.
pub(super) fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
