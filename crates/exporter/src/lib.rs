//! Writes the final stage: OCI layout and archive, docker archive, files, tar.
