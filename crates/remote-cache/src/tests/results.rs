//! The port: several caches in order, and what a user hears.

use std::sync::{Arc, Mutex};

use dbuild_oci::Descriptor;
use dbuild_scheduler::RemoteResults as _;

use super::{Machine, directory, result};
use crate::{
    CacheTrouble, InlineCache, Location, Refusal, RemoteCaches, ResultSource, inline_records, read_inline,
};

/// The caches, and what is reported.
fn caches(sources: Vec<ResultSource>) -> (RemoteCaches, Arc<Mutex<Vec<CacheTrouble>>>) {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let report = heard.clone();
    (RemoteCaches::new(sources, move |trouble| report.lock().unwrap().push(trouble), drop), heard)
}

#[tokio::test]
async fn the_first_cache_that_has_a_result_gives_it() {
    let (machine, dirs) = (Machine::new(), [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let locations: Vec<Location> = dirs.iter().map(|dir| directory(dir.path())).collect();
    let (both, second) = (result("both"), result("second"));
    machine.publish(&machine.cache(&locations[0]), &both).await.unwrap();
    for result in [&both, &second] {
        machine.publish(&machine.cache(&locations[1]), result).await.unwrap();
    }
    let reader = Machine::new();
    let closed = Location::Registry { reference: "127.0.0.1:1/team/app:cache".to_owned() };
    let sources = [closed, locations[0].clone(), locations[1].clone()];
    let sources = sources.iter().map(|location| ResultSource::Cache(reader.cache(location))).collect();
    let (caches, heard) = caches(sources);
    let keys = [both.record.key, result("none").record.key, second.record.key];
    let found = caches.look_up(&keys).await;
    let source = |at: usize| found[at].as_ref().map(|result| result.source);
    assert_eq!([source(0), source(1), source(2)], [Some(1), None, Some(2)]);
    let first = found[0].clone().unwrap();
    assert_eq!(first.record, both.record.to_record(None));
    assert_eq!(first.layer.as_ref(), Some(&both.layer));
    assert_eq!(caches.index(&first).await.unwrap().digest(), both.record.layer);
    caches.fetch(&first, &|_| {}).await.unwrap();
    assert_eq!(reader.store.has_blob(&both.layer.digest), Some(1000));

    caches.refuse(&both.record.key);
    assert!(caches.look_up(&keys).await[0].is_none());
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 1, "an unreachable cache is told once: {heard:?}");
    assert!(matches!(&heard[0], CacheTrouble::Cache { hint: Some(_), .. }), "{heard:?}");
}

#[tokio::test]
async fn an_image_is_a_cache_of_its_own_layers() {
    let server = super::servers::RegistryServer::start();
    let (machine, result) = (Machine::new(), result("a"));
    machine.store.put_blob(&result.bytes).unwrap();
    let layer = Descriptor::new(result.layer.media_type.clone(), result.layer.digest, result.layer.size);
    let repository = machine.registry.artifacts(&format!("{}/team/app:1", server.host)).unwrap();
    repository.push_blob(&layer, &[], &|_| {}).await.unwrap();
    let (name, member) = inline_records([&result.record], None);
    let config = serde_json::json!({"rootfs": {"diff_ids": [result.layer.diff_id]}, name: member});
    let answers = read_inline(&serde_json::to_vec(&config).unwrap(), &[layer], &[]).unwrap();

    let reader = Machine::new();
    let repository = reader.registry.artifacts(&format!("{}/team/app:1", server.host)).unwrap();
    let refused = crate::Answer::Refused(Refusal::Unsigned);
    let image = InlineCache::new(repository, answers.into_iter().chain([refused]).collect());
    let (caches, heard) = caches(vec![ResultSource::Image(image)]);
    let found = caches.look_up(&[result.record.key]).await.remove(0).unwrap();
    assert!(!found.has_index);
    caches.fetch(&found, &|_| {}).await.unwrap();
    assert_eq!(reader.store.read_blob(&result.layer.digest, u64::MAX).unwrap(), result.bytes);
    let told: Vec<String> = heard.lock().unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(told, [format!("a record of {}/team/app:1 is not used: it is not signed", server.host)]);
}
