//! `dbuild build`.

use super::shell::after_failure;
use crate::build;
use crate::cli::{BuildArgs, Global};
use crate::error::Error;

/// Builds; after a failure a shell opens where it is wanted.
pub(crate) fn run(global: &Global, flags: &BuildArgs) -> Result<(), Error> {
    build::run(global, flags, after_failure)
}
