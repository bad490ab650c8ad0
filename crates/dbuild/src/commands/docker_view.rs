//! An image as `docker inspect` has it.

use dbuild_exporter::Inspected;
use dbuild_oci::Reference;
use serde_json::{Value, json};

use super::image_names::{familiar, name_and_tag};

/// An image as `docker inspect` has it, for templates: the fields that do not need a daemon.
pub(crate) fn docker_view(name: &str, inspected: &Inspected) -> Value {
    let first = inspected.images.first();
    let config = first.map(|image| image.config.clone()).unwrap_or_default();
    let reference = name.parse::<Reference>().ok();
    let digests = reference.map(|reference| {
        let familiar = reference.familiar();
        format!("{}@{}", name_and_tag(&familiar).0, inspected.digest)
    });
    json!({
        "Id": first.map(|image| image.id.clone()),
        "RepoTags": [familiar(name)],
        "RepoDigests": digests.into_iter().collect::<Vec<_>>(),
        "Created": config["created"],
        "Author": config["author"].as_str().unwrap_or_default(),
        "Architecture": config["architecture"],
        "Variant": config["variant"].as_str().unwrap_or_default(),
        "Os": config["os"],
        "Size": first.map_or(0, |image| image.layers_size),
        "Config": config["config"],
        "RootFS": {"Type": "layers", "Layers": config["rootfs"]["diff_ids"]},
    })
}
