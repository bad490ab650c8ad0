//! `dbuild doctor`: what this machine offers.

use std::path::Path;

use dbuild_sandbox::Capability;
use dbuild_sandbox::rootless::Identity;

use super::{print, print_json};
use crate::cli::{Global, ListArgs};
use crate::config::store_dir;
use crate::error::Error;

/// Tries everything that builds need or profit from.
pub(crate) fn run(global: &Global, args: ListArgs) -> Result<(), Error> {
    let identity = dbuild_sandbox::rootless::enter().map_err(Error::failed)?;
    let mut capabilities = dbuild_sandbox::probe();
    capabilities.extend(store(&store_dir(global, matches!(identity, Identity::Root))?));
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

/// What the store's file system offers; where there is no store yet, that of the directory that it
/// would be made in.
fn store(dir: &Path) -> Vec<Capability> {
    let inside = dir.join("tmp");
    let place = inside.ancestors().find(|place| place.is_dir()).unwrap_or(Path::new("/"));
    let mut found = dbuild_sandbox::probe_store(place);
    let kind = Capability {
        name: "store".to_owned(),
        ok: dbuild_sandbox::unfit_for_overlay(place).is_none(),
        detail: dbuild_sandbox::unfit_for_overlay(place).unwrap_or_else(|| dir.display().to_string()),
        advice: Some("name a directory on another file system with --store, such as a volume".to_owned()),
    };
    found.insert(0, kind);
    found
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
