//! Against Debian's docker-registry, with `oci-client` as a second opinion.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use dbuild_digest::BlobDigest;
use dbuild_oci::Descriptor;
use dbuild_oci::media_type::OCI_MANIFEST;

use super::fake::Content;
use super::{Bench, amd64};
use crate::PullPolicy::CheckTag;

/// A docker-registry on a free port, with its storage in a temporary directory.
struct RealRegistry {
    child: Child,
    host: String,
    _dir: tempfile::TempDir,
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl RealRegistry {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let storage = dir.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n",
            storage.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this test needs Debian's docker-registry: run scripts/test.sh, or `apt-get install docker-registry`");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let (_, address) = line.split_once("listening on ")?;
                Some(address.chars().take_while(|c| !"\",  ".contains(*c)).collect::<String>())
            })
            .expect("docker-registry says where it listens");
        // It must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, host, _dir: dir }
    }
}

#[tokio::test]
async fn what_is_pushed_comes_back() {
    let real = RealRegistry::start();
    let layer: Vec<u8> = (0..5_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let content = Content::app(&layer);
    let manifest = content.manifest("latest");
    let from = Bench::new();
    for bytes in content.blobs.values().chain([&manifest]) {
        from.store.put_blob(bytes).unwrap();
    }
    let image = Descriptor::new(OCI_MANIFEST, BlobDigest::of(&manifest), manifest.len() as u64);
    let name = format!("{}/team/app:1.0", real.host);
    let pushed = from.registry.push(&image, &name, &[], &|_, _| {}).await.unwrap();
    assert_eq!((pushed.sent_blobs, pushed.present_blobs), (2, 0));

    // Another name of the same image on the same registry: its blobs are mounted.
    let other = format!("{}/team/other:1.0", real.host);
    let mounted = from.registry.push(&image, &other, std::slice::from_ref(&name), &|_, _| {}).await.unwrap();
    assert_eq!(mounted.sent_bytes, 0);

    let to = Bench::new();
    let pulled = to.registry.pull(&other, &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    assert_eq!(pulled.digest, image.digest);
    assert_eq!(to.store.read_blob(&BlobDigest::of(&layer), u64::MAX).unwrap(), layer);
    let again = to.registry.resolve(&other, &amd64(), CheckTag).await.unwrap();
    assert_eq!((again.digest, again.from_cache), (image.digest, None));
    let error =
        to.registry.resolve(&format!("{}/team/none:1", real.host), &amd64(), CheckTag).await.unwrap_err();
    assert!(error.to_string().contains("it does not have `1`"), "{error}");
}

#[tokio::test]
async fn what_dbuild_pushes_oci_client_pulls_and_the_other_way_round() {
    use oci_client::client::{Client, ClientConfig, ClientProtocol, Config, ImageLayer};
    use oci_client::secrets::RegistryAuth::Anonymous;

    let real = RealRegistry::start();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    let client = Client::try_from(config).unwrap();
    let named = |tag: &str| {
        let tag = tag.to_owned();
        oci_client::Reference::with_tag(real.host.clone(), "team/app".to_owned(), tag)
    };
    let bench = Bench::new();
    let image = super::push::image(&bench, b"our layer");
    let ours = format!("{}/team/app:ours", real.host);
    bench.registry.push(&image, &ours, &[], &|_, _| {}).await.unwrap();
    let media_types = vec!["application/vnd.oci.image.layer.v1.tar"];
    let pulled = client.pull(&named("ours"), &Anonymous, media_types).await.unwrap();
    assert_eq!(pulled.digest, Some(image.digest.to_string()));
    assert_eq!(pulled.layers.iter().map(|layer| &layer.data[..]).collect::<Vec<_>>(), [b"our layer"]);

    let diff_id = BlobDigest::of(b"their layer");
    let text = format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let layers = [ImageLayer::oci_v1(&b"their layer"[..], None)];
    let config = Config::oci_v1(text.into_bytes(), None);
    client.push(&named("theirs"), &layers, config, &Anonymous, None).await.unwrap();
    let theirs = format!("{}/team/app:theirs", real.host);
    let pulled = bench.registry.pull(&theirs, &amd64(), CheckTag, &|_, _| {}).await.unwrap();
    assert_eq!(pulled.diff_ids, [diff_id]);
    assert_eq!(bench.store.read_blob(&diff_id, u64::MAX).unwrap(), b"their layer");

    let mut tags = client.list_tags(&named("ours"), &Anonymous, None, None).await.unwrap().tags;
    tags.sort();
    assert_eq!(tags, ["ours", "theirs"]);
    let by_digest = oci_client::Reference::with_digest(
        real.host.clone(),
        "team/app".to_owned(),
        image.digest.to_string(),
    );
    client.store_auth_if_needed(&real.host, &Anonymous).await;
    assert!(client.pull_referrers(&by_digest, None).await.unwrap().manifests.is_empty());
}
