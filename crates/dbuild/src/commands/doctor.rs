//! `dbuild doctor`: what this machine offers.

use super::{print, print_json};
use crate::cli::ListArgs;
use crate::error::Error;

/// Tries everything that builds need or profit from.
pub(crate) fn run(args: ListArgs) -> Result<(), Error> {
    dbuild_sandbox::rootless::enter().map_err(Error::failed)?;
    let capabilities = dbuild_sandbox::probe();
    if args.json {
        return print_json(&capabilities);
    }
    for one in &capabilities {
        print(&format!("{:8} {:20} {}", if one.ok { "ok" } else { "missing" }, one.name, one.detail))?;
        if let Some(advice) = one.advice.as_ref().filter(|_| !one.ok) {
            print(&format!("{:29} {advice}", ""))?;
        }
    }
    Ok(())
}
