//! What the store remembers of builds: `dbuild history` and `dbuild logs`.

use std::time::Duration;

use dbuild_events::Outcome;
use dbuild_report::{State, Step};
use dbuild_store::BuildSummary;
use dbuild_support::time::local;
use dbuild_support::units::Seconds;
use serde::Serialize;

use super::{print, print_json};
use crate::cli::{Global, HistoryArgs, LogsArgs};
use crate::error::Error;
use crate::past_build::{no_such_step, read_build};
use crate::session::Session;

/// `dbuild history`.
pub(crate) fn history(global: &Global, args: &HistoryArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let builds = session.store.builds(args.limit).map_err(Error::failed)?;
    if args.json {
        return print_json(&builds);
    }
    print(&format!("{:10}  {:19}  {:10}  {:>7}  WHAT", "BUILD", "WHEN", "RESULT", "TIME"))?;
    for build in &builds {
        let took = build.finished_ms.map_or("-".to_owned(), |end| {
            Seconds(Duration::from_millis(end.saturating_sub(build.started_ms))).to_string()
        });
        let (when, result) = (local(build.started_ms), word(build.outcome));
        print(&format!("{:10}  {when:19}  {result:10}  {took:>7}  {}", build.id.as_str(), what(build)))?;
    }
    Ok(())
}

/// One word for how a build ended.
pub(crate) fn word(outcome: Option<Outcome>) -> &'static str {
    match outcome {
        Some(Outcome::Done) => "done",
        Some(Outcome::Failed) => "failed",
        Some(Outcome::Canceled) => "canceled",
        None => "unfinished",
    }
}

fn what(build: &BuildSummary) -> String {
    let info = &build.info;
    let target = if info.target.is_empty() { String::new() } else { format!(" --target {}", info.target) };
    let name = info.names.first().map(|name| format!("-t {name} ")).unwrap_or_default();
    format!("{name}{}{target}", info.context)
}

/// What a step wrote, for scripts.
#[derive(Serialize)]
struct StepOutput<'a> {
    step: u32,
    label: &'a str,
    text: &'a str,
    state: State,
    lines: &'a [dbuild_report::LogLine],
}

/// `dbuild logs`.
pub(crate) fn logs(global: &Global, args: &LogsArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let (mut id, mut step) = (args.build.as_deref(), args.step.as_deref());
    // `dbuild logs builder`: a word alone that names no build is a step of the latest one.
    if step.is_none() && id.is_some_and(|id| id != "latest" && session.store.build(Some(id)).is_err()) {
        step = id.take();
    }
    let (_, build) = read_build(&session.store, id)?;
    let steps: Vec<&Step> = match step {
        Some(step) => build.find(step).map_err(no_such_step)?,
        None => build.in_order(),
    };
    let wrote = |step: &&Step| !step.log.is_empty() || step.error.is_some();
    if args.json {
        let logged = steps.iter().map(|step| StepOutput {
            step: step.id,
            label: &step.label,
            text: &step.text,
            state: step.state,
            lines: &step.log,
        });
        return print_json(&logged.collect::<Vec<_>>());
    }
    for step in steps.iter().copied().filter(|one| step.is_some() || wrote(one)) {
        print(&format!("#{} {} {} ({})", step.id, step.label, step.text, step.state.word()))?;
        for line in &step.log {
            let since = line.at_ms.saturating_sub(step.started_ms.unwrap_or(line.at_ms));
            print(&format!("#{} {:.3} {}", step.id, since as f64 / 1000.0, line.text))?;
        }
        if let Some(error) = &step.error {
            print(&format!("#{} ERROR: {error}", step.id))?;
        }
        if step.state == State::Cached && step.log.is_empty() {
            print(&format!("#{} (cached: its output is in the build that ran it)", step.id))?;
        }
    }
    Ok(())
}
