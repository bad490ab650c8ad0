//! What goes, what stays, and what nobody may remove.

use std::time::Duration;

use super::servers::{RegistryServer, S3Server, files};
use super::{Machine, directory, hit, look_up_one, result, result_of_size};
use crate::{Answer, CacheOptions, ErrorKind, Location, PruneRequest};

const AT_ONCE: PruneRequest =
    PruneRequest { keep_size: None, keep_for: None, policy: None, grace: Duration::ZERO, dry_run: false };

async fn filled(machine: &Machine, location: &Location) -> Vec<dbuild_digest::StepKey> {
    let cache = machine.cache(location);
    let results = [result_of_size("a", 50_000), result_of_size("b", 50_000), result_of_size("c", 50_000)];
    for result in &results {
        machine.publish(&cache, result).await.unwrap();
    }
    cache.finish().await.unwrap();
    results.iter().map(|result| result.record.key).collect()
}

async fn shrinks(location: &Location, sweeps: bool) {
    let machine = Machine::new();
    let keys = filled(&machine, location).await;
    let cache = machine.cache(location);
    let request = PruneRequest { keep_size: Some(110_000), ..AT_ONCE };
    // What is young is never removed.
    let young = PruneRequest { grace: Duration::from_secs(3600), ..request };
    if location_keeps_times(location) {
        assert_eq!(cache.prune(&young).await.unwrap().records, 0);
    }
    let plan = cache.prune(&PruneRequest { dry_run: true, ..request }).await.unwrap();
    assert_eq!((plan.records, plan.swept), (1, false));
    assert_eq!(cache.list().await.unwrap().len(), 3);
    let done = cache.prune(&request).await.unwrap();
    assert_eq!((done.records, done.swept), (1, sweeps));
    assert_eq!((done.bytes, done.remaining), (plan.bytes, plan.remaining));
    let cache = Machine::new();
    let cache = cache.cache(location);
    let answers = cache.look_up(&keys).await.unwrap();
    let hits = answers.iter().filter(|answer| matches!(answer, Answer::Hit(_)));
    assert_eq!(hits.count(), 2);
    for answer in answers.iter().filter(|answer| matches!(answer, Answer::Hit(_))) {
        cache.index(hit(answer)).await.unwrap();
        cache.fetch_layer(hit(answer), None, &|_| {}).await.unwrap();
    }
    let all = PruneRequest { keep_for: Some(Duration::ZERO), ..AT_ONCE };
    assert_eq!(cache.prune(&all).await.unwrap().records, 2);
    assert!(cache.list().await.unwrap().is_empty());
}

fn location_keeps_times(location: &Location) -> bool {
    !matches!(location, Location::Registry { .. })
}

#[tokio::test]
async fn a_directory_shrinks() {
    let dir = tempfile::tempdir().unwrap();
    shrinks(&directory(dir.path()), true).await;
    assert!(files(&dir.path().join("blobs")).is_empty(), "blobs that nobody names go, too");
}

#[tokio::test]
async fn a_registry_shrinks() {
    shrinks(&RegistryServer::start().location(), false).await;
}

#[tokio::test]
async fn a_bucket_shrinks() {
    let server = S3Server::start().await;
    shrinks(&server.location(), true).await;
    let left = files(&server.bucket_dir());
    let blobs = left.iter().filter(|path| path.to_string_lossy().contains("ci/blobs/")).count();
    assert_eq!(blobs, 2, "those of the catalogue: {left:?}");
}

#[tokio::test]
async fn a_directory_stays_below_its_limit() {
    let (machine, dir) = (Machine::new(), tempfile::tempdir().unwrap());
    let location = directory(dir.path());
    filled(&machine, &location).await;
    // Older than the grace.
    for path in files(&dir.path().join("blobs")) {
        let old = std::time::SystemTime::now() - Duration::from_secs(7200);
        std::fs::File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
    }
    let options = CacheOptions { max_size: Some(120_000), ..CacheOptions::default() };
    let cache = machine.open(&location, options);
    let new = result_of_size("new", 50_000);
    machine.publish(&cache, &new).await.unwrap();
    cache.finish().await.unwrap();
    let total: u64 = files(&dir.path().join("blobs")).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(total <= 120_000, "{total}");
    hit(&look_up_one(&machine.cache(&location), &new.record.key).await);
}

/// While an export runs, no blob is removed: it may have found one that it is about to name.
async fn exports_are_left_alone(location: &Location) {
    let machine = Machine::new();
    filled(&machine, location).await;
    let exporting = machine.cache(location);
    machine.publish(&exporting, &result("late")).await.unwrap();
    let all = PruneRequest { keep_for: Some(Duration::ZERO), ..AT_ONCE };
    let report = machine.cache(location).prune(&all).await.unwrap();
    assert!(report.records > 0 && !report.swept, "{report:?}");
    // The blobs of what was removed are there; the export goes on, and finds them.
    machine.publish(&exporting, &result_of_size("a", 50_000)).await.unwrap();
    exporting.finish().await.unwrap();
    // No lease is left behind: now the blobs go.
    let report = machine.cache(location).prune(&all).await.unwrap();
    assert!(report.swept, "{report:?}");
}

#[tokio::test]
async fn exports_to_a_directory_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    exports_are_left_alone(&directory(dir.path())).await;
}

#[tokio::test]
async fn exports_to_a_bucket_are_left_alone() {
    exports_are_left_alone(&S3Server::start().await.location()).await;
}

#[tokio::test]
async fn nobody_exports_to_a_bucket_while_it_is_swept() {
    let server = S3Server::start().await;
    let lease = server.bucket_dir().join("ci/leases/sweep");
    std::fs::create_dir_all(&lease).unwrap();
    std::fs::write(lease.join("other"), "somebody else").unwrap();
    let machine = Machine::new();
    let error = machine.publish(&machine.cache(&server.location()), &result("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.to_string().ends_with("is being pruned: export again later"), "{error}");
}
