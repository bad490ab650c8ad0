//! What happens in a build, as data. The progress views, `--progress rawjson`, the journal and the
//! tests all read this.
//!
//! Steps and stages are named by their numbers in the plan. The JSON form is stable: variants and
//! members are added, never renamed, and a reader meets an event of a newer dbuild as
//! [`Event::Unknown`]. `docs/reference/events.md` tells them for whoever reads
//! `--progress rawjson`.

use dbuild_cache::Difference;
use dbuild_digest::{BlobDigest, SnapshotId, StepKey};
use dbuild_support::time::now_ms;
use serde::{Deserialize, Serialize};

use crate::{BuildId, InputChange, MountInfo, RuntimeConfig};

/// An event and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Stamped {
    /// An event that happens now.
    pub fn now(event: Event) -> Self {
        Self { at_ms: now_ms(), event }
    }
}

/// A stage, as a build announces it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageInfo {
    /// Its number in the plan.
    pub id: u32,
    /// What people call it.
    pub name: String,
    /// Its position in the Dockerfile.
    pub index: u32,
    /// What FROM names.
    pub base: String,
    /// Whether the target needs it.
    pub reached: bool,
    /// Its platform, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// What its image will start with; `None` where the target does not need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<RuntimeConfig>,
}

/// A step, as a build announces it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepInfo {
    /// Its number in the plan.
    pub id: u32,
    /// Its stage.
    pub stage: u32,
    /// The instruction, on one line.
    pub text: String,
    /// Its line in the Dockerfile, from 1; `None` where no line stands for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The last line of its instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<u32>,
    /// The steps that it needs, parent first.
    pub inputs: Vec<u32>,
    /// `image`, `scratch`, `context`, `fetch`, `git`, `copy`, `run` or `workdir`.
    pub kind: String,
    /// What holds at it; `None`: what holds at the first of its inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<RuntimeConfig>,
}

/// A layer of an image, as a build tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerInfo {
    /// The blob.
    pub digest: BlobDigest,
    /// The blob's size in bytes.
    pub size: u64,
    /// Names the layer with all that is below it, as OCI defines it: the store finds its files by
    /// it.
    pub chain: BlobDigest,
    /// The step that made it; `None`: it comes with the base image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u32>,
}

/// Something that keeps an image from starting, or may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFinding {
    /// How bad it is.
    pub severity: StartSeverity,
    /// Its kind: `program-missing`.
    pub rule: String,
    /// What is wrong.
    pub text: String,
    /// What to try; may be several lines each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
}

/// Whether an image starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartVerdict {
    /// All that it needs to start is there, as far as files show it.
    Starts,
    /// It depends on what happens when it runs.
    MayFail,
    /// Something without which it cannot start is missing.
    WillNotStart,
    /// Too little is known.
    Unknown,
    /// The image names no command.
    NoCommand,
}

/// How bad a finding about an image's start is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartSeverity {
    /// Worth knowing.
    #[default]
    Advice,
    /// The image may fail when it is started.
    MayFail,
    /// The image does not start.
    WillNotStart,
}

/// Results that an export left out for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftResults {
    /// Why: `cheaper to make than to move`.
    pub reason: String,
    /// How many.
    pub count: u32,
}

/// Where output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// The command's standard output.
    Stdout,
    /// The command's standard error.
    Stderr,
}

/// How a build or a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is done.
    Done,
    /// It failed.
    Failed,
    /// It was interrupted.
    Canceled,
}

/// Something that happened in a build. All sizes are bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The first event: what is going to be built.
    BuildStarted {
        /// The journal's name for it.
        build: BuildId,
        /// The names of the target stages.
        targets: Vec<String>,
        /// All stages of the Dockerfile.
        stages: Vec<StageInfo>,
        /// The steps that the targets need.
        steps: Vec<StepInfo>,
        /// The cache strategy.
        strategy: String,
    },
    /// What the build reads its steps from.
    DockerfileRead {
        /// The file, as the user named it.
        name: String,
        /// All of it.
        text: String,
    },
    /// An image that a step stands for was pinned.
    ImagePinned {
        /// The step.
        step: u32,
        /// Its name in full.
        reference: String,
        /// The digest of its manifest.
        digest: BlobDigest,
        /// Its layers, lowest first.
        layers: Vec<LayerInfo>,
    },
    /// A step that was not cached begins.
    StepStarted {
        /// The step.
        step: u32,
    },
    /// A step's result was known.
    StepCached {
        /// The step.
        step: u32,
        /// Its key.
        key: StepKey,
        /// The unpacked size of its layer; 0 of an image.
        #[serde(default)]
        layer_bytes: u64,
        /// The number of entries of its layer; 0 of an image.
        #[serde(default)]
        files: u64,
        /// Its layer in the store, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<SnapshotId>,
    },
    /// A step's result was found in a cache of other machines; `step_cached` follows.
    RemoteHit {
        /// The step.
        step: u32,
        /// The cache, as it may be shown: `registry.example.com/team/app:cache`.
        cache: String,
    },
    /// The layer of a result of another machine was fetched, since somebody needs it.
    RemoteLayerFetched {
        /// The step whose layer it is.
        step: u32,
        /// The cache, as in `remote_hit`.
        cache: String,
        /// The size of the packed layer.
        bytes: u64,
        /// How long it took.
        #[serde(default)]
        duration_ms: u64,
    },
    /// Results of this build were published for other machines, or not.
    CacheExported {
        /// The cache, as it may be shown.
        cache: String,
        /// The number of results that were sent.
        sent: u32,
        /// The bytes that were sent.
        bytes: u64,
        /// The number of results that the cache had.
        present: u32,
        /// The results that were not sent, by reason.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<LeftResults>,
        /// How long the build waited for it at its end.
        #[serde(default)]
        waited_ms: u64,
    },
    /// A step has come so far.
    StepProgress {
        /// The step.
        step: u32,
        /// What is counted: a blob's short digest, `unpacking`, …
        what: String,
        /// So much is done.
        current: u64,
        /// The whole amount, where that is known.
        total: Option<u64>,
    },
    /// A command wrote something. Not necessarily whole lines; bytes that are not UTF-8 are
    /// replaced.
    StepLog {
        /// The step.
        step: u32,
        /// Where.
        stream: LogStream,
        /// What.
        text: String,
    },
    /// Why a step is carried out: what of its key is new.
    StepExplained {
        /// The step.
        step: u32,
        /// One ingredient that differs from the nearest earlier result, each.
        reasons: Vec<String>,
        /// The same as data; the first hundred of them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        differences: Vec<Difference>,
        /// The inputs that are other ones than those of the nearest earlier result, and what that
        /// goes back to.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        inputs: Vec<InputChange>,
    },
    /// A step is done.
    StepFinished {
        /// The step.
        step: u32,
        /// Its key.
        key: StepKey,
        /// How long it took.
        duration_ms: u64,
        /// The unpacked size of its layer.
        layer_bytes: u64,
        /// The number of entries of its layer.
        files: u64,
        /// Its layer in the store, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<SnapshotId>,
    },
    /// A step failed, and with it the build.
    StepFailed {
        /// The step.
        step: u32,
        /// Why, in full.
        error: String,
    },
    /// What a command that failed had written is kept, for whoever wants to look at it.
    StepKept {
        /// The step.
        step: u32,
        /// The files that it had written, in the store until they are collected.
        snapshot: SnapshotId,
        /// The variables that the Dockerfile set for it, `NAME=value`; no secrets.
        env: Vec<String>,
        /// As USER says it.
        user: String,
        /// Where it ran.
        workdir: String,
        /// The program that it was: the shell of the shell form.
        program: String,
        /// What was mounted in it, in words: the type, and the target or the id.
        #[serde(default)]
        mounts: Vec<String>,
        /// The same as data, in the order in which it was mounted.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mounted: Vec<MountInfo>,
        /// `none` where it had no network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<String>,
        /// Further lines of its `/etc/hosts`, `IP NAME`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hosts: Vec<String>,
        /// It ran with `--security=insecure`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        insecure: bool,
    },
    /// A stage was not needed.
    StageSkipped {
        /// The stage.
        stage: u32,
        /// Why not.
        reason: String,
    },
    /// A step was stopped because the build ends.
    StepCanceled {
        /// The step.
        step: u32,
    },
    /// A step's layer was compressed.
    LayerPacked {
        /// The step.
        step: u32,
        /// The blob.
        digest: BlobDigest,
        /// Its size.
        size: u64,
    },
    /// Something that the user should change.
    Warning {
        /// One or more lines.
        text: String,
        /// The check that found it, under the name that `docker build --check` has for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// The line of the Dockerfile, from 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<u32>,
    },
    /// Something that the user may want to know.
    Note {
        /// One line.
        text: String,
    },
    /// What an image consists of.
    ImageAssembled {
        /// The target stage.
        stage: u32,
        /// Its layers, lowest first.
        layers: Vec<LayerInfo>,
    },
    /// An output begins to be written.
    ExportStarted {
        /// `type=oci,dest=app.tar` or the like.
        output: String,
    },
    /// An output is written.
    ExportFinished {
        /// As in `ExportStarted`.
        output: String,
        /// The image's names.
        names: Vec<String>,
        /// The digest of the manifest (or index), where there is one.
        digest: Option<BlobDigest>,
        /// Its size: that of the blobs, or of the files.
        size: u64,
        /// The size of an image's files, unpacked; 0 where it is not known.
        #[serde(default)]
        unpacked: u64,
    },
    /// What became of a stage's bytes.
    StageSummary {
        /// The stage.
        stage: u32,
        /// The files of the image that it begins with.
        #[serde(default)]
        base_bytes: u64,
        /// What its steps made.
        made_bytes: u64,
        /// What of both is in the image.
        shipped_bytes: u64,
        /// What of it is not.
        left_bytes: u64,
        /// The number of its steps that were cached.
        #[serde(default)]
        cached: u32,
        /// The number of its steps.
        #[serde(default)]
        steps: u32,
    },
    /// Whether an image that was made will start, as far as its files tell.
    StartChecked {
        /// The target stage.
        stage: u32,
        /// What it comes to.
        verdict: StartVerdict,
        /// All of it in one line.
        line: String,
        /// What is wrong, or could be; the worst first.
        #[serde(default)]
        findings: Vec<StartFinding>,
    },
    /// The last event.
    BuildFinished {
        /// How it ended.
        outcome: Outcome,
        /// How long it took.
        #[serde(default)]
        duration_ms: u64,
    },
    /// An event that this dbuild does not know. It is read, never written.
    #[serde(other)]
    Unknown,
}

impl Event {
    /// A warning that no check has a name for.
    pub fn warning(text: impl Into<String>) -> Self {
        Self::Warning { text: text.into(), rule: None, line: None }
    }
}
