//! What a shell and `man` know of the command line, written from its definition.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::Error;

/// `dbuild completion`.
pub(crate) fn script(shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dbuild", &mut script);
    super::print(String::from_utf8_lossy(&script).trim_end())
}

/// `dbuild man`: a page for the program and one for each command, `dbuild-cache-prune.1`.
pub(crate) fn manual(dir: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::failed(format!("cannot write {}: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)
}
