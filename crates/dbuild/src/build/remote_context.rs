//! Build contexts that are somewhere else: on standard input, at a URL, in a git repository.
//!
//! A context of this kind is fetched by a small plan of its own, run by the same scheduler as a
//! build: a repository whose branch has not moved and an archive that has not changed are found in
//! the store. The Dockerfile is read from it, so it is fetched before the build's own plan is made.
//! As in BuildKit no `.dockerignore` applies to it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dbuild_events::NoEvents;
use dbuild_exporter::Input;
use dbuild_frontend::{Source, fetched_context, git_context};
use dbuild_layer::Ignore;
use dbuild_oci::{ImageConfig, Platform};
use dbuild_plan::{
    ContextStep, CopySource, CopyStep, GitStep, Plan, PlanBuilder, Stage, StageId, Step, StepId, StepKind,
    Target, Unpack, shown_url,
};
use dbuild_registry::Remotes;
use dbuild_scheduler::{BuildError, CacheUse, Canceller, ContextDir, Machine, Request};
use dbuild_store::{Lease, Store};

use super::dockerfile;
use super::flags;
use crate::cli::{BuildArgs, go_bool};
use crate::error::{Error, hint_of_step};
use crate::pipes;
use crate::session::Session;
use crate::signals::cancel_on_signal;

/// What a file of a context is called while it is not unpacked; BuildKit's word.
const CONTEXT: &str = "context";

/// A context that was fetched.
pub(crate) struct RemoteContext {
    /// Where it is now.
    pub(crate) root: PathBuf,
    /// The Dockerfile, where the context was nothing else.
    pub(crate) dockerfile: Option<Source>,
    /// The checkout that it is.
    from: Option<StepKind>,
    /// When it was made, in seconds since 1970, where a server said so of a file.
    time: Option<u64>,
    /// Nothing of it is collected as long as this is held.
    _lease: Lease,
}

impl RemoteContext {
    /// When it was made, in seconds since 1970: the time of a commit, or what a server says of a
    /// file.
    pub(crate) fn time(&self, session: &Session, flags: &BuildArgs) -> Result<Option<u64>, Error> {
        match &self.from {
            Some(step) => time_of(session, flags, step.clone()),
            None => Ok(self.time),
        }
    }
}

/// Brings a context that is no directory of this machine; `None`: it is one.
pub(crate) fn bring(session: &Session, flags: &BuildArgs) -> Result<Option<RemoteContext>, Error> {
    let text = flags.context.to_string_lossy();
    let lease = || session.store.lease().map_err(Error::failed);
    if text == "-" {
        return from_stdin(session, flags, lease()?).map(Some);
    }
    // A directory of this name goes before a repository of GitHub's.
    let is_here = !text.contains("://") && flags.context.is_dir();
    if let Some(git) = git_context(&text).filter(|_| !is_here) {
        let mut git =
            git.map_err(|reason| Error::usage(format!("the context `{}`: {reason}", shown_url(&text))))?;
        // A directory of a repository is no repository.
        git.keep_git_dir |= keeps_git_dir(flags) && git.subdir.is_none();
        let lease = lease()?;
        let root = bring_by(session, flags, None, vec![StepKind::Git(git.clone())])?;
        let from = Some(StepKind::Git(git));
        return Ok(Some(RemoteContext { root, dockerfile: None, from, time: None, _lease: lease }));
    }
    if text.starts_with("http://") || text.starts_with("https://") {
        return from_url(session, flags, &text, lease()?).map(Some);
    }
    Ok(None)
}

/// What the build argument says; as in BuildKit, what is no truth says nothing.
fn keeps_git_dir(flags: &BuildArgs) -> bool {
    let mut args = flags.source.build_arg.iter().rev();
    let given = args.find(|arg| arg.key == "BUILDKIT_CONTEXT_KEEP_GIT_DIR");
    let value = given.and_then(|arg| arg.value.clone().or_else(|| std::env::var(&arg.key).ok()));
    value.is_some_and(|value| go_bool(&value).unwrap_or(false))
}

/// An archive or a Dockerfile.
fn from_url(session: &Session, flags: &BuildArgs, url: &str, lease: Lease) -> Result<RemoteContext, Error> {
    let fetch = fetched_context(url);
    let dir = bring_by(session, flags, None, vec![StepKind::Fetch(fetch)])?;
    let time = newest(&dir);
    let remote = from_file(session, flags, dir, &shown_url(url), lease)?;
    // A server that says nothing of an archive's time leaves that of its files.
    let time = time.or_else(|| newest(&remote.root));
    Ok(RemoteContext { time, ..remote })
}

/// The time that the files of a step have which are a server's file or a commit's; `None` where the
/// server says nothing.
pub(crate) fn time_of(session: &Session, flags: &BuildArgs, step: StepKind) -> Result<Option<u64>, Error> {
    let StepKind::Git(git) = step else {
        let _lease = session.store.lease().map_err(Error::failed)?;
        let dir = bring_by(session, flags, None, vec![step])?;
        return Ok(newest(&dir));
    };
    // Times are no part of a result's identity, so what is in the store may carry others.
    let dir = session.store.scratch_path();
    let store = Store::open(&dir, session.store.flavor()).map_err(Error::failed)?;
    let step = StepKind::Git(GitStep { commit_time: true, keep_git_dir: false, ..git });
    let time = bring_into(&store, session, flags, None, vec![step]).map(|dir| newest(&dir));
    drop(store);
    let _ = dbuild_store::remove_tree(&dir);
    time
}

/// The latest time of a file below a directory; `None` for 1970, which is no time that anything was
/// made.
fn newest(dir: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let times = entries.filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        if meta.is_dir() {
            return newest(&entry.path());
        }
        let since = meta.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        meta.is_file().then_some(since.as_secs())
    });
    times.filter(|time| *time > 0).max()
}

fn from_stdin(session: &Session, flags: &BuildArgs, lease: Lease) -> Result<RemoteContext, Error> {
    if flags.source.file() == Some(Path::new("-")) {
        return Err(Error::usage("standard input cannot be both the context and the Dockerfile"));
    }
    pipes::say_if_typed("the context, an archive or a Dockerfile,");
    let dir = session.store.scratch_path();
    let path = dir.join(CONTEXT);
    let written = std::fs::create_dir(&dir).and_then(|()| File::create(&path)).and_then(|mut file| {
        let mut input = Input::open(Path::new("-"), &pipes::waiting())?;
        std::io::copy(&mut input, &mut file)
    });
    let size = written.map_err(|error| pipes::cannot_read("the context from standard input", error))?;
    if size == 0 {
        return Err(Error::usage("standard input is empty")
            .hint("`-` reads a Dockerfile or an archive of a context from it"));
    }
    let mut remote = from_file(session, flags, dir, "-", lease)?;
    if remote.dockerfile.is_some() {
        if flags.source.file().is_some() {
            return Err(Error::usage("standard input is a Dockerfile, and `-f` names another one"));
        }
        // Unlike one at a URL, it is no part of its own context.
        remote.root = session.store.scratch_path();
        std::fs::create_dir(&remote.root)
            .map_err(|error| Error::failed(format!("cannot make {}: {error}", remote.root.display())))?;
    }
    Ok(remote)
}

/// Unpacks `dir/context` if it is an archive; else it is a Dockerfile.
fn from_file(
    session: &Session,
    flags: &BuildArgs,
    dir: PathBuf,
    shown: &str,
    lease: Lease,
) -> Result<RemoteContext, Error> {
    let cannot = |error: std::io::Error| Error::failed(format!("cannot read the context {shown}: {error}"));
    let path = dir.join(CONTEXT);
    let mut head = Vec::new();
    File::open(&path).and_then(|file| file.take(1024).read_to_end(&mut head)).map_err(cannot)?;
    if !is_archive(&head) {
        let bytes = dockerfile::read_small(&path).map_err(cannot)?;
        let dockerfile = Some(dockerfile::source_of(shown, &bytes)?);
        return Ok(RemoteContext { root: dir, dockerfile, from: None, time: None, _lease: lease });
    }
    let file = ContextStep { name: None, wanted: Some(vec![CONTEXT.to_owned()]) };
    let copy = CopyStep {
        parent: StepId(0),
        sources: vec![CopySource::Path { from: StepId(1), path: CONTEXT.to_owned(), unpack: Unpack::Always }],
        dest: "/".to_owned(),
        chown: None,
        chmod: None,
        link: false,
        parents: false,
        exclude: Vec::new(),
    };
    let steps = vec![StepKind::Scratch, StepKind::Context(file), StepKind::Copy(copy)];
    let root = bring_by(session, flags, Some(dir), steps)?;
    Ok(RemoteContext { root, dockerfile: None, from: None, time: None, _lease: lease })
}

/// Runs steps, each of which is one of a stage of its own; the directory with what the last one
/// made.
fn bring_by(
    session: &Session,
    flags: &BuildArgs,
    context: Option<PathBuf>,
    steps: Vec<StepKind>,
) -> Result<PathBuf, Error> {
    bring_into(&session.store, session, flags, context, steps)
}

fn bring_into(
    store: &Store,
    session: &Session,
    flags: &BuildArgs,
    context: Option<PathBuf>,
    steps: Vec<StepKind>,
) -> Result<PathBuf, Error> {
    let shown = shown_url(&flags.context.to_string_lossy());
    let (canceller, cancel) = Canceller::new();
    let context = context.map(|root| (None, ContextDir { root, ignore: Ignore::default() }));
    let request = Request {
        plan: Arc::new(plan_of(steps, &shown).map_err(Error::failed)?),
        store: store.clone(),
        blobs: Arc::new(session.registry.clone()),
        remotes: Arc::new(Remotes::default()),
        remote_results: None,
        events: Arc::new(NoEvents),
        contexts: context.into_iter().collect::<BTreeMap<_, _>>(),
        strategy: dbuild_cache::strategy(dbuild_cache::DEFAULT_STRATEGY).map_err(Error::failed)?,
        traced_network: dbuild_scheduler::TracedNetwork::default(),
        cache: if flags.no_cache { CacheUse::Nothing } else { CacheUse::All },
        jobs: std::num::NonZeroUsize::MIN,
        pack: None,
        layers: None,
        unwritten: None,
        repack_bases: false,
        secrets: flags::secrets(&flags.secret)?,
        ssh: flags::agents(&flags.ssh)?,
        machine: Machine::default(),
        cancel,
    };
    let built = session.runtime.block_on(async {
        let signals = tokio::spawn(cancel_on_signal(canceller));
        let built = dbuild_scheduler::build(request).await;
        signals.abort();
        built
    });
    let built = built.map_err(|error| match error {
        BuildError::Canceled => Error::interrupted(),
        BuildError::Step(_, error) => {
            let failed = Error::failed(format!("cannot fetch the context {shown}: {error}"));
            failed.maybe_hint(hint_of_step(&error))
        }
    })?;
    let made = built.results().last().and_then(|output| output.files.own_layers().last());
    made.and_then(|layer| layer.snapshot.dir.clone())
        .ok_or_else(|| Error::failed(format!("the context {shown} is empty")))
}

fn plan_of(steps: Vec<StepKind>, shown: &str) -> Result<Plan, dbuild_plan::PlanError> {
    let mut builder = PlanBuilder::default();
    let last = StepId(u32::try_from(steps.len().saturating_sub(1)).unwrap_or(0));
    for kind in steps {
        builder.add_step(Step { stage: StageId(0), text: format!("load context {shown}"), kind });
    }
    let stage = builder.add_stage(Stage {
        name: CONTEXT.to_owned(),
        index: 0,
        base: String::new(),
        base_stage: None,
        platform: Platform::host(),
        first: Some(last),
        last: Some(last),
        config: ImageConfig::default(),
        history: Vec::new(),
    });
    builder.add_target(Target { platform: Platform::host(), stage });
    Ok(builder.finish()?.0)
}

/// Whether bytes are the beginning of an archive, compressed or not.
fn is_archive(head: &[u8]) -> bool {
    let compressed: [&[u8]; 4] =
        [b"BZh", &[0x1f, 0x8b, 8], &[0xfd, b'7', b'z', b'X', b'Z', 0], &[0x28, 0xb5, 0x2f, 0xfd]];
    compressed.iter().any(|magic| head.starts_with(magic)) || is_tar(head)
}

/// The first header of a tar holds its own checksum: the sum of its bytes with the checksum read as
/// blanks.
fn is_tar(head: &[u8]) -> bool {
    let Some(header) = head.get(..512) else { return false };
    let digits = String::from_utf8_lossy(&header[148..156]);
    let written = u32::from_str_radix(digits.trim_matches(['\0', ' ']), 8);
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = header[148..156].iter().map(|byte| u32::from(*byte)).sum();
    written.is_ok_and(|written| written == sum - own + 8 * u32::from(b' '))
}

#[cfg(test)]
mod tests {
    use super::is_archive;

    #[test]
    fn archives_are_distinguished_from_dockerfiles() {
        for head in
            [&b"BZh9"[..], &[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd], &[0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]]
        {
            assert!(is_archive(head), "{head:?}");
        }
        let mut header = [0_u8; 512];
        header[..4].copy_from_slice(b"name");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        header[155] = b' ';
        assert!(is_archive(&header));
        header[0] = b'N';
        assert!(!is_archive(&header), "the checksum is another's");
        for text in ["", "FROM scratch\n", &"# a long comment\n".repeat(100)] {
            assert!(!is_archive(text.as_bytes()));
        }
    }
}
