//! Steps with everything in them, and inputs that answer.

use std::collections::HashMap;

use dbuild_digest::{BlobDigest, StepKey, TreeDigest};
use dbuild_oci::{ImageConfig, Platform};
use dbuild_plan::{
    BaseImage, CacheSharing, CopySource, CopyStep, HostEntry, ImageStep, InlineFile, LayerDescriptor, Mount,
    MountKind, NetworkMode, RunStep, ScriptFile, SecurityMode, StageId, Step, StepId, StepKind, Unpack,
};

use crate::{Ingredient, Inputs, SelectedPath, SelectedPaths, UnknownInput, key_of, strategies, strategy};

pub(super) const PARENT: StepId = StepId(0);
pub(super) const STAGE: StepId = StepId(1);
pub(super) const CONTEXT: StepId = StepId(2);

/// A change of a step, and what is changed.
pub(super) type Change<T> = (&'static str, fn(&mut T));

#[derive(Clone, Default)]
pub(super) struct Answers {
    pub(super) keys: HashMap<StepId, u8>,
    pub(super) outputs: HashMap<StepId, u8>,
    pub(super) selected: HashMap<usize, Vec<SelectedPath>>,
    pub(super) external: Vec<StepId>,
}

impl Inputs for Answers {
    fn key(&self, input: StepId) -> Option<StepKey> {
        self.keys.get(&input).map(|byte| StepKey::from_bytes([*byte; 32]))
    }

    fn output(&self, input: StepId) -> Option<TreeDigest> {
        self.outputs.get(&input).map(|byte| TreeDigest::from_bytes([*byte; 32]))
    }

    fn selected(&self, source: usize) -> Option<SelectedPaths> {
        Some(Box::new(self.selected.get(&source)?.clone().into_iter()))
    }

    fn is_external(&self, input: StepId) -> bool {
        self.external.contains(&input)
    }
}

/// Everything is known; source 0 is a stage's, the others are the context's.
pub(super) fn answers() -> Answers {
    let file = |path: &str, content: &str| SelectedPath::new(path, "file", 0o644, 0, 0, content);
    Answers {
        keys: HashMap::from([(PARENT, 10), (STAGE, 11), (CONTEXT, 12)]),
        outputs: HashMap::from([(PARENT, 20), (STAGE, 21), (CONTEXT, 22)]),
        selected: HashMap::from([
            (0, vec![file("app", "aaaa")]),
            (1, vec![file("main.py", "bbbb"), file("run.sh", "cccc")]),
            (2, vec![file("seed", "dddd")]),
        ]),
        external: vec![CONTEXT],
    }
}

pub(super) fn run() -> RunStep {
    RunStep {
        parent: PARENT,
        argv: vec!["/bin/sh".into(), "-c".into(), "make all".into()],
        script: Some(ScriptFile { path: "/dev/pipes/EOF".into(), content: "echo".into() }),
        env: vec![("PATH".into(), "/bin".into()), ("VERSION".into(), "1.2".into())],
        args: vec!["VERSION".into()],
        proxies: vec![("HTTP_PROXY".into(), "http://user:password@proxy".into())],
        workdir: "/src".into(),
        user: "app".into(),
        mounts: vec![
            mount("/stage", MountKind::Bind { from: STAGE, source: "/".into(), writable: false }),
            mount("/context", MountKind::Bind { from: CONTEXT, source: "/".into(), writable: false }),
            mount(
                "/cache",
                MountKind::Cache {
                    id: "pip".into(),
                    sharing: CacheSharing::Shared,
                    from: Some(CONTEXT),
                    source: "/seed".into(),
                    readonly: false,
                    mode: 0o755,
                    uid: 0,
                    gid: 0,
                },
            ),
            mount("/tmp", MountKind::Tmpfs { size: None }),
            mount(
                "/run/secrets/token",
                MountKind::Secret {
                    id: "token".into(),
                    env: None,
                    required: true,
                    mode: 0o400,
                    uid: 0,
                    gid: 0,
                },
            ),
            mount(
                "/run/agent",
                MountKind::Ssh { id: "default".into(), required: false, mode: 0o600, uid: 0, gid: 0 },
            ),
        ],
        network: NetworkMode::Default,
        security: SecurityMode::Sandbox,
        extra_hosts: vec![
            HostEntry { host: "b".into(), ip: "10.0.0.2".into() },
            HostEntry { host: "a".into(), ip: "10.0.0.1".into() },
        ],
        hostname: None,
    }
}

pub(super) fn mount(target: &str, kind: MountKind) -> Mount {
    Mount { target: target.into(), kind }
}

pub(super) fn copy() -> CopyStep {
    CopyStep {
        parent: PARENT,
        sources: vec![
            CopySource::Path { from: STAGE, path: "out/app".into(), unpack: Unpack::Never },
            CopySource::Path { from: CONTEXT, path: ".".into(), unpack: Unpack::Never },
            CopySource::Inline(InlineFile { name: "EOF".into(), content: "text".into() }),
        ],
        dest: "/app/".into(),
        chown: Some("1000:1000".into()),
        chmod: None,
        link: false,
        parents: false,
        exclude: vec!["*.md".into()],
    }
}

pub(super) fn image() -> BaseImage {
    let blob = |text: &str| BlobDigest::of(text.as_bytes());
    BaseImage {
        reference: "docker.io/library/debian:12".into(),
        digest: blob("manifest"),
        platform: Platform::host(),
        config: ImageConfig::default(),
        history: Vec::new(),
        layers: vec![LayerDescriptor {
            digest: blob("layer.gz"),
            size: 8,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
            diff_id: blob("layer"),
        }],
    }
}

pub(super) fn of_image(image: BaseImage) -> StepKind {
    StepKind::Image(ImageStep { image })
}

pub(super) fn step(kind: StepKind) -> Step {
    Step { stage: StageId(0), text: "text".into(), kind }
}

pub(super) fn key(
    name: &str,
    step: &Step,
    inputs: &Answers,
) -> Result<(StepKey, Vec<Ingredient>), UnknownInput> {
    key_of(strategy(name).unwrap(), step, inputs)
}

/// Asserts that each change of a step makes another key under every strategy, and that no two
/// changes make the same.
pub(super) fn assert_each_counts<T: Clone>(base: &T, kind: impl Fn(T) -> StepKind, changes: &[Change<T>]) {
    for strategy in strategies() {
        let of = |value: T| key_of(*strategy, &step(kind(value)), &answers()).unwrap().0;
        let mut seen = HashMap::from([(of(base.clone()), "nothing")]);
        for (name, change) in changes {
            let mut changed = base.clone();
            change(&mut changed);
            let before = seen.insert(of(changed), name);
            assert_eq!(before, None, "{}: `{name}` gives the same key", strategy.name());
        }
    }
}

/// Asserts that no change of a step makes another key under any strategy.
pub(super) fn assert_none_counts<T: Clone>(base: &T, kind: impl Fn(T) -> StepKind, changes: &[Change<T>]) {
    for strategy in strategies() {
        let of = |value: T| key_of(*strategy, &step(kind(value)), &answers()).unwrap().0;
        for (name, change) in changes {
            let mut changed = base.clone();
            change(&mut changed);
            assert_eq!(of(changed), of(base.clone()), "{}: `{name}`", strategy.name());
        }
    }
}
