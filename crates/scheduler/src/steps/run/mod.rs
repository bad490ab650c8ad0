//! RUN: a command in a sandbox, and the layer that it leaves.

pub(crate) mod describe_mounts;
pub(crate) mod mounts;
pub(crate) mod owner;
pub(crate) mod run_damage;
pub(crate) mod ssh_agent;

use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use dbuild_events::{Event, LogStream, MountInfo};
use dbuild_layer::{OverlayFlavor, Stack, make_dir, prepare_upper, scan_upper, users};
use dbuild_plan::{HostEntry, NetworkMode, RunStep, SecurityMode, StepId, shown_url};
use dbuild_sandbox::{self as sandbox, Rootfs, Spec, Trace};
use dbuild_store::{SnapshotDraft, Store};

use crate::cache::step_inputs::StepInputs;
use crate::error::StepError;
use crate::layers::flatten::directories;
use crate::request::Machine;
use crate::schedule::cancel::Cancel;
use crate::steps::executed::Executed;
use crate::steps::run::describe_mounts::describe_mounts;
use crate::steps::run::mounts::Mounter;
use crate::steps::run::run_damage::damage_under;
use crate::steps::step_context::StepContext;

/// An empty `/etc/hosts` and `/etc/resolv.conf`, for as long as this process lives.
fn make_mount_points(store: &Store) -> io::Result<PathBuf> {
    let dir = store.scratch_path();
    let etc = dir.join("etc");
    for path in [&dir, &etc] {
        fs::create_dir(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
    }
    for name in ["hosts", "resolv.conf"] {
        let path = etc.join(name);
        File::create(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    Ok(dir)
}

/// How much of a failed command's output stands in the error.
const TAIL_LINES: usize = 20;

/// Executes a RUN.
pub(crate) fn run(
    context: &StepContext,
    (id, run): (StepId, &RunStep),
    inputs: &StepInputs<'_>,
    cancel: &Cancel,
) -> Result<Executed, StepError> {
    let lower = inputs.stack_of(run.parent)?;
    let user = users::user(&lower, &run.user)?;
    let draft = context.store().new_snapshot()?;
    let flavor = context.store().flavor();
    ensure_workdir(&lower, &run.workdir, (user.uid, user.gid), &draft.fs_dir(), flavor)?;
    prepare_upper(&draft.fs_dir(), &lower, flavor)?;
    let root = Rootfs::Overlay {
        lower: with_mount_points(context, directories(context.store(), &lower)?),
        upper: draft.fs_dir(),
        work: draft.work_dir(),
    };
    let mut spec = process(&context.request.machine, run, user, root)?;
    let described = describe_mounts(context, run, inputs)?;
    let mounter = Mounter {
        store: context.store(),
        runtime: &context.runtime,
        secrets: &context.request.secrets,
        ssh: &context.request.ssh,
        files: &|from| inputs.stack_of(StepId(from)),
        // Steps that take turns are what such a mount is for.
        waits: None,
        begins_anew: &|name| context.begins_anew(id, name),
    };
    let mut mounted = mounter.mount(&described, &mut |_, error| Err(error))?;
    spec.mounts = std::mem::take(&mut mounted.mounts);
    spec.env.append(&mut mounted.env);
    spec.trace = context.request.strategy.is_traced() && spec.security == sandbox::Security::Default;
    let ended = wait_for(context, id, &spec, cancel);
    drop(mounted);
    let error = match ended {
        Ok(trace) => {
            let tree = scan_upper(&draft.fs_dir(), &lower, flavor)?;
            return Ok(Executed {
                trace: usable_trace(context, id, trace),
                ..Executed::written(draft, tree)
            });
        }
        Err(error) => error,
    };
    if let Some(damage) = damage_under(context, &error, run, inputs, &lower) {
        return Err(damage.into());
    }
    if error.is_of_command() {
        keep_failed(context, (id, run), described, draft, &lower);
    }
    Err(error)
}

/// What a command read, if all of it was seen; else a note says why it is not used.
fn usable_trace(context: &StepContext, id: StepId, trace: Option<Trace>) -> Option<Trace> {
    let why = match &trace {
        Some(Trace { incomplete: None, .. }) => return trace,
        Some(Trace { incomplete: Some(why), .. }) => why,
        None if context.request.strategy.is_traced() => "it runs with --security=insecure",
        None => return None,
    };
    let text = format!("{} is not traced: {why}", context.plan().step(id).text);
    context.emit(Event::Note { text });
    None
}

/// The process of a command, without its mounts.
fn process(machine: &Machine, run: &RunStep, user: users::User, root: Rootfs) -> Result<Spec, StepError> {
    let mut spec = Spec::new(root, run.argv.clone());
    spec.env = run.env.clone();
    for (name, value) in &run.proxies {
        if !spec.env.iter().any(|(known, _)| known == name) {
            spec.env.push((name.clone(), value.clone()));
        }
    }
    // As runc does, an empty one is none.
    if !spec.env.iter().any(|(name, value)| name == "HOME" && !value.is_empty()) {
        spec.env.retain(|(name, _)| name != "HOME");
        spec.env.push(("HOME".to_owned(), user.home));
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
        SecurityMode::Insecure if machine.allow_insecure => sandbox::Security::Insecure,
        SecurityMode::Insecure => {
            let text = "RUN --security=insecure is not allowed; allow it with `--allow security.insecure`";
            return Err(StepError::Needs(text.to_owned()));
        }
    };
    spec.shm_size = machine.shm_size.unwrap_or(spec.shm_size);
    spec.ulimits = machine.ulimits.clone();
    spec.resolv_conf = Some(machine.resolv_conf.clone());
    if let Some(hostname) = &run.hostname {
        spec.hostname.clone_from(hostname);
    }
    spec.hosts = Some(hosts_file(&spec.hostname, run.extra_hosts.iter()));
    Ok(spec)
}

/// The directories that a command sees, with the lowest one of all: the files that others are
/// mounted on in every step. An image most often lacks them, and then they would be made above it
/// and removed again for each step, with the directory they are in.
fn with_mount_points(context: &StepContext, lower: Vec<PathBuf>) -> Vec<PathBuf> {
    let points = context.mount_points.get_or_init(|| make_mount_points(context.store()).ok());
    // Without layers nothing is stacked.
    let points = points.iter().filter(|_| !lower.is_empty()).cloned();
    points.chain(lower.iter().cloned()).collect()
}

/// Keeps what a command that failed had written (nothing, if it could not be started), so that
/// somebody can look at it. No record leads to it: no build takes it for a result, and the next
/// collection removes it. Trouble here must not hide why the command failed.
fn keep_failed(
    context: &StepContext,
    (id, run): (StepId, &RunStep),
    mounted: Vec<MountInfo>,
    draft: SnapshotDraft,
    lower: &Stack,
) {
    let kept = scan_upper(&draft.fs_dir(), lower, context.store().flavor())
        .map_err(StepError::from)
        .and_then(|tree| Ok(context.store().publish_snapshot(draft, tree)?));
    match kept {
        Ok(snapshot) => context.emit(Event::StepKept {
            step: id.0,
            snapshot: snapshot.id,
            env: run.env.iter().map(|(name, value)| format!("{name}={}", shown_url(value))).collect(),
            user: run.user.clone(),
            workdir: run.workdir.clone(),
            program: run.argv.first().cloned().unwrap_or_default(),
            mounts: mounted.iter().map(MountInfo::words).collect(),
            mounted,
            network: (run.network == NetworkMode::None).then(|| "none".to_owned()),
            hosts: run.extra_hosts.iter().map(|host| format!("{} {}", host.ip, host.host)).collect(),
            insecure: run.security == SecurityMode::Insecure,
        }),
        Err(error) => tracing::warn!("what a failed step wrote is not kept: {error}"),
    }
}

/// Starts the command, hands on what it writes, and waits for its end.
fn wait_for(
    context: &StepContext,
    id: StepId,
    spec: &Spec,
    cancel: &Cancel,
) -> Result<Option<Trace>, StepError> {
    let mut running = sandbox::spawn(spec)?;
    let killer = running.killer();
    let mut heard = cancel.clone();
    let watch = context.runtime.spawn(async move {
        heard.canceled().await;
        killer.kill();
    });
    for text in running.notes() {
        context.note_once(text);
    }
    let pipes = [(LogStream::Stdout, running.take_stdout()), (LogStream::Stderr, running.take_stderr())];
    let tail = Mutex::new(OutputTail::default());
    let exit = std::thread::scope(|scope| {
        for (stream, pipe) in pipes {
            let tail = &tail;
            scope.spawn(move || pipe.map(|pipe| hand_on(context, id, stream, pipe, tail)));
        }
        running.wait_traced()
    });
    watch.abort();
    let (exit, trace) = exit?;
    if cancel.is_canceled() {
        return Err(StepError::Stopped);
    }
    let (how, code) = match exit.status {
        sandbox::ExitStatus::Code(0) => return Ok(trace),
        sandbox::ExitStatus::Code(code) => (format!("exit code {code}"), code),
        sandbox::ExitStatus::Signal(signal) => (format!("killed by {}", signal_name(signal)), 128 + signal),
    };
    let tail = tail.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    Err(StepError::Command { how, code, tail: tail.lines() })
}

fn hand_on(context: &StepContext, id: StepId, stream: LogStream, pipe: OwnedFd, tail: &Mutex<OutputTail>) {
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
        context.emit(Event::StepLog { step: id.0, stream, text });
        let end = rest + count;
        buffer.copy_within(cut..end, 0);
        rest = end - cut;
        if count == 0 {
            break;
        }
    }
}

/// Makes the working directory where no layer has it, or an earlier step has taken it away: 0755,
/// for `owner`. A RUN makes it for the user that it runs as, as BuildKit does.
pub fn ensure_workdir(
    lower: &Stack,
    workdir: &str,
    (uid, gid): (u32, u32),
    upper: &Path,
    flavor: OverlayFlavor,
) -> Result<(), StepError> {
    let missing = lower.resolve(workdir, true).is_ok_and(|resolved| resolved.found.is_none());
    if missing && workdir != "/" {
        make_dir(lower, workdir, uid, gid, upper, flavor)
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
struct OutputTail {
    lines: VecDeque<String>,
    open: String,
}

impl OutputTail {
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
    use super::{OutputTail, whole_characters};

    #[test]
    fn the_tail_keeps_the_last_lines() {
        let mut tail = OutputTail::default();
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
