//! Images made here, judged by skopeo and umoci, and read back.

mod early_archive;
mod foreign;
mod load;
mod outputs;
mod parts;

use std::path::Path;
use std::process::Command;

use dbuild_layer::{
    Compression, LayerFiles, NoGzipBlocks, OverlayFlavor, PackOptions, Stack, StackLayer, UnpackLimits, pack,
    unpack,
};
use dbuild_oci::{HistoryEntry, ImageConfig, MediaTypes, Platform, Reference};
use dbuild_store::{PackedLayer, Store};

use crate::{Image, ImageParts, assemble};

/// A store with something to export.
struct Bench {
    dir: tempfile::TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), OverlayFlavor::Trusted).unwrap();
        Self { dir, store }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// Text without the directory of this test.
    fn words(&self, text: impl ToString) -> String {
        text.to_string().replace(&self.dir.path().display().to_string(), "DIR")
    }

    /// A layer of files, unpacked and packed again as a build does it.
    fn layer(&self, name: &str, files: &[(&str, &str)]) -> (StackLayer, PackedLayer) {
        let dir = self.path(name);
        std::fs::create_dir(&dir).unwrap();
        let tar = tar_of(files);
        let unpacked =
            unpack(tar.as_slice(), &dir, OverlayFlavor::Trusted, &UnpackLimits::default()).unwrap();
        let made = unpacked.complete(&Stack::new(Vec::new())).unwrap();
        let mut writer = self.store.blob_writer().unwrap();
        let packed = pack(
            &made.tree,
            &LayerFiles::Snapshot(dir.clone()),
            &PackOptions::default(),
            &NoGzipBlocks,
            &mut writer,
        )
        .unwrap();
        writer.commit(Some(&(packed.digest, packed.size))).unwrap();
        let layer = PackedLayer {
            diff_id: packed.diff_id,
            digest: packed.digest,
            size: packed.size,
            media_type: Compression::Gzip.media_type().to_owned(),
            annotations: Default::default(),
        };
        (StackLayer { tree: made.tree.into(), files: LayerFiles::Snapshot(dir) }, layer)
    }

    /// An image of two layers, the lower one with Docker's media type, as a pulled base has it.
    fn image(&self, platform: &str) -> Image {
        let suffix = platform.replace('/', "-");
        let (_, mut base) =
            self.layer(&format!("base-{suffix}"), &[("bin/tool", "tool"), ("etc/who", platform)]);
        base.media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned();
        let (_, top) = self.layer(&format!("top-{suffix}"), &[("app/main", "main")]);
        assemble(&self.store, &parts_of(platform, vec![base, top])).unwrap()
    }
}

fn parts_of(platform: &str, layers: Vec<PackedLayer>) -> ImageParts {
    let entry = |text: &str, empty_layer| HistoryEntry {
        created_by: Some(text.to_owned()),
        empty_layer,
        ..HistoryEntry::default()
    };
    let mut history: Vec<HistoryEntry> = layers.iter().map(|_| entry("COPY . /", false)).collect();
    history.push(entry("CMD [\"/app/main\"]", true));
    let config = ImageConfig {
        env: vec!["PATH=/bin".to_owned()],
        cmd: Some(vec!["/app/main".to_owned()]),
        ..ImageConfig::default()
    };
    ImageParts {
        platform: platform.parse::<Platform>().unwrap(),
        base_config: None,
        config,
        history,
        layers,
        created: Some("2023-11-14T22:13:20Z".to_owned()),
        annotations: Default::default(),
        media_types: MediaTypes::Oci,
    }
}

fn names(names: &[&str]) -> Vec<Reference> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn tar_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_600_000_000);
        tar.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}

/// Runs a program that judges images; gives its output.
fn judge(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("TMPDIR", std::env::temp_dir())
        .output()
        .unwrap_or_else(|error| {
            panic!("this test needs {program} ({error}): run scripts/test.sh, or `apt-get install {program}`")
        });
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
