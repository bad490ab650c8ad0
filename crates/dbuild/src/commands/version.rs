//! `dbuild version`: what scripts ask of `docker version`.

use serde_json::json;

use super::print;
use crate::cli::VersionArgs;
use crate::error::Error;
use crate::go_template::Template;

/// `dbuild version`.
pub(crate) fn run(args: &VersionArgs) -> Result<(), Error> {
    let version = env!("CARGO_PKG_VERSION");
    let Some(template) = &args.format else { return print(&format!("dbuild {version}")) };
    // One program is both: what builds, and what it is asked through.
    let side = json!({"Version": version, "Os": "linux", "Arch": dbuild_oci::Platform::host().architecture});
    let view = json!({"Client": side, "Server": side});
    Template::parse(template)?.lines(&[view])?.iter().try_for_each(|line| print(line))
}
