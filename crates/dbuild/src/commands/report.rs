//! `dbuild report`: one HTML file about a build, or about two.

use std::path::Path;

use dbuild_report::compare_page;

use super::compare::compare_builds;
use super::print;
use crate::build::outcome::{report_html, write_page};
use crate::cli::{Global, ReportArgs};
use crate::error::Error;
use crate::past_build::read_build;
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
            report_html(&session.store, &build)
        }
    };
    if args.output == Path::new("-") {
        return print(&html);
    }
    write_page(&args.output, &html)?;
    print(&format!("wrote {}", args.output.display()))
}
