//! `dbuild why` and `build --explain`: why steps of a build ran.

use dbuild_report::{Build, Step, Why};
use dbuild_store::Store;
use serde::Serialize;

use super::journal::{no_such_step, read_build};
use super::{print, print_json};
use crate::cli::{Global, WhyArgs};
use crate::error::Error;
use crate::session::Session;

/// An answer, for scripts.
#[derive(Serialize)]
struct Told<'a> {
    label: &'a str,
    text: &'a str,
    #[serde(flatten)]
    why: Why,
}

/// `dbuild why`.
pub(crate) fn run(global: &Global, args: &WhyArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let (_, build) = read_build(&session.store, args.build.as_deref())?;
    let steps = match &args.step {
        Some(step) => build.find(step).map_err(no_such_step)?,
        None => ran(&build),
    };
    if args.json {
        let steps = steps.iter().copied();
        let told = steps.map(|step| Told { label: &step.label, text: &step.text, why: build.why(step) });
        return print_json(&told.collect::<Vec<_>>());
    }
    if let (Some(_), [step]) = (&args.step, steps.as_slice()) {
        return print(&build.why(step).text(&build));
    }
    if steps.is_empty() {
        return print("no step ran: all were cached");
    }
    for step in &steps {
        print(&format!("#{} {}", step.id, build.why(step).sentence))?;
    }
    match &args.step {
        Some(step) => {
            print(&format!("`{step}` names {} steps; a number tells more of one: dbuild why 3", steps.len()))
        }
        None => Ok(()),
    }
}

/// The words of `build --explain`, after the build.
pub(crate) fn explain(store: &Store, build: &str) -> Result<(), Error> {
    let (_, build) = read_build(store, Some(build))?;
    let steps = ran(&build);
    for step in &steps {
        crate::progress::say(&build.why(step).text(&build));
    }
    if steps.is_empty() {
        crate::progress::say("no step ran: all were cached");
    }
    Ok(())
}

fn ran(build: &Build) -> Vec<&Step> {
    let mut steps: Vec<&Step> = build.visible().filter(|step| build.why(step).ran).collect();
    // Images are brought for those who need them, and have no key of their own that could differ.
    steps.retain(|step| step.kind != "image");
    steps
}
