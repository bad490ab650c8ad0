//! A git repository, read by the git command alone. No work tree, index or reference is touched,
//! nothing is fetched, and what the user's or the repository's configuration says of output is
//! switched off.
//!
//! A replay takes two processes: `git log` for the history, and one `git cat-file --batch` for
//! every object.

use std::cell::RefCell;
use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::LabError;

/// A repository, or a directory of one.
#[derive(Clone, Debug)]
pub struct Repository {
    dir: PathBuf,
    /// Where `dir` is in the repository: empty, or with a slash at its end.
    prefix: String,
    is_shallow: bool,
    is_bare: bool,
}

/// The name of an object: sha1 or sha256, as the repository has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Oid {
    bytes: [u8; 32],
    len: u8,
}

/// A commit of the history.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) tree: Oid,
    /// More than one: a merge.
    pub(crate) parents: usize,
    /// The first line of its message.
    pub(crate) subject: String,
}

/// An entry of a tree object.
#[derive(Clone, Debug)]
pub(crate) struct TreeItem {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: ItemKind,
    pub(crate) oid: Oid,
}

/// What an entry of a tree is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ItemKind {
    File { executable: bool },
    Symlink,
    Directory,
    Submodule,
}

impl Repository {
    /// Opens the repository that a directory is in. The directory itself is the build context.
    pub fn open(dir: &Path) -> Result<Self, LabError> {
        let not = |detail: &str| LabError::NotARepository { path: dir.to_owned(), detail: detail.to_owned() };
        if !dir.is_dir() {
            return Err(not("there is no such directory"));
        }
        let words = ["rev-parse", "--is-shallow-repository", "--is-bare-repository", "--show-prefix"];
        let output = git(dir).args(words).output().map_err(LabError::NoGit)?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            // Git's own words are only needed where it is one (of another owner, say).
            let reason = said.lines().next().unwrap_or_default().trim_start_matches("fatal: ");
            return Err(not(if reason.starts_with("not a git repository") { "" } else { reason }));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        let mut flag = || lines.next() == Some("true");
        let (is_shallow, is_bare) = (flag(), flag());
        let prefix = lines.next().unwrap_or_default().to_owned();
        Ok(Self { dir: dir.to_owned(), prefix, is_shallow, is_bare })
    }

    /// Whether its history is cut.
    pub fn is_shallow(&self) -> bool {
        self.is_shallow
    }

    /// Whether the work tree has changes that are in no commit. Where that cannot be found out, it
    /// has none.
    pub fn is_dirty(&self) -> bool {
        if self.is_bare {
            return false;
        }
        let words =
            ["status", "--porcelain", "--untracked-files=normal", "--ignore-submodules=all", "--", "."];
        git(&self.dir).args(words).output().is_ok_and(|output| !output.stdout.is_empty())
    }

    /// Where the build context is in the repository.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The commits from `from` (the first one without it) to `to`, both taken, along first parents,
    /// the oldest first.
    pub(crate) fn history(&self, from: Option<&str>, to: &str) -> Result<Vec<Commit>, LabError> {
        let last = self.commit_id(to)?;
        let first = from.map(|from| self.commit_id(from)).transpose()?;
        let words =
            ["log", "--first-parent", "--format=%H%x1f%T%x1f%P%x1f%s", "--end-of-options", &last, "--"];
        let output = git(&self.dir).args(words).output().map_err(LabError::NoGit)?;
        if !output.status.success() {
            return Err(LabError::Git { what: "log", detail: first_line(&output.stderr) });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut commits = Vec::new();
        let mut begins = first.is_none();
        for line in text.lines() {
            let mut parts = line.splitn(4, '\x1f');
            let (Some(id), Some(tree), Some(parents)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let tree = Oid::parse(tree).ok_or_else(|| odd("log", line))?;
            let parents = parents.split_whitespace().count();
            let subject = parts.next().unwrap_or_default().to_owned();
            commits.push(Commit { id: id.to_owned(), tree, parents, subject });
            if first.as_deref() == Some(id) {
                begins = true;
                break;
            }
        }
        if !begins {
            let from = from.unwrap_or_default().to_owned();
            return Err(LabError::NotBefore { from, to: to.to_owned(), shallow: self.is_shallow });
        }
        commits.reverse();
        Ok(commits)
    }

    fn commit_id(&self, revision: &str) -> Result<String, LabError> {
        let asked = format!("{revision}^{{commit}}");
        let words = ["rev-parse", "--verify", "--quiet", "--end-of-options", &asked];
        let output = git(&self.dir).args(words).output().map_err(LabError::NoGit)?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() && Oid::parse(&id).is_some() {
            return Ok(id);
        }
        let (revision, path) = (revision.to_owned(), self.dir.clone());
        Err(LabError::NoSuchRevision { revision, path, shallow: self.is_shallow })
    }

    /// Starts the process that reads objects.
    pub(crate) fn objects(&self) -> Result<Objects, LabError> {
        let mut command = git(&self.dir);
        command.args(["cat-file", "--batch"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().map_err(LabError::NoGit)?;
        let pipes = (child.stdin.take(), child.stdout.take());
        let (Some(asks), Some(answers)) = pipes else { return Err(odd("cat-file", "it has no pipes")) };
        let pipes = RefCell::new((asks, BufReader::with_capacity(1 << 16, answers)));
        Ok(Objects { child, pipes })
    }
}

/// Git in a directory, with what could be in the way switched off.
fn git(dir: &Path) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(dir).arg("--no-pager").arg("--no-optional-locks");
    for setting in ["log.showSignature=false", "core.fsmonitor=false", "i18n.logOutputEncoding=UTF-8"] {
        command.args(["-c", setting]);
    }
    for (name, value) in [("LC_ALL", "C"), ("GIT_NO_LAZY_FETCH", "1"), ("GIT_TERMINAL_PROMPT", "0")] {
        command.env(name, value);
    }
    // These would lead git to another repository than the one that was named.
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

fn first_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned()
}

fn odd(what: &'static str, line: &str) -> LabError {
    LabError::Git {
        what,
        detail: format!("unexpected output: {}", line.chars().take(80).collect::<String>()),
    }
}

/// Reads objects, one after the other.
pub(crate) struct Objects {
    child: Child,
    pipes: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Objects {
    /// The bytes of an object.
    pub(crate) fn read(&self, oid: Oid) -> Result<Vec<u8>, LabError> {
        let mut bytes = Vec::new();
        self.stream(oid, &mut |chunk| bytes.extend_from_slice(chunk))?;
        Ok(bytes)
    }

    /// Hands over the bytes of an object, piece by piece, and says how many there are.
    pub(crate) fn stream(&self, oid: Oid, sink: &mut dyn FnMut(&[u8])) -> Result<u64, LabError> {
        let broken = |error: std::io::Error| LabError::Git { what: "cat-file", detail: error.to_string() };
        let (asks, answers) = &mut *self.pipes.borrow_mut();
        writeln!(asks, "{oid}").map_err(broken)?;
        let mut header = String::new();
        answers.read_line(&mut header).map_err(broken)?;
        let header = header.trim_end();
        if header.ends_with(" missing") {
            return Err(LabError::MissingObject(oid.to_string()));
        }
        let size = header.rsplit(' ').next().and_then(|size| size.parse::<u64>().ok());
        let size = size.ok_or_else(|| odd("cat-file", header))?;
        let mut left = size;
        let mut buffer = [0_u8; 1 << 14];
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
            answers.read_exact(&mut buffer[..most]).map_err(broken)?;
            sink(&buffer[..most]);
            left -= most as u64;
        }
        answers.read_exact(&mut buffer[..1]).map_err(broken)?;
        Ok(size)
    }

    /// The entries of a tree object.
    pub(crate) fn tree(&self, oid: Oid) -> Result<Vec<TreeItem>, LabError> {
        let bytes = self.read(oid)?;
        let mut rest = &bytes[..];
        let mut items = Vec::new();
        let damaged = || odd("cat-file", "a tree that is cut");
        while !rest.is_empty() {
            let nul = rest.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
            let (head, tail) = (&rest[..nul], &rest[nul + 1..]);
            let space = head.iter().position(|byte| *byte == b' ').ok_or_else(damaged)?;
            let len = usize::from(oid.len);
            let child = tail.get(..len).and_then(Oid::from_bytes).ok_or_else(damaged)?;
            rest = &tail[len..];
            let kind = match &head[..space] {
                b"40000" | b"040000" => ItemKind::Directory,
                b"120000" => ItemKind::Symlink,
                b"160000" => ItemKind::Submodule,
                // Git knows one permission; old repositories have 100664, too.
                mode => ItemKind::File { executable: mode == b"100755" },
            };
            items.push(TreeItem { name: head[space + 1..].to_owned(), kind, oid: child });
        }
        Ok(items)
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Oid {
    fn parse(hex: &str) -> Option<Self> {
        let digits: Option<Vec<u8>> =
            hex.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
        let bytes: Vec<u8> =
            digits?.chunks(2).map(|pair| pair.iter().fold(0, |high, low| high << 4 | low)).collect();
        Self::from_bytes(&bytes)
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if !matches!(bytes.len(), 20 | 32) {
            return None;
        }
        let mut oid = Self { bytes: [0; 32], len: bytes.len() as u8 };
        oid.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(oid)
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes[..usize::from(self.len)].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}
