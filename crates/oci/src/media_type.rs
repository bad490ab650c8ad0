//! Media types: OCI's, Docker's, and from the one to the other.

/// A manifest of one image, in OCI's words.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index of several images, in OCI's words.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// A config, in OCI's words.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer that is not compressed, in OCI's words; `+gzip` or `+zstd` follows where it is.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A manifest of one image, in Docker's words.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// An index of several images, in Docker's words.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// A config, in Docker's words.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// A layer that is not compressed, in Docker's words; `.gzip` or `.zstd` follows where it is.
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

const OCI_FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";

/// How the bytes of a layer are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerCompression {
    /// A plain tar.
    None,
    /// gzip, eStargz included.
    Gzip,
    /// zstd.
    Zstd,
}

/// The family of media types that an image is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaTypes {
    /// The Open Container Initiative's.
    #[default]
    Oci,
    /// Docker's image manifest version 2, schema 2.
    Docker,
}

impl MediaTypes {
    /// The media type of a manifest.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    /// The media type of an index.
    pub fn index(self) -> &'static str {
        match self {
            Self::Oci => OCI_INDEX,
            Self::Docker => DOCKER_INDEX,
        }
    }

    /// The media type of a config.
    pub fn config(self) -> &'static str {
        match self {
            Self::Oci => OCI_CONFIG,
            Self::Docker => DOCKER_CONFIG,
        }
    }

    /// The family's name for a layer's media type. The bytes are the same; a type that is no layer
    /// of either family is kept.
    pub fn layer(self, media_type: &str) -> String {
        let compression = layer_suffix(media_type).map(|suffix| suffix.trim_start_matches(['+', '.']));
        match (compression, self) {
            (Some(""), Self::Oci) => OCI_LAYER.to_owned(),
            (Some(""), Self::Docker) => DOCKER_LAYER.to_owned(),
            (Some(compression), Self::Oci) => format!("{OCI_LAYER}+{compression}"),
            (Some(compression), Self::Docker) => format!("{DOCKER_LAYER}.{compression}"),
            (None, _) => media_type.to_owned(),
        }
    }
}

/// The compression that a layer's media type states. `None`: it is no media type of a layer that
/// dbuild knows.
pub fn layer_compression(media_type: &str) -> Option<LayerCompression> {
    match layer_suffix(media_type)? {
        "" => Some(LayerCompression::None),
        "+gzip" | ".gzip" => Some(LayerCompression::Gzip),
        "+zstd" | ".zstd" => Some(LayerCompression::Zstd),
        _ => None,
    }
}

/// What follows the name of a layer in its media type: `+gzip`, `.gzip` or nothing.
fn layer_suffix(media_type: &str) -> Option<&str> {
    [OCI_LAYER, OCI_FOREIGN_LAYER, DOCKER_LAYER, DOCKER_FOREIGN_LAYER]
        .into_iter()
        .find_map(|layer| media_type.strip_prefix(layer))
}

#[cfg(test)]
mod tests {
    use super::{DOCKER_LAYER, LayerCompression, MediaTypes, OCI_LAYER, layer_compression};

    #[test]
    fn layers_change_families() {
        for suffix in ["gzip", "zstd"] {
            let (docker, oci) = (format!("{DOCKER_LAYER}.{suffix}"), format!("{OCI_LAYER}+{suffix}"));
            assert_eq!(MediaTypes::Oci.layer(&docker), oci);
            assert_eq!(MediaTypes::Docker.layer(&oci), docker);
            assert_eq!(MediaTypes::Oci.layer(&oci), oci);
        }
        assert_eq!(MediaTypes::Oci.layer(DOCKER_LAYER), OCI_LAYER);
        assert_eq!(MediaTypes::Docker.layer(OCI_LAYER), DOCKER_LAYER);
        assert_eq!(MediaTypes::Oci.layer("x/y"), "x/y");
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        assert_eq!(MediaTypes::Oci.layer(foreign), format!("{OCI_LAYER}+gzip"));
    }

    #[test]
    fn a_layers_compression_is_in_its_media_type() {
        use LayerCompression::{Gzip, None as Plain, Zstd};
        for (media_type, compression) in [
            (OCI_LAYER, Some(Plain)),
            ("application/vnd.oci.image.layer.v1.tar+gzip", Some(Gzip)),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Some(Zstd)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Gzip)),
            ("application/vnd.oci.image.layer.v1.tar+lz4", None),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", None),
            ("", None),
        ] {
            assert_eq!(layer_compression(media_type), compression, "{media_type}");
        }
    }
}
