//! `docs/events.md` is compared with the events: each event, each member, each example.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Event, LayerInfo, StageInfo, StartFinding, StepInfo};

const PAGE: &str = include_str!("../../../../docs/events.md");

/// The names of all events that are written.
const NAMES: [&str; 24] = [
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
    "step_skipped",
    "stage_skipped",
    "step_canceled",
    "layer_packed",
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
        Event::StepSkipped { .. } => 11,
        Event::StageSkipped { .. } => 12,
        Event::StepCanceled { .. } => 13,
        Event::LayerPacked { .. } => 14,
        Event::Warning { .. } => 15,
        Event::Note { .. } => 16,
        Event::ImageAssembled { .. } => 17,
        Event::ExportStarted { .. } => 18,
        Event::ExportFinished { .. } => 19,
        Event::StageSummary { .. } => 20,
        Event::StartChecked { .. } => 21,
        Event::BuildFinished { .. } => 22,
        Event::Unknown => 23,
    }
}

/// A section: its name, the members in its table, its example.
fn sections() -> Vec<(String, BTreeSet<String>, Value)> {
    let sections = PAGE.split("\n## ").skip(1).map(|section| {
        let name = section.lines().next().unwrap_or_default().trim().to_owned();
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
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
            "Layer" => drop(check::<LayerInfo>(&name, &table, &example)),
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

/// An optional member that an example leaves out would not be missed: a line with all of them shows that they are there.
#[test]
fn examples_leave_no_optional_member_out() {
    let source = include_str!("../event.rs");
    let fields = source.lines().filter_map(|line| {
        let line = line.trim().trim_start_matches("pub ");
        let (name, kind) = line.split_once(": ")?;
        kind.starts_with("Option<").then_some(name)
    });
    let all: BTreeSet<String> = sections().into_iter().flat_map(|(_, table, _)| table).collect();
    let missing: Vec<&str> = fields.filter(|name| !all.contains(*name)).collect();
    assert_eq!(missing, Vec::<&str>::new());
}
