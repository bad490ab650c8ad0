//! `docs/reference/events.md` is compared with the events: each event, each member, each example.
//! And what earlier versions wrote is read.

use std::collections::{BTreeMap, BTreeSet};

use dbuild_cache::Difference;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Event, InputChange, LayerInfo, MountInfo, MountType, RuntimeConfig, StageInfo, Stamped, StartFinding,
    StepInfo,
};

const PAGE: &str = include_str!("../../../../docs/reference/events.md");

/// The names of all events that are written.
const NAMES: [&str; 26] = [
    "build_started",
    "dockerfile_read",
    "image_pinned",
    "step_started",
    "step_cached",
    "step_progress",
    "step_log",
    "step_explained",
    "step_finished",
    "step_failed",
    "step_kept",
    "stage_skipped",
    "step_canceled",
    "layer_packed",
    "remote_hit",
    "remote_layer_fetched",
    "cache_exported",
    "warning",
    "note",
    "image_assembled",
    "export_started",
    "export_finished",
    "stage_summary",
    "start_checked",
    "build_finished",
    "unknown",
];

/// A new event does not compile until somebody decides about its name; then the page must have it.
fn place(event: &Event) -> usize {
    match event {
        Event::BuildStarted { .. } => 0,
        Event::DockerfileRead { .. } => 1,
        Event::ImagePinned { .. } => 2,
        Event::StepStarted { .. } => 3,
        Event::StepCached { .. } => 4,
        Event::StepProgress { .. } => 5,
        Event::StepLog { .. } => 6,
        Event::StepExplained { .. } => 7,
        Event::StepFinished { .. } => 8,
        Event::StepFailed { .. } => 9,
        Event::StepKept { .. } => 10,
        Event::StageSkipped { .. } => 11,
        Event::StepCanceled { .. } => 12,
        Event::LayerPacked { .. } => 13,
        Event::RemoteHit { .. } => 14,
        Event::RemoteLayerFetched { .. } => 15,
        Event::CacheExported { .. } => 16,
        Event::Warning { .. } => 17,
        Event::Note { .. } => 18,
        Event::ImageAssembled { .. } => 19,
        Event::ExportStarted { .. } => 20,
        Event::ExportFinished { .. } => 21,
        Event::StageSummary { .. } => 22,
        Event::StartChecked { .. } => 23,
        Event::BuildFinished { .. } => 24,
        Event::Unknown => 25,
    }
}

/// A section: its name, the members in its table, its example.
fn sections() -> Vec<(String, BTreeSet<String>, Value)> {
    let sections = PAGE.split("\n## ").skip(1).map(|section| {
        // A heading above it ends a section, too.
        let section = section.split("\n# ").next().unwrap_or_default();
        let name = section.lines().next().unwrap_or_default().trim().to_owned();
        // `mode`, `uid`, `gid`: one row may be about several.
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next());
        let rows = rows.flat_map(|cell| cell.trim_end_matches('`').split("`, `"));
        let example = section.split("```json\n").nth(1).and_then(|rest| rest.split("\n```").next());
        let example = serde_json::from_str(example.unwrap_or_default());
        (
            name.clone(),
            rows.map(str::to_owned).collect(),
            example.unwrap_or_else(|error| panic!("{name}: {error}")),
        )
    });
    sections.collect()
}

fn members(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().filter(|key| *key != "event").cloned().collect()
}

/// The example is what is written, no member more and none less, and the table names all of them.
fn check<T: Serialize + DeserializeOwned>(name: &str, table: &BTreeSet<String>, example: &Value) -> T {
    let read: T = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(serde_json::to_value(&read).unwrap(), *example, "{name}");
    assert_eq!(members(example), *table, "{name}: the table");
    read
}

#[test]
fn the_page_has_every_event_with_every_member() {
    let mut told = BTreeSet::new();
    for (name, table, example) in sections() {
        match name.as_str() {
            "Stage" => drop(check::<StageInfo>(&name, &table, &example)),
            "Step" => drop(check::<StepInfo>(&name, &table, &example)),
            "StartFinding" => drop(check::<StartFinding>(&name, &table, &example)),
            "Difference" => drop(check::<Difference>(&name, &table, &example)),
            "InputChange" => drop(check::<InputChange>(&name, &table, &example)),
            "Layer" => drop(check::<LayerInfo>(&name, &table, &example)),
            "RuntimeConfig" => drop(check::<RuntimeConfig>(&name, &table, &example)),
            "Mount" => check_mounts(&table, &example),
            _ => {
                let event: Event = check(&name, &table, &example);
                assert_eq!(NAMES[place(&event)], name, "an event of another name, or unknown");
                told.insert(name);
            }
        }
    }
    let written = NAMES.into_iter().filter(|name| *name != "unknown").map(str::to_owned).collect();
    assert_eq!(told, written);
}

/// An example of each type; together they have all that the table names.
fn check_mounts(table: &BTreeSet<String>, examples: &Value) {
    let mut types = BTreeSet::new();
    let mut told = BTreeSet::new();
    for example in examples.as_array().unwrap() {
        let read: MountInfo = check("Mount", &members(example), example);
        told.extend(members(example));
        types.insert(match read.kind {
            MountType::Bind { .. } => "bind",
            MountType::Cache { .. } => "cache",
            MountType::Tmpfs { .. } => "tmpfs",
            MountType::Secret { .. } => "secret",
            MountType::Ssh { .. } => "ssh",
            MountType::Script { .. } => "script",
            MountType::Unknown => panic!("a type of no mount: {example}"),
        });
    }
    assert_eq!((types.len(), &told), (6, table));
}

/// The fields of each variant or struct, read from the source as rustfmt writes it.
fn fields(source: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut of = (0, String::new());
    for line in source.lines() {
        let text = line.trim_start();
        let depth = line.len() - text.len();
        let word = text.trim_start_matches("pub ");
        if let Some(open) = word.strip_suffix(" {")
            && (depth == 4 && !open.contains(' ') || open.starts_with("struct "))
        {
            of = (depth + 4, open.trim_start_matches("struct ").to_owned());
        }
        if let Some((name, _)) = word.split_once(": ").filter(|(name, _)| !name.contains([' ', '/', '(']))
            && depth == of.0
            && text.ends_with(',')
        {
            found.entry(of.1.clone()).or_default().insert(name.to_owned());
        }
    }
    found
}

/// A member that an example leaves out would not be missed by reading the page alone: the code says
/// which there are.
#[test]
fn the_page_has_every_member_of_the_code() {
    let told: BTreeMap<String, BTreeSet<String>> =
        sections().into_iter().map(|(name, table, _)| (name, table)).collect();
    let code = fields(include_str!("../event.rs"));
    let camel = |name: &str| -> String {
        let words = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
        words.collect()
    };
    let events = NAMES.into_iter().filter(|name| *name != "unknown").map(|name| (name, camel(name)));
    let parts = [("Stage", "StageInfo"), ("Step", "StepInfo"), ("Layer", "LayerInfo")];
    let parts = parts.into_iter().chain([("StartFinding", "StartFinding")]);
    let pairs = events.chain(parts.map(|(name, code)| (name, code.to_owned())));
    let mut compared = 0;
    for (name, variant) in pairs {
        assert_eq!(code.get(&variant), told.get(name), "{name} in the code, and on the page");
        compared += code[&variant].len();
    }
    assert!(compared > 80, "the source was not understood: {compared}");
    assert_eq!(told.get("RuntimeConfig"), fields(include_str!("../runtime_config.rs")).get("RuntimeConfig"));
}

/// Events that no version wrote, though earlier ones had them: they are passed over.
const GONE: [&str; 1] = ["step_skipped"];

/// Each line of a fixture that an earlier dbuild wrote is understood, and written again with all
/// that it had.
#[test]
fn what_earlier_versions_wrote_is_read() {
    let lines = include_str!("../../../../fixtures/events/0.1.0.jsonl").lines();
    let mut seen = BTreeSet::new();
    for line in lines {
        let old: Value = serde_json::from_str(line).unwrap();
        let read: Stamped = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if GONE.contains(&old["event"].as_str().unwrap()) {
            assert_eq!(read.event, Event::Unknown, "{line}");
            continue;
        }
        assert_ne!(read.event, Event::Unknown, "{line}");
        seen.insert(NAMES[place(&read.event)]);
        let new = serde_json::to_value(&read).unwrap();
        assert!(has_all_of(&new, &old), "{line}\n  is now {new}");
    }
    let all: BTreeSet<&str> = NAMES.into_iter().filter(|name| *name != "unknown").collect();
    assert_eq!(seen, all, "the fixture has an event of each name of its time");
}

/// Whether one value has each member and item of another, with the same values.
fn has_all_of(new: &Value, old: &Value) -> bool {
    match (new, old) {
        (Value::Object(new), Value::Object(old)) => {
            old.iter().all(|(name, old)| new.get(name).is_some_and(|new| has_all_of(new, old)))
        }
        (Value::Array(new), Value::Array(old)) => {
            new.len() == old.len() && new.iter().zip(old).all(|(new, old)| has_all_of(new, old))
        }
        (new, old) => new == old,
    }
}

/// What a newer dbuild writes is read as far as it is known.
#[test]
fn what_is_not_known_is_passed_over() {
    let newer = r#"{"at_ms":1,"event":"step_kept","step":1,"snapshot":"0k","env":[],"user":"","workdir":"/","program":"sh",
        "mounted":[{"target":"/x","type":"overlay","lower":["a"]}],"further":{"a":1}}"#;
    let read: Stamped = serde_json::from_str(newer).unwrap();
    let Event::StepKept { mounted, .. } = read.event else { panic!("{read:?}") };
    assert_eq!(mounted, [MountInfo { target: "/x".to_owned(), kind: MountType::Unknown }]);
    let read: Stamped = serde_json::from_str(r#"{"at_ms":1,"event":"tea_made","cups":2}"#).unwrap();
    assert_eq!(read.event, Event::Unknown);
}
