//! Annotations under which images have their names.

/// The tag of an image in a layout.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What containerd, Docker and BuildKit call an image in a layout, in full.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";
