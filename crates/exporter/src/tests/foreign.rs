//! What skopeo and umoci say of what is written.

use std::collections::BTreeMap;

use dbuild_oci::MediaTypes;
use serde_json::Value;

use super::{Bench, judge, names, read};
use crate::{Destination, Export, OutputSpec, assemble_index};

fn export(
    bench: &Bench,
    spec: &str,
    image: &crate::Image,
    tags: &[&str],
) -> Result<crate::Written, crate::ExportError> {
    let spec: OutputSpec = spec.parse().unwrap();
    let export = Export {
        store: &bench.store,
        spec: &spec,
        image: Some(image),
        names: &names(tags),
        files: &[],
        multi_platform: false,
        clamp_mtime: None,
        owners: false,
        engine: None,
        waiting: crate::Waiting::default(),
    };
    export.write(None)
}

fn skopeo(reference: &str) -> Value {
    serde_json::from_str(&judge("skopeo", &["inspect", reference])).unwrap()
}

#[test]
fn skopeo_and_umoci_take_a_layout() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let layout = bench.path("layout");
    let spec = format!("type=oci,tar=false,dest={}", layout.display());
    export(&bench, &spec, &image, &["app:1", "app:2"]).unwrap();
    let seen = skopeo(&format!("oci:{}:1", layout.display()));
    assert_eq!(seen["Digest"], image.digest.to_string());
    assert_eq!(seen["Layers"].as_array().unwrap().len(), 2);

    let bundle = bench.path("bundle");
    let reference = format!("{}:2", layout.display());
    judge("umoci", &["unpack", "--image", &reference, bundle.to_str().unwrap()]);
    assert_eq!(read(&bundle.join("rootfs/app/main")), "main");
    assert_eq!(read(&bundle.join("rootfs/etc/who")), "linux/amd64");
    let config: Value = serde_json::from_str(&read(&bundle.join("config.json"))).unwrap();
    assert_eq!(config["process"]["args"][0], "/app/main");

    // A layout keeps what else is in it, and has each name once.
    let other = bench.image("linux/arm64");
    export(&bench, &spec, &other, &["app:2", "app:3"]).unwrap();
    let found = [1, 2, 3].map(|tag| skopeo(&format!("oci:{}:{tag}", layout.display()))["Digest"].clone());
    assert_eq!(
        found,
        [image.digest.to_string(), other.digest.to_string(), other.digest.to_string()].map(Value::from)
    );
}

#[test]
fn skopeo_takes_archives_that_do_not_change() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    for (kind, transport) in [("oci", "oci-archive"), ("docker", "docker-archive")] {
        let (one, two) = (bench.path(&format!("{kind}1.tar")), bench.path(&format!("{kind}2.tar")));
        for path in [&one, &two] {
            export(&bench, &format!("type={kind},dest={}", path.display()), &image, &["example.org/app:1"])
                .unwrap();
        }
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        let seen = skopeo(&format!("{transport}:{}", one.display()));
        assert_eq!(seen["Env"][0], "PATH=/bin");
        // A copy reads every layer and compares its diff_id.
        let copy = bench.path(&format!("copy-{kind}"));
        judge(
            "skopeo",
            &[
                "copy",
                "--quiet",
                &format!("{transport}:{}", one.display()),
                &format!("oci:{}:x", copy.display()),
            ],
        );
        judge(
            "umoci",
            &["unpack", "--image", &format!("{}:x", copy.display()), copy.join("bundle").to_str().unwrap()],
        );
        assert_eq!(read(&copy.join("bundle/rootfs/app/main")), "main");
    }
}

#[test]
fn an_index_of_two_platforms_is_selected_from() {
    let bench = Bench::new();
    let images = [bench.image("linux/amd64"), bench.image("linux/arm64")];
    let index = assemble_index(&bench.store, &images, &BTreeMap::new(), MediaTypes::Oci).unwrap();
    let path = bench.path("both.tar");
    export(&bench, &format!("type=oci,dest={}", path.display()), &index, &["app"]).unwrap();
    let arm =
        judge("skopeo", &["--override-arch=arm64", "inspect", &format!("oci-archive:{}", path.display())]);
    let arm: Value = serde_json::from_str(&arm).unwrap();
    assert_eq!(arm["Architecture"], "arm64");
    let error =
        export(&bench, &format!("type=docker,dest={}", path.display()), &index, &["app"]).unwrap_err();
    insta::assert_snapshot!(error, @"`docker load` takes one platform at a time: build with one --platform, or use `type=oci`");
    assert!(path.exists(), "the earlier output is still there");
}

#[test]
fn what_skopeo_writes_is_loaded() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let layout = bench.path("layout");
    export(&bench, &format!("type=oci,tar=false,dest={}", layout.display()), &image, &["app:1"]).unwrap();
    let docker = bench.path("docker.tar");
    let target = format!("docker-archive:{}:example.org/app:2", docker.display());
    judge("skopeo", &["copy", "--quiet", &format!("oci:{}:1", layout.display()), &target]);

    let to = Bench::new();
    let loaded = crate::load(&to.store, &docker, &crate::Waiting::default()).unwrap();
    assert_eq!(loaded[0].names, names(&["example.org/app:2"]));
    let again = bench.path("again.tar");
    let dest = Destination::Path(again.clone());
    crate::save(&to.store, &loaded[0].image, &loaded[0].names, &dest, true, &crate::Waiting::default())
        .unwrap();
    assert_eq!(skopeo(&format!("docker-archive:{}", again.display()))["Env"][0], "PATH=/bin");
}
