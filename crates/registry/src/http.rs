//! The parts of HTTP that every server is spoken to with: clients, bounded answers, addresses,
//! dates, and the words for a missing answer. Knows nothing of registries.

use std::error::Error as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dbuild_support::escape::one_line;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response, Url};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::authorities;
use crate::error::Problem;
use crate::limits::Limits;
use crate::unreachable::{Resolver, Unreachable, cause};

/// The name that every request gives.
pub(crate) const USER_AGENT: &str = concat!("dbuild/", env!("CARGO_PKG_VERSION"));

/// Bytes that are read of an error page.
pub(crate) const MAX_ERROR_BYTES: u64 = 16 << 10;

/// A clock that a moving body resets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activity(Arc<Mutex<Option<std::time::Instant>>>);

impl Activity {
    pub(crate) fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::time::Instant::now());
    }

    fn idle(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::MAX, |last| last.elapsed())
    }
}

/// Measures how fast a body comes, in windows of the time that is spent waiting for it: a slow disk
/// of ours is no fault of the other side.
#[derive(Debug)]
struct Pace {
    floor: u64,
    window: Duration,
    waited: Duration,
    got: u64,
}

impl Pace {
    fn new(limits: &Limits) -> Self {
        Self { floor: limits.floor, window: limits.window, waited: Duration::ZERO, got: 0 }
    }

    /// Counts bytes and the time that was spent waiting for them.
    fn check(&mut self, waited: Duration, got: usize) -> Result<(), Problem> {
        self.waited += waited;
        self.got += got as u64;
        if self.waited < self.window {
            return Ok(());
        }
        let (got, waited) = (std::mem::take(&mut self.got), std::mem::take(&mut self.waited));
        if (got as f64) < self.floor as f64 * waited.as_secs_f64() {
            return Err(Problem::Slow { got, waited, floor: self.floor });
        }
        Ok(())
    }
}

/// A successful answer, and the slot of its host, which is held until the body is read.
pub(crate) struct Answer {
    pub response: Response,
    stall: Duration,
    pace: Pace,
    /// Token servers are not counted: to wait for a slot of the host that waits for the token would
    /// be a deadlock.
    _permit: Option<OwnedSemaphorePermit>,
}

/// The settings that all clients have in common. None of them reads a certificate.
pub(crate) fn client_builder(connect: Duration) -> ClientBuilder {
    // Process-wide in rustls; a provider that is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(USER_AGENT)
        .connect_timeout(connect)
        .dns_resolver(Resolver)
        // Redirects are followed by hand, so that credentials stay where they belong.
        .redirect(reqwest::redirect::Policy::none())
        // Retries too: those of the client are invisible to our bounds.
        .retry(reqwest::retry::never())
}

/// Why there is no client.
pub(crate) fn no_client(error: &reqwest::Error) -> Problem {
    if lacks_authorities(error) { no_authorities() } else { no_settings(&chain(error)) }
}

/// Why settings make no client.
pub(crate) fn no_settings(why: &str) -> Problem {
    Problem::Local(format!("cannot set up a client: {why}"))
}

fn no_authorities() -> Problem {
    Problem::Local(
        "no certificate authorities are found on this machine, or this user may not read them: \
         install `ca-certificates`, or look at the permissions of /etc/ssl/certs"
            .to_owned(),
    )
}

/// Whether a client cannot be made because the system has no certificates. The verifier has no
/// error of its own for it, but reports a general one, which nothing else does while a client is
/// made.
fn lacks_authorities(error: &reqwest::Error) -> bool {
    let mut next = error.source();
    while let Some(error) = next {
        if matches!(error.downcast_ref::<rustls::Error>(), Some(rustls::Error::General(_))) {
            return true;
        }
        next = error.source();
    }
    false
}

/// One request and the head of its answer.
pub(crate) async fn send_once(
    stall: Duration,
    builder: RequestBuilder,
    activity: Option<&Activity>,
) -> Result<Response, Problem> {
    watch(stall, activity, builder.send()).await?.map_err(|error| no_answer(&error))
}

/// Waits for the answer to a request, as long as it does not stall.
pub(crate) async fn watch<T>(
    stall: Duration,
    activity: Option<&Activity>,
    sending: impl Future<Output = T>,
) -> Result<T, Problem> {
    tokio::pin!(sending);
    if let Some(activity) = activity {
        activity.touch();
    }
    loop {
        match timeout(stall, &mut sending).await {
            Ok(answer) => return Ok(answer),
            // A long upload is no stall as long as its bytes move.
            Err(_) if activity.is_some_and(|activity| activity.idle() < stall) => {}
            Err(_) => return Err(Problem::Stalled(stall)),
        }
    }
}

impl Answer {
    /// Keeps a slot of its host until the body is read.
    pub(crate) fn holding(self, permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: Some(permit), ..self }
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Problem> {
        let asked = std::time::Instant::now();
        let chunk = match timeout(self.stall, self.response.chunk()).await {
            Ok(result) => result.map_err(|error| no_answer(&error))?,
            Err(_) => return Err(Problem::Stalled(self.stall)),
        };
        if let Some(chunk) = &chunk {
            self.pace.check(asked.elapsed(), chunk.len())?;
        }
        Ok(chunk)
    }

    /// The whole body, if it is not larger than `limit`.
    pub(crate) async fn body(mut self, what: &str, limit: u64) -> Result<Vec<u8>, Problem> {
        let too_large = || Problem::TooLarge { what: what.to_owned(), limit };
        if self.response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            body.extend_from_slice(&chunk);
            if body.len() as u64 > limit {
                return Err(too_large());
            }
        }
        Ok(body)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }
}

pub(crate) fn answer_of(response: Response, limits: &Limits) -> Answer {
    Answer { response, stall: limits.stall, pace: Pace::new(limits), _permit: None }
}

/// What a request that got no answer failed of.
pub(crate) fn no_answer(error: &reqwest::Error) -> Problem {
    if error.is_timeout() {
        return Problem::Unreachable { cause: Unreachable::Silent, text: "it does not answer".to_owned() };
    }
    if authorities::are_missing(error) {
        return no_authorities();
    }
    Problem::Unreachable { cause: cause(error), text: chain(error) }
}

pub(crate) fn parse_url(text: &str) -> Result<Url, Problem> {
    Url::parse(text)
        .map_err(|error| Problem::Malformed(format!("`{}` is no address: {error}", one_line(text))))
}

/// Scheme, host and port are the same.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => http_date(text)?.duration_since(SystemTime::now()).ok(),
    }
}

/// A date in any of the three forms that HTTP knows: `Sun, 06 Nov 1994 08:49:37 GMT`, that of RFC
/// 850 (`Sunday, 06-Nov-94 08:49:37 GMT`), and that of C's `asctime` (`Sun Nov 6 08:49:37 1994`).
pub(crate) fn http_date(text: &str) -> Option<SystemTime> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let (day, month, year, clock) = match words.as_slice() {
        [weekday, day, month, year, clock, "GMT"] if weekday.ends_with(',') => (*day, *month, *year, *clock),
        [weekday, date, clock, "GMT"] if weekday.ends_with(',') => {
            let parts: Vec<&str> = date.split('-').collect();
            let [day, month, year] = parts.as_slice() else { return None };
            (*day, *month, *year, *clock)
        }
        [_, month, day, clock, year] => (*day, *month, *year, *clock),
        _ => return None,
    };
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let digits = |text: &str, most: usize| {
        let is_number = !text.is_empty() && text.len() <= most && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|_| is_number)
    };
    let day = digits(day, 2)?;
    let year = match (year.len(), digits(year, 4)?) {
        // Two digits: RFC 9110 takes them for the past where they are more than 50 years ahead, and
        // Go for 1969 to 2068.
        (2, year @ 69..) => 1900 + year,
        (2, year) => 2000 + year,
        (_, year) => year,
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let [hour, minute, second] = parts.as_slice() else { return None };
    let (hour, minute, second) = (digits(hour, 2)?, digits(minute, 2)?, digits(second, 2)?);
    if !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days since 1970 in the Gregorian calendar, with years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 719_469;
    let seconds = u64::try_from(days * 86_400 + hour * 3600 + minute * 60 + second).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// What the registry says in an error's body, in the specification's format or as short plain text.
pub(crate) async fn error_message(response: Response, limits: &Limits) -> String {
    #[derive(serde::Deserialize)]
    struct Envelope {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let mut answer = answer_of(response, limits);
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() as u64 > MAX_ERROR_BYTES {
            break;
        }
    }
    match serde_json::from_slice::<Envelope>(&body) {
        Ok(Envelope { errors }) => {
            let words = |e: &Entry| if e.message.is_empty() { e.code.clone() } else { e.message.clone() };
            one_line(&errors.iter().map(words).collect::<Vec<_>>().join("; "))
        }
        // A proxy's HTML page does not help.
        Err(_) if body.starts_with(b"<") || body.starts_with(b"{") => String::new(),
        Err(_) => one_line(&String::from_utf8_lossy(&body)),
    }
}

/// The innermost reason: the outer ones repeat the address, which is said elsewhere.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    one_line(&innermost.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{http_date, parse_url, same_origin};

    #[test]
    fn dates_of_http_are_read() {
        let since = |text| http_date(text).map(|t| t.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        assert_eq!(since("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(784_111_777)));
        assert_eq!(since("Thu, 29 Feb 2024 00:00:00 GMT"), Some(Duration::from_secs(1_709_164_800)));
        assert_eq!(since("Sunday, 06-Nov-94 08:49:37 GMT"), Some(Duration::from_secs(784_111_777)));
        assert_eq!(since("Thursday, 01-Jan-70 00:00:09 GMT"), Some(Duration::from_secs(9)));
        assert_eq!(since("Friday, 01-Jan-38 00:00:00 GMT"), since("Fri, 01 Jan 2038 00:00:00 GMT"));
        assert_eq!(since("Sun Nov  6 08:49:37 1994"), Some(Duration::from_secs(784_111_777)));
        assert_eq!(since("Wed Nov 16 08:49:37 1994"), since("Wed, 16 Nov 1994 08:49:37 GMT"));
        for bad in [
            "tomorrow",
            "",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun Nov  6 08:49:37 19940",
            "Sun, -6 Nov 1994 08:49:37 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(since(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a, b| same_origin(&parse_url(a).unwrap(), &parse_url(b).unwrap());
        assert!(same("https://a/x", "https://a:443/y"));
        assert!(!same("https://a/", "https://a:444/"));
        assert!(!same("https://a/", "http://a:443/"));
        assert!(!same("https://a/", "https://a.b/"));
    }
}
