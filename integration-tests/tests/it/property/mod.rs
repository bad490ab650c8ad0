//! Builds that nobody wrote: random trees and random commands, and what must hold of every one of
//! them.
//!
//! A round is made from a seed. Without variables the rounds are always the same, and few; with
//! `DBUILD_PROPERTY_SECONDS` they go on for that long, from `DBUILD_PROPERTY_SEED` on. A failure
//! names its seed.

mod commands;
mod edits;
mod listing;
mod random;
mod rebuilt;
mod traced;
mod views;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use dbuild_integration_tests::{TestSpace, run, workspace};

/// The rounds of one test: the default seeds, or as many as fit into the time that a variable
/// gives.
#[expect(clippy::print_stdout, reason = "how much was tried is what a long run is for")]
fn rounds(first: u64, count: u64, mut round: impl FnMut(u64)) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let first = number("DBUILD_PROPERTY_SEED").unwrap_or(first);
    let started = Instant::now();
    let limit = number("DBUILD_PROPERTY_SECONDS").map(Duration::from_secs);
    let mut done = 0;
    while limit.map_or(done < count, |limit| started.elapsed() < limit) {
        round(first + done);
        done += 1;
    }
    println!("{done} rounds from seed {first} in {:.0} s", started.elapsed().as_secs_f64());
}

/// Compiles `tool.c` into the context of a space.
fn tool(space: &TestSpace) -> PathBuf {
    let source = workspace().join("integration-tests/tests/it/property/tool.c");
    let tool = space.path("context/tool");
    run(Command::new("cc").args(["-static", "-O1", "-o"]).arg(&tool).arg(source)).expect_ok();
    tool
}
