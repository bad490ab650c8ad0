//! One build as its readers see it: the graph, the page and the listings are made of this.
//!
//! A [`Build`] is a function of the events of one build, in order. An event that is missing (the
//! process was killed, an older dbuild wrote the journal) leaves a gap and nothing else. Times are
//! milliseconds since the build began.

use std::collections::BTreeMap;

use dbuild_cache::Difference;
use dbuild_digest::{BlobDigest, SnapshotId};
use dbuild_events::{InputChange, LayerInfo, Outcome, StartFinding, StartVerdict};
use serde::Serialize;

/// A build.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Build {
    /// The journal's name for it.
    pub id: String,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// How long it took; of a build that did not end, until its last event.
    pub duration_ms: u64,
    /// How it ended. `None`: it runs, or its process was killed.
    pub outcome: Option<Outcome>,
    /// The cache strategy.
    pub strategy: String,
    /// The names of the target stages.
    pub targets: Vec<String>,
    /// What it was built from; `None` in journals of earlier versions.
    pub dockerfile: Option<Dockerfile>,
    /// All stages of the Dockerfile, in order.
    pub stages: Vec<Stage>,
    /// The steps that the targets need, in the order of the plan.
    pub steps: Vec<Step>,
    /// What was written.
    pub exports: Vec<Export>,
    /// What the images consist of.
    pub images: Vec<Image>,
    /// Whether they will start.
    pub starts: Vec<Starts>,
    /// Warnings and notes, in order.
    pub messages: Vec<Message>,
}

/// The file that the steps come from.
#[derive(Clone, Debug, Serialize)]
pub struct Dockerfile {
    /// As the user named it.
    pub name: String,
    /// All of it.
    pub text: String,
}

/// A stage.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stage {
    /// Its number.
    pub id: u32,
    /// What people call it.
    pub name: String,
    /// What FROM names.
    pub base: String,
    /// Its platform, where there are several.
    pub platform: Option<String>,
    /// Whether the target needs it.
    pub reached: bool,
    /// Why it was not needed.
    pub skipped: Option<String>,
    /// Where its bytes went; `None` while that is not known.
    pub bytes: Option<StageBytes>,
}

/// What became of a stage's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StageBytes {
    /// The files of the image that it begins with.
    pub base: u64,
    /// What its steps made.
    pub made: u64,
    /// What of both is in the image.
    pub shipped: u64,
    /// What of it is not.
    pub left: u64,
}

/// Where a step is, or how it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing was heard of it.
    #[default]
    Waiting,
    /// It began.
    Running,
    /// Its result was known.
    Cached,
    /// It was executed.
    Done,
    /// It was not needed after all.
    Skipped,
    /// It was stopped, or never began, because the build ended.
    Canceled,
    /// It failed.
    Failed,
}

impl State {
    /// One word for it, as people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "not started",
            Self::Running => "unfinished",
            Self::Cached => "cached",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Canceled => "canceled",
            Self::Failed => "failed",
        }
    }

    /// One sign for it, so that states can be distinguished without colour.
    pub fn sign(self) -> char {
        match self {
            Self::Waiting => '·',
            Self::Running => '…',
            Self::Cached => '=',
            Self::Done => '+',
            Self::Skipped => '-',
            Self::Canceled => '/',
            Self::Failed => '!',
        }
    }
}

/// A step.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Step {
    /// Its number in the plan.
    pub id: u32,
    /// Its stage; `None` for what belongs to no stage alone (contexts, images that only a COPY
    /// names).
    pub stage: Option<u32>,
    /// `[build 2/5]`.
    pub label: String,
    /// The instruction, on one line.
    pub text: String,
    /// `image`, `scratch`, `context`, `fetch`, `git`, `copy`, `run` or `workdir`.
    pub kind: String,
    /// Its lines in the Dockerfile, first and last, from 1.
    pub lines: Option<(u32, u32)>,
    /// The steps that it needs, parent first.
    pub inputs: Vec<u32>,
    /// Where it is.
    pub state: State,
    /// When it began.
    pub started_ms: Option<u64>,
    /// When it ended, or when its result was found.
    pub ended_ms: Option<u64>,
    /// How long it took, if it was executed.
    pub duration_ms: u64,
    /// The unpacked size of its layer.
    pub layer_bytes: u64,
    /// The number of entries of its layer.
    pub files: u64,
    /// Its layer in the store.
    #[serde(skip)]
    pub snapshot: Option<SnapshotId>,
    /// The digest and layers of an image step.
    pub image: Option<Pinned>,
    /// Its key.
    pub key: Option<String>,
    /// Why it was executed, or why it was skipped.
    pub reasons: Vec<String>,
    /// What of its key differs from its earlier version.
    #[serde(skip)]
    pub differences: Vec<Difference>,
    /// Its inputs that are other ones than those of its earlier version, and what that goes back
    /// to.
    #[serde(skip)]
    pub changes: Vec<InputChange>,
    /// Why it failed.
    pub error: Option<String>,
    /// What its command wrote, line by line.
    pub log: Vec<LogLine>,
    /// The input that was done last, and so kept it from beginning earlier.
    pub waited_for: Option<u32>,
    /// How long it waited for a free slot after its inputs were done.
    pub queued_ms: u64,
    /// What it waited for after its inputs: the step that ended last and so freed a slot, or one
    /// that did the same work.
    pub held_by: Option<u32>,
    /// On the critical path: the steps that the duration of the build depends on.
    pub critical: bool,
}

/// An image that a step stands for.
#[derive(Clone, Debug, Serialize)]
pub struct Pinned {
    /// Its name in full.
    pub reference: String,
    /// The digest of its manifest.
    pub digest: BlobDigest,
    /// Its layers, lowest first.
    pub layers: Vec<LayerInfo>,
}

/// A line that a command wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    /// When the line began.
    pub at_ms: u64,
    /// To standard error.
    pub stderr: bool,
    /// The line as a terminal would show it, without colours.
    pub text: String,
}

/// Something that was written.
#[derive(Clone, Debug, Serialize)]
pub struct Export {
    /// `type=oci,dest=app.tar` or the like.
    pub output: String,
    /// The image's names.
    pub names: Vec<String>,
    /// The digest of the manifest or index.
    pub digest: Option<BlobDigest>,
    /// Its size.
    pub size: u64,
    /// The size of the image's files, unpacked; 0 where it is not known.
    pub unpacked: u64,
}

/// An image that was put together.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    /// The target stage.
    pub stage: u32,
    /// Its layers, lowest first.
    pub layers: Vec<LayerInfo>,
}

/// Whether an image will start, as far as its files tell.
#[derive(Clone, Debug, Serialize)]
pub struct Starts {
    /// The target stage.
    pub stage: u32,
    /// What it comes to.
    pub verdict: StartVerdict,
    /// All of it in one line.
    pub line: String,
    /// What is wrong, or could be.
    pub findings: Vec<StartFinding>,
}

/// A warning or a note.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// Something should be changed.
    pub warning: bool,
    /// The check that found it.
    pub rule: Option<String>,
    /// The line of the Dockerfile.
    pub line: Option<u32>,
    /// One or more lines, without colours.
    pub text: String,
}

impl Build {
    /// A step by its number.
    pub fn step(&self, id: u32) -> Option<&Step> {
        // Steps are numbered from 0 without gaps, except in journals that are damaged.
        self.steps
            .get(id as usize)
            .filter(|step| step.id == id)
            .or_else(|| self.steps.iter().find(|step| step.id == id))
    }

    /// The steps that are shown: nothing happens for FROM scratch.
    pub fn visible(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.kind != "scratch")
    }

    /// The steps in the order in which they were done; what was not done comes last, in the order
    /// of the plan. No step comes before its inputs: an image that was brought late stands before
    /// the first of its users.
    pub fn in_order(&self) -> Vec<&Step> {
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        for step in self.steps.iter().rev() {
            let own = step.ended_ms.unwrap_or(u64::MAX);
            let end = ends.get(&step.id).map_or(own, |user| own.min(*user));
            ends.insert(step.id, end);
            for input in &step.inputs {
                ends.entry(*input).and_modify(|of| *of = end.min(*of)).or_insert(end);
            }
        }
        let mut steps: Vec<&Step> = self.visible().collect();
        steps.sort_by_key(|step| (ends.get(&step.id).copied().unwrap_or(u64::MAX), step.id));
        steps
    }

    /// How many steps were cached, and how many were cached or executed. Contexts are read every
    /// time and do not count.
    pub fn cached(&self) -> (usize, usize) {
        let counted = |state| self.visible().filter(|s| s.state == state && s.kind != "context").count();
        let cached = counted(State::Cached);
        (cached, cached + counted(State::Done))
    }

    /// The names of the image that was built, or the target.
    pub fn title(&self) -> String {
        let names: Vec<&str> =
            self.exports.iter().flat_map(|export| &export.names).map(String::as_str).collect();
        match names.first() {
            Some(name) => name.trim_start_matches("docker.io/library/").to_owned(),
            None => self.targets.join(", "),
        }
    }

    /// The layers of a step's file system that its build knows, from the step down to what it
    /// begins with.
    pub fn chain(&self, id: u32) -> Vec<&Step> {
        let mut chain = Vec::new();
        let mut next = self.step(id);
        while let Some(step) = next.filter(|_| chain.len() <= self.steps.len()) {
            chain.push(step);
            let stands_on_another = matches!(step.kind.as_str(), "copy" | "run" | "workdir");
            next = step.inputs.first().filter(|_| stands_on_another).and_then(|parent| self.step(*parent));
        }
        chain
    }
}
