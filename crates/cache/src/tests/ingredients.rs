//! Each field of a step: it counts, or it does not.

use dbuild_digest::BlobDigest;
use dbuild_plan::{
    CacheSharing, ContextStep, CopySource, CopyStep, FetchStep, GitStep, HostEntry, MountKind, NetworkMode,
    RunStep, SecurityMode, StageId, StepKind, Unpack, WorkdirStep,
};

use super::fixture::{
    CONTEXT, PARENT, answers, assert_each_counts, assert_none_counts, copy, image, key, mount, of_image, run,
    step,
};
use crate::{
    IngredientKind, IngredientList as _, base_output, definition, key_of, output_after, scratch_output,
    step_key, strategies, strategy,
};

#[test]
fn all_of_a_run_counts() {
    assert_each_counts(
        &run(),
        StepKind::Run,
        &[
            ("argument", |run| run.argv[2] = "make".into()),
            ("arguments slide", |run| run.argv = vec!["/bin/sh".into(), "-cmake all".into()]),
            ("script's path", |run| run.script.as_mut().unwrap().path.push('x')),
            ("script's content", |run| run.script.as_mut().unwrap().content.push('x')),
            ("no script", |run| run.script = None),
            ("value of ENV", |run| run.env[0].1 = "/usr/bin".into()),
            ("value of ARG", |run| run.env[1].1 = "1.3".into()),
            ("name of a variable", |run| run.env[1].0 = "VERSIO".into()),
            ("one variable more", |run| run.env.push(("A".into(), String::new()))),
            ("order of variables", |run| run.env.reverse()),
            ("workdir", |run| run.workdir = "/".into()),
            ("user", |run| run.user.clear()),
            ("network", |run| run.network = NetworkMode::None),
            ("host network", |run| run.network = NetworkMode::Host),
            ("security", |run| run.security = SecurityMode::Insecure),
            ("host's address", |run| run.extra_hosts[0].ip = "10.0.0.3".into()),
            ("host's name", |run| run.extra_hosts[0].host = "c".into()),
            ("one host more", |run| run.extra_hosts.push(HostEntry { host: "c".into(), ip: "::1".into() })),
            ("hostname", |run| run.hostname = Some("h".into())),
            ("one mount less", |run| drop(run.mounts.pop())),
        ],
    );
}

#[test]
fn all_of_a_mount_counts() {
    fn kind<'a>(run: &'a mut RunStep, target: &str) -> &'a mut MountKind {
        &mut run.mounts.iter_mut().find(|mount| mount.target == target).unwrap().kind
    }
    macro_rules! change {
        ($target:literal, $variant:ident { $field:ident } => $value:expr) => {
            (concat!($target, ": ", stringify!($field)), |run: &mut RunStep| {
                if let MountKind::$variant { $field, .. } = kind(run, $target) {
                    *$field = $value;
                }
            })
        };
    }
    assert_each_counts(
        &run(),
        StepKind::Run,
        &[
            change!("/context", Bind { source } => "/src".into()),
            change!("/context", Bind { writable } => true),
            change!("/cache", Cache { id } => "npm".into()),
            change!("/cache", Cache { from } => None),
            change!("/cache", Cache { source } => "/other".into()),
            change!("/cache", Cache { readonly } => true),
            change!("/cache", Cache { mode } => 0o700),
            change!("/cache", Cache { uid } => 1),
            change!("/cache", Cache { gid } => 1),
            change!("/tmp", Tmpfs { size } => Some(1)),
            change!("/run/secrets/token", Secret { id } => "other".into()),
            change!("/run/secrets/token", Secret { env } => Some("TOKEN".into())),
            change!("/run/secrets/token", Secret { required } => false),
            change!("/run/secrets/token", Secret { mode } => 0o444),
            change!("/run/secrets/token", Secret { uid } => 1),
            change!("/run/secrets/token", Secret { gid } => 1),
            change!("/run/agent", Ssh { id } => "other".into()),
            change!("/run/agent", Ssh { required } => true),
            change!("/run/agent", Ssh { mode } => 0o666),
            change!("/run/agent", Ssh { uid } => 1),
            change!("/run/agent", Ssh { gid } => 1),
            ("target", |run| run.mounts[3].target = "/var/tmp".into()),
        ],
    );
}

#[test]
fn what_a_run_cannot_see_does_not_count() {
    assert_none_counts(
        &run(),
        StepKind::Run,
        &[
            ("ARG or ENV", |run| run.args.clear()),
            ("proxies", |run| run.proxies.clear()),
            ("order of --add-host", |run| run.extra_hosts.reverse()),
            ("order of --mount of other things", |run| run.mounts[3..].reverse()),
            ("sharing of a cache", |run| {
                if let MountKind::Cache { sharing, .. } = &mut run.mounts[2].kind {
                    *sharing = CacheSharing::Locked;
                }
            }),
        ],
    );
}

#[test]
fn the_order_of_mounts_does_not_count_with_their_sources() {
    for strategy in strategies() {
        let (mut turned, mut inputs) = (run(), answers());
        turned.mounts.swap(0, 1);
        inputs.selected.insert(0, answers().selected[&1].clone());
        inputs.selected.insert(1, answers().selected[&0].clone());
        let before = key_of(*strategy, &step(StepKind::Run(run())), &answers());
        let after = key_of(*strategy, &step(StepKind::Run(turned)), &inputs);
        assert_eq!(before, after, "{strategy:?}");
    }
}

#[test]
fn the_key_alone_is_the_key_and_the_list_is_what_is_walked_again() {
    for strategy in strategies() {
        let (step, inputs) = (step(StepKind::Run(run())), answers());
        let (key, list) = key_of(*strategy, &step, &inputs).unwrap();
        assert_eq!(step_key(*strategy, &step, &inputs), Ok(key), "{strategy:?}");
        let (mut again, mut copied) = (Vec::new(), Vec::new());
        strategy.ingredients(&step, &inputs, &mut again).unwrap();
        list.walk(&mut copied);
        assert_eq!((&again, &copied), (&list, &list), "{strategy:?}");
    }
}

#[test]
fn mounts_on_one_target_keep_their_order() {
    let two = |first: &str, second: &str| {
        let of =
            |id: &str| mount("/k", MountKind::Ssh { id: id.into(), required: true, mode: 0, uid: 0, gid: 0 });
        let mut run = run();
        run.mounts = vec![of(first), of(second)];
        key("output", &step(StepKind::Run(run)), &answers()).unwrap().0
    };
    assert_ne!(two("a", "b"), two("b", "a"));
}

#[test]
fn all_of_a_copy_counts() {
    assert_each_counts(
        &copy(),
        StepKind::Copy,
        &[
            ("source", |copy| {
                copy.sources[0] =
                    CopySource::Path { from: PARENT, path: "out/other".into(), unpack: Unpack::Never };
            }),
            ("one source less", |copy| drop(copy.sources.pop())),
            ("name of a here-document", |copy| {
                if let CopySource::Inline(inline) = &mut copy.sources[2] {
                    inline.name = "END".into();
                }
            }),
            ("here-document", |copy| {
                if let CopySource::Inline(inline) = &mut copy.sources[2] {
                    inline.content.push('x');
                }
            }),
            ("destination", |copy| copy.dest = "/app".into()),
            ("chown", |copy| copy.chown = None),
            ("another chown", |copy| copy.chown = Some("1000".into())),
            ("chmod", |copy| copy.chmod = Some("755".into())),
            ("link", |copy| copy.link = true),
            ("parents", |copy| copy.parents = true),
            ("exclude", |copy| copy.exclude.clear()),
            ("another exclude", |copy| copy.exclude.push("*.txt".into())),
            ("unpack", |copy| set_unpack(copy, Unpack::ByDefault)),
            ("unpack all", |copy| set_unpack(copy, Unpack::Always)),
        ],
    );
}

fn set_unpack(copy: &mut CopyStep, new: Unpack) {
    for source in &mut copy.sources {
        if let CopySource::Path { unpack, .. } = source {
            *unpack = new;
        }
    }
}

#[test]
fn all_of_a_workdir_counts() {
    let workdir = WorkdirStep { parent: PARENT, path: "/app".into(), user: "app".into() };
    assert_each_counts(
        &workdir,
        StepKind::Workdir,
        &[("path", |step| step.path = "/".into()), ("user", |step| step.user.clear())],
    );
}

#[test]
fn all_of_a_fetch_and_a_git_counts() {
    let fetch = FetchStep { url: "https://a/b".into(), file_name: "b".into(), checksum: None };
    assert_each_counts(
        &fetch,
        StepKind::Fetch,
        &[
            ("url", |fetch| fetch.url.push('c')),
            ("name", |fetch| fetch.file_name.push('c')),
            ("checksum", |fetch| fetch.checksum = Some(BlobDigest::of(b""))),
        ],
    );
    let pinned = FetchStep { checksum: Some(BlobDigest::of(b"")), ..fetch };
    assert_none_counts(&pinned, StepKind::Fetch, &[("url", |fetch| fetch.url.push('c'))]);
    let secret = FetchStep { url: "https://u:p@a/b".into(), checksum: None, ..pinned };
    assert_none_counts(
        &secret,
        StepKind::Fetch,
        &[("password", |fetch| fetch.url = "https://u:q@a/b".into())],
    );
    let git = GitStep {
        remote: "https://a/b.git".into(),
        reference: None,
        commit: None,
        subdir: None,
        keep_git_dir: false,
        checksum: None,
        fetch_by_commit: false,
        submodules: true,
        commit_time: false,
    };
    assert_each_counts(
        &git,
        StepKind::Git,
        &[
            ("remote", |git| git.remote.push('c')),
            ("reference", |git| git.reference = Some("main".into())),
            ("subdirectory", |git| git.subdir = Some("main".into())),
            ("git directory", |git| git.keep_git_dir = true),
            ("checksum", |git| git.checksum = Some("main".into())),
            ("commit", |git| git.commit = Some("main".into())),
            ("submodules", |git| git.submodules = false),
        ],
    );
    let found = GitStep { commit: Some("abc".into()), reference: Some("main".into()), ..git };
    assert_none_counts(
        &found,
        StepKind::Git,
        &[
            ("reference", |git| git.reference = Some("other".into())),
            ("checksum", |git| git.checksum = Some("a".into())),
            ("times", |git| git.commit_time = true),
        ],
    );
    let kept = GitStep { keep_git_dir: true, ..found };
    assert_each_counts(&kept, StepKind::Git, &[("reference", |git| git.reference = Some("other".into()))]);
}

#[test]
fn of_a_context_its_name_counts_and_not_what_others_want_of_it() {
    let context = ContextStep { name: None, wanted: None };
    assert_each_counts(&context, StepKind::Context, &[("name", |context| context.name = Some("x".into()))]);
    assert_none_counts(&context, StepKind::Context, &[("wanted", |context| context.wanted = Some(vec![]))]);
}

#[test]
fn of_an_image_the_digest_or_the_layers_count() {
    let of = |name: &str, image| key(name, &step(of_image(image)), &answers()).unwrap().0;
    for strategy in ["linear", "content", "output"] {
        let mut renamed = image();
        renamed.reference = "localhost:5000/debian:bookworm".into();
        assert_eq!(of(strategy, renamed), of(strategy, image()), "{strategy}: the name");
        let mut rebuilt = image();
        rebuilt.layers[0].diff_id = BlobDigest::of(b"other");
        rebuilt.digest = BlobDigest::of(b"other manifest");
        assert_ne!(of(strategy, rebuilt), of(strategy, image()), "{strategy}: the layers");
        // Compressed otherwise, or with another config: another manifest, the same files.
        let mut repacked = image();
        repacked.digest = BlobDigest::of(b"other manifest");
        repacked.layers[0].digest = BlobDigest::of(b"layer.zst");
        let same = of(strategy, repacked) == of(strategy, image());
        assert_eq!(same, strategy == "output", "{strategy}: the manifest");
    }
}

#[test]
fn where_a_step_stands_does_not_count() {
    for strategy in strategies() {
        let before = step(StepKind::Run(run()));
        let mut after = before.clone();
        after.text = "RUN --network=default make all".into();
        after.stage = StageId(7);
        let of = |step| key_of(*strategy, step, &answers()).unwrap().0;
        assert_eq!(of(&before), of(&after), "{strategy:?}");
    }
}

#[test]
fn every_key_begins_with_the_version_of_how_its_kind_is_carried_out() {
    let context = StepKind::Context(ContextStep { name: None, wanted: None });
    for kind in [StepKind::Scratch, context, StepKind::Run(run()), StepKind::Copy(copy()), of_image(image())]
    {
        for strategy in strategies() {
            let (_, list) = key_of(*strategy, &step(kind.clone()), &answers()).unwrap();
            let version = crate::execution_version(&kind).to_string();
            assert_eq!((list[0].kind, &list[0].value), (IngredientKind::Execution, &version), "{strategy:?}");
        }
    }
}

#[test]
fn strategies_and_kinds_share_no_key() {
    let mut keys = Vec::new();
    let context = || StepKind::Context(ContextStep { name: None, wanted: None });
    for kind in
        [StepKind::Scratch, context(), StepKind::Run(run()), StepKind::Copy(copy()), of_image(image())]
    {
        for strategy in strategies() {
            keys.push(key_of(*strategy, &step(kind.clone()), &answers()).unwrap().0);
        }
    }
    let all = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

#[test]
fn a_secrets_value_is_nowhere() {
    // The plan has no place for it; what is listed is the id and where it goes.
    let (_, list) = key("output", &step(StepKind::Run(run())), &answers()).unwrap();
    let secrets: Vec<&str> =
        list.iter().filter(|one| one.kind == IngredientKind::Secret).map(|one| one.value.as_str()).collect();
    assert_eq!(
        secrets,
        [r#"ssh mode=0600 owner=0:0 id="default""#, r#"secret mode=0400 owner=0:0 required id="token""#]
    );
}

#[test]
fn the_definition_knows_no_inputs() {
    let mut other = run();
    other.parent = CONTEXT;
    let of = |kind| definition(&step(kind));
    assert_eq!(of(StepKind::Run(run())), of(StepKind::Run(other)));
    assert_ne!(of(StepKind::Run(run())), of(StepKind::Copy(copy())));
    let mut newer = image();
    newer.digest = BlobDigest::of(b"newer");
    assert_eq!(of(of_image(image())), of(of_image(newer)), "a newer digest keeps the history of pulls");
}

#[test]
fn outputs_are_chains() {
    let [a, b] = [1, 2].map(|byte| dbuild_digest::TreeDigest::from_bytes([byte; 32]));
    assert_eq!(output_after(a, b, true), a, "an empty layer changes nothing");
    assert_ne!(output_after(a, b, false), output_after(b, a, false));
    let mut empty = image();
    empty.layers.clear();
    assert_eq!(base_output(&empty), scratch_output());
    assert_ne!(base_output(&image()), scratch_output());
}

#[test]
fn a_wrong_strategy_is_told() {
    assert_eq!(
        strategy("contents").unwrap_err().to_string(),
        "there is no cache strategy `contents` (did you mean `content`?): choose one of linear, content, output, traced"
    );
    assert_eq!(
        strategy("fast").unwrap_err().to_string(),
        "there is no cache strategy `fast`: choose one of linear, content, output, traced"
    );
}

/// Keys are a format: these values change only together with a strategy's version.
#[test]
fn the_format_does_not_drift() {
    let keys: Vec<String> = strategies()
        .iter()
        .map(|strategy| key_of(*strategy, &step(StepKind::Run(run())), &answers()).unwrap().0.short())
        .collect();
    assert_eq!(keys, ["8edaca865faf", "3d2c939d2db5", "f62417ca72d8"]);
}
