//! `--iidfile` and `--metadata-file`.

use std::path::Path;

use dbuild_digest::BlobDigest;
use dbuild_oci::Reference;
use serde_json::{Map, Value, json};

use crate::user_file::write_result;
use crate::{ExportError, Image, Waiting};

/// What `--iidfile` holds: the digest of the config, or that of the index of several platforms.
pub fn image_id(image: &Image) -> BlobDigest {
    image.config.unwrap_or(image.digest)
}

/// What `--metadata-file` holds, under the keys that buildx uses. `build` is dbuild's own id of the
/// build; `None` for `image` where only files were written.
pub fn metadata(image: Option<&Image>, names: &[Reference], build: Option<&str>) -> Value {
    let mut members = Map::new();
    if let Some(build) = build {
        members.insert("buildx.build.ref".to_owned(), build.into());
    }
    if let Some(image) = image {
        if let Some(config) = image.config {
            members.insert("containerimage.config.digest".to_owned(), config.to_string().into());
        }
        let mut descriptor = json!({
            "mediaType": image.media_type,
            "digest": image.digest.to_string(),
            "size": image.size,
        });
        if let Some(platform) = &image.platform {
            descriptor["platform"] = json!(platform);
        }
        members.insert("containerimage.descriptor".to_owned(), descriptor);
        members.insert("containerimage.digest".to_owned(), image.digest.to_string().into());
        if !names.is_empty() {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            members.insert("image.name".to_owned(), names.join(",").into());
        }
    }
    Value::Object(members)
}

/// Writes the image's id, without a newline, as buildx does.
pub fn write_iidfile(path: &Path, image: &Image, waiting: &Waiting) -> Result<(), ExportError> {
    write_result(path, image_id(image).to_string().as_bytes(), waiting)
}

/// Writes what [`metadata`] gives.
pub fn write_metadata_file(path: &Path, metadata: &Value, waiting: &Waiting) -> Result<(), ExportError> {
    write_result(path, format!("{metadata:#}\n").as_bytes(), waiting)
}
