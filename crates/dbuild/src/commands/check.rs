//! `dbuild check`: what could be better in a Dockerfile.

use std::path::Path;

use dbuild_frontend::{Diagnostics, Findings, Source, check, examine, parse};
use dbuild_registry::PullPolicy;
use dbuild_store::NoEvents;

use super::findings;
use super::planning::pull_policy;
use crate::cli::{CheckArgs, Global};
use crate::error::{EXIT_FAILED, Error};
use crate::inputs;
use crate::resolve::resolve;
use crate::session::Session;

/// A directory is a build context; what is none is an image.
pub(crate) fn run(global: &Global, args: &CheckArgs) -> Result<(), Error> {
    if Path::new(&args.subject).is_dir() {
        return context(global, args);
    }
    Err(Error::failed(format!("there is no directory and no image `{}`", args.subject))
        .hint("name the directory that holds the Dockerfile; it is usually `.`"))
}

fn context(global: &Global, args: &CheckArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let inputs = inputs::read_source(Path::new(&args.subject), &args.source)?;
    let found = look(&session, &inputs.source, &inputs.args, pull_policy(args.source.pull));
    findings::write(&found, &inputs.source, args.format)?;
    if found.errors.is_empty() && findings::count(&found) == 0 {
        Ok(())
    } else {
        Err(Error::exit_code(EXIT_FAILED))
    }
}

/// Everything that the checks find. What is wrong with the file is part of the answer.
pub(crate) fn look(
    session: &Session,
    source: &Source,
    args: &dbuild_frontend::BuildArgs,
    policy: PullPolicy,
) -> Findings {
    let parsed = parse(source);
    let early =
        |errors: Vec<dbuild_frontend::Diagnostic>| Findings { warnings: check(&parsed.ast, args), errors };
    if !parsed.diagnostics.is_empty() {
        return early(parsed.diagnostics.clone());
    }
    let images = resolve(&session.registry, &parsed.ast, args, policy, &NoEvents);
    match session.runtime.block_on(images) {
        Ok(images) => examine(&parsed.ast, args, &images.resolved),
        Err(Diagnostics(errors)) => early(errors),
    }
}
