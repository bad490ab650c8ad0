//! Media types: OCI's, Docker's, and from the one to the other.

const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Which family of media types an image is written with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaTypes {
    /// The Open Container Initiative's.
    #[default]
    Oci,
    /// Docker's image manifest version 2, schema 2.
    Docker,
}

impl MediaTypes {
    pub(crate) fn manifest(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.manifest.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.v2+json",
        }
    }

    pub(crate) fn index(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.index.v1+json",
            Self::Docker => "application/vnd.docker.distribution.manifest.list.v2+json",
        }
    }

    pub(crate) fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }
}

/// The name that the family has for a layer's media type. The bytes are the same; a type of neither family is kept.
pub(crate) fn layer(media_type: &str, family: MediaTypes) -> String {
    let compression = match media_type {
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some("gzip"),
        other => other
            .strip_prefix(OCI_LAYER)
            .or_else(|| other.strip_prefix("application/vnd.oci.image.layer.nondistributable.v1.tar"))
            .or_else(|| other.strip_prefix(DOCKER_LAYER))
            .map(|suffix| suffix.trim_start_matches(['+', '.'])),
    };
    match (compression, family) {
        (Some(""), MediaTypes::Oci) => OCI_LAYER.to_owned(),
        (Some(""), MediaTypes::Docker) => DOCKER_LAYER.to_owned(),
        (Some(compression), MediaTypes::Oci) => format!("{OCI_LAYER}+{compression}"),
        (Some(compression), MediaTypes::Docker) => format!("{DOCKER_LAYER}.{compression}"),
        (None, _) => media_type.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{MediaTypes, layer};

    #[test]
    fn layers_change_families() {
        for (docker, oci) in [
            (
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "application/vnd.oci.image.layer.v1.tar+gzip",
            ),
            ("application/vnd.docker.image.rootfs.diff.tar", "application/vnd.oci.image.layer.v1.tar"),
            (
                "application/vnd.docker.image.rootfs.diff.tar.zstd",
                "application/vnd.oci.image.layer.v1.tar+zstd",
            ),
        ] {
            assert_eq!(layer(docker, MediaTypes::Oci), oci);
            assert_eq!(layer(oci, MediaTypes::Docker), docker);
            assert_eq!(layer(oci, MediaTypes::Oci), oci);
        }
        assert_eq!(layer("x/y", MediaTypes::Oci), "x/y");
    }
}
