//! Servers for files and repositories, on loopback ports of their own.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::outcome::bare_command;

/// A file of a [`WebServer`].
#[derive(Clone, Debug, Default)]
pub struct WebFile {
    /// The status; 200 unless it is set.
    pub status: u16,
    /// Headers besides the length. With an `ETag` the server answers 304 to who knows it.
    pub headers: Vec<(String, String)>,
    /// The bytes.
    pub body: Vec<u8>,
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct WebRequest {
    /// `GET /path HTTP/1.1`.
    pub line: String,
    /// All headers, as they came.
    pub head: String,
}

/// An HTTP server whose files a test changes as it likes. It ends when it is dropped.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    files: Arc<Mutex<BTreeMap<String, WebFile>>>,
    log: Arc<Mutex<Vec<WebRequest>>>,
    over: Arc<AtomicBool>,
}

impl WebFile {
    /// Bytes without any header.
    pub fn new(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into() }
    }

    /// With a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// With another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

impl WebServer {
    /// A server without files: it answers 404.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start() -> Self {
        let files: Arc<Mutex<BTreeMap<String, WebFile>>> = Arc::default();
        let log: Arc<Mutex<Vec<WebRequest>>> = Arc::default();
        let (held, seen) = (Arc::clone(&files), Arc::clone(&log));
        let (address, over) = serve(move |stream| answer(stream, &held, &seen));
        Self { address, files, log, over }
    }

    /// Puts a file at a path, such as `/a.txt`.
    pub fn put(&self, path: &str, file: WebFile) {
        self.files.lock().expect("no test panics with this").insert(path.to_owned(), file);
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// What was asked for since the last call.
    pub fn take_requests(&self) -> Vec<WebRequest> {
        std::mem::take(&mut self.log.lock().expect("no test panics with this"))
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        end(&self.over, self.address);
    }
}

/// Serves the repositories below a directory by git's own protocol; see [`GitServer::repository`].
#[derive(Debug)]
pub struct GitServer {
    address: SocketAddr,
    root: PathBuf,
    log: Arc<Mutex<usize>>,
    over: Arc<AtomicBool>,
}

impl GitServer {
    /// Serves what is, or will be, below `root`.
    ///
    /// # Panics
    /// When no port can be bound.
    pub fn start(root: &Path) -> Self {
        std::fs::create_dir_all(root).expect("a directory can be made");
        let (dir, log): (PathBuf, Arc<Mutex<usize>>) = (root.to_owned(), Arc::default());
        let seen = Arc::clone(&log);
        let (address, over) = serve(move |stream| {
            *seen.lock().expect("no test panics with this") += 1;
            let stream = OwnedFd::from(stream);
            let (Ok(reads), base) = (stream.try_clone(), dir.display().to_string()) else { return };
            let mut daemon = bare_command("git");
            daemon.args(["daemon", "--inetd", "--export-all", "--log-destination=none"]);
            daemon.arg(format!("--base-path={base}")).arg(base).env("HOME", "/dev/null");
            let config = [("safe.directory", "*"), ("uploadpack.allowAnySHA1InWant", "true")];
            daemon.env("GIT_CONFIG_COUNT", "2");
            for (index, (name, value)) in config.into_iter().enumerate() {
                daemon.env(format!("GIT_CONFIG_KEY_{index}"), name);
                daemon.env(format!("GIT_CONFIG_VALUE_{index}"), value);
            }
            let _ =
                daemon.stdin(Stdio::from(reads)).stdout(Stdio::from(stream)).stderr(Stdio::null()).status();
        });
        Self { address, root: root.to_owned(), log, over }
    }

    /// A new repository with the branch `main`; served as `git://…/NAME.git`.
    pub fn repository(&self, name: &str) -> GitRepository {
        let repository = GitRepository { dir: self.root.join(format!("{name}.git")) };
        std::fs::create_dir_all(&repository.dir).expect("a directory can be made");
        repository.git(&["init", "--quiet", "--initial-branch=main", "."]);
        repository
    }

    /// The URL of a repository.
    pub fn url(&self, name: &str) -> String {
        format!("git://{}/{name}.git", self.address)
    }

    /// How many connections there were since the last call.
    pub fn take_connections(&self) -> usize {
        std::mem::take(&mut self.log.lock().expect("no test panics with this"))
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        end(&self.over, self.address);
    }
}

/// A repository that a test writes to.
#[derive(Debug)]
pub struct GitRepository {
    /// Its work tree.
    pub dir: PathBuf,
}

impl GitRepository {
    /// Writes files and commits them, at a fixed time; the commit's id.
    ///
    /// # Panics
    /// When git cannot do it.
    #[track_caller]
    pub fn commit(&self, files: &[(&str, &str)]) -> String {
        for (name, content) in files {
            let path = self.dir.join(name);
            std::fs::create_dir_all(path.parent().expect("a file has a parent")).expect("it can be made");
            std::fs::write(path, content).expect("a file can be written");
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "a commit"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in it, and gives what it prints.
    ///
    /// # Panics
    /// When git fails.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        let mut git = bare_command("git");
        git.current_dir(&self.dir).env("HOME", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        git.args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"])
            .args(args);
        git.env("GIT_AUTHOR_DATE", "1600000000 +0000").env("GIT_COMMITTER_DATE", "1600000000 +0000");
        crate::run(&mut git).expect_ok().stdout.trim().to_owned()
    }
}

/// Calls `handle` on a thread of its own for each connection, until [`end`].
fn serve(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be bound");
    let address = listener.local_addr().expect("a listener has an address");
    let (over, handle) = (Arc::new(AtomicBool::new(false)), Arc::new(handle));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if told.load(Ordering::Acquire) {
                return;
            }
            let handle = Arc::clone(&handle);
            let _ = stream.map(|stream| std::thread::spawn(move || handle(stream)));
        }
    });
    (address, over)
}

fn end(over: &AtomicBool, address: SocketAddr) {
    over.store(true, Ordering::Release);
    let _ = TcpStream::connect(address);
}

/// One request a connection.
fn answer(mut stream: TcpStream, files: &Mutex<BTreeMap<String, WebFile>>, log: &Mutex<Vec<WebRequest>>) {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut piece = [0; 4096];
        match stream.read(&mut piece) {
            // Somebody who begins with TLS would wait for long.
            Ok(count) if count > 0 && piece[0] != 0x16 => bytes.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (line, head) = text.split_once("\r\n").unwrap_or((&text, ""));
    let request = WebRequest { line: line.to_owned(), head: head.to_owned() };
    let path = line.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    log.lock().expect("no test panics with this").push(request);
    let file = files.lock().expect("no test panics with this").get(&path).cloned();
    let file = file.unwrap_or_else(|| WebFile::new("not here").status(404));
    let tag = file.headers.iter().find(|(name, _)| name == "ETag").map(|(_, value)| value.clone());
    let known = head.lines().find_map(|line| line.strip_prefix("if-none-match: "));
    let unchanged = tag.is_some() && known == tag.as_deref();
    let (status, body) = if unchanged { (304, &[][..]) } else { (file.status, file.body.as_slice()) };
    let mut out = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in &file.headers {
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    let _ = stream.write_all(out.as_bytes()).and_then(|()| stream.write_all(body));
}
