//! What can go wrong with a registry, in words that name the image, the host, and what to try.

use std::fmt;
use std::io;
use std::time::Duration;

use dbuild_digest::BlobDigest;
use dbuild_oci::ReferenceError;
use dbuild_store::StoreError;

use crate::unreachable::Unreachable;

/// An image could not be resolved, fetched or pushed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The text names no image.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Every host that was asked failed.
    #[error(transparent)]
    Failed(Box<Failed>),
}

/// What was tried for one image, and what each host answered.
#[derive(Debug)]
pub struct Failed {
    /// The image in full.
    pub reference: String,
    /// `pull` or `push`, and of what.
    pub action: String,
    /// One entry for each host that was asked, in that order; the last decides what is advised.
    pub attempts: Vec<(String, Problem)>,
    /// What to do, where that depends on more than the problem.
    pub advice: Option<String>,
}

/// A file or a repository could not be fetched. The text names it without a password.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A file.
    #[error("cannot download {url}: {}", download_words(.problem))]
    Download {
        /// As it may be shown.
        url: String,
        /// What its server did.
        problem: Problem,
    },
    /// A repository.
    #[error("cannot {action} {remote}: {problem}")]
    Git {
        /// `read`, `check out`.
        action: &'static str,
        /// As it may be shown.
        remote: String,
        /// What went wrong; git's own words, where it has any.
        problem: String,
        /// What to try.
        help: Option<String>,
    },
}

/// What one host did wrong.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Problem {
    /// No answer at all.
    #[error("it cannot be reached: {text}")]
    Unreachable {
        /// Which step failed.
        cause: Unreachable,
        /// Why, in words.
        text: String,
    },
    /// It stopped sending.
    #[error("it stopped sending for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// It sends, and would never come to an end.
    #[error("it sends too slowly: {got} bytes in {:.0} s, where {floor} bytes a second are the least", .waited.as_secs_f32())]
    Slow {
        /// Bytes that came.
        got: u64,
        /// In this time.
        waited: Duration,
        /// The least, in bytes a second.
        floor: u64,
    },
    /// The connection ended early.
    #[error("the connection ended after {got} of {expected} bytes of {digest}")]
    Truncated {
        /// The blob.
        digest: BlobDigest,
        /// Bytes that came.
        got: u64,
        /// Bytes that were announced by the manifest.
        expected: u64,
    },
    /// As [`Problem::Truncated`], where no digest names the bytes.
    #[error("the connection ended after {got} bytes")]
    Cut {
        /// Bytes that came.
        got: u64,
    },
    /// 404.
    #[error("it does not have {0}")]
    NotFound(String),
    /// 401, also with the credentials that we have.
    #[error("not authorized{}", used_words(.used))]
    Unauthorized {
        /// Where the credentials came from; `None` if there were none.
        used: Option<String>,
        /// Why credentials that seem to be there could not be used.
        unreadable: Option<String>,
    },
    /// 403.
    #[error("access denied{}", quoted(.message))]
    Forbidden {
        /// What the registry says.
        message: String,
    },
    /// 429, still after waiting.
    #[error("too many requests{}", after_words(.retry_after))]
    RateLimited {
        /// How long it wants us to wait.
        retry_after: Option<Duration>,
    },
    /// 5xx, still after retries.
    #[error("it failed with status {status}{}", quoted(.message))]
    Server {
        /// The HTTP status.
        status: u16,
        /// What the registry says.
        message: String,
        /// How long it wants us to wait.
        retry_after: Option<Duration>,
    },
    /// Any other answer that we did not ask for.
    #[error("it answered with status {status}{}", quoted(.message))]
    Unexpected {
        /// The HTTP status.
        status: u16,
        /// What the registry says.
        message: String,
    },
    /// The bytes are not those that the digest names.
    #[error("it sent other bytes than asked for: expected {expected}, got {got}")]
    WrongDigest {
        /// What was asked for.
        expected: BlobDigest,
        /// What came.
        got: BlobDigest,
    },
    /// More bytes than allowed.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// A manifest, a token, a blob.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The answer is not what the specification says.
    #[error("{0}")]
    Malformed(String),
    /// The image exists, but not as something that dbuild can build on.
    #[error("{0}")]
    Unsupported(String),
    /// No variant of the image is for the platform.
    #[error("there is no image for {wanted}; it has {}", list(.available))]
    NoPlatform {
        /// What was asked for.
        wanted: String,
        /// What there is.
        available: Vec<String>,
    },
    /// Our own side failed: the store, a certificate file.
    #[error("{0}")]
    Local(String),
    /// Our own disk is full.
    #[error("{0}")]
    NoSpace(String),
}

/// What to try on a full disk.
const NO_SPACE: &str = "free some space, or try `dbuild cache prune`; --store names another directory";

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error.is_storage_exhausted() {
            true => Self::NoSpace(error.to_string()),
            false => Self::Local(error.to_string()),
        }
    }
}

impl From<io::Error> for Problem {
    /// Of our own disk.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(error.to_string()),
            _ => Self::Local(error.to_string()),
        }
    }
}

impl Problem {
    /// Whether our own side failed, so that no other host needs to be asked.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Local(_) | Self::NoSpace(_))
    }

    /// Whether another try with the same host may help.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Stalled(_)
                | Self::Slow { .. }
                | Self::Truncated { .. }
                | Self::Cut { .. }
                | Self::RateLimited { .. }
                | Self::Server { .. }
        )
    }

    /// Whether the host did not say anything about the image.
    pub(crate) fn is_absence_of_answer(&self) -> bool {
        self.is_transient()
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::Server { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// What to try, with a host that is a registry.
    fn advice(&self, host: &str) -> Option<String> {
        Some(match self {
            Self::Unreachable { cause, .. } => cause.advice(host),
            Self::NotFound(_) => "check the spelling of the name and the tag".to_owned(),
            Self::Unauthorized { unreadable: Some(why), .. } => format!("mend the credentials: {why}"),
            Self::Unauthorized { used: None, .. } => {
                format!("check the name, or log in if the image is private: `dbuild login {host}`")
            }
            Self::Unauthorized { used: Some(_), .. } => {
                format!("log in again, with an account that may do this: `dbuild login {host}`")
            }
            Self::Forbidden { .. } => "ask the owner of the repository for access".to_owned(),
            Self::RateLimited { .. } => {
                "wait, log in (accounts have higher limits), or name a mirror in the configuration".to_owned()
            }
            Self::Server { .. }
            | Self::Stalled(_)
            | Self::Slow { .. }
            | Self::Truncated { .. }
            | Self::Cut { .. } => "try again later, or another mirror".to_owned(),
            Self::WrongDigest { .. } | Self::TooLarge { .. } | Self::Malformed(_) => {
                "the registry or something on the way to it is broken or lies; nothing of this was kept"
                    .to_owned()
            }
            Self::NoPlatform { available, .. } => {
                format!("pass `--platform {}`, or take another image", available.first()?)
            }
            Self::NoSpace(_) => NO_SPACE.to_owned(),
            Self::Unexpected { .. } | Self::Unsupported(_) | Self::Local(_) => return None,
        })
    }
}

impl RegistryError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Reference(_) => None,
            Self::Failed(failed) => failed.hint(),
        }
    }
}

impl Failed {
    /// What the last host said: the registry itself, after its mirrors.
    pub fn problem(&self) -> Option<&Problem> {
        self.attempts.last().map(|(_, problem)| problem)
    }

    /// What to try, by what the last host did.
    pub fn hint(&self) -> Option<String> {
        self.advice.clone().or_else(|| {
            let (host, problem) = self.attempts.last()?;
            problem.advice(host)
        })
    }
}

impl RemoteError {
    /// What to try.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Download { url, problem } => Some(download_advice(url, problem)),
            Self::Git { help, .. } => help.clone(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.action, self.reference)?;
        match self.attempts.as_slice() {
            [] => Ok(()),
            [(host, problem)] => write!(f, ": {}", attempt_words(host, problem)),
            many => {
                many.iter().try_for_each(|(host, problem)| write!(f, "\n  {}", attempt_words(host, problem)))
            }
        }
    }
}

impl std::error::Error for Failed {}

fn attempt_words(host: &str, problem: &Problem) -> String {
    match problem {
        Problem::Local(text) | Problem::NoSpace(text) => text.clone(),
        problem => format!("{host}: {problem}"),
    }
}

fn quoted(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" (\"{message}\")") }
}

fn used_words(used: &Option<String>) -> String {
    match used {
        Some(place) => format!(" with the credentials of {place}"),
        None => " (no credentials are known for it)".to_owned(),
    }
}

fn after_words(after: &Option<Duration>) -> String {
    after.map(|after| format!("; it asks us to wait {} s", after.as_secs())).unwrap_or_default()
}

fn list(platforms: &[String]) -> String {
    if platforms.is_empty() { "none at all".to_owned() } else { platforms.join(", ") }
}

/// What the server of a file did, which is no registry.
fn download_words(problem: &Problem) -> String {
    match problem {
        Problem::Unreachable { text, .. } => format!("its server cannot be reached: {text}"),
        Problem::NotFound(_) => "its server does not have it (status 404)".to_owned(),
        Problem::Unauthorized { .. } => "its server asks for a password (status 401)".to_owned(),
        Problem::Forbidden { .. } => "its server refuses it (status 403)".to_owned(),
        Problem::Local(text) | Problem::NoSpace(text) => text.clone(),
        other => format!("its server: {other}"),
    }
}

fn download_advice(url: &str, problem: &Problem) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest).rsplit('@').next().unwrap_or_default();
    match problem {
        Problem::Unreachable { cause, .. } => cause.advice_for_file(host),
        Problem::NotFound(_) => "check the spelling of the URL".to_owned(),
        Problem::Unauthorized { .. } | Problem::Forbidden { .. } => {
            let name = host.split(':').next().unwrap_or(host);
            format!("give a token as a secret: `--secret id=HTTP_AUTH_TOKEN_{name},env=TOKEN`")
        }
        Problem::NoSpace(_) => NO_SPACE.to_owned(),
        Problem::Local(_) => "check the disk of the store".to_owned(),
        _ => "try again later".to_owned(),
    }
}
