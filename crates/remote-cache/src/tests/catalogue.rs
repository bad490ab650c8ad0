//! What a catalogue saves, and that nothing depends on it.

use std::sync::atomic::Ordering;

use futures_util::{StreamExt as _, stream};

use super::servers::RegistryServer;
use super::{Machine, StepResult, hit, look_up_one, result};
use crate::{Answer, RemoteCache};

async fn publish_all(machine: &Machine, cache: &RemoteCache, results: &[StepResult]) {
    stream::iter(results)
        .for_each_concurrent(8, |result| async move {
            machine.publish(cache, result).await.unwrap();
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_hits_take_a_few_requests() {
    let server = RegistryServer::start();
    let machine = Machine::new();
    let results: Vec<_> = (0..100).map(|at| result(&format!("step{at}"))).collect();
    let cache = machine.cache(&server.location());
    publish_all(&machine, &cache, &results).await;
    cache.finish().await.unwrap();

    let before = server.requests.load(Ordering::SeqCst);
    let reader = Machine::new();
    let cache = reader.cache(&server.location());
    for result in &results {
        let answer = look_up_one(&cache, &result.record.key).await;
        assert_eq!(cache.index(hit(&answer)).await.unwrap().entries(), result.tree.entries());
    }
    let asked = server.requests.load(Ordering::SeqCst) - before;
    assert!((1..=3).contains(&asked), "{asked} requests: a list, a catalogue's manifest, its blob");

    // One more result, which the catalogue does not have: three requests more.
    let late = result("late");
    machine.publish(&machine.cache(&server.location()), &late).await.unwrap();
    let before = server.requests.load(Ordering::SeqCst);
    let cache = reader.cache(&server.location());
    hit(&look_up_one(&cache, &late.record.key).await);
    hit(&look_up_one(&cache, &results[0].record.key).await);
    let asked = server.requests.load(Ordering::SeqCst) - before;
    assert!((1..=6).contains(&asked), "{asked} requests");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_that_is_damaged_or_lost_costs_requests_alone() {
    let server = RegistryServer::start();
    let machine = Machine::new();
    let results: Vec<_> = (0..5).map(|at| result(&format!("step{at}"))).collect();
    let cache = machine.cache(&server.location());
    publish_all(&machine, &cache, &results).await;
    cache.finish().await.unwrap();
    // Another artifact under the name of the catalogue.
    let record = cache.inner.place.manifest(&cache.inner.record_tag(&results[0].record.key)).await;
    cache.inner.place.put_manifest("cache", record.unwrap().unwrap()).await.unwrap();
    let cache = machine.cache(&server.location());
    let keys: Vec<_> = results.iter().map(|result| result.record.key).collect();
    for answer in cache.look_up(&keys).await.unwrap() {
        hit(&answer);
    }
    let trouble = cache.catalogue_trouble().await;
    assert_eq!(trouble.as_deref(), Some("what is there is no record of dbuild"));

    // The last writer overwrites it; what it lacked is in it again.
    machine.publish(&cache, &result("more")).await.unwrap();
    cache.finish().await.unwrap();
    let cache = machine.cache(&server.location());
    assert_eq!(cache.catalogue_trouble().await, None);
    let state = cache.state().await.unwrap();
    assert_eq!(state.lock().stored.len(), 6);
    assert!(matches!(look_up_one(&cache, &result("none").record.key).await, Answer::Absent));
}
