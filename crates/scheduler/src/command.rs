//! RUN: a command in a sandbox, and the layer that it leaves.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dbuild_digest::{Framed, StepKey};
use dbuild_layer::{
    CopyRequest, Files, OverlayFlavor, SelectOptions, Source, Stack, copy, make_dir, prepare_upper,
    scan_upper, select, users,
};
use dbuild_plan::{CacheSharing, HostEntry, Mount, MountKind, NetworkMode, RunStep, SecurityMode, StepId};
use dbuild_sandbox::{self as sandbox, MountSource, OverlayDirs, Rootfs, Spec};
use dbuild_store::{CacheMount, Event, LogStream, Sharing, SnapshotDraft};

use crate::agent::AgentSocket;
use crate::cancel::Cancel;
use crate::error::StepError;
use crate::flat::{directories, in_one};
use crate::keys::StepInputs;
use crate::request::Secret;
use crate::worker::{Executed, Shared};

/// How much of a failed command's output stands in the error.
const TAIL_LINES: usize = 20;

/// What must live as long as the command runs.
#[derive(Default)]
struct Held {
    drafts: Vec<SnapshotDraft>,
    /// By id: two mounts of one id are one directory.
    caches: BTreeMap<String, CacheMount>,
    agents: Vec<AgentSocket>,
}

impl Shared {
    pub(crate) fn run_command(
        &self,
        id: StepId,
        run: &RunStep,
        inputs: &StepInputs<'_>,
        cancel: &Cancel,
    ) -> Result<Executed, StepError> {
        let lower = inputs.stack_of(run.parent)?;
        let user = users::user(&lower, &run.user)?;
        let draft = self.store().new_snapshot()?;
        let flavor = self.store().flavor();
        enterable(&lower, &run.workdir, &draft.fs_dir(), flavor)?;
        prepare_upper(&draft.fs_dir(), &lower, flavor)?;
        let mut spec = Spec::new(
            Rootfs::Overlay {
                lower: directories(self.store(), &lower)?,
                upper: draft.fs_dir(),
                work: draft.work_dir(),
            },
            run.argv.clone(),
        );
        spec.env = run.env.clone();
        for (name, value) in &run.proxies {
            if !spec.env.iter().any(|(known, _)| known == name) {
                spec.env.push((name.clone(), value.clone()));
            }
        }
        // As runc does, an empty one is none.
        if !spec.env.iter().any(|(name, value)| name == "HOME" && !value.is_empty()) {
            spec.env.retain(|(name, _)| name != "HOME");
            spec.env.push(("HOME".to_owned(), user.home.clone()));
        }
        spec.cwd = run.workdir.clone();
        (spec.uid, spec.gid, spec.groups) = (user.uid, user.gid, user.groups);
        spec.network = match run.network {
            // Without a network of its own a step gets the host's.
            NetworkMode::Default | NetworkMode::Host => sandbox::Network::Host,
            NetworkMode::None => sandbox::Network::None,
        };
        spec.security = match run.security {
            SecurityMode::Sandbox => sandbox::Security::Default,
            SecurityMode::Insecure if self.request.machine.allow_insecure => sandbox::Security::Insecure,
            SecurityMode::Insecure => {
                let text =
                    "RUN --security=insecure is not allowed; allow it with `--allow security.insecure`";
                return Err(StepError::Needs(text.to_owned()));
            }
        };
        spec.shm_size = self.request.machine.shm_size.unwrap_or(spec.shm_size);
        spec.ulimits = self.request.machine.ulimits.clone();
        spec.resolv_conf = Some(self.request.machine.resolv_conf.clone());
        spec.hosts = Some(hosts_file(&spec.hostname, run.extra_hosts.iter()));
        let mut held = Held::default();
        // By target, as the key has them: a mount inside another one comes after it, however they are written.
        self.take_caches(run, inputs, &mut held)?;
        let mut mounts: Vec<&Mount> = run.mounts.iter().collect();
        mounts.sort_by(|a, b| a.target.cmp(&b.target));
        for mount in mounts {
            self.mount(mount, inputs, &mut spec, &mut held)?;
        }
        if let Some(script) = &run.script {
            let contents = script.content.clone().into_bytes().into();
            let source = MountSource::File { contents, mode: 0o755, uid: 0, gid: 0 };
            spec.mounts.push(sandbox::Mount { target: script.path.clone(), source });
        }
        let ended = self.wait_for(id, &spec, cancel);
        drop(held);
        if let Err(error) = ended {
            if matches!(error, StepError::Command { .. }) {
                self.keep_failed(id, run, draft, &lower);
            }
            return Err(error);
        }
        let tree = scan_upper(&draft.fs_dir(), &lower, flavor)?;
        Ok(Executed { draft, tree, unkeyed: false })
    }

    /// Keeps what a command that failed had written, so that somebody can look at it. No record leads to it: no build takes
    /// it for a result, and the next collection removes it. Trouble here must not hide why the command failed.
    fn keep_failed(&self, id: StepId, run: &RunStep, draft: SnapshotDraft, lower: &Stack) {
        let kept = scan_upper(&draft.fs_dir(), lower, self.store().flavor())
            .map_err(StepError::from)
            .and_then(|tree| Ok(self.store().publish_snapshot(draft, tree)?));
        match kept {
            Ok(snapshot) => self.emit(Event::StepKept {
                step: id.0,
                snapshot: snapshot.id,
                env: run.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
                user: run.user.clone(),
                workdir: run.workdir.clone(),
                program: run.argv.first().cloned().unwrap_or_default(),
                mounts: run.mounts.iter().map(mount_in_words).collect(),
            }),
            Err(error) => tracing::warn!("what a failed step wrote is not kept: {error}"),
        }
    }

    /// Starts the command, hands on what it writes, and waits for its end.
    fn wait_for(&self, id: StepId, spec: &Spec, cancel: &Cancel) -> Result<(), StepError> {
        let mut running = sandbox::spawn(spec)?;
        let killer = running.killer();
        let mut heard = cancel.clone();
        let watch = self.runtime.spawn(async move {
            heard.canceled().await;
            killer.kill();
        });
        for text in running.notes() {
            self.emit(Event::Note { text: text.clone() });
        }
        let pipes = [(LogStream::Stdout, running.take_stdout()), (LogStream::Stderr, running.take_stderr())];
        let tail = Mutex::new(Tail::default());
        let exit = std::thread::scope(|scope| {
            for (stream, pipe) in pipes {
                let tail = &tail;
                scope.spawn(move || pipe.map(|pipe| self.hand_on(id, stream, pipe, tail)));
            }
            running.wait()
        });
        watch.abort();
        let exit = exit?;
        if cancel.is_canceled() {
            return Err(StepError::Stopped);
        }
        let (how, code) = match exit.status {
            sandbox::ExitStatus::Code(0) => return Ok(()),
            sandbox::ExitStatus::Code(code) => (format!("exit code {code}"), code),
            sandbox::ExitStatus::Signal(signal) => {
                (format!("killed by {}", signal_name(signal)), 128 + signal)
            }
        };
        let tail = tail.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Err(StepError::Command { how, code, tail: tail.lines() })
    }

    fn hand_on(&self, id: StepId, stream: LogStream, pipe: OwnedFd, tail: &Mutex<Tail>) {
        let mut pipe = std::fs::File::from(pipe);
        let mut buffer = vec![0; 16 * 1024];
        let mut rest = 0;
        // A pipe that cannot be read has no more to say.
        while let Ok(count) = pipe.read(&mut buffer[rest..]) {
            if count == 0 && rest == 0 {
                break;
            }
            let bytes = &buffer[..rest + count];
            // A character that is cut in two waits for its other half.
            let cut = if count == 0 { bytes.len() } else { whole_characters(bytes) };
            let text = String::from_utf8_lossy(&bytes[..cut]).into_owned();
            tail.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(&text);
            self.emit(Event::StepLog { step: id.0, stream, text });
            let end = rest + count;
            buffer.copy_within(cut..end, 0);
            rest = end - cut;
            if count == 0 {
                break;
            }
        }
    }

    fn mount(
        &self,
        mount: &Mount,
        inputs: &StepInputs<'_>,
        spec: &mut Spec,
        held: &mut Held,
    ) -> Result<(), StepError> {
        let target = mount.target.clone();
        let source = match &mount.kind {
            MountKind::Bind { from, source, writable } => {
                let lower = self.mountable(*from, inputs)?;
                let writable = writable.then(|| self.writable(held)).transpose()?;
                MountSource::OverlayBind {
                    lower: directories(self.store(), &lower)?,
                    subpath: source.clone(),
                    writable,
                }
            }
            MountKind::Cache { id, from, source, readonly, .. } => {
                let name = cache_name(&mount.kind, inputs)?;
                let cache = held.caches.get(&name).ok_or(StepError::Internal("a cache was not taken"))?;
                let path = match from {
                    Some(_) => cache.dir().to_owned(),
                    None => inside(cache.dir(), id, source)?,
                };
                MountSource::Bind { path, readonly: *readonly }
            }
            MountKind::Tmpfs { size } => MountSource::Tmpfs { size: *size, mode: 0o1777 },
            MountKind::Secret { id, env, required, mode, uid, gid } => {
                let Some(value) = self.secret(id, *required)? else { return Ok(()) };
                if let Some(name) = env {
                    spec.env.push((name.clone(), variable(id, &value)?));
                }
                if target.is_empty() {
                    return Ok(());
                }
                MountSource::File { contents: value.into(), mode: *mode, uid: *uid, gid: *gid }
            }
            MountKind::Ssh { id, required, mode, uid, gid } => {
                let Some(agent) = self.request.ssh.get(id) else {
                    if *required {
                        return Err(StepError::Needs(format!(
                            "no ssh agent `{id}`: give it with `--ssh {id}`"
                        )));
                    }
                    return Ok(());
                };
                let dir = self.store().scratch_path();
                let socket = AgentSocket::new(&self.runtime, agent.clone(), dir, (*mode, *uid, *gid));
                let socket = socket.map_err(|error| {
                    StepError::Needs(format!("no socket for the ssh agent `{id}` can be made: {error}"))
                })?;
                let path = socket.path();
                held.agents.push(socket);
                MountSource::Bind { path, readonly: false }
            }
        };
        spec.mounts.push(sandbox::Mount { target, source });
        Ok(())
    }

    /// Takes the cache directories of a step, in the order of their names: steps that want the same ones never wait for each
    /// other in a circle.
    fn take_caches(&self, run: &RunStep, inputs: &StepInputs<'_>, held: &mut Held) -> Result<(), StepError> {
        let kinds = run.mounts.iter().map(|mount| &mount.kind);
        let mut caches: Vec<(String, &MountKind)> = kinds
            .filter(|kind| matches!(kind, MountKind::Cache { .. }))
            .map(|kind| Ok((cache_name(kind, inputs)?, kind)))
            .collect::<Result<_, StepError>>()?;
        // Of two mounts of one directory the stricter one is taken.
        caches.sort_by(|(a, kind), (b, other)| (a, !is_locked(kind)).cmp(&(b, !is_locked(other))));
        for (name, kind) in caches {
            let MountKind::Cache { sharing, from, source, mode, uid, gid, .. } = kind else { continue };
            if held.caches.contains_key(&name) {
                continue;
            }
            let sharing = match sharing {
                CacheSharing::Shared => Sharing::Shared,
                CacheSharing::Private => Sharing::Private,
                CacheSharing::Locked => Sharing::Locked,
            };
            let first = from.map(|from| self.mountable(from, inputs)).transpose()?;
            let flavor = self.store().flavor();
            let cache = self.store().cache_mount(&name, sharing, |dir| match &first {
                Some(stack) => fill(stack, source, dir, flavor).map_err(std::io::Error::other),
                None => own(dir, *mode, *uid, *gid),
            })?;
            held.caches.insert(name, cache);
        }
        Ok(())
    }

    pub(crate) fn secret(&self, id: &str, required: bool) -> Result<Option<Vec<u8>>, StepError> {
        let value = match self.request.secrets.get(id) {
            None if required => {
                return Err(StepError::Needs(format!(
                    "no secret `{id}`: give it with `--secret id={id},src=FILE`"
                )));
            }
            None => return Ok(None),
            Some(Secret::File(path)) => std::fs::read(path).map_err(|error| {
                StepError::Needs(format!("the secret `{id}` cannot be read from {}: {error}", path.display()))
            })?,
            Some(Secret::Variable(name)) => {
                std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec).ok_or_else(|| {
                    StepError::Needs(format!("the secret `{id}` needs the variable {name}, which is not set"))
                })?
            }
        };
        Ok(Some(value))
    }

    fn writable(&self, held: &mut Held) -> Result<OverlayDirs, StepError> {
        let draft = self.store().new_snapshot()?;
        let dirs = OverlayDirs { upper: draft.fs_dir(), work: draft.work_dir() };
        held.drafts.push(draft);
        Ok(dirs)
    }

    /// An input whose files lie in directories that can be mounted. A context's do not: what is ignored must not be
    /// seen, so what is left is copied once.
    fn mountable(&self, from: StepId, inputs: &StepInputs<'_>) -> Result<Stack, StepError> {
        let stack = inputs.stack_of(from)?;
        if !stack.layers().iter().any(|layer| matches!(layer.files, Files::Live(_))) {
            return Ok(stack);
        }
        let output = inputs.output_of(from)?;
        let mut framed = Framed::new("mounted-context", 1);
        framed.bytes(output.as_bytes());
        let key = StepKey::from_bytes(framed.finish());
        let text = "context for RUN --mount=type=bind";
        Ok(crate::output::stack_of_one(&in_one(self.store(), key, text, &stack)?))
    }
}

/// A secret as the value of a variable. What no variable can hold is not given in part.
fn variable(id: &str, value: &[u8]) -> Result<String, StepError> {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(StepError::Needs(format!(
            "the secret `{id}` is no text, and cannot be a variable: leave `env` out, and read it from its file"
        ))),
    }
}

/// Makes the working directory where an earlier step (or the base image) has taken it away: as runc does, root's and 0755.
pub fn enterable(lower: &Stack, workdir: &str, upper: &Path, flavor: OverlayFlavor) -> Result<(), StepError> {
    let missing = lower.resolve(workdir, true).is_ok_and(|resolved| resolved.found.is_none());
    if missing && workdir != "/" {
        make_dir(lower, workdir, 0, 0, upper, flavor)
            .map_err(|error| StepError::Copy { error, from: None })?;
    }
    Ok(())
}

/// What a RUN reads as `/etc/hosts`.
pub fn hosts_file<'a>(hostname: &str, extra: impl Iterator<Item = &'a HostEntry>) -> Vec<u8> {
    let mut text = format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for entry in extra {
        // The host's network is the command's: the gateway to the host is the host itself.
        let ip = if entry.ip == "host-gateway" { "127.0.0.1" } else { &entry.ip };
        text.push_str(&format!("{ip}\t{}\n", entry.host));
    }
    text.into_bytes()
}

/// What a cache directory is known by: one that begins with files of another place, or with another owner or mode, is
/// another one, as in BuildKit.
fn cache_name(kind: &MountKind, inputs: &StepInputs<'_>) -> Result<String, StepError> {
    let MountKind::Cache { id, from, source, mode, uid, gid, .. } = kind else {
        return Err(StepError::Internal("a mount without a cache was asked for its cache"));
    };
    Ok(match from {
        Some(from) => format!("{id} from {}:{source}", inputs.output_of(*from)?.hex()),
        None if (*mode, *uid, *gid) == (0o755, 0, 0) => id.to_owned(),
        None => format!("{id} as {mode:04o} {uid}:{gid}"),
    })
}

/// A mount for people: what it is, and where or of what name.
fn mount_in_words(Mount { target, kind }: &Mount) -> String {
    match kind {
        MountKind::Bind { .. } => format!("bind {target}"),
        MountKind::Cache { .. } => format!("cache {target}"),
        MountKind::Tmpfs { .. } => format!("tmpfs {target}"),
        MountKind::Secret { id, .. } => format!("secret {id}"),
        MountKind::Ssh { id, .. } => format!("ssh {id}"),
    }
}

fn is_locked(kind: &MountKind) -> bool {
    matches!(kind, MountKind::Cache { sharing: CacheSharing::Locked, .. })
}

/// A part of a cache directory, which an earlier step must have made.
fn inside(cache: &Path, id: &str, source: &str) -> Result<PathBuf, StepError> {
    let source = source.trim_matches('/');
    if source.is_empty() {
        return Ok(cache.to_owned());
    }
    match cache.join(source).canonicalize() {
        // Links inside the cache are not followed out of it.
        Ok(path) if cache.canonicalize().is_ok_and(|cache| path.starts_with(cache)) => Ok(path),
        _ => Err(StepError::Needs(format!(
            "the cache `{id}` has no `/{source}`: leave `source` out, or make it in a step before"
        ))),
    }
}

/// What a new cache directory holds.
fn fill(stack: &Stack, source: &str, dir: &Path, flavor: OverlayFlavor) -> Result<(), StepError> {
    let failed = |error| StepError::Copy { error, from: None };
    let path = format!("{}/.", source.trim_end_matches('/'));
    let all = select(stack, &path, &SelectOptions::default()).map_err(failed)?;
    let sources = vec![Source::Selected { selection: &all, unpack: false }];
    let request = CopyRequest { parent: None, sources, dest: "/", chown: None, chmod: None, earlier: None };
    copy(&request, dir, flavor).map_err(failed)?;
    let top = stack.resolve(source, true).ok().and_then(|resolved| resolved.found);
    let (mode, uid, gid) = top.map_or((0o755, 0, 0), |top| (top.entry.mode, top.entry.uid, top.entry.gid));
    own(dir, mode, uid, gid).map_err(|error| StepError::Needs(format!("a cache cannot be filled: {error}")))
}

/// Gives a file or directory an owner and a mode.
pub(crate) fn own(path: &Path, mode: u32, uid: u32, gid: u32) -> std::io::Result<()> {
    match std::os::unix::fs::chown(path, Some(uid), Some(gid)) {
        // Without sub-ids there is nobody else to own it.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {}
        other => other?,
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// How many bytes can be read as text now: all but a last character that is not complete.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        // Bytes that are no text anywhere are replaced where they are shown.
        _ => bytes.len(),
    }
}

/// The last lines of a command's output.
#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
    open: String,
}

impl Tail {
    fn push(&mut self, text: &str) {
        for piece in text.split_inclusive('\n') {
            // What has no end in sight is cut: this is for an error message.
            if self.open.len() < 4096 {
                self.open.push_str(piece.trim_end_matches(['\n', '\r']));
            }
            if piece.ends_with('\n') {
                self.lines.push_back(std::mem::take(&mut self.open));
                if self.lines.len() > TAIL_LINES {
                    self.lines.pop_front();
                }
            }
        }
    }

    fn lines(mut self) -> Vec<String> {
        if !self.open.is_empty() {
            self.lines.push_back(self.open);
        }
        self.lines.into()
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL (is the machine short of memory?)",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Tail, whole_characters};

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let mut tail = Tail::default();
        (0..100).for_each(|n| tail.push(&format!("line {n}\n")));
        tail.push("no ");
        tail.push("end");
        let lines = tail.lines();
        assert_eq!(lines.len(), 21);
        assert_eq!((lines[0].as_str(), lines[20].as_str()), ("line 80", "no end"));
    }

    #[test]
    fn characters_are_not_cut() {
        let text = "aé".as_bytes();
        assert_eq!(whole_characters(text), 3);
        assert_eq!(whole_characters(&text[..2]), 1);
        assert_eq!(whole_characters(b"a\xff"), 2, "what is no text does not wait for ever");
    }
}
