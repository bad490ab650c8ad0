//! A build as a trace of OpenTelemetry: one span for the build, one for each step, links for what
//! needs what.
//!
//! What is in a span are names, times, sizes and counts. Not in it are the values of build
//! arguments, variables and secrets, what commands wrote, and paths of changed files: instructions
//! are shown as the Dockerfile has them, and a reason is the name of what differs.
//!
//! The encodings are those of OTLP over HTTP (opentelemetry-proto 1.x): [`Trace::protobuf`] and
//! [`Trace::json`].

mod json;
mod protobuf;

use dbuild_digest::Framed;
use dbuild_events::{Outcome, Stamped};

use crate::{Build, State, Step};

/// Maximum length of a name, in characters.
const LONGEST_NAME: usize = 200;
/// Maximum number of reasons given for a step.
const MOST_REASONS: usize = 20;

/// What a trace belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, not all zeros.
    pub trace_id: [u8; 16],
    /// The span that caused the build.
    pub parent: Option<[u8; 8]>,
    /// What others have noted of the trace.
    pub state: String,
    /// What describes the process that built: `service.name` and the like.
    pub resource: Vec<(String, String)>,
}

/// A build as spans, ready to be encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    context: TraceContext,
    spans: Vec<Span>,
}

/// A span. Times are nanoseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    id: [u8; 8],
    parent: Option<[u8; 8]>,
    name: String,
    began: u64,
    ended: u64,
    attributes: Vec<Attribute>,
    links: Vec<Link>,
    status: Status,
}

/// To a span that this one needed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    span: [u8; 8],
    attributes: Vec<Attribute>,
}

type Attribute = (&'static str, Value);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Text(String),
    Flag(bool),
    Number(i64),
    Texts(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Status {
    Unset,
    Ok,
    Error(String),
}

/// `SPAN_KIND_INTERNAL`.
const KIND: u64 = 1;

impl Status {
    fn code(&self) -> u64 {
        match self {
            Self::Unset => 0,
            Self::Ok => 1,
            Self::Error(_) => 2,
        }
    }
}

impl Trace {
    /// The trace of the build that these events tell of. Steps that never began have no span.
    pub fn of(events: &[Stamped], context: TraceContext) -> Self {
        let build = Build::of(events);
        let root = span_id(&context.trace_id, None);
        let mut spans = vec![root_span(&build, events, root, context.parent)];
        let shown = |id: &u32| build.step(*id).filter(|step| step.kind != "scratch").and_then(times);
        for step in build.visible() {
            let Some((began, ended)) = times(step) else { continue };
            let at = |offset: u64| nanoseconds(build.started_ms + offset);
            let inputs = step.inputs.iter().filter(|id| shown(id).is_some());
            let links = inputs.map(|id| Link {
                span: span_id(&context.trace_id, Some(*id)),
                attributes: vec![
                    ("dbuild.step.id", Value::Number(i64::from(*id))),
                    ("dbuild.waited_for", Value::Flag(step.waited_for == Some(*id))),
                ],
            });
            spans.push(Span {
                id: span_id(&context.trace_id, Some(step.id)),
                parent: Some(root),
                name: cut(&format!("{} {}", step.label, words(&build, step))),
                began: at(began),
                ended: at(ended),
                attributes: attributes(&build, step),
                links: links.collect(),
                status: status(&build, step),
            });
        }
        Self { context, spans }
    }
}

/// The offsets at which a step began and ended; of one whose result was known, when that was found.
fn times(step: &Step) -> Option<(u64, u64)> {
    match step.state {
        State::Cached | State::Done | State::Failed | State::Canceled => {}
        State::Waiting | State::Running | State::Skipped => return None,
    }
    let ended = step.ended_ms?;
    // What was canceled before it began took no time, and is nothing that happened.
    let began = match (step.started_ms, step.state) {
        (None, State::Canceled) => return None,
        (began, _) => began.unwrap_or(ended),
    };
    Some((began.min(ended), ended))
}

fn root_span(build: &Build, events: &[Stamped], id: [u8; 8], parent: Option<[u8; 8]>) -> Span {
    let ended_ms = events.last().map_or(build.started_ms, |last| last.at_ms);
    // Images are looked up before the first event.
    let began_ms = build.started_ms.min(ended_ms.saturating_sub(build.duration_ms));
    let (cached, all) = build.cached();
    let mut attributes = vec![
        ("dbuild.build.id", Value::Text(build.id.clone())),
        ("dbuild.targets", Value::Texts(build.targets.clone())),
        ("dbuild.strategy", Value::Text(build.strategy.clone())),
        ("dbuild.steps.cached", number(cached as u64)),
        ("dbuild.steps.ran", number((all - cached) as u64)),
    ];
    let names: Vec<String> = build.exports.iter().flat_map(|export| export.names.clone()).collect();
    if !names.is_empty() {
        attributes.push(("dbuild.image.names", Value::Texts(names)));
    }
    if let Some(digest) = build.exports.iter().find_map(|export| export.digest) {
        attributes.push(("oci.manifest.digest", Value::Text(digest.to_string())));
    }
    let failed = build.steps.iter().find(|step| step.state == State::Failed);
    let status = match (build.outcome, failed) {
        (Some(Outcome::Done), _) => Status::Ok,
        (_, Some(step)) => Status::Error(cut(&format!("{} {} failed", step.label, words(build, step)))),
        (Some(Outcome::Canceled), None) => Status::Error("canceled".to_owned()),
        (Some(Outcome::Failed) | None, None) => Status::Error("failed".to_owned()),
    };
    Span {
        id,
        parent,
        name: "dbuild build".to_owned(),
        began: nanoseconds(began_ms),
        ended: nanoseconds(ended_ms),
        attributes,
        links: Vec::new(),
        status,
    }
}

fn attributes(build: &Build, step: &Step) -> Vec<Attribute> {
    let stage = step.stage.and_then(|id| build.stages.iter().find(|stage| stage.id == id));
    let mut found = vec![
        ("dbuild.step.id", Value::Number(i64::from(step.id))),
        ("dbuild.step.kind", Value::Text(step.kind.clone())),
        ("dbuild.step.text", Value::Text(words(build, step))),
        ("dbuild.step.state", Value::Text(step.state.word().to_owned())),
        ("dbuild.cached", Value::Flag(step.state == State::Cached)),
        ("dbuild.critical", Value::Flag(step.critical)),
        ("dbuild.queued_ms", number(step.queued_ms)),
        ("dbuild.layer.bytes", number(step.layer_bytes)),
        ("dbuild.layer.files", number(step.files)),
    ];
    found.extend(stage.map(|stage| ("dbuild.stage", Value::Text(stage.name.clone()))));
    found.extend(step.key.as_ref().map(|key| ("dbuild.key", Value::Text(key.clone()))));
    let reasons = reasons(step);
    if !reasons.is_empty() {
        found.push(("dbuild.reasons", Value::Texts(reasons)));
    }
    if let (Some(file), Some((line, _))) = (&build.dockerfile, step.lines) {
        found.push(("code.file.path", Value::Text(file.name.clone())));
        found.push(("code.line.number", Value::Number(i64::from(line))));
    }
    found.extend(exit_code(step).map(|code| ("process.exit.code", Value::Number(code))));
    found
}

/// The instruction as the Dockerfile has it. Images and files of servers are named in a plan by
/// what build arguments made of their words.
fn words(build: &Build, step: &Step) -> String {
    let line = || {
        let (first, _) = step.lines?;
        build.dockerfile.as_ref()?.text.lines().nth((first as usize).checked_sub(1)?)
    };
    match step.kind.as_str() {
        "fetch" => "fetch a file".to_owned(),
        "git" => "check a repository out".to_owned(),
        // The image that a stage begins with belongs to it; others are only copied from or mounted.
        "image" if step.stage.is_none() => "load an image".to_owned(),
        "image" | "scratch" => {
            let written = line().map(str::trim).filter(|line| !line.contains("://"));
            written.map_or("FROM".to_owned(), str::to_owned)
        }
        _ => step.text.clone(),
    }
}

/// What differs from the step's earlier version, without values; where that is not known, what was
/// said of it.
fn reasons(step: &Step) -> Vec<String> {
    use dbuild_cache::IngredientKind::{Argument, Flag, Variable};
    if step.differences.is_empty() {
        return step.reasons.iter().take(MOST_REASONS).cloned().collect();
    }
    let mut shown: Vec<String> = Vec::new();
    for difference in &step.differences {
        let kind = serde_json::to_value(difference.kind).ok();
        let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or("input").replace('_', " ");
        let text = match difference.kind {
            Argument | Variable | Flag => format!("{kind} {}", difference.name),
            _ => kind,
        };
        if !shown.contains(&text) && shown.len() < MOST_REASONS {
            shown.push(text);
        }
    }
    shown
}

/// How a step ended. Errors of others than commands can hold words that build arguments were put
/// into.
fn status(build: &Build, step: &Step) -> Status {
    match step.state {
        State::Failed => Status::Error(match &step.error {
            Some(error) if is_of_command(error) && step.kind == "run" => cut(error),
            _ => format!("it failed: `dbuild logs {}` says why", build.id),
        }),
        State::Canceled => Status::Error("canceled".to_owned()),
        _ => Status::Unset,
    }
}

fn is_of_command(error: &str) -> bool {
    error.starts_with("exit code ") || error.starts_with("killed by ")
}

fn exit_code(step: &Step) -> Option<i64> {
    step.error.as_ref()?.strip_prefix("exit code ")?.parse().ok()
}

/// Names a span of a trace; `None` is the build.
fn span_id(trace: &[u8; 16], step: Option<u32>) -> [u8; 8] {
    let mut framed = Framed::new("trace-span", 1);
    framed.bytes(trace).u64(step.map_or(0, |step| u64::from(step) + 1));
    let digest = framed.finish();
    let mut id = [0; 8];
    id.copy_from_slice(&digest[..8]);
    // All zeros would mean that there is none.
    id[7] |= 1;
    id
}

fn number(value: u64) -> Value {
    Value::Number(i64::try_from(value).unwrap_or(i64::MAX))
}

fn nanoseconds(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000)
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_NAME).collect()
}

#[cfg(test)]
#[path = "../tests/trace.rs"]
mod tests;
