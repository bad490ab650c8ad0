//! The build arguments that speak to BuildKit and not to the Dockerfile: `BUILDKIT_…`.

use crate::request::BuildArgs;

/// The build arguments of this kind that Docker, buildx or BuildKit know. Some of them are for the
/// caller of the frontend, which brings contexts and exports caches. A name that is not here is
/// taken for a misspelled one.
pub const BUILDKIT_ARGS: [&str; 13] = [
    "BUILDKIT_ATTEST_PROVENANCE",
    "BUILDKIT_ATTEST_SBOM",
    "BUILDKIT_CACHE_MOUNT_NS",
    "BUILDKIT_CONTEXT_KEEP_GIT_DIR",
    "BUILDKIT_DISABLE_FILEOP",
    "BUILDKIT_DOCKERFILE_CHECK",
    "BUILDKIT_INLINE_BUILDINFO_ATTRS",
    "BUILDKIT_INLINE_CACHE",
    "BUILDKIT_MULTI_PLATFORM",
    "BUILDKIT_SANDBOX_HOSTNAME",
    "BUILDKIT_SBOM_SCAN_CONTEXT",
    "BUILDKIT_SBOM_SCAN_STAGE",
    "BUILDKIT_SYNTAX",
];

impl BuildArgs {
    /// The host name that RUN sees: `BUILDKIT_SANDBOX_HOSTNAME`.
    pub(crate) fn sandbox_hostname(&self) -> Option<&str> {
        self.buildkit_arg("BUILDKIT_SANDBOX_HOSTNAME")
    }

    /// What stands before the ids of cache mounts: `BUILDKIT_CACHE_MOUNT_NS`.
    pub(crate) fn cache_mount_namespace(&self) -> Option<&str> {
        self.buildkit_arg("BUILDKIT_CACHE_MOUNT_NS")
    }

    /// The frontend that is asked for: `BUILDKIT_SYNTAX`. `dockerfile.v0` is BuildKit's word for
    /// the built-in one.
    pub(crate) fn frontend(&self) -> Option<&str> {
        self.buildkit_arg("BUILDKIT_SYNTAX").map(str::trim)
    }

    fn buildkit_arg(&self, name: &str) -> Option<&str> {
        self.args.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Arguments that steer BuildKit's scanner for bills of materials, and are never in the
/// environment.
pub(crate) fn is_sbom_arg(name: &str) -> bool {
    matches!(name, "BUILDKIT_SBOM_SCAN_CONTEXT" | "BUILDKIT_SBOM_SCAN_STAGE")
}
