//! What holds in every place.

use std::path::Path;
use std::process::Command;

use futures_util::future::join_all;

use super::servers::{RegistryServer, S3Server};
use super::{Machine, directory, hit, look_up_one, result, result_of_size};
use crate::{Answer, Location, Published};

/// One machine publishes, another finds.
async fn travels(location: &Location) {
    let (from, to) = (Machine::new(), Machine::new());
    // Larger than what is sent at once, and smaller.
    let results = [result("a"), result_of_size("b", 9 << 20), result_of_size("c", 0)];
    let cache = from.cache(location);
    for result in &results {
        assert!(matches!(from.publish(&cache, result).await.unwrap(), Published::Sent { .. }));
        assert_eq!(from.publish(&cache, result).await.unwrap(), Published::Present);
    }
    cache.finish().await.unwrap();

    let cache = to.cache(location);
    let keys: Vec<_> = results.iter().map(|one| one.record.key).collect();
    let answers = cache.look_up(&keys).await.unwrap();
    for (answer, result) in answers.iter().zip(&results) {
        let hit = hit(answer);
        assert_eq!(hit.record, result.record);
        let index = cache.index(hit).await.unwrap();
        assert_eq!(index.entries(), result.tree.entries(), "times are kept, too");
        assert_eq!(to.store.has_blob(&result.layer.digest), None, "a look-up moves no layer");
        let heard = std::sync::atomic::AtomicU64::new(0);
        cache
            .fetch_layer(hit, None, &|bytes| heard.store(bytes, std::sync::atomic::Ordering::SeqCst))
            .await
            .unwrap();
        assert_eq!(to.store.read_blob(&result.layer.digest, u64::MAX).unwrap(), result.bytes);
        assert_eq!(heard.into_inner(), result.bytes.len() as u64);
    }
    assert!(matches!(look_up_one(&cache, &result("none").record.key).await, Answer::Absent));
    let near = cache.near(&results[0].record.definition).await;
    assert_eq!(near.len(), 3, "the records of the same words");
    // The second export finds all of it.
    assert_eq!(to.publish(&cache, &results[1]).await.unwrap(), Published::Present);
    assert_eq!(cache.list().await.unwrap().len(), 3);
}

/// Twenty jobs at once lose nothing of each other.
async fn twenty_lose_nothing(location: &Location) {
    let machine = &Machine::new();
    let job = |job: usize| async move {
        let cache = machine.cache(location);
        for step in 0..2 {
            machine.publish(&cache, &result(&format!("job{job}-step{step}"))).await.unwrap();
        }
        machine.publish(&cache, &result("shared")).await.unwrap();
        cache.finish().await.unwrap();
    };
    join_all((0..20).map(job)).await;
    let cache = machine.cache(location);
    let names = (0..20).flat_map(|job| (0..2).map(move |step| format!("job{job}-step{step}")));
    let keys: Vec<_> = names.chain(["shared".to_owned()]).map(|name| result(&name).record.key).collect();
    for answer in cache.look_up(&keys).await.unwrap() {
        hit(&answer);
    }
    assert_eq!(cache.list().await.unwrap().len(), 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_travel_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    travels(&directory(&dir.path().join("new/cache"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_travel_in_a_registry() {
    travels(&RegistryServer::start().location()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_travel_in_a_bucket() {
    travels(&S3Server::start().await.location()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_writers_of_a_directory_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    twenty_lose_nothing(&directory(dir.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_writers_of_a_registry_lose_nothing() {
    twenty_lose_nothing(&RegistryServer::start().location()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_writers_of_a_bucket_lose_nothing() {
    twenty_lose_nothing(&S3Server::start().await.location()).await;
}

/// A directory is copied to a registry by a program that knows OCI alone, and used from there.
#[tokio::test(flavor = "multi_thread")]
async fn other_programs_list_and_copy_a_cache() {
    let (machine, dir, server) = (Machine::new(), tempfile::tempdir().unwrap(), RegistryServer::start());
    let cache = machine.cache(&directory(dir.path()));
    let result = result("a");
    machine.publish(&cache, &result).await.unwrap();
    cache.finish().await.unwrap();
    let tag = format!("cache.k-{}", result.record.key);
    let layout = format!("oci:{}:{tag}", dir.path().display());
    let manifest = skopeo(dir.path(), &["inspect", "--raw", &layout]);
    assert!(manifest.contains("application/vnd.dbuild.cache.record.v1"), "{manifest}");
    let to = format!("docker://{}/team/app:{tag}", server.host);
    skopeo(dir.path(), &["copy", "--quiet", "--dest-tls-verify=false", &layout, &to]);
    let tags = skopeo(
        dir.path(),
        &["list-tags", "--tls-verify=false", &format!("docker://{}/team/app", server.host)],
    );
    assert!(tags.contains(&tag), "{tags}");
    let other = Machine::new();
    let cache = other.cache(&server.location());
    let answer = look_up_one(&cache, &result.record.key).await;
    cache.fetch_layer(hit(&answer), None, &|_| {}).await.unwrap();
    assert_eq!(other.store.read_blob(&result.layer.digest, u64::MAX).unwrap(), result.bytes);
}

fn skopeo(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("skopeo")
        .args(["--insecure-policy"])
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .output()
        .expect("this test needs skopeo: run scripts/test.sh, or `apt-get install skopeo`");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
