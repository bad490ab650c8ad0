//! The commands about caches of other machines: `dbuild cache export`, `import`, `keygen` and
//! `prune --remote`.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use dbuild_digest::BlobHasher;
use dbuild_events::{Collector, EventSink};
use dbuild_layer::{Tree, decompress};
use dbuild_plan::StepId;
use dbuild_remote_cache::{Answer, PruneRequest, RemoteCache, RemoteHit, new_key_pair};
use dbuild_report::{cache_export_line, warning_line};
use dbuild_scheduler::{Canceller, Offer, RemoteResults as _};
use dbuild_store::{PackKey, PackedLayer, Record, Store};
use dbuild_support::csv::csv_fields;
use dbuild_support::units::Bytes;
use serde_json::json;

use super::{print, print_json};
use crate::build::remote_cache::spec::{CacheSpec, CacheSpecs, Direction, Mode, read};
use crate::build::remote_cache::{RemoteCaches, open};
use crate::cli::{Global, PruneArgs};
use crate::error::Error;
use crate::progress;
use crate::session::Session;

/// `dbuild cache keygen`.
pub(crate) fn keygen(file: &Path) -> Result<(), Error> {
    let pair = new_key_pair().map_err(Error::failed)?;
    let public = {
        let mut name = file.as_os_str().to_owned();
        name.push(".pub");
        std::path::PathBuf::from(name)
    };
    for (path, text, mode) in [(file, &pair.private, 0o600), (&*public, &pair.public, 0o644)] {
        let mut options = std::fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode(mode).open(path);
        let written = made.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|error| {
            Error::failed(format!("the key cannot be written to {}: {error}", path.display()))
                .hint("name a file that does not exist; keys are never overwritten")
        })?;
    }
    print(&format!(
        "{}: signs, for those who export: --cache-to …,sign-key={}\n{}: for those who import: --cache-from …,trust={}",
        file.display(),
        file.display(),
        public.display(),
        public.display()
    ))
}

/// `dbuild cache prune --remote`.
pub(crate) fn prune(global: &Global, args: &PruneArgs, remote: &str) -> Result<(), Error> {
    let policy = dbuild_cache::policy(&args.policy).map_err(Error::usage)?;
    let spec = one(Direction::To, remote)?;
    let session = Session::open(global)?;
    let keep_for = args.keep_for.or(args.filter.map(|filter| filter.0)).map(|age| age.0);
    let keep_size = args.keep_size.map(|size| size.0);
    if keep_for.is_none() && keep_size.is_none() {
        return Err(Error::usage("`--remote` needs a limit: others may use what is there")
            .hint("say what is kept: --keep-size 10GB or --keep-for 7d"));
    }
    let request = PruneRequest {
        keep_size,
        keep_for,
        policy: Some(policy),
        dry_run: args.dry_run,
        ..PruneRequest::default()
    };
    let cache = open(&spec, &session)?;
    let pruned = session.runtime.block_on(cache.prune(&request)).map_err(|error| failed(&error))?;
    if args.json {
        return print_json(&json!({
            "records": pruned.records,
            "bytes": pruned.bytes,
            "remaining": pruned.remaining,
            "dry_run": args.dry_run,
        }));
    }
    let (word, bytes, left) =
        (if args.dry_run { "would remove" } else { "removed" }, pruned.bytes, pruned.remaining);
    let later = match pruned.swept || args.dry_run || pruned.records == 0 {
        true => "",
        false => "; the registry frees the bytes when it collects its garbage",
    };
    print(&format!("{word} {} results ({}); {} are left{later}", pruned.records, Bytes(bytes), Bytes(left)))
}

/// `dbuild cache export`.
pub(crate) fn export(global: &Global, to: &str) -> Result<(), Error> {
    let mut spec = one(Direction::To, to)?;
    // An export that is asked for by itself is of everything, unless it says what.
    let names_mode =
        csv_fields(to).is_ok_and(|fields| fields.iter().any(|field| field.text.starts_with("mode=")));
    if spec.mode == Mode::Worth && !names_mode {
        spec.mode = Mode::Max;
    }
    let session = Session::open(global)?;
    let kept = Arc::new(Collector::default());
    let events: Arc<dyn EventSink> = Arc::clone(&kept) as _;
    let records = session.store.record_entries().map_err(Error::failed)?;
    session.runtime.block_on(async {
        let _lease = session.store.lease().map_err(Error::failed)?;
        let specs = CacheSpecs::export(spec);
        let Some(caches) = RemoteCaches::open(&specs, &session, &events)? else { return Ok(()) };
        for (number, entry) in records.iter().enumerate() {
            let key = entry.record.key;
            let Some((_, snapshot)) = session.store.peek(&key) else { continue };
            let (files, step) = (snapshot.files(), StepId(number as u32));
            let (packing, of_image, after_ms) = (None, false, 0);
            caches.offer(Offer { step, key, snapshot, files, packing, of_image, after_ms });
        }
        let (_canceller, cancel) = Canceller::new();
        caches.finish(cancel).await;
        Ok(())
    })?;
    let events = kept.events();
    let warnings: Vec<String> = events.iter().filter_map(warning_line).collect();
    warnings.iter().for_each(|line| progress::say(line));
    events.iter().filter_map(cache_export_line).try_for_each(|line| print(&line))?;
    match warnings.is_empty() {
        true => Ok(()),
        false => Err(Error::failed("not everything was exported")),
    }
}

/// `dbuild cache import`.
pub(crate) fn import(global: &Global, from: &str) -> Result<(), Error> {
    let spec = one(Direction::From, from)?;
    let session = Session::open(global)?;
    let cache = open(&spec, &session)?;
    let (mut taken, mut known, mut bytes) = (0, 0, 0);
    session.runtime.block_on(async {
        let _lease = session.store.lease().map_err(Error::failed)?;
        let entries = cache.list().await.map_err(|error| failed(&error))?;
        let keys: Vec<_> = entries.iter().map(|entry| entry.key).collect();
        let answers = cache.look_up(&keys).await.map_err(|error| failed(&error))?;
        for (key, answer) in keys.iter().zip(answers) {
            if session.store.record(key).is_some() {
                known += 1;
                continue;
            }
            let taking = match &answer {
                Answer::Absent => continue,
                Answer::Refused(refusal) => Err(refusal.to_string()),
                Answer::Hit(hit) => take(&session.store, &cache, hit).await,
            };
            match taking {
                Ok(size) => (taken, bytes) = (taken + 1, bytes + size),
                Err(why) => {
                    progress::say(&format!("warning: the result {} is not taken: {why}", key.short()))
                }
            }
        }
        Ok::<(), Error>(())
    })?;
    print(&format!("{taken} results taken ({}), {known} here already", Bytes(bytes)))
}

/// Takes one result with its layer; the bytes of that.
async fn take(store: &Store, cache: &RemoteCache, hit: &RemoteHit) -> Result<u64, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let tree = match &hit.layer {
        Some(_) => cache.index(hit).await.map_err(|error| failed(&error))?,
        None => Tree::default(),
    };
    let packed = hit.layer.as_ref().zip(hit.record.diff_id).map(|(layer, diff_id)| PackedLayer {
        diff_id,
        digest: layer.digest,
        size: layer.size,
        media_type: layer.media_type.clone(),
        annotations: layer.annotations.clone(),
    });
    cache.fetch_layer(hit, None, &|_| {}).await.map_err(|error| failed(&error))?;
    let snapshot = match &packed {
        None => {
            let draft = store.new_snapshot().map_err(|error| failed(&error))?;
            store.publish_snapshot(draft, tree).map_err(|error| failed(&error))?
        }
        Some(layer) => {
            is_whole(store, layer)?;
            let snapshot = store.publish_index(Arc::new(tree)).map_err(|error| failed(&error))?;
            let form = PackKey("fetched".to_owned());
            store.put_packed(&snapshot.id, &form, layer).map_err(|error| failed(&error))?;
            snapshot
        }
    };
    let record: Record = hit.record.to_record(Some(snapshot.id));
    store.put_record(&record, &hit.record.ingredients).map_err(|error| failed(&error))?;
    Ok(hit.layer_size())
}

/// Compares the content of a layer with its digest.
fn is_whole(store: &Store, layer: &PackedLayer) -> Result<(), String> {
    let blob = store.open_blob(&layer.digest).map_err(|error| error.to_string())?;
    let mut tar = decompress(blob).map_err(|error| error.to_string())?;
    let (mut hasher, mut buffer) = (BlobHasher::default(), vec![0; 256 << 10]);
    loop {
        match tar.read(&mut buffer).map_err(|error| error.to_string())? {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    match hasher.finish() == layer.diff_id {
        true => Ok(()),
        false => Err("its layer is not what its record says".to_owned()),
    }
}

/// The one cache that a command is about.
fn one(direction: Direction, text: &str) -> Result<CacheSpec, Error> {
    let mut words = Vec::new();
    let specs = read(direction, text, &mut words)?;
    words.iter().for_each(|word| progress::say(word));
    specs.into_iter().next().ok_or_else(|| Error::usage("there is nothing to do"))
}

fn failed(error: &dbuild_remote_cache::RemoteCacheError) -> Error {
    let failed = Error::failed(error.to_string());
    match error.hint() {
        Some(hint) => failed.hint(hint),
        None => failed,
    }
}
