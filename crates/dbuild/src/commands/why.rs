//! `dbuild why`: why steps of a build ran.

use dbuild_report::Why;
use serde::Serialize;

use super::{print, print_json};
use crate::build::outcome::steps_that_ran;
use crate::cli::{Global, WhyArgs};
use crate::error::Error;
use crate::past_build::{no_such_step, read_build};
use crate::session::Session;

/// An answer, for scripts.
#[derive(Serialize)]
struct StepWhy<'a> {
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
        None => steps_that_ran(&build),
    };
    if args.json {
        let steps = steps.iter().copied();
        let answers =
            steps.map(|step| StepWhy { label: &step.label, text: &step.text, why: build.why(step) });
        return print_json(&answers.collect::<Vec<_>>());
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
        Some(step) => print(&format!(
            "`{step}` names {} steps; name one by its number for details: dbuild why 3",
            steps.len()
        )),
        None => Ok(()),
    }
}
