//! What follows a build: its summary, its report, why its steps ran, and the collection of the
//! cache.

use std::io::Write as _;
use std::path::Path;

use dbuild_events::BuildId;
use dbuild_exporter::ExportError;
use dbuild_report::{Build, Contents, Step, Summary, page};
use dbuild_store::{AfterBuildLimits, AfterBuildReport, Store};
use dbuild_support::units::Bytes;

use crate::cli::{BuildArgs, ProgressMode};
use crate::error::Error;
use crate::past_build::read_build;
use crate::{pipes, progress};

/// Keeps the store within its limits, now that everything about the build has been said. No error
/// of a build that is done.
pub(super) fn collect(store: &Store, limits: &AfterBuildLimits, flags: &BuildArgs) {
    let quiet = flags.quiet || matches!(flags.progress, ProgressMode::Quiet | ProgressMode::Rawjson);
    match store.collect_after_build(limits) {
        Ok(Some(upkeep)) if !quiet => progress::say(&collected(&upkeep)),
        Ok(_) => {}
        Err(error) => progress::say(&format!("warning: the cache cannot be cleaned up: {error}")),
    }
}

/// What there is to say about a build that is done.
pub(super) struct Done {
    pub(super) summary: Summary,
    pub(super) id: Option<String>,
}

/// The last lines: on standard error what people read, on standard output what scripts read.
pub(super) fn finish(flags: &BuildArgs, done: &Done) -> Result<(), Error> {
    if flags.quiet || flags.progress == ProgressMode::Quiet {
        if let Some(id) = &done.id {
            writeln!(std::io::stdout(), "{id}")
                .map_err(|error| Error::failed(format!("cannot write the id: {error}")))?;
        }
    } else if flags.progress != ProgressMode::Rawjson {
        progress::say(&done.summary.within(progress::width()));
    }
    Ok(())
}

/// The line about a collection after a build.
fn collected(upkeep: &AfterBuildReport) -> String {
    let AfterBuildReport { pruned, keep_size, unfinished } = upkeep;
    let count = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let removed = [
        (pruned.snapshots, count(pruned.snapshots, "result")),
        (pruned.blobs, count(pruned.blobs, "blob")),
        (pruned.cache_mounts, count(pruned.cache_mounts, "cache mount")),
    ];
    let removed: Vec<String> =
        removed.into_iter().filter_map(|(count, words)| (count > 0).then_some(words)).collect();
    let removed = removed.join(", ");
    let (freed, left, limit) = (Bytes(pruned.freed), Bytes(pruned.remaining), Bytes(*keep_size));
    let rest = if *unfinished { "; the rest is removed after the next build" } else { "" };
    format!("cache: removed {removed} ({freed}); the store uses {left} of {limit}{rest}")
}

/// The report of a build that has just ended.
pub(super) fn write_report(store: &Store, id: &BuildId, file: &Path) -> Result<(), Error> {
    let (_, build) = read_build(store, Some(id.as_str()))?;
    let html = report_html(store, &build);
    if file == Path::new("-") {
        let written = std::io::stdout().write_all(html.as_bytes());
        return written.map_err(|error| Error::failed(format!("cannot write the report: {error}")));
    }
    write_page(file, &html)
}

/// The page of one build.
pub(crate) fn report_html(store: &Store, build: &Build) -> String {
    page(build, &Contents::of(build, store))
}

/// Writes a page to a file.
pub(crate) fn write_page(path: &Path, html: &str) -> Result<(), Error> {
    pipes::write_result(path, html.as_bytes()).map_err(|error| match error {
        ExportError::Interrupted => Error::interrupted(),
        error => Error::failed(format!("the report cannot be written: {error}"))
            .hint("name another file with -o FILE"),
    })
}

/// The words of `build --explain`, after the build.
pub(super) fn explain(store: &Store, build: &str) -> Result<(), Error> {
    let (_, build) = read_build(store, Some(build))?;
    let steps = steps_that_ran(&build);
    for step in &steps {
        progress::say(&build.why(step).text(&build));
    }
    if steps.is_empty() {
        progress::say("no step ran: all were cached");
    }
    Ok(())
}

/// The steps that ran, without base images.
pub(crate) fn steps_that_ran(build: &Build) -> Vec<&Step> {
    let mut steps: Vec<&Step> = build.visible().filter(|step| build.why(step).ran).collect();
    // Images are brought for those who need them, and have no key of their own that could differ.
    steps.retain(|step| step.kind != "image");
    steps
}
