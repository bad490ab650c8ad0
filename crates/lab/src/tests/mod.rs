//! Tests of the laboratory.

mod bad_input;
mod bounds;
mod default_policy;
mod histories;
mod model;

use std::path::{Path, PathBuf};
use std::process::Command;

use dbuild_cache::{policies, strategies};
use dbuild_digest::BlobDigest;
use dbuild_frontend::{BuildArgs, ImageRequest};
use dbuild_oci::ImageConfig;
use dbuild_plan::{BaseImage, LayerDescriptor};
use tempfile::TempDir;

use crate::{Costs, FindBase, LabError, Mode, Options, Replay, Repository, replay};

/// An image for every name but `missing`; how often each was asked for is counted.
#[derive(Default)]
pub(super) struct Bases {
    pub(super) asked: Vec<String>,
}

impl FindBase for Bases {
    fn find(&mut self, request: &ImageRequest) -> Result<BaseImage, String> {
        self.asked.push(request.written.clone());
        if request.written == "missing" {
            return Err("it cannot be had".to_owned());
        }
        let digest = BlobDigest::of(request.reference.as_bytes());
        let layer = LayerDescriptor { digest, size: 0, media_type: String::new(), diff_id: digest };
        Ok(BaseImage {
            reference: request.reference.clone(),
            digest,
            platform: request.platform.clone(),
            config: ImageConfig::default(),
            history: Vec::new(),
            layers: vec![layer],
        })
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/lab")
}

/// One of the histories of `fixtures/lab`.
pub(super) fn history(name: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join(name);
    let made = Command::new(fixtures().join("make.sh")).arg(name).arg(&repository).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (dir, repository)
}

/// A repository that a script makes; `commit SUBJECT` commits everything.
pub(super) fn scripted(script: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let repository = dir.path().join("repository");
    std::fs::create_dir(&repository).unwrap();
    let head = "set -eu\nexport GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_AUTHOR_NAME=lab\n\
                export GIT_AUTHOR_EMAIL=lab@example.com GIT_COMMITTER_NAME=lab GIT_COMMITTER_EMAIL=lab@example.com\n\
                git init -q -b main .\ncommit() { git add -A; git commit -q --allow-empty -m \"$1\"; }\n";
    let made = Command::new("sh").arg("-c").arg(format!("{head}{script}")).current_dir(&repository).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    (dir, repository)
}

pub(super) fn costs(name: &str) -> Costs {
    Costs::read(&fixtures().join(name).join("cost.toml")).unwrap()
}

pub(super) fn options(sizes: &[u64]) -> Options {
    Options {
        from: None,
        to: "HEAD".to_owned(),
        file: None,
        args: BuildArgs::default(),
        strategies: strategies().to_vec(),
        policies: policies().to_vec(),
        sizes: sizes.to_vec(),
    }
}

pub(super) fn simulate(path: &Path, options: &Options, costs: &Costs) -> Result<Replay, LabError> {
    replay(&Repository::open(path)?, options, &mut Bases::default(), Mode::Simulate(costs))
}
