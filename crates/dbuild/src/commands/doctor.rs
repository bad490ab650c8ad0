//! `dbuild doctor`: what this machine offers.

use dbuild_sandbox::Capability;

use super::{print, print_json};
use crate::cli::ListArgs;
use crate::error::Error;

/// Tries everything that builds need or profit from.
pub(crate) fn run(args: ListArgs) -> Result<(), Error> {
    dbuild_sandbox::rootless::enter().map_err(Error::failed)?;
    let mut capabilities = dbuild_sandbox::probe();
    capabilities.push(program("git", "--version", "ADD and contexts of git repositories"));
    capabilities.push(program("ssh", "-V", "repositories that are reached by ssh"));
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

/// Whether a program is there that some builds need.
fn program(name: &str, version: &str, needed_for: &str) -> Capability {
    let output = std::process::Command::new(name).arg(version).stdin(std::process::Stdio::null()).output();
    // ssh tells its version on standard error.
    let said = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
    let package = if name == "ssh" { "openssh-client" } else { name };
    Capability {
        name: name.to_owned(),
        ok: !said.is_empty(),
        detail: if said.is_empty() { format!("for {needed_for}") } else { said },
        advice: Some(format!("install it, such as with `apt install {package}`")),
    }
}
