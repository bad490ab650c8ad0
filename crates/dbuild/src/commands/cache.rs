//! `dbuild cache`.

use dbuild_report::Bytes;
use dbuild_store::PruneOptions;
use serde_json::json;

use super::{print, print_json};
use crate::cli::{Global, ListArgs, PruneArgs};
use crate::error::Error;
use crate::session::Session;

/// `dbuild cache du`.
pub(crate) fn du(global: &Global, args: ListArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let usage = session.store.disk_usage().map_err(Error::failed)?;
    if args.json {
        return print_json(&usage);
    }
    print(&format!("{:12}  {:>8}  {:>4}  WHAT", "KIND", "SIZE", "HITS"))?;
    for entry in &usage.entries {
        let kind = format!("{:?}", entry.kind).to_lowercase();
        print(&format!("{kind:12}  {:>8}  {:>4}  {}", Bytes(entry.size), entry.hits, entry.text))?;
    }
    print(&format!(
        "total: {}, of it {} can be removed with `dbuild cache prune --all`",
        Bytes(usage.total),
        Bytes(usage.reclaimable)
    ))
}

/// `dbuild cache prune`.
pub(crate) fn prune(global: &Global, args: &PruneArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let options = PruneOptions {
        keep_size: args.keep_size.map(|size| size.0),
        keep_for: args.keep_for.map(|age| age.0),
        all: args.all,
        ..PruneOptions::default()
    };
    let pruned = session.store.prune(&options).map_err(Error::failed)?;
    if args.json {
        return print_json(&json!({
            "snapshots": pruned.snapshots,
            "blobs": pruned.blobs,
            "cache_mounts": pruned.cache_mounts,
            "freed": pruned.freed,
            "remaining": pruned.remaining,
        }));
    }
    print(&format!("freed {}; {} are left", Bytes(pruned.freed), Bytes(pruned.remaining)))
}
