//! `dbuild report`: one HTML file about a build, or about two.

use std::io::Write as _;
use std::path::Path;

use dbuild_events::BuildId;
use dbuild_exporter::ExportError;
use dbuild_report::{Build, Contents, compare_page, page};
use dbuild_store::Store;

use super::compare::compare_builds;
use super::journal::read_build;
use super::print;
use crate::cli::{Global, ReportArgs};
use crate::error::Error;
use crate::pipes;
use crate::session::Session;

/// `dbuild report`.
pub(crate) fn report(global: &Global, args: &ReportArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let html = match args.compare.as_slice() {
        [a, b] => {
            let sides = [a, b].map(|id| read_build(&session.store, Some(id)).map(|(_, build)| build));
            let [a, b] = sides;
            compare_page(&compare_builds(&session.store, &a?, &b?))
        }
        _ => {
            let (_, build) = read_build(&session.store, args.build.as_deref())?;
            html(&session.store, &build)
        }
    };
    if args.output == Path::new("-") {
        return print(&html);
    }
    write(&args.output, &html)?;
    print(&format!("wrote {}", args.output.display()))
}

/// The report of a build that has just ended.
pub(crate) fn write_report(store: &Store, id: &BuildId, file: &Path) -> Result<(), Error> {
    let (_, build) = read_build(store, Some(id.as_str()))?;
    let html = html(store, &build);
    if file == Path::new("-") {
        let written = std::io::stdout().write_all(html.as_bytes());
        return written.map_err(|error| Error::failed(format!("cannot write the report: {error}")));
    }
    write(file, &html)
}

fn html(store: &Store, build: &Build) -> String {
    page(build, &Contents::of(build, store))
}

fn write(path: &Path, html: &str) -> Result<(), Error> {
    pipes::write_result(path, html.as_bytes()).map_err(|error| match error {
        ExportError::Interrupted => Error::interrupted(),
        error => Error::failed(format!("the report cannot be written: {error}"))
            .hint("name another file with -o FILE"),
    })
}
