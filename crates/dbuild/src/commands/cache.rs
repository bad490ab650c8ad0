//! `dbuild cache`.

use std::time::Duration;

use dbuild_events::Origin;
use dbuild_store::{PruneOptions, PruneReport, RecordEntry, Store};
use dbuild_support::time::local;
use dbuild_support::units::{Bytes, Seconds};
use serde_json::json;

use super::{print, print_json};
use crate::cli::{CacheListArgs, CacheSort, Global, ListArgs, PruneArgs, VerifyArgs};
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
    let policy = dbuild_cache::policy(&args.policy).map_err(Error::usage)?;
    let session = Session::open_to_collect(global)?;
    let keep_for = args.keep_for.or(args.filter.map(|filter| filter.0));
    let options = PruneOptions {
        keep_size: args.keep_size.map(|size| size.0),
        keep_for: keep_for.map(|age| age.0),
        all: args.all,
        policy: Some(policy),
        dry_run: args.dry_run,
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
            "dry_run": args.dry_run,
        }));
    }
    let (freed, left) = (Bytes(pruned.freed), Bytes(pruned.remaining));
    if !args.dry_run {
        return print(&format!("freed {freed}; {left} are left"));
    }
    let PruneReport { snapshots, blobs, cache_mounts, .. } = pruned;
    print(&format!(
        "would free about {freed} ({snapshots} results, {blobs} blobs, {cache_mounts} cache mounts); about {left} would be left"
    ))
}

/// `dbuild cache ls`.
pub(crate) fn list(global: &Global, args: &CacheListArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let mut entries = session.store.record_entries().map_err(Error::failed)?;
    if let Some(text) = &args.filter {
        entries.retain(|entry| entry.record.text.contains(text.as_str()));
    }
    entries.sort_by_key(|entry| {
        std::cmp::Reverse(match args.sort {
            CacheSort::Created => entry.record.created_ms,
            CacheSort::Used => entry.record.last_used_ms,
            CacheSort::Size => entry.size,
            CacheSort::Cost => entry.record.duration_ms,
            CacheSort::Hits => entry.record.hits,
        })
    });
    if args.json {
        return print_json(&entries);
    }
    print(&format!(
        "{:12}  {:8}  {:>8}  {:>7}  {:>4}  {:19}  WHAT",
        "KEY", "STRATEGY", "SIZE", "COST", "HITS", "LAST USED"
    ))?;
    for RecordEntry { record, size } in &entries {
        let (key, strategy, hits) = (record.key.short(), &record.strategy, record.hits);
        let (size, cost) = (Bytes(*size), Seconds(Duration::from_millis(record.duration_ms)));
        let used = local(record.last_used_ms);
        print(&format!(
            "{key:12}  {strategy:8}  {size:>8}  {cost:>7}  {hits:>4}  {used:19}  {}",
            record.text
        ))?;
    }
    Ok(())
}

/// `dbuild cache inspect`.
pub(crate) fn inspect(global: &Global, wanted: &str, as_json: bool) -> Result<(), Error> {
    let session = Session::open(global)?;
    let entries = session.store.record_entries().map_err(Error::failed)?;
    let by_key = |entry: &&RecordEntry| wanted.len() >= 4 && entry.record.key.to_string().starts_with(wanted);
    let mut found: Vec<&RecordEntry> = entries.iter().filter(by_key).collect();
    if found.is_empty() {
        found = entries.iter().filter(|entry| entry.record.text.contains(wanted)).collect();
    }
    let entry = match found.as_slice() {
        [] => {
            let error = Error::failed(format!("there is no result `{wanted}`"));
            return Err(error.hint("`dbuild cache ls` lists them"));
        }
        [entry] => *entry,
        several => {
            let line =
                |entry: &&RecordEntry| format!("\n  {}  {}", entry.record.key.short(), entry.record.text);
            let list: String = several.iter().take(10).map(line).collect();
            let error = format!("`{wanted}` names {} results:{list}", several.len());
            return Err(Error::failed(error).hint("name one by the first digits of its key"));
        }
    };
    let ingredients = session.store.ingredients(&entry.record.key).unwrap_or_default();
    if as_json {
        return print_json(&json!({ "result": entry, "ingredients": ingredients }));
    }
    let RecordEntry { record, size } = entry;
    print(&record.text)?;
    let snapshot = record.snapshot.as_ref().map_or("-".to_owned(), |id| {
        session.store.root().join("snapshots").join(id.as_str()).display().to_string()
    });
    for (name, value) in [
        ("key", record.key.to_string()),
        ("strategy", record.strategy.clone()),
        ("stage", record.stage.clone()),
        ("made", local(record.created_ms)),
        ("cost", Seconds(Duration::from_millis(record.duration_ms)).to_string()),
        ("size", Bytes(*size).to_string()),
        ("hits", record.hits.to_string()),
        ("last used", local(record.last_used_ms)),
        ("layer", record.layer.to_string()),
        ("output", record.output.to_string()),
        ("snapshot", snapshot),
    ] {
        print(&format!("  {name:10}  {value}"))?;
    }
    print("made of:")?;
    for one in &ingredients {
        let name = if one.name.is_empty() { String::new() } else { format!(" {}", one.name) };
        let value: String = one.value.chars().take(160).collect();
        print(format!("  {}{name}: {}", one.kind, value.replace(char::is_control, " ")).trim_end())?;
    }
    if !record.inputs.is_empty() {
        print("made on, and with files from:")?;
    }
    record.inputs.iter().try_for_each(|input| print(&format!("  {}", origin(&session.store, input))))
}

/// An input of a result as people know it.
fn origin(store: &Store, origin: &Origin) -> String {
    match origin {
        Origin::Step(key) | Origin::Linked { key, .. } => {
            let text = store.record_kept(key).map(|record| record.text);
            format!("{}  {}", key.short(), text.as_deref().unwrap_or("(no longer known)"))
        }
        Origin::Image(image) => format!("FROM {} ({})", image.reference, image.digest),
        Origin::Scratch => "FROM scratch".to_owned(),
        Origin::Outside => "files from outside: see the paths above".to_owned(),
    }
}

/// `dbuild cache verify`.
pub(crate) fn verify(global: &Global, args: &VerifyArgs) -> Result<(), Error> {
    let (session, mended) =
        if args.repair { Session::open_to_repair(global)? } else { (Session::open(global)?, Vec::new()) };
    let mut report = session.store.verify(args.repair).map_err(Error::failed)?;
    report.findings.splice(0..0, mended);
    if args.json {
        let findings = report.findings.iter().map(|one| json!({ "path": one.path, "problem": one.problem }));
        print_json(&json!({
            "blobs": report.blobs,
            "snapshots": report.snapshots,
            "findings": findings.collect::<Vec<_>>(),
            "repaired": args.repair,
        }))?;
    } else {
        for finding in &report.findings {
            print(&format!("{}: {}", finding.path.display(), finding.problem))?;
        }
        print(&format!("{} blobs and {} snapshots were read", report.blobs, report.snapshots))?;
    }
    match (report.findings.len(), args.repair) {
        (0, _) => Ok(()),
        (count, true) => {
            crate::progress::say(&format!(
                "{count} damaged entries were dropped: they will be made or pulled again"
            ));
            Ok(())
        }
        (count, false) => Err(Error::failed(format!("{count} entries of the store are damaged"))
            .hint("`dbuild cache verify --repair` drops them: they will be made or pulled again")),
    }
}
