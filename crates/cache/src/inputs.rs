//! What a strategy may ask about the inputs of a step.

use dbuild_digest::{StepKey, TreeDigest};
use dbuild_plan::{CopyStep, StepId, StepKind};

/// Answers about the inputs of one step. `None` always means *not known yet*: in a build the step
/// is not ready, in a forecast the answer depends on what a missed step will give.
pub trait Inputs {
    /// The key of an input under the same strategy, with all that it stands on (see
    /// [`crate::standing_key`]).
    fn key(&self, input: StepId) -> Option<StepKey>;

    /// What an input contains: the chain of layers up to it (see [`crate::output_after`]).
    fn output(&self, input: StepId) -> Option<TreeDigest>;

    /// What the step takes from one of its sources; `source` counts through
    /// [`dbuild_plan::Step::sources`]. For a COPY: what its path selects. For a bind or cache
    /// mount: what is below its `source`. Sorted by path, and complete: no difference that the step
    /// could see (but times) is missing.
    fn selected(&self, source: usize) -> Option<SelectedPaths>;

    /// Whether an input comes from outside of the plan: see [`is_external`].
    fn is_external(&self, input: StepId) -> bool;
}

/// Whether a step brings what the plan cannot know: files of a context, of a server, of a
/// repository. The key of such a step says *where* and not *what*, so strategies identify it by
/// content alone.
pub fn is_external(kind: &StepKind) -> bool {
    match kind {
        StepKind::Context(_) | StepKind::Fetch(_) | StepKind::Git(_) => true,
        StepKind::Image(_)
        | StepKind::Scratch
        | StepKind::Copy(_)
        | StepKind::Run(_)
        | StepKind::Workdir(_) => false,
    }
}

/// Whether a COPY's layer depends on the file system below it. With `--link` it does not; with
/// `--link` and `--chmod` it does, since BuildKit makes that an ordinary copy.
pub fn depends_on_parent(copy: &CopyStep) -> bool {
    !copy.link || copy.chmod.is_some()
}

/// The paths that a source gives, each made when it is asked for: a context can have hundreds of
/// thousands.
pub type SelectedPaths = Box<dyn ExactSizeIterator<Item = SelectedPath>>;

/// A path that a source gives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SelectedPath {
    /// Relative to what was selected.
    pub path: String,
    /// All of it that is not a time, as words between single spaces: kind (`file`, `dir`,
    /// `symlink`, …), mode in four octal digits, `uid:gid`, then the full content digest, the
    /// link's target or the device, then extended attributes.
    pub digest: String,
}

impl SelectedPath {
    /// Writes the line of [`SelectedPath::digest`]. `rest` is the content digest, link target or
    /// device and what else there is to tell two such paths apart.
    pub fn new(path: impl Into<String>, kind: &str, mode: u32, uid: u32, gid: u32, rest: &str) -> Self {
        let digest = format!("{kind} {mode:04o} {uid}:{gid}{}{rest}", if rest.is_empty() { "" } else { " " });
        Self { path: path.into(), digest }
    }
}
