//! A build as a trace for a collector of OpenTelemetry, where the environment names one.
//!
//! It is read from the journal when the build is over, and sent in one request. A build never
//! fails, and never waits for more than [`LONGEST`], because of it: what goes wrong is one warning.
//! The variables are those of the specification (`docs/reference/events.md` lists them).

use std::path::PathBuf;
use std::time::Duration;

use dbuild_events::BuildId;
use dbuild_frontend::percent_decoded;
use dbuild_registry::{Post, send};
use dbuild_report::{Trace, TraceContext};

use crate::progress;
use crate::session::Session;

/// How long a collector has where nobody says. The specification has ten seconds, which are for
/// programs that go on meanwhile.
const USUAL: Duration = Duration::from_secs(3);
/// No more, whatever the environment says.
const LONGEST: Duration = Duration::from_secs(10);

/// Where a trace goes, and what it belongs to.
#[derive(Debug, PartialEq, Eq)]
struct Export {
    url: String,
    headers: Vec<(String, String)>,
    as_json: bool,
    ca: Option<PathBuf>,
    within: Duration,
    context: TraceContext,
}

/// Sends the trace of a build that is over, if the environment asks for it.
pub(crate) fn export(session: &Session, id: &BuildId) {
    let variable = |name: &str| std::env::var(name).ok();
    let sent = match asked(&variable) {
        Ok(None) => return,
        Ok(Some(export)) => export.send(session, id),
        Err(text) => Err(text),
    };
    if let Err(text) = sent {
        progress::say(&format!("warning: no trace of this build was sent: {text}"));
    }
}

impl Export {
    fn send(self, session: &Session, id: &BuildId) -> Result<(), String> {
        let events = session.store.events(id).map_err(|error| error.to_string())?;
        let trace = Trace::of(&events, self.context);
        let (content_type, body) = match self.as_json {
            true => ("application/json", trace.json()),
            false => ("application/x-protobuf", trace.protobuf()),
        };
        let (url, headers, ca, within) = (self.url, self.headers, self.ca, self.within);
        let post = Post { url, headers, content_type, body: body.into(), ca, within };
        session.runtime.block_on(async {
            tokio::select! {
                sent = send(&post) => sent.map(drop).map_err(|error| error.to_string()),
                _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
            }
        })
    }
}

/// What the environment asks for. `None`: nothing is sent. An error is a setting that cannot be
/// followed.
fn asked(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Export>, String> {
    // One that is empty is as one that is not set.
    let set = |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    // What is said of traces is said before what is said of all.
    let either = |name: &str| {
        set(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
            .or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{name}")))
    };
    let url = match (set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), set("OTEL_EXPORTER_OTLP_ENDPOINT")) {
        (Some(url), _) => url,
        (None, Some(base)) => format!("{}/v1/traces", base.trim_end_matches('/')),
        (None, None) => return Ok(None),
    };
    let is_off = set("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    if is_off || set("OTEL_TRACES_EXPORTER").is_some_and(|text| text == "none") {
        return Ok(None);
    }
    let as_json = match either("PROTOCOL").as_deref() {
        None | Some("http/protobuf") => false,
        Some("http/json") => true,
        Some(other) => {
            return Err(format!(
                "OTEL_EXPORTER_OTLP_PROTOCOL={other} is not supported; use http/protobuf (the collector's port 4318) or http/json"
            ));
        }
    };
    let within = match either("TIMEOUT") {
        None => USUAL,
        Some(text) => match text.parse() {
            Ok(ms) => Duration::from_millis(ms).min(LONGEST),
            Err(_) => {
                return Err(format!("OTEL_EXPORTER_OTLP_TIMEOUT={text} is not a number of milliseconds"));
            }
        },
    };
    let Some((trace_id, parent, state)) = parent(&set) else { return Ok(None) };
    let context = TraceContext { trace_id, parent, state, resource: resource(&set) };
    let headers = either("HEADERS").map(|text| pairs(&text)).unwrap_or_default();
    let ca = either("CERTIFICATE").map(PathBuf::from);
    Ok(Some(Export { url, headers, as_json, ca, within, context }))
}

type Parent = ([u8; 16], Option<[u8; 8]>, String);

/// The trace and the span that a build belongs to, by the W3C's `TRACEPARENT` of the environment;
/// else a new trace. `None`: the trace is one that nobody keeps.
fn parent(set: &dyn Fn(&str) -> Option<String>) -> Option<Parent> {
    let text = set("TRACEPARENT").unwrap_or_default();
    let parts: Vec<&str> = text.split('-').collect();
    let parsed = match parts.as_slice() {
        // Later versions can have further parts.
        [version, trace, span, flags, rest @ ..]
            if *version != "ff" && (*version != "00" || rest.is_empty()) && version.len() == 2 =>
        {
            bytes::<16>(trace).zip(bytes::<8>(span)).zip(bytes::<1>(flags))
        }
        _ => None,
    };
    match parsed.filter(|((trace, span), _)| *trace != [0; 16] && *span != [0; 8]) {
        Some((_, [flags])) if flags & 1 == 0 => None,
        Some(((trace, span), _)) => Some((trace, Some(span), set("TRACESTATE").unwrap_or_default())),
        None => Some((new_trace(), None, String::new())),
    }
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let mut found = [0; N];
    if hex.len() != 2 * N || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in found.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(found)
}

fn new_trace() -> [u8; 16] {
    let mut id = [0; 16];
    // Without randomness the time still tells builds apart.
    if rustix::rand::getrandom(&mut id[..], rustix::rand::GetRandomFlags::empty()).is_err() {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        id = now.as_nanos().to_be_bytes();
    }
    id[15] |= 1;
    id
}

fn resource(set: &dyn Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let mut found = set("OTEL_RESOURCE_ATTRIBUTES").map(|text| pairs(&text)).unwrap_or_default();
    let mut put = |name: &str, value: Option<String>, instead: bool| {
        let known = found.iter().position(|(other, _)| other == name);
        match (known, value) {
            (Some(at), Some(value)) if instead => found[at].1 = value,
            (None, Some(value)) => found.push((name.to_owned(), value)),
            _ => {}
        }
    };
    put("service.name", set("OTEL_SERVICE_NAME"), true);
    put("service.name", Some("dbuild".to_owned()), false);
    put("service.version", Some(env!("CARGO_PKG_VERSION").to_owned()), false);
    put("telemetry.sdk.name", Some("dbuild".to_owned()), false);
    put("telemetry.sdk.language", Some("rust".to_owned()), false);
    put("telemetry.sdk.version", Some(env!("CARGO_PKG_VERSION").to_owned()), false);
    found
}

/// `name=value,name=value`, values in percent-encoding.
fn pairs(text: &str) -> Vec<(String, String)> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    let pairs = pairs.map(|(name, value)| (percent_decoded(name.trim()), percent_decoded(value.trim())));
    pairs.filter(|(name, _)| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::{Export, asked};

    fn with(variables: &[(&str, &str)]) -> Result<Option<Export>, String> {
        let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
        asked(&|name| variables.get(name).map(|text| (*text).to_owned()))
    }

    const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/");

    #[test]
    fn nothing_is_sent_unasked() {
        for variables in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", ""), ("OTEL_SERVICE_NAME", "x")],
            &[ALL, ("OTEL_SDK_DISABLED", "True")],
            &[ALL, ("OTEL_TRACES_EXPORTER", "none")],
            // The parent's trace is not kept, so neither is its part.
            &[ALL, ("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")],
        ] {
            assert_eq!(with(variables), Ok(None), "{variables:?}");
        }
    }

    #[test]
    fn what_is_said_of_traces_counts_before_what_is_said_of_all() {
        let plain = with(&[ALL]).unwrap().unwrap();
        assert_eq!(plain.url, "http://c:4318/v1/traces");
        assert_eq!(
            (plain.as_json, plain.within, plain.context.parent),
            (false, Duration::from_secs(3), None)
        );
        let name = ("service.name".to_owned(), "dbuild".to_owned());
        assert!(plain.context.resource.contains(&name));
        assert_ne!(plain.context.trace_id, with(&[ALL]).unwrap().unwrap().context.trace_id);
        let own = with(&[
            ALL,
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/in"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
            ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "authorization=Basic%20eA%3D%3D, b = 2 ,bad"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "99999"),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=one,team=a%2Cb"),
            ("OTEL_SERVICE_NAME", "two"),
        ]);
        let own = own.unwrap().unwrap();
        assert_eq!(
            (own.url.as_str(), own.as_json, own.within),
            ("https://t/in", true, Duration::from_secs(10))
        );
        assert_eq!(
            own.headers,
            [("authorization", "Basic eA=="), ("b", "2")].map(|(n, v)| (n.into(), v.into()))
        );
        assert_eq!(own.ca, Some("/ca.pem".into()));
        let expected = [("service.name", "two"), ("team", "a,b")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(own.context.resource[..2], expected);
    }

    #[test]
    fn a_parent_is_one_that_the_w3c_knows() {
        let parent = |text: &str| {
            let context =
                with(&[ALL, ("TRACEPARENT", text), ("TRACESTATE", "a=b")]).unwrap().unwrap().context;
            context.parent.map(|span| (context.trace_id[0], span[7], context.state))
        };
        let known = Some((0x0a, 0x31, "a=b".to_owned()));
        assert_eq!(parent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), known);
        assert_eq!(parent("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"), known);
        for wrong in [
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "nonsense",
        ] {
            assert_eq!(parent(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_cannot_be_followed_is_said() {
        let text = with(&[ALL, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(text.contains("grpc is not supported; use http/protobuf"), "{text}");
        assert!(with(&[ALL, ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")]).is_err());
    }
}
