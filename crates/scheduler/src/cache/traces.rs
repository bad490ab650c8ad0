//! A RUN by what it read: the answers that a parent gives to the questions of a command.
//!
//! What a command saw is what its parent holds, overlaid with what the command wrote itself. So two
//! runs of the same words go the same way as long as their parents answer the same to every
//! question that was asked, whatever the command had written by then. Here the parents answer, from
//! their indexes; no file is read. See `docs/concepts/traced.md`.

use std::collections::BTreeMap;

use dbuild_cache::{Change, Difference, IngredientKind};
use dbuild_digest::Framed;
use dbuild_layer::{EntryKind, Stack, StackEntry, Tree, TreePath};
use dbuild_plan::RunStep;
use dbuild_sandbox::question::{ACCESS, CONTENT, KIND, LISTING};
use dbuild_sandbox::{AskedPath, Trace};
use dbuild_store::{Answer, AnsweredPath, StepTrace};
use dbuild_support::resolve_links::PendingPath;

use crate::request::TracedNetwork;

/// The files that decide who a user is, and which groups it has.
const ACCOUNTS: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// Nothing stands there.
const ABSENT: u8 = 0;

/// The questions of a trace with those that dbuild asks for the command before it runs (who its
/// user is, where its mounts go), and what the parent answers. Sorted by path.
pub(crate) fn answered(trace: Trace, run: &RunStep, parent: &Stack) -> Vec<AnsweredPath> {
    let mut asked: BTreeMap<Vec<u8>, u8> = BTreeMap::new();
    for AskedPath { path, questions } in trace.paths {
        *asked.entry(path).or_default() |= questions;
    }
    asked.entry(Vec::new()).and_modify(|questions| *questions |= KIND).or_insert(KIND);
    ACCOUNTS.iter().for_each(|path| ask(parent, path, CONTENT, &mut asked));
    ask(parent, &run.workdir, KIND, &mut asked);
    run.mounts.iter().for_each(|mount| ask(parent, &mount.target, KIND, &mut asked));
    let answered = asked.into_iter().map(|(path, questions)| {
        let answer = answer(parent, &path, questions);
        AnsweredPath { path, questions, answer }
    });
    answered.collect()
}

/// Asks for a path and all that is on its way, as far as the parent knows.
fn ask(parent: &Stack, path: &str, questions: u8, asked: &mut BTreeMap<Vec<u8>, u8>) {
    let mut pending = PendingPath::new(path.as_bytes());
    let mut at = TreePath::root();
    while let Some(component) = pending.next_component() {
        if *component == *b".." {
            at = at.parent().unwrap_or_default();
            continue;
        }
        let Ok(next) = at.child(&component) else { return };
        let asked_here = if pending.is_empty() { questions } else { KIND };
        *asked.entry(next.as_bytes().to_vec()).or_default() |= asked_here;
        match parent.lookup(&next).map(|found| found.kind().clone()) {
            Some(EntryKind::Symlink { target }) => match pending.follow(&target) {
                Ok(true) => at = TreePath::root(),
                Ok(false) => {}
                Err(_) => return,
            },
            Some(_) => at = next,
            None => return,
        }
    }
}

/// A path of a layer that no question stands for, though what the parent has there is part of what
/// the layer means: a call was missed.
pub(crate) fn unasked<'a>(layer: &'a Tree, paths: &[AnsweredPath]) -> Option<&'a TreePath> {
    let find =
        |path: &[u8]| paths.binary_search_by(|one| one.path.as_slice().cmp(path)).ok().map(|at| &paths[at]);
    // Below what was not there, or was asked for whole, all is the command's own.
    let is_own = |above: &TreePath| {
        find(above.as_bytes()).is_some_and(|one| one.answer[0] == ABSENT || one.questions & CONTENT != 0)
    };
    let is_asked =
        |path: &TreePath| find(path.as_bytes()).is_some() || path.ancestors().any(|above| is_own(&above));
    layer.entries().iter().map(|entry| &entry.path).find(|path| !is_asked(path))
}

/// The first question of a trace that this parent answers differently, as a difference of the step.
fn deciding_read(trace: &StepTrace, parent: &Stack) -> Option<Difference> {
    trace.paths.iter().find_map(|AnsweredPath { path, questions, answer: before }| {
        let after = answer(parent, path, *questions);
        if after == *before {
            return None;
        }
        let change = match (before[0], after[0]) {
            (ABSENT, _) => Change::Added { after: String::new() },
            (_, ABSENT) => Change::Removed { before: String::new() },
            _ => Change::Changed { before: hex(before), after: hex(&after) },
        };
        let name = format!("/{}", String::from_utf8_lossy(path));
        Some(Difference { kind: IngredientKind::Read, name, change })
    })
}

/// Why the result of a trace is not that of a step on this parent: what it read that is not the
/// same, or the network.
pub(crate) fn differing_read(
    trace: &StepTrace,
    parent: &Stack,
    network: TracedNetwork,
) -> Option<Difference> {
    let is_refused = trace.network && network == TracedNetwork::Miss;
    deciding_read(trace, parent).or_else(|| is_refused.then(network_difference))
}

fn network_difference() -> Difference {
    let (name, change) =
        ("the network".to_owned(), Change::Changed { before: String::new(), after: String::new() });
    Difference { kind: IngredientKind::Read, name, change }
}

fn hex(answer: &Answer) -> String {
    answer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a parent answers. Times are no part of it, as nowhere in keys.
fn answer(parent: &Stack, path: &[u8], questions: u8) -> Answer {
    let path = TreePath::from_bytes(path).ok();
    let found = path.as_ref().and_then(|path| parent.lookup(path));
    let mut framed = Framed::new("traced-answer", 1);
    let tag = match &found {
        None => ABSENT,
        Some(found) => describe(found, questions, &mut framed),
    };
    if let (Some(path), true) = (&path, questions & LISTING != 0) {
        for child in parent.read_dir(path) {
            framed.bytes(child.entry.path.as_bytes()).u64(tag_of(child.kind()).into());
        }
    }
    let mut answer: Answer = [0; 16];
    answer.copy_from_slice(&framed.finish()[..16]);
    answer[0] = tag;
    answer
}

/// What stands at a path, as far as it was asked for.
fn describe(found: &StackEntry<'_>, questions: u8, framed: &mut Framed) -> u8 {
    let kind = found.kind();
    let entry = found.entry;
    // Whether a directory may be entered, and what is made in it, depends on all of this.
    if questions & (ACCESS | CONTENT) != 0 || matches!(kind, EntryKind::Dir { .. }) {
        framed.u64(entry.mode.into()).u64(entry.uid.into()).u64(entry.gid.into());
        for (name, value) in &entry.xattrs {
            framed.bytes(name).bytes(value);
        }
    }
    match kind {
        EntryKind::File { size, content } if questions & CONTENT != 0 => {
            framed.u64(*size).bytes(content.as_bytes());
        }
        EntryKind::Symlink { target } => drop(framed.bytes(target)),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            framed.u64((*major).into()).u64((*minor).into());
        }
        _ => {}
    }
    tag_of(kind)
}

fn tag_of(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::Whiteout => ABSENT,
        EntryKind::File { .. } | EntryKind::Hardlink { .. } => 1,
        EntryKind::Dir { .. } => 2,
        EntryKind::Symlink { .. } => 3,
        EntryKind::Fifo => 4,
        EntryKind::CharDevice { .. } => 5,
        EntryKind::BlockDevice { .. } => 6,
    }
}
