//! Runs real processes in real sandboxes: as root, and as an ordinary user with and without
//! sub-ids.
//!
//! The helper is `/proc/self/exe`, so this program dispatches it like dbuild does, and has its own
//! `main`.

mod errors;
mod files;
mod isolation;
mod lifecycle;
mod mounts;
mod own_file;
mod rootless;
mod runc;
mod support;
mod terminal;
mod traced;

use std::process::ExitCode;

use dbuild_sandbox::rootless::Identity;
use libtest_mimic::{Arguments, Trial};

/// What a test needs of whoever runs it.
#[derive(Clone, Copy, PartialEq)]
enum Needs {
    /// Nothing.
    Nothing,
    /// More ids than one.
    Ids,
    /// The machine's root.
    Root,
}

/// Name, needs, body.
type Test = (&'static str, Needs, fn());

fn main() -> ExitCode {
    dbuild_sandbox::dispatch_helper();
    // As an ordinary user the same tests run in a user namespace.
    let identity = match dbuild_sandbox::rootless::enter() {
        Ok(identity) => identity,
        Err(error) => panic!("{error}"),
    };
    if let Some(role) = std::env::var_os(support::ROLE) {
        lifecycle::play(&role);
        return ExitCode::SUCCESS;
    }
    let groups: [(&str, &[Test]); 10] = [
        ("errors", errors::TESTS),
        ("files", files::TESTS),
        ("isolation", isolation::TESTS),
        ("lifecycle", lifecycle::TESTS),
        ("mounts", mounts::TESTS),
        ("own_file", own_file::TESTS),
        ("rootless", rootless::TESTS),
        ("runc", runc::TESTS),
        ("terminal", terminal::TESTS),
        ("traced", traced::TESTS),
    ];
    let met = |needs| match (needs, identity) {
        (Needs::Nothing, _) | (_, Identity::Root) => true,
        (Needs::Ids, Identity::Rootless { sub_ids, .. }) => sub_ids,
        (Needs::Root, Identity::Rootless { .. }) => false,
    };
    let trials = groups
        .into_iter()
        .flat_map(|(group, tests)| tests.iter().map(move |test| (group, *test)))
        .filter(|(_, (_, needs, _))| met(*needs))
        .map(|(group, (name, _, body))| {
            Trial::test(format!("{group}::{name}"), move || {
                body();
                Ok(())
            })
        })
        .collect();
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    support::clean_up();
    conclusion.exit_code()
}
