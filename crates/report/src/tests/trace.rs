use std::collections::BTreeMap;

use dbuild_cache::{Change, Difference, IngredientKind};
use dbuild_digest::StepKey;
use dbuild_events::{Event, Outcome, StageInfo, Stamped, StepInfo};
use serde_json::Value as Json;

use super::{Trace, TraceContext, span_id};

const BEGAN: u64 = 1_700_000_000_000;

/// A build with a cached step, one that ran for another build argument, one that failed, and one
/// that never began.
fn events() -> Vec<Stamped> {
    let stage = StageInfo { name: "app".to_owned(), reached: true, ..StageInfo::default() };
    let step = |id, text: &str, kind: &str, inputs: &[u32]| StepInfo {
        id,
        text: text.to_owned(),
        line: Some(id + 2),
        inputs: inputs.to_vec(),
        kind: kind.to_owned(),
        ..StepInfo::default()
    };
    let steps = vec![
        step(0, "FROM base:hidden", "image", &[]),
        step(1, "fetch https://x/hidden", "fetch", &[]),
        step(2, "COPY --from=x a$V .", "copy", &[0, 1]),
        step(3, "RUN make $V", "run", &[2]),
        step(4, "RUN never", "run", &[3]),
    ];
    let key = StepKey::from_bytes([7; 32]);
    let done =
        |step| Event::StepFinished { step, key, duration_ms: 30, layer_bytes: 9, files: 2, snapshot: None };
    let change = Change::Changed { before: "older".to_owned(), after: "hidden".to_owned() };
    let differences = vec![
        Difference { kind: IngredientKind::Argument, name: "V".to_owned(), change: change.clone() },
        Difference { kind: IngredientKind::Path, name: "ahidden".to_owned(), change },
    ];
    let timed = [
        (
            0,
            Event::BuildStarted {
                build: "0b".parse().unwrap(),
                targets: vec!["app".to_owned()],
                stages: vec![stage],
                steps,
                strategy: "output".to_owned(),
            },
        ),
        (
            0,
            Event::DockerfileRead {
                name: "Dockerfile".to_owned(),
                text: "ARG V\nFROM base:$V AS app\n".to_owned(),
            },
        ),
        (5, Event::StepCached { step: 0, key, layer_bytes: 0, files: 0, snapshot: None }),
        (6, Event::StepStarted { step: 1 }),
        (36, done(1)),
        (
            37,
            Event::StepExplained {
                step: 2,
                reasons: vec!["ARG V older → hidden".to_owned()],
                differences,
                inputs: Vec::new(),
            },
        ),
        (38, Event::StepStarted { step: 2 }),
        (68, done(2)),
        (69, Event::StepStarted { step: 3 }),
        (90, Event::StepFailed { step: 3, error: "exit code 3".to_owned() }),
        (91, Event::StepCanceled { step: 4 }),
        (92, Event::BuildFinished { outcome: Outcome::Failed, duration_ms: 100 }),
    ];
    timed.into_iter().map(|(at, event)| Stamped { at_ms: BEGAN + at, event }).collect()
}

fn context() -> TraceContext {
    TraceContext {
        trace_id: [0xab; 16],
        parent: Some([0xcd; 8]),
        state: "vendor=1".to_owned(),
        resource: vec![("service.name".to_owned(), "dbuild".to_owned())],
    }
}

fn spans(json: &Json) -> Vec<Json> {
    json["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone()
}

fn attributes(of: &Json) -> BTreeMap<String, Json> {
    let of = of["attributes"].as_array().unwrap();
    let value = |value: &Json| value.as_object().unwrap().values().next().unwrap().clone();
    of.iter().map(|pair| (pair["key"].as_str().unwrap().to_owned(), value(&pair["value"]))).collect()
}

#[test]
fn a_span_for_the_build_and_one_for_each_step_that_began() {
    let json: Json = serde_json::from_slice(&Trace::of(&events(), context()).json()).unwrap();
    let spans = spans(&json);
    let names: Vec<&str> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "dbuild build",
            "[app 1/4] FROM base:$V AS app",
            "[download] fetch a file",
            "[app 2/4] COPY --from=x a$V .",
            "[app 3/4] RUN make $V",
        ]
    );
    let root = &spans[0];
    assert_eq!(root["parentSpanId"], "cd".repeat(8));
    assert_eq!(root["traceState"], "vendor=1");
    assert!(spans.iter().all(|span| span["traceId"] == "ab".repeat(16)));
    assert!(spans[1..].iter().all(|span| span["parentSpanId"] == root["spanId"]));
    // The build began before its first event: it had looked images up.
    let at = |ms: u64| Json::from(format!("{}", (BEGAN + ms) * 1_000_000));
    let before = Json::from(format!("{}", (BEGAN - 8) * 1_000_000));
    assert_eq!((&root["startTimeUnixNano"], &root["endTimeUnixNano"]), (&before, &at(92)));
    assert_eq!((&spans[3]["startTimeUnixNano"], &spans[3]["endTimeUnixNano"]), (&at(38), &at(68)));
    assert_eq!((&spans[1]["startTimeUnixNano"], &spans[1]["endTimeUnixNano"]), (&at(5), &at(5)));
    let links: Vec<&Json> =
        spans[3]["links"].as_array().unwrap().iter().map(|link| &link["spanId"]).collect();
    assert_eq!(links, [&spans[1]["spanId"], &spans[2]["spanId"]]);
}

#[test]
fn what_a_step_was_is_in_its_attributes() {
    let json: Json = serde_json::from_slice(&Trace::of(&events(), context()).json()).unwrap();
    let spans = spans(&json);
    let (copy, run) = (attributes(&spans[3]), attributes(&spans[4]));
    assert_eq!(copy["dbuild.cached"], false);
    assert_eq!(attributes(&spans[1])["dbuild.cached"], true);
    assert_eq!(copy["dbuild.layer.bytes"], "9");
    assert_eq!(copy["dbuild.key"], "07".repeat(32));
    assert_eq!(copy["dbuild.reasons"]["values"][0]["stringValue"], "argument V");
    assert_eq!(copy["code.line.number"], "4");
    assert_eq!(run["process.exit.code"], "3");
    assert_eq!(run["dbuild.critical"], true);
    assert_eq!(
        (&spans[4]["status"]["code"], &spans[4]["status"]["message"]),
        (&2.into(), &"exit code 3".into())
    );
    assert_eq!(spans[0]["status"]["message"], "[app 3/4] RUN make $V failed");
    let root = attributes(&spans[0]);
    assert_eq!((&root["dbuild.steps.cached"], &root["dbuild.steps.ran"]), (&"1".into(), &"2".into()));
}

#[test]
fn values_of_build_arguments_are_not_in_it() {
    let trace = Trace::of(&events(), context());
    for bytes in [trace.json(), trace.protobuf()] {
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("argument V") && !text.contains("hidden"), "{text}");
    }
}

/// Byte for byte, with the field numbers written out: a receiver reads nothing else.
#[test]
fn protobuf_has_the_numbers_of_the_specification() {
    let events = &events()[..1];
    let context = TraceContext { trace_id: [1; 16], ..TraceContext::default() };
    let bytes = Trace::of(events, context).protobuf();
    // resource_spans, an empty resource, scope_spans with a scope…
    let version = env!("CARGO_PKG_VERSION");
    let scope = [&b"\x0a\x06dbuild\x12"[..], &[version.len() as u8], version.as_bytes()].concat();
    assert_eq!(&bytes[..1], b"\x0a");
    let at = bytes.windows(scope.len()).position(|window| window == scope).unwrap();
    let rest = &bytes[at + scope.len()..];
    // …and a span: trace_id, span_id, name, kind, and the two times as fixed64.
    assert_eq!((rest[0], &rest[3..5]), (0x12, &b"\x0a\x10"[..]));
    let span = [
        &[1; 16][..],
        b"\x12\x08",
        &span_id(&[1; 16], None),
        b"\x2a\x0cdbuild build\x30\x01\x39",
        &(BEGAN * 1_000_000).to_le_bytes(),
        b"\x41",
        &(BEGAN * 1_000_000).to_le_bytes(),
        // An attribute with a text.
        b"\x4a\x17\x0a\x0fdbuild.build.id\x12\x04\x0a\x020b",
    ];
    let span = span.concat();
    assert_eq!(&rest[5..5 + span.len()], span);
    // The status at the end: failed, as far as one knows.
    assert!(rest.ends_with(b"\x7a\x0a\x12\x06failed\x18\x02"));
}
