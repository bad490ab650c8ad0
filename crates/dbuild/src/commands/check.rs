//! `dbuild check`: what could be better in a Dockerfile; of an image, whether it will start.

use std::path::Path;

use dbuild_events::NoEvents;
use dbuild_frontend::{
    BuildArgs, Diagnostic, Diagnostics, Findings, Resolved, Source, check, examine, parse,
};
use dbuild_registry::PullPolicy;

use super::findings;
use super::image_names::is_image_name;
use crate::build::flags::pull_policy;
use crate::build::inputs;
use crate::build::resolve_images::resolve;
use crate::cli::{CheckArgs, FindingsFormat, Global, SourceArgs};
use crate::error::{EXIT_FAILED, Error};
use crate::session::Session;

/// A directory is a build context, unless an image has that name; what is none is an image.
pub(crate) fn run(global: &Global, args: &CheckArgs) -> Result<(), Error> {
    let is_dir = Path::new(&args.subject).is_dir();
    if is_dir && !is_image_name(&Session::open(global)?.store, &args.subject) {
        return report(global, Path::new(&args.subject), &args.source, args.format, false);
    }
    super::check_image::run(global, &args.subject, args.format)
}

/// Writes what is found. Findings fail the command, unless they are asked not to; errors always do.
pub(super) fn report(
    global: &Global,
    context: &Path,
    flags: &SourceArgs,
    format: FindingsFormat,
    ignore_status: bool,
) -> Result<(), Error> {
    let session = Session::open(global)?;
    let inputs = inputs::read_source(context, flags)?;
    // Without a target every stage counts, and so do the images that it names.
    let args = BuildArgs { all_stages: inputs.args.target.is_none(), ..inputs.args };
    let found = look(&session, &inputs.source, &args, pull_policy(flags.pull));
    findings::write(&found, &inputs.source, format)?;
    let fine = found.errors.is_empty() && (ignore_status || findings::count(&found) == 0);
    if fine { Ok(()) } else { Err(Error::exit_code(EXIT_FAILED)) }
}

/// Everything that the checks find. What is wrong with the file is part of the answer.
fn look(session: &Session, source: &Source, args: &BuildArgs, policy: PullPolicy) -> Findings {
    let parsed = parse(source);
    let early = |errors: Vec<Diagnostic>| Findings { warnings: check(&parsed.ast, args), errors };
    if !parsed.diagnostics.is_empty() {
        return early(parsed.diagnostics.clone());
    }
    let images = resolve(session, &parsed.ast, args, policy, &NoEvents);
    match session.runtime.block_on(images) {
        Ok(images) => examine(&parsed.ast, args, &images.resolved),
        // What can be found without the images that are not there.
        Err(Diagnostics(errors)) => Findings { errors, ..examine(&parsed.ast, args, &Resolved::default()) },
    }
}
