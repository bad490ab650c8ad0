//! What the stages of a plan have in common while it is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dbuild_oci::Platform;
use dbuild_plan::{
    ContextStep, CopySource, CopyStep, FetchStep, GitStep, ImageStep, Plan, PlanBuilder, PlanError, StageId,
    Step, StepId, StepKind, Unpack, shown_url,
};

use super::capture::Capture;
use crate::checks::Lint;
use crate::diagnostics::Diagnostic;
use crate::request::{ImageRequest, Resolved, StepSetting, StepSource};
use crate::source::Span;

/// The plan so far, and the steps that several stages use.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) builder: PlanBuilder,
    pub(crate) lint: Lint,
    pub(crate) parameters: Capture,
    /// What ARG declares anywhere, the triggers of bases included, and what every build has.
    pub(crate) declared: BTreeSet<String>,
    sources: Vec<Described>,
    contexts: BTreeMap<Option<String>, (StepId, Wanted)>,
    images: BTreeMap<(String, Platform), StepId>,
    fetched: Vec<(FetchStep, StepId)>,
    checkouts: Vec<(GitStep, StepId)>,
}

/// Where a step comes from, and what holds at it.
pub(crate) type Described = (StepSource, Option<Arc<StepSetting>>);

/// The paths of a context that are needed; `None` is all of it.
type Wanted = Option<BTreeSet<String>>;

impl Shared {
    pub(crate) fn new(lint: Lint) -> Self {
        Self { lint, ..Self::default() }
    }

    pub(crate) fn add(&mut self, stage: StageId, span: Span, text: String, kind: StepKind) -> StepId {
        self.sources.push((StepSource { span }, None));
        self.builder.add_step(Step { stage, text, kind })
    }

    /// Notes what holds at a step.
    pub(crate) fn settle(&mut self, step: StepId, setting: Arc<StepSetting>) {
        if let Some((_, old)) = self.sources.get_mut(step.index()) {
            *old = Some(setting);
        }
    }

    /// The step that reads a context; `path` is what is needed of it, clean and relative, empty for
    /// all.
    pub(crate) fn context(&mut self, name: Option<&str>, path: &str, stage: StageId, span: Span) -> StepId {
        let key = name.map(str::to_owned);
        if !self.contexts.contains_key(&key) {
            let text = name.map_or("load build context".to_owned(), |name| format!("load context {name}"));
            let kind = StepKind::Context(ContextStep { name: key.clone(), wanted: None });
            let id = self.add(stage, span, text, kind);
            self.contexts.insert(key.clone(), (id, Some(BTreeSet::new())));
        }
        let Some((id, wanted)) = self.contexts.get_mut(&key) else {
            return StepId(0);
        };
        if path.is_empty() {
            *wanted = None;
        } else if let Some(paths) = wanted {
            paths.insert(path.to_owned());
        }
        *id
    }

    /// The step that is an image; that of a FROM belongs to its own stage, others are shared.
    pub(crate) fn image(
        &mut self,
        request: &ImageRequest,
        resolved: &Resolved,
        stage: StageId,
        span: Span,
        is_base: bool,
    ) -> Result<StepId, Diagnostic> {
        let key = (request.reference.clone(), request.platform.clone());
        if !is_base && let Some(id) = self.images.get(&key) {
            return Ok(*id);
        }
        let image = resolved.get(&request.reference, &request.platform).ok_or_else(|| {
            Diagnostic::error(request.span, format!("the image `{}` was not found", request.written))
        })?;
        super::windows::refuse(&image.platform, request.span)?;
        let verb = if is_base { "FROM" } else { "load image" };
        let text = format!("{verb} {}", request.written);
        let id = self.add(stage, span, text, StepKind::Image(ImageStep { image: image.clone() }));
        self.images.entry(key).or_insert(id);
        Ok(id)
    }

    /// The step that makes a file system of all that another step gives, as a layer of its own.
    pub(crate) fn all_of(&mut self, from: StepId, name: &str, stage: StageId, span: Span) -> StepId {
        let parent = self.add(stage, span, "FROM scratch".to_owned(), StepKind::Scratch);
        let step = CopyStep {
            parent,
            sources: vec![CopySource::Path { from, path: String::new(), unpack: Unpack::Never }],
            dest: "/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
        };
        self.add(stage, span, format!("FROM {name}"), StepKind::Copy(step))
    }

    pub(crate) fn fetch(&mut self, fetch: FetchStep, stage: StageId, span: Span) -> StepId {
        if let Some((_, id)) = self.fetched.iter().find(|(old, _)| *old == fetch) {
            return *id;
        }
        let id =
            self.add(stage, span, format!("fetch {}", shown_url(&fetch.url)), StepKind::Fetch(fetch.clone()));
        self.fetched.push((fetch, id));
        id
    }

    pub(crate) fn checkout(&mut self, git: GitStep, stage: StageId, span: Span) -> StepId {
        if let Some((_, id)) = self.checkouts.iter().find(|(old, _)| *old == git) {
            return *id;
        }
        let id = self.add(
            stage,
            span,
            format!("checkout {}{}", shown_url(&git.remote), reference_of(&git)),
            StepKind::Git(git.clone()),
        );
        self.checkouts.push((git, id));
        id
    }

    /// Completes the contexts and makes the plan.
    pub(crate) fn finish(mut self) -> Result<(Plan, Vec<Described>, Lint), PlanError> {
        for (id, wanted) in self.contexts.into_values() {
            if let Some(Step { kind: StepKind::Context(context), .. }) = self.builder.step_mut(id) {
                context.wanted = wanted.map(|paths| paths.into_iter().collect());
            }
        }
        let (plan, ids) = self.builder.finish()?;
        let kept = self.sources.into_iter().zip(ids).filter_map(|(source, id)| id.map(|_| source));
        Ok((plan, kept.collect(), self.lint))
    }
}

/// The reference and the directory, as in `#main:docs`.
fn reference_of(git: &GitStep) -> String {
    let subdir = git.subdir.as_ref().map(|subdir| format!(":{subdir}")).unwrap_or_default();
    let reference = git.reference.as_deref().unwrap_or_default();
    if reference.is_empty() && subdir.is_empty() { String::new() } else { format!("#{reference}{subdir}") }
}
