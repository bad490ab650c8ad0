//! What is asked for where a manifest lies, and which image of an index is taken.

use dbuild_oci::media_type::layer_compression;
use dbuild_oci::{Descriptor, ManifestError, Platform};
use dbuild_support::escape::one_line;

use crate::error::Problem;

/// What a registry is asked for, best first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// The longest list of platforms in an error.
const SHOWN_PLATFORMS: usize = 40;

/// Refuses a layer whose media type nobody here knows: what it means for the files is not known
/// either. Layers that are not to be distributed are layers like any other.
pub(crate) fn known_layer(layer: &Descriptor) -> Result<(), Problem> {
    if layer_compression(&layer.media_type).is_some() {
        return Ok(());
    }
    let media_type = one_line(&layer.media_type);
    Err(Problem::Unsupported(format!(
        "its layer {} is of the unknown media type `{media_type}`",
        layer.digest
    )))
}

/// The image of an index for a platform: the best that runs there, the first of equals.
pub(crate) fn select<'a>(index: &'a [Descriptor], wanted: &Platform) -> Result<&'a Descriptor, Problem> {
    let best = wanted.best_of(index.iter().map(|descriptor| descriptor.platform.as_ref()));
    match (best.and_then(|at| index.get(at)), index) {
        (Some(descriptor), _) => Ok(descriptor),
        // An index of one image does not always say what it is for; its config does.
        (None, [descriptor]) if descriptor.platform.is_none() => Ok(descriptor),
        _ => {
            let named = |descriptor: &Descriptor| descriptor.platform.as_ref().map(ToString::to_string);
            // Attestations stand in indexes as images for `unknown/unknown`.
            let mut available: Vec<String> = index
                .iter()
                .filter_map(named)
                .filter(|name| !name.starts_with("unknown"))
                .map(|name| one_line(&name))
                .collect();
            available.dedup();
            available.truncate(SHOWN_PLATFORMS);
            Err(Problem::NoPlatform { wanted: wanted.to_string(), available })
        }
    }
}

impl From<ManifestError> for Problem {
    fn from(error: ManifestError) -> Self {
        match error {
            ManifestError::Malformed(text) => Self::Malformed(text),
            ManifestError::Unsupported(text) => Self::Unsupported(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::select;
    use dbuild_digest::BlobDigest;
    use dbuild_oci::{Descriptor, Platform};

    fn selected(platforms: &[&str], wanted: &str) -> String {
        let image = |text: &&str| Descriptor {
            platform: text.split_once('/').map(|(os, architecture)| {
                let (architecture, variant) = architecture.split_once('/').unwrap_or((architecture, ""));
                let variant = Some(variant.to_owned()).filter(|variant| !variant.is_empty());
                Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant }
            }),
            ..Descriptor::new(*text, BlobDigest::of(text.as_bytes()), 1)
        };
        let index: Vec<Descriptor> = platforms.iter().map(image).collect();
        match select(&index, &wanted.parse().unwrap()) {
            Ok(descriptor) => descriptor.media_type.clone(),
            Err(problem) => problem.to_string(),
        }
    }

    #[test]
    fn an_image_of_an_index_is_selected() {
        let debian = ["linux/amd64", "linux/arm/v5", "linux/arm/v7", "linux/arm64/v8", "unknown/unknown"];
        assert_eq!(selected(&debian, "linux/arm64"), "linux/arm64/v8");
        assert_eq!(selected(&debian, "linux/arm/v6"), "linux/arm/v5");
        assert_eq!(selected(&[""], "linux/amd64"), "", "an index of one that says nothing");
        insta::assert_snapshot!(selected(&debian, "linux/s390x"), @"there is no image for linux/s390x; it has linux/amd64, linux/arm/v5, linux/arm/v7, linux/arm64/v8");
        insta::assert_snapshot!(selected(&[], "linux/s390x"), @"there is no image for linux/s390x; it has none at all");
    }
}
