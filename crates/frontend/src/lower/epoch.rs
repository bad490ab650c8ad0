//! SOURCE_DATE_EPOCH: the time of the image, as a number or by what it is the time of.

use dbuild_plan::StepKind;

use super::{globals, lower, platforms};
use crate::ast::Dockerfile;
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::expand::Variables as _;
use crate::request::{BuildArgs, NamedContext, Resolved};
use crate::source::Span;
use crate::{fetched_context, git_context};

const NAME: &str = "SOURCE_DATE_EPOCH";

/// What an image's time is taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EpochSource {
    /// Seconds since 1970.
    Time(u64),
    /// The time of the build context.
    Context,
    /// The time of what this step brings: a server's file or a commit.
    Step(Box<StepKind>),
    /// A context that has no time, such as a directory or an image.
    Unknown,
}

/// The value of SOURCE_DATE_EPOCH: the build argument, else the default of an ARG before the first
/// FROM. It is a number, `context`, a named context, or a stage that is FROM scratch and one ADD of
/// a URL or a git repository.
pub fn source_date_epoch(ast: &Dockerfile, args: &BuildArgs) -> Result<Option<EpochSource>, Diagnostics> {
    let Some((value, span)) = value(ast, args)? else { return Ok(None) };
    if value.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(time) = value.parse()
    {
        return Ok(Some(EpochSource::Time(time)));
    }
    if value == "context" {
        return Ok(Some(EpochSource::Context));
    }
    if let Some(context) = args.contexts.get(&value) {
        let step = match context {
            NamedContext::Git(remote) => git_context(remote).and_then(Result::ok).map(StepKind::Git),
            NamedContext::Url(url) => Some(StepKind::Fetch(fetched_context(url))),
            NamedContext::Directory | NamedContext::Image(_) => None,
        };
        return Ok(Some(step.map_or(EpochSource::Unknown, |step| EpochSource::Step(Box::new(step)))));
    }
    let stage = ast
        .stages()
        .into_iter()
        .find(|stage| stage.name().is_some_and(|name| name.eq_ignore_ascii_case(&value)));
    let shown: String = value.chars().take(60).collect();
    let at = |message: String| match span {
        Some(span) => Diagnostic::error(span, message),
        None => Diagnostic::placeless(message),
    };
    if stage.is_none() {
        let message = format!("{NAME}={shown} is not a number of seconds since 1970");
        let help =
            "a number, `context`, or the name of a stage that only has an ADD of a URL or a git repository";
        return Err(at(message).help(help).into());
    }
    let mut alone = args.clone();
    alone.args.remove(NAME);
    (alone.target, alone.all_stages) = (Some(value), false);
    let step = lower(ast, &alone, &Resolved::default()).ok().and_then(|lowered| {
        let kinds: Vec<&StepKind> = lowered.plan.steps().map(|(_, step)| &step.kind).collect();
        let is_remote = |kind: &&&StepKind| matches!(kind, StepKind::Fetch(_) | StepKind::Git(_));
        let remote = kinds.iter().find(is_remote)?;
        let is_all = kinds.len() == 3 && kinds.iter().any(|kind| matches!(kind, StepKind::Copy(_)));
        is_all.then(|| (*remote).clone())
    });
    let step = step.ok_or_else(|| {
        at(format!("the stage `{shown}` has no time for {NAME}"))
            .help("it must be FROM scratch, with one ADD of one URL or git repository")
    })?;
    Ok(Some(EpochSource::Step(Box::new(step))))
}

/// The text of the value, and where it stands if it is an ARG's.
fn value(ast: &Dockerfile, args: &BuildArgs) -> Result<Option<(String, Option<Span>)>, Diagnostic> {
    let (text, span) = match args.args.get(NAME) {
        Some(given) => (Some(given.clone()), None),
        None => {
            let Some(platform) = platforms(args).into_iter().next() else { return Ok(None) };
            let declared = ast.global_args().flat_map(|(_, definitions)| definitions);
            let Some(definition) = declared.filter(|one| one.name.text == NAME).last() else {
                return Ok(None);
            };
            let span = definition.value.as_ref().map(|value| value.span);
            (globals::globals(ast, args, &platform)?.get(NAME).map(str::to_owned), span)
        }
    };
    Ok(text.filter(|text| !text.is_empty()).map(|text| (text, span)))
}
