//! What lowering is given besides the Dockerfile, and what it gives.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use dbuild_oci::Platform;
use dbuild_plan::{BaseImage, HostEntry, NetworkMode, Plan, StepId};

use crate::diagnostics::Diagnostic;
use crate::source::{Source, Span};

/// What the command line says of a build.
#[derive(Clone, Debug)]
pub struct BuildArgs {
    /// `--build-arg`.
    pub args: BTreeMap<String, String>,
    /// `--target`; `None` is the last stage.
    pub target: Option<String>,
    /// What the image is built for; the build platform where there is none.
    pub platforms: Vec<Platform>,
    /// What this machine is.
    pub build_platform: Platform,
    /// `--label`, in order; the last of one name counts.
    pub labels: Vec<(String, String)>,
    /// `--build-context`, by name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// `--add-host`.
    pub hosts: Vec<HostEntry>,
    /// `--network`: what RUN gets that says nothing itself.
    pub network: NetworkMode,
    /// Lower every stage, whether the target needs it or not: for checks.
    pub all_stages: bool,
    /// Tells whether `.dockerignore` leaves a path of the build context out; for a check only.
    /// `None`: not known.
    pub ignored: Option<Ignored>,
}

impl Default for BuildArgs {
    fn default() -> Self {
        Self {
            args: BTreeMap::new(),
            target: None,
            platforms: Vec::new(),
            build_platform: Platform::host(),
            labels: Vec::new(),
            contexts: BTreeMap::new(),
            hosts: Vec::new(),
            network: NetworkMode::Default,
            all_stages: false,
            ignored: None,
        }
    }
}

/// Answers whether a path of the build context is ignored; the empty path is all of it.
#[derive(Clone)]
pub struct Ignored(pub Arc<dyn Fn(&str) -> bool + Send + Sync>);

impl fmt::Debug for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ignored")
    }
}

/// What a name of `--build-context` stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedContext {
    /// A local directory; which one is known where the plan runs, by the context's name.
    Directory,
    /// An image: the name of one (from `docker-image://NAME`), or a text that begins with
    /// `oci-layout://`. Asked for as an [`ImageRequest`].
    Image(String),
    /// A git repository.
    Git(String),
    /// A file of a server, which is called `context` there.
    Url(String),
}

/// An image that must be found before lowering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRequest {
    /// As the Dockerfile has it, expanded: `debian:12`.
    pub written: String,
    /// The key under which [`Resolved`] has it: the name in full, or a text that begins with
    /// `oci-layout://`.
    pub reference: String,
    /// For what it is needed.
    pub platform: Platform,
    /// Where it is named first.
    pub span: Span,
    /// The stage whose name is nearly the same: what was meant, where there is no such image.
    pub near: Option<String>,
}

/// The images that were found, by [`ImageRequest::reference`] and platform.
#[derive(Clone, Debug, Default)]
pub struct Resolved(HashMap<(String, Platform), BaseImage>);

impl Resolved {
    /// Adds the answer to a request.
    pub fn insert(&mut self, request: &ImageRequest, image: BaseImage) {
        self.0.insert((request.reference.clone(), request.platform.clone()), image);
    }

    /// An image that was found.
    pub fn get(&self, reference: &str, platform: &Platform) -> Option<&BaseImage> {
        self.0.get(&(reference.to_owned(), platform.clone()))
    }
}

/// Where a step comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepSource {
    /// The instruction, here-documents included.
    pub span: Span,
}

impl StepSource {
    /// The first and the last line, from 1.
    pub fn lines(&self, source: &Source) -> (u32, u32) {
        let last = self.span.end.saturating_sub(1).max(self.span.start);
        (source.line_of(self.span.start), source.line_of(last))
    }
}

/// The variables, user, directory and shell that hold at a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepSetting {
    /// What ENV and ARG set, in order, names unique.
    pub env: Vec<(String, String)>,
    /// As USER says it; empty is root.
    pub user: String,
    /// Absolute.
    pub workdir: String,
    /// The words of SHELL; empty is `/bin/sh -c`.
    pub shell: Vec<String>,
}

/// A plan and what belongs to it.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The plan; one target for each platform.
    pub plan: Plan,
    /// For each step of the plan, by id, where it comes from.
    pub sources: Vec<StepSource>,
    /// For each step of the plan, by id, what holds at it; `None` for steps without a line in a
    /// stage: contexts and the like.
    pub settings: Vec<Option<Arc<StepSetting>>>,
    /// What the checks and the lowering have to say.
    pub warnings: Vec<Diagnostic>,
}

impl Lowered {
    /// Where a step comes from.
    pub fn source_of(&self, step: StepId) -> Option<StepSource> {
        self.sources.get(step.index()).copied()
    }

    /// What holds at a step.
    pub fn setting_of(&self, step: StepId) -> Option<&StepSetting> {
        self.settings.get(step.index())?.as_deref()
    }
}

/// What can be said of a Dockerfile without building it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What the checks found, in the order of the file, then what has no rule. Errors where
    /// `error=true` is asked for.
    pub warnings: Vec<Diagnostic>,
    /// What keeps the file from being built.
    pub errors: Vec<Diagnostic>,
}
