//! The part of the walk that all strategies share: a step's own words, without the identities of
//! its inputs.
//!
//! Every struct is destructured without `..`, so a field that is added to the plan does not compile
//! here until someone decides whether it is part of the key. What is left out, and why:
//!
//! - `Step::text` and `Step::stage`: how a person reads the step, and where it stands;
//! - the order of `--mount` flags: mounts are taken by target, as the scheduler mounts them (equal
//!   targets keep their order);
//! - the order of `--add-host` flags: taken by name (equal names keep their order);
//! - the sharing mode of a cache mount: it says how steps wait for each other, not what they see;
//! - `ContextStep::wanted`: what other steps select, which is theirs to count;
//! - the URL of a file whose checksum is known, the name of a reference whose commit is known (but
//!   where `.git` tells it), and passwords in URLs: the way to the content is no part of it;
//! - which time a checkout's files get.

use dbuild_digest::ContentDigest;
use dbuild_plan::{
    ContextStep, CopySource, CopyStep, FetchStep, GitStep, HostEntry, ImageStep, InlineFile, Mount,
    MountKind, NetworkMode, RunStep, ScriptFile, SecurityMode, Step, StepKind, Unpack, WorkdirStep,
    shown_url,
};

use crate::IngredientKind as Kind;
use crate::Sink;

/// The version of how steps of a kind are carried out. It grows with a fix after which a step of
/// this kind would give something else than before: results that were made without it are then
/// never found, and those of other kinds stay.
pub fn execution_version(kind: &StepKind) -> u32 {
    match kind {
        StepKind::Image(_) => 1,
        StepKind::Scratch => 1,
        StepKind::Context(_) => 1,
        StepKind::Fetch(_) => 1,
        StepKind::Git(_) => 1,
        StepKind::Copy(_) => 1,
        StepKind::Run(_) => 1,
        StepKind::Workdir(_) => 1,
    }
}

/// Walks a step's own words.
pub(crate) fn words(step: &Step, sink: &mut dyn Sink) {
    let Step { stage: _, text: _, kind } = step;
    sink.add(Kind::Execution, "", &execution_version(kind).to_string());
    match kind {
        StepKind::Image(ImageStep { image: _ }) => sink.add(Kind::Instruction, "", "FROM"),
        StepKind::Scratch => sink.add(Kind::Instruction, "", "FROM scratch"),
        StepKind::Context(ContextStep { name, wanted: _ }) => {
            sink.add(Kind::Instruction, "", "CONTEXT");
            sink.add(Kind::Context, name.as_deref().unwrap_or(""), "");
        }
        StepKind::Fetch(FetchStep { url, file_name, checksum }) => {
            sink.add(Kind::Instruction, "", "FETCH");
            sink.add(Kind::Destination, "", file_name);
            match checksum {
                Some(checksum) => sink.add(Kind::Checksum, "", &checksum.to_string()),
                None => sink.add(Kind::Remote, "", &shown_url(url)),
            }
        }
        StepKind::Git(git) => git_words(git, sink),
        StepKind::Copy(copy) => copy_words(copy, sink),
        StepKind::Run(run) => run_words(run, sink),
        StepKind::Workdir(WorkdirStep { parent: _, path, user }) => {
            sink.add(Kind::Instruction, "", "WORKDIR");
            sink.add(Kind::Workdir, "", path);
            sink.add(Kind::User, "", user);
        }
    }
}

fn git_words(git: &GitStep, sink: &mut dyn Sink) {
    let GitStep {
        remote,
        reference,
        commit,
        subdir,
        keep_git_dir,
        checksum,
        fetch_by_commit: _,
        submodules,
        commit_time: _,
    } = git;
    sink.add(Kind::Instruction, "", "GIT");
    sink.add(Kind::Remote, "", &shown_url(remote));
    // A branch is only in the way to a commit, but `.git` says how it is called.
    if let Some(reference) = reference.as_ref().filter(|_| commit.is_none() || *keep_git_dir) {
        sink.add(Kind::Remote, "reference", reference);
    }
    if let Some(subdir) = subdir {
        sink.add(Kind::Remote, "subdirectory", subdir);
    }
    flag("--keep-git-dir", *keep_git_dir, sink);
    flag("without submodules", !*submodules, sink);
    match (commit, checksum) {
        (Some(commit), _) => sink.add(Kind::Checksum, "commit", commit),
        (None, Some(checksum)) => sink.add(Kind::Checksum, "", checksum),
        (None, None) => {}
    }
}

fn copy_words(copy: &CopyStep, sink: &mut dyn Sink) {
    let CopyStep { parent: _, sources, dest, chown, chmod, link, parents, exclude } = copy;
    sink.add(Kind::Instruction, "", "COPY");
    for source in sources {
        match source {
            CopySource::Path { from: _, path, unpack: _ } => sink.add(Kind::Source, "", path),
            CopySource::Inline(InlineFile { name, content }) => inline(Kind::Inline, name, content, sink),
        }
    }
    sink.add(Kind::Destination, "", dest);
    if let Some(chown) = chown {
        sink.add(Kind::Owner, "", chown);
    }
    if let Some(chmod) = chmod {
        sink.add(Kind::Mode, "", chmod);
    }
    flag("--link", *link, sink);
    flag("--parents", *parents, sink);
    for pattern in exclude {
        sink.add(Kind::Flag, "--exclude", pattern);
    }
    if let Some(word) = unpack_word(sources) {
        sink.add(Kind::Flag, "--unpack", word);
    }
}

/// The unpacking of all sources as one word, which keys have had since before each source had its
/// own: `false` where none is unpacked, and nothing where local archives are, unasked. What was
/// downloaded is unpacked only where a flag says so, and then everything is.
fn unpack_word(sources: &[CopySource]) -> Option<&'static str> {
    let unpacks = sources.iter().filter_map(|source| match source {
        CopySource::Path { from: _, path: _, unpack } => Some(*unpack),
        CopySource::Inline(_) => None,
    });
    match unpacks.into_iter().find(|unpack| unpack.is_wanted()) {
        None | Some(Unpack::Never) => Some("false"),
        Some(Unpack::ByDefault) => None,
        Some(Unpack::Always) => Some("true"),
    }
}

fn run_words(run: &RunStep, sink: &mut dyn Sink) {
    let RunStep {
        parent: _,
        argv,
        script,
        env,
        args,
        proxies: _,
        workdir,
        user,
        mounts,
        network,
        security,
        extra_hosts,
        hostname,
    } = run;
    sink.add(Kind::Instruction, "", "RUN");
    // Of strings alone: cannot fail.
    sink.add(Kind::Command, "", &serde_json::to_string(argv).unwrap_or_default());
    if let Some(ScriptFile { path, content }) = script {
        inline(Kind::Script, path, content, sink);
    }
    for (name, value) in env {
        let kind = if args.contains(name) { Kind::Argument } else { Kind::Variable };
        sink.add(kind, name, value);
    }
    sink.add(Kind::Workdir, "", workdir);
    sink.add(Kind::User, "", user);
    let mut by_target: Vec<&Mount> = mounts.iter().collect();
    by_target.sort_by(|a, b| a.target.cmp(&b.target));
    for mount in by_target {
        mount_words(mount, sink);
    }
    let network = match network {
        NetworkMode::Default => "default",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    };
    sink.add(Kind::Network, "", network);
    let security = match security {
        SecurityMode::Sandbox => "sandbox",
        SecurityMode::Insecure => "insecure",
    };
    sink.add(Kind::Security, "", security);
    let mut by_name: Vec<&HostEntry> = extra_hosts.iter().collect();
    by_name.sort_by(|a, b| a.host.cmp(&b.host));
    for HostEntry { host, ip } in by_name {
        sink.add(Kind::Host, host, ip);
    }
    // A command can ask for it, so it is part of the key, as in BuildKit; the usual one is the
    // machine's affair.
    if let Some(hostname) = hostname {
        sink.add(Kind::Flag, "BUILDKIT_SANDBOX_HOSTNAME", hostname);
    }
}

fn mount_words(mount: &Mount, sink: &mut dyn Sink) {
    let Mount { target, kind } = mount;
    // Texts of users stand last or are framed by JSON's quotes, so that no two mounts are written
    // alike.
    let quoted = |text: &str| serde_json::to_string(text).unwrap_or_default();
    match kind {
        MountKind::Bind { from: _, source, writable } => {
            let access = if *writable { "rw" } else { "ro" };
            sink.add(Kind::Mount, target, &format!("bind {access} source={}", quoted(source)));
        }
        MountKind::Cache { id, sharing: _, from, source, readonly, mode, uid, gid } => {
            let access = if *readonly { "ro" } else { "rw" };
            let seed = from.map_or(String::new(), |_| format!(" source={}", quoted(source)));
            let value = format!("cache {access} mode={mode:04o} owner={uid}:{gid} id={}{seed}", quoted(id));
            sink.add(Kind::Mount, target, &value);
        }
        MountKind::Tmpfs { size } => {
            let size = size.map_or(String::new(), |size| format!(" size={size}"));
            sink.add(Kind::Mount, target, &format!("tmpfs{size}"));
        }
        MountKind::Secret { id, env, required, mode, uid, gid } => {
            let env = env.as_deref().map_or(String::new(), |env| format!(" env={}", quoted(env)));
            let need = if *required { " required" } else { "" };
            let value = format!("secret mode={mode:04o} owner={uid}:{gid}{need} id={}{env}", quoted(id));
            sink.add(Kind::Secret, target, &value);
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            let need = if *required { " required" } else { "" };
            let value = format!("ssh mode={mode:04o} owner={uid}:{gid}{need} id={}", quoted(id));
            sink.add(Kind::Secret, target, &value);
        }
    }
}

fn flag(name: &str, set: bool, sink: &mut dyn Sink) {
    if set {
        sink.add(Kind::Flag, name, "");
    }
}

fn inline(kind: Kind, name: &str, content: &str, sink: &mut dyn Sink) {
    sink.add(kind, name, &ContentDigest::of(content.as_bytes()).to_string());
}
