//! An image as other tools see it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::outcome::bare_command;
use crate::{TestSpace, run};

/// An image that `dbuild save` wrote, `skopeo` read and `umoci` unpacked: a root file system and
/// the image's configuration.
#[derive(Debug)]
pub struct Unpacked {
    /// The root file system.
    pub rootfs: PathBuf,
    /// The image's configuration, as the registry would serve it.
    pub config: serde_json::Value,
    /// The manifest.
    pub manifest: serde_json::Value,
    /// The sum of the layers as they are stored, in bytes.
    pub size: u64,
}

impl Unpacked {
    /// Unpacks an image of a space's store; only one at a time under one name.
    ///
    /// # Panics
    /// When one of the tools does not accept the image.
    #[track_caller]
    pub fn new(space: &TestSpace, image: &str) -> Self {
        let name = file_name(image);
        let layout = space.path(format!("{name}.oci"));
        let bundle = space.path(format!("{name}.bundle"));
        let from = save(space, image);
        let to = format!("oci:{}:image", layout.display());
        run(bare_command("skopeo").args(["--insecure-policy", "copy", "-q", &from, &to])).expect_ok();
        Self::from_layout(&layout, "image", &bundle)
    }

    /// Unpacks an image of an OCI layout.
    ///
    /// # Panics
    /// When one of the tools does not accept the image.
    #[track_caller]
    pub fn from_layout(layout: &Path, name: &str, bundle: &Path) -> Self {
        let reference = format!("oci:{}:{name}", layout.display());
        let config = run(bare_command("skopeo").args(["inspect", "--config", &reference])).expect_ok().json();
        let manifest = run(bare_command("skopeo").args(["inspect", "--raw", &reference])).expect_ok().json();
        let image = format!("{}:{name}", layout.display());
        let mut unpack = bare_command("umoci");
        unpack.args(["unpack", "--image", &image]);
        if !rustix::process::geteuid().is_root() {
            unpack.arg("--rootless");
        }
        run(unpack.arg(bundle)).expect_ok();
        let size = stored_size(&manifest);
        Self { rootfs: bundle.join("rootfs"), config, manifest, size }
    }

    /// The sum of an image's layers as they are stored, in bytes, without unpacking it.
    ///
    /// # Panics
    /// When `skopeo` does not accept the image.
    #[track_caller]
    pub fn size_of(space: &TestSpace, image: &str) -> u64 {
        let reference = save(space, image);
        stored_size(&run(bare_command("skopeo").args(["inspect", "--raw", &reference])).expect_ok().json())
    }

    /// All paths of the root file system, with a leading slash, sorted.
    pub fn paths(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut rest = vec![self.rootfs.clone()];
        while let Some(dir) = rest.pop() {
            for entry in std::fs::read_dir(&dir).expect("an unpacked directory can be read") {
                let entry = entry.expect("an unpacked directory can be read");
                let path = entry.path();
                let inside = path.strip_prefix(&self.rootfs).expect("it lies in the root file system");
                found.insert(format!("/{}", inside.display()));
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    rest.push(path);
                }
            }
        }
        found
    }

    /// The text of a file in it.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        let path = self.rootfs.join(path.trim_start_matches('/'));
        match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => panic!("cannot read {}: {error}", path.display()),
        }
    }
}

/// Writes an image as an OCI archive, and is skopeo's name of that.
#[track_caller]
fn save(space: &TestSpace, image: &str) -> String {
    let archive = space.path(format!("{}.oci.tar", file_name(image)));
    space.dbuild(["save", "--format", "oci", image, "-o"]).args([&archive]).run().expect_ok();
    format!("oci-archive:{}", archive.display())
}

fn file_name(image: &str) -> String {
    image.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

fn stored_size(manifest: &serde_json::Value) -> u64 {
    let layers = manifest["layers"].as_array();
    layers.map_or(0, |layers| layers.iter().filter_map(|layer| layer["size"].as_u64()).sum())
}
