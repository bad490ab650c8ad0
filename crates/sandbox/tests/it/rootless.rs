//! The same tests once more, by an ordinary user.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use dbuild_sandbox::rootless::{Identity, identity};
use tempfile::TempDir;

use crate::support::open_to_all;
use crate::{Needs, Test};

pub(crate) const TESTS: &[Test] = &[
    ("who_we_are", Needs::Nothing, who),
    ("everything_with_one_id", Needs::Root, one_id),
    ("everything_with_sub_ids", Needs::Root, sub_ids),
];

/// Set to what the identity must be.
const EXPECTED: &str = "DBUILD_SANDBOX_EXPECTED_IDS";

pub(crate) const NOBODY: &str = "65534";

fn who() {
    assert!(rustix::process::geteuid().is_root());
    match (std::env::var(EXPECTED).ok().map(|ids| ids.parse::<u32>().unwrap()), identity()) {
        (Some(expected), Identity::Rootless { ids, sub_ids }) => {
            assert_eq!((ids, sub_ids), (expected, expected > 1));
        }
        (Some(expected), Identity::Root) => panic!("root, but should have {expected} ids"),
        (None, _) => {}
    }
}

/// This program where everybody can execute it.
pub(crate) fn shared_program() -> (TempDir, PathBuf) {
    let dir = TempDir::with_prefix("dbuild-sandbox-program-").unwrap();
    open_to_all(dir.path());
    let program = dir.path().join("it");
    // By a process of its own: one that another test forks must not hold the file open for writing.
    assert!(
        Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap().success()
    );
    (dir, program)
}

pub(crate) fn passes(mut command: Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let count = text.lines().filter(|line| line.ends_with(" ok")).count();
    assert!(count > 50, "only {count} tests ran");
}

fn one_id() {
    let (_dir, program) = shared_program();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
    command.env(EXPECTED, "1");
    passes(command);
}

/// `/etc/subuid` is replaced for this one process alone.
fn sub_ids() {
    let (dir, program) = shared_program();
    let table = dir.path().join("sub-ids");
    fs::write(&table, format!("{NOBODY}:200000:65536\n")).unwrap();
    let script = "mount --bind \"$1\" /etc/subuid && mount --bind \"$1\" /etc/subgid && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]).arg(table);
    command.args(["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]).arg(program);
    command.env(EXPECTED, "65537");
    passes(command);
}
