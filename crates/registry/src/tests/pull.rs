//! Which questions are asked of whom, and what is taken from the store.

use std::sync::atomic::{AtomicUsize, Ordering};

use dbuild_digest::BlobDigest;
use dbuild_oci::Platform;
use dbuild_scheduler::BlobSource;
use oci_spec::image::Descriptor;

use super::fake::{Content, Fake, Reply, nobody};
use super::{Bench, amd64, text, words};
use crate::PullPolicy::{Always, CheckTag, PreferCached};
use crate::{Config, Credentials, HostConfig};

#[tokio::test]
async fn what_is_pulled_once_is_only_checked() {
    let fake = Fake::good(Content::app(b"layer")).await;
    let bench = Bench::new();
    let image = bench.registry.pull(&fake.app(), &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    assert_eq!(image.reference, format!("{}/app:latest", fake.host));
    assert_eq!(image.diff_ids, [BlobDigest::of(b"layer")]);
    assert_eq!(image.digest, image.top);
    assert_eq!(bench.store.read_blob(&image.layers[0].digest, 100).unwrap(), b"layer");
    assert_eq!(fake.take_requests().len(), 3, "manifest, config, layer");

    let again = bench.registry.pull(&fake.app(), &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    assert_eq!(again, image);
    assert_eq!(fake.take_requests(), ["HEAD /v2/app/manifests/latest"]);

    let cached = bench.registry.pull(&fake.app(), &amd64(), PreferCached, &|_, _| {}).await.unwrap();
    assert_eq!(fake.take_requests(), [""; 0]);
    insta::assert_snapshot!(text(cached.from_cache.unwrap(), &[(&fake.host, "HOST")]), @"HOST/app:latest: not checked for updates, using the copy in the store");

    let pinned = format!("{}@{}", fake.app(), image.digest);
    let pinned = bench.registry.resolve(&pinned, &amd64(), Always).await.unwrap();
    assert_eq!((pinned.digest, pinned.from_cache), (image.digest, None));
    assert_eq!(fake.take_requests(), [""; 0], "a digest needs nobody's word");
}

#[tokio::test]
async fn a_tag_that_moved_is_pulled_again() {
    let fake = Fake::good(Content::app(b"one")).await;
    let bench = Bench::new();
    let one = bench.registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap();
    bench.registry.pull(&fake.app(), &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    assert_eq!(bench.store.image(&fake.app()).unwrap().digest(), Some(one.digest), "a pull gives a name");
    *fake.content.lock().unwrap() = Content::app(b"two");
    bench.registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap();
    // The name in the store still means the first, and is no reason to use it.
    let two = bench.registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap();
    assert_ne!(one.digest, two.digest);
    assert_eq!(two.layers[0].digest, BlobDigest::of(b"two"));
}

#[tokio::test]
async fn an_index_gives_the_platforms_image() {
    let fake = Fake::good(Content::several(&["amd64", "arm64"])).await;
    let bench = Bench::new();
    let arm64 = Platform { architecture: "arm64".to_owned(), ..amd64() };
    let image = bench.registry.resolve(&fake.app(), &arm64, CheckTag).await.unwrap();
    assert_eq!(image.platform, arm64);
    assert_ne!(image.digest, image.top);
    assert_eq!(image.layers[0].digest, BlobDigest::of(b"arm64"));
    let riscv = Platform { architecture: "riscv64".to_owned(), ..amd64() };
    let error = bench.registry.resolve(&fake.app(), &riscv, CheckTag).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&fake.host, "HOST")]), @r"
    cannot pull HOST/app:latest: HOST: there is no image for linux/riscv64; it has linux/amd64, linux/arm64
      help: pass `--platform linux/amd64`, or take another image
    ");
}

#[tokio::test]
async fn without_an_answer_the_copy_is_used_and_said() {
    let bench = Bench::new();
    let (host, image) = {
        let fake = Fake::good(Content::app(b"layer")).await;
        let image = bench.registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap();
        (fake.host.clone(), image)
    };
    let app = format!("{host}/app");
    let cached = bench.registry.resolve(&app, &amd64(), CheckTag).await.unwrap();
    assert_eq!(cached.digest, image.digest);
    insta::assert_snapshot!(text(cached.from_cache.unwrap(), &[(&host, "HOST")]), @"HOST/app:latest: HOST cannot be reached; using the copy in the store");
    let error = bench.registry.resolve(&app, &amd64(), Always).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&host, "HOST")]), @r"
    cannot pull HOST/app:latest: HOST: it cannot be reached: Connection refused (os error 111)
      help: a copy is in the store: leave out --pull to use it
    ");
    let error = bench.registry.resolve(&format!("{host}/other"), &amd64(), CheckTag).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&host, "HOST")]), @r#"
    cannot pull HOST/other:latest: HOST: it cannot be reached: Connection refused (os error 111)
      help: check that `HOST` runs and listens on this port; if it speaks plain http, set `[registry."HOST"] http = true` in the configuration
    "#);
}

#[tokio::test]
async fn a_registry_that_fails_counts_as_no_answer_but_a_clear_no_does_not() {
    let fake =
        Fake::new(Content::app(b"layer"), |seen, _| (seen.method == "HEAD").then(|| Reply::new(503, "")))
            .await;
    let bench = Bench::new();
    bench.registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap();
    let cached = bench.registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap();
    insta::assert_snapshot!(text(cached.from_cache.unwrap(), &[(&fake.host, "HOST")]), @"HOST/app:latest: HOST: it failed with status 503; using the copy in the store");
    let gone = Fake::good(Content::app(b"layer")).await;
    bench.registry.resolve(&gone.app(), &amd64(), CheckTag).await.unwrap();
    *gone.content.lock().unwrap() = Content::default();
    let error = bench.registry.resolve(&gone.app(), &amd64(), CheckTag).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&gone.host, "HOST")]), @r"
    cannot pull HOST/app:latest: HOST: it does not have `latest`
      help: check the spelling of the name and the tag
    ");
}

/// Puts an image into the store and tags it, as a build does.
fn keep(bench: &Bench, name: &str, content: &Content) -> BlobDigest {
    let manifest = content.manifest("latest");
    for bytes in content.blobs.values().chain([&manifest]) {
        bench.store.put_blob(bytes).unwrap();
    }
    let digest = BlobDigest::of(&manifest);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let descriptor = serde_json::json!({"mediaType": media_type, "digest": digest, "size": manifest.len()});
    bench.store.tag(name, &serde_json::from_value::<Descriptor>(descriptor).unwrap()).unwrap();
    digest
}

#[tokio::test]
async fn an_image_that_was_built_here_needs_no_registry() {
    let bench = Bench::new();
    let host = nobody().await;
    let app = format!("{host}/app");
    let digest = keep(&bench, &format!("{app}:latest"), &Content::app(b"built"));
    let built = bench.registry.resolve(&app, &amd64(), CheckTag).await.unwrap();
    assert_eq!((built.digest, built.from_cache), (digest, None));
    let built = bench.registry.resolve(&app, &amd64(), Always).await.unwrap();
    insta::assert_snapshot!(text(built.from_cache.unwrap(), &[(&host, "HOST")]), @"HOST/app:latest: HOST cannot be reached; using the image that was built here");
}

#[tokio::test]
async fn a_build_under_the_name_of_a_pulled_image_hides_it() {
    let fake = Fake::good(Content::app(b"pulled")).await;
    let bench = Bench::new();
    bench.registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap();
    let built = keep(&bench, &format!("{}:latest", fake.app()), &Content::app(b"built"));
    fake.take_requests();
    for policy in [CheckTag, PreferCached] {
        let image = bench.registry.resolve(&fake.app(), &amd64(), policy).await.unwrap();
        assert_eq!((image.digest, image.from_cache), (built, None));
    }
    assert_eq!(fake.take_requests(), [""; 0]);
    let image = bench.registry.resolve(&fake.app(), &amd64(), Always).await.unwrap();
    assert_eq!(image.layers[0].digest, BlobDigest::of(b"pulled"), "--pull asks the registry");
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_registry_after_them() {
    let upstream = Fake::good(Content::app(b"layer")).await;
    let (mirror, empty) = (Fake::good(Content::app(b"layer")).await, Fake::good(Content::default()).await);
    let bench = Bench::with_mirrors(&upstream.host, &[&empty.host, &mirror.host]);
    bench.registry.pull(&upstream.app(), &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    assert_eq!(upstream.take_requests(), [""; 0]);
    assert_eq!(mirror.take_requests()[0], format!("GET /v2/app/manifests/latest?ns={}", upstream.host));

    let bench = Bench::with_mirrors(&upstream.host, &[&empty.host, &nobody().await]);
    bench.registry.pull(&upstream.app(), &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    assert_eq!(upstream.take_requests().len(), 3);

    let bench = Bench::with_mirrors(&empty.host, &[&mirror.host]);
    let error =
        bench.registry.resolve(&format!("{}/app:2", empty.host), &amd64(), CheckTag).await.unwrap_err();
    insta::assert_snapshot!(words(error, &[(&empty.host, "HOST"), (&mirror.host, "MIRROR")]), @r"
    cannot pull HOST/app:2
      MIRROR: it does not have `2`
      HOST: it does not have `2`
      help: check the spelling of the name and the tag
    ");
}

#[tokio::test]
async fn a_lying_mirror_costs_nothing_but_time() {
    let upstream = Fake::good(Content::app(b"layer")).await;
    let digest = BlobDigest::of(b"layer").to_string();
    let liar = Fake::new(Content::app(b"layer"), move |seen, _| {
        seen.path.contains(&digest).then(|| Reply::new(200, "other"))
    })
    .await;
    let bench = Bench::with_mirrors(&upstream.host, &[&liar.host]);
    bench.registry.pull(&upstream.app(), &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    assert_eq!(upstream.take_requests().len(), 1, "only the layer");
}

#[tokio::test]
async fn one_blob_is_fetched_once_for_all_that_want_it() {
    let fake = Fake::good(Content::app(b"layer")).await;
    let bench = Bench::new();
    let digest = BlobDigest::of(b"layer");
    let progress = AtomicUsize::new(0);
    let report = |bytes: u64| {
        progress.fetch_max(bytes as usize, Ordering::Relaxed);
    };
    let fetch = || bench.registry.fetch("ignored", &digest, 5, "x/y", None, &report);
    assert!(fetch().await.is_err(), "`ignored` is docker.io/library/ignored, and nobody is there");
    let app = fake.app();
    let fetch = || bench.registry.fetch(&app, &digest, 5, "x/y", None, &report);
    let (a, b, c) = tokio::join!(fetch(), fetch(), fetch());
    a.and(b).and(c).unwrap();
    assert_eq!(fake.requests().len(), 1);
    assert_eq!(progress.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn https_is_spoken_unless_the_host_is_this_machine_or_said_not_to_be() {
    let fake = Fake::good(Content::app(b"layer")).await;
    let secure = HostConfig { http: Some(false), ..HostConfig::default() };
    let bench = Bench::with(Config { registry: [(fake.host.clone(), secure)].into() }, Credentials::none());
    let error = bench.registry.resolve(&fake.app(), &amd64(), CheckTag).await.unwrap_err();
    let hint = error.hint().unwrap();
    assert!(hint.contains("http = true"), "{error} {hint}");
    assert_eq!(fake.requests(), [""; 0], "nothing was said in the clear");
}
