//! The mounts of a command: first described, then mounted from that description.
//!
//! The description is what the journal keeps of a command that failed. A RUN is mounted from
//! nothing else, so what is mounted again for a shell there cannot be another thing than what the
//! command had. This module does not know of plans.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use dbuild_events::{MountInfo, MountType};
use dbuild_layer::{CopyRequest, OverlayFlavor, SelectOptions, Source, Stack, copy, select};
use dbuild_plan::CacheSharing;
use dbuild_sandbox::{self as sandbox, MountSource, OverlayDirs};
use dbuild_store::{CacheMount, SnapshotDraft, Store};
use tokio::runtime::Handle;

use crate::error::StepError;
use crate::layers::filesystem::stack_of_one;
use crate::layers::flatten::directories;
use crate::request::Secret;
use crate::steps::run::owner::set_owner;
use crate::steps::run::ssh_agent::AgentSocket;

/// Where the mounts of a command come from.
pub struct Mounter<'a> {
    /// Where caches and snapshots are.
    pub store: &'a Store,
    /// Carries the connections to ssh agents.
    pub runtime: &'a Handle,
    /// The values of secrets, by id.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// The sockets of ssh agents, by id.
    pub ssh: &'a BTreeMap<String, PathBuf>,
    /// The file system of a step.
    pub files: &'a dyn Fn(u32) -> Result<Stack, StepError>,
    /// Hears of a cache mount before it is waited for, since another command has it.
    pub waits: Option<&'a dyn Fn(&MountInfo)>,
    /// Whether a cache directory, by its name, is begun anew.
    pub begins_anew: &'a dyn Fn(&str) -> bool,
}

/// Mounts that can be handed to a sandbox, and what must live as long as its command runs: cache
/// mounts are locked, and agents answer, until this is dropped.
#[derive(Default)]
pub struct Mounted {
    /// For [`sandbox::Spec::mounts`], in order.
    pub mounts: Vec<sandbox::Mount>,
    /// Variables that hold secrets.
    pub env: Vec<(String, String)>,
    drafts: Vec<SnapshotDraft>,
    /// By name: two mounts of one name are one directory.
    caches: BTreeMap<String, CacheMount>,
    agents: Vec<AgentSocket>,
}

impl Mounter<'_> {
    /// Mounts, in the order of the description. A mount that fails is handed to `failed`: where
    /// that gives an error, it is this function's, else the mount is left out.
    ///
    /// Waits for cache mounts that another command has locked.
    pub fn mount(
        &self,
        mounts: &[MountInfo],
        failed: &mut dyn FnMut(&MountInfo, StepError) -> Result<(), StepError>,
    ) -> Result<Mounted, StepError> {
        let mut mounted = Mounted::default();
        let mut without = self.take_caches(mounts, &mut mounted, failed)?;
        for info in mounts {
            if let Some(at) = without.iter().position(|other| *other == info) {
                without.swap_remove(at);
            } else if let Err(error) = self.one(info, &mut mounted) {
                failed(info, error)?;
            }
        }
        Ok(mounted)
    }

    /// Takes the cache directories, in the order of their names: commands that want the same ones
    /// never wait for each other in a cycle. Gives the mounts without a directory.
    fn take_caches<'m>(
        &self,
        mounts: &'m [MountInfo],
        mounted: &mut Mounted,
        failed: &mut dyn FnMut(&MountInfo, StepError) -> Result<(), StepError>,
    ) -> Result<Vec<&'m MountInfo>, StepError> {
        let named = |info: &'m MountInfo| match &info.kind {
            MountType::Cache { name, sharing, .. } => Some((name, *sharing != CacheSharing::Locked, info)),
            _ => None,
        };
        let mut caches: Vec<_> = mounts.iter().filter_map(named).collect();
        // The stricter one of two mounts of one directory is taken.
        caches.sort_by(|(a, open, _), (b, other, _)| (a, open).cmp(&(b, other)));
        let mut without = Vec::new();
        for (name, _, info) in caches {
            if mounted.caches.contains_key(name) {
                continue;
            }
            match self.cache(info) {
                Ok(cache) => drop(mounted.caches.insert(name.clone(), cache)),
                Err(error) => {
                    failed(info, error)?;
                    without.push(info);
                }
            }
        }
        Ok(without)
    }

    fn cache(&self, info: &MountInfo) -> Result<CacheMount, StepError> {
        let MountType::Cache { name, sharing, from, source, mode, uid, gid, .. } = &info.kind else {
            return Err(StepError::Internal("a mount without a cache was asked for its cache"));
        };
        if let Some(waits) = self.waits
            && self.store.cache_mount_is_busy(name, *sharing)
        {
            waits(info);
        }
        // An error of this kind would lose its words on the way through the store.
        let mut wrong = None;
        let anew = (self.begins_anew)(name);
        let cache = self.store.cache_mount(name, *sharing, anew, |dir| match from {
            None => set_owner(dir, *mode, *uid, *gid),
            Some(from) => (self.files)(*from)
                .and_then(|stack| fill(&stack, source, dir, self.store.flavor()))
                .map_err(|error| {
                    wrong = Some(error);
                    std::io::Error::other("it cannot be filled")
                }),
        });
        match (cache, wrong) {
            (Err(_), Some(error)) => Err(error),
            (cache, _) => Ok(cache?),
        }
    }

    fn one(&self, info: &MountInfo, mounted: &mut Mounted) -> Result<(), StepError> {
        let source = match &info.kind {
            MountType::Bind { from, source, writable, snapshot } => {
                let lower = match snapshot {
                    Some(id) => stack_of_one(&self.store.snapshot(id).ok_or_else(|| {
                        StepError::Needs("its files were collected: build again".to_owned())
                    })?),
                    None => (self.files)(*from)?,
                };
                let writable = writable.then(|| self.writable(mounted)).transpose()?;
                MountSource::OverlayBind {
                    lower: directories(self.store, &lower)?,
                    subpath: source.clone(),
                    writable,
                }
            }
            MountType::Cache { id, name, from, source, readonly, .. } => {
                let cache = mounted.caches.get(name).ok_or(StepError::Internal("a cache was not taken"))?;
                let path = match from {
                    Some(_) => cache.dir().to_owned(),
                    None => inside(cache.dir(), id, source)?,
                };
                MountSource::Bind { path, readonly: *readonly }
            }
            MountType::Tmpfs { size } => MountSource::Tmpfs { size: *size, mode: 0o1777 },
            MountType::Secret { id, env, mode, uid, gid } => {
                let value = self.secrets.get(id).ok_or_else(|| no_secret(id))?.value(id)?;
                if let Some(name) = env {
                    mounted.env.push((name.clone(), variable(id, &value)?));
                }
                if info.target.is_empty() {
                    return Ok(());
                }
                MountSource::File { contents: value.into(), mode: *mode, uid: *uid, gid: *gid }
            }
            MountType::Ssh { id, mode, uid, gid } => {
                let agent = self.ssh.get(id).ok_or_else(|| no_agent(id))?;
                let dir = self.store.scratch_path();
                let socket = AgentSocket::new(self.runtime, agent.clone(), dir, (*mode, *uid, *gid));
                let socket = socket.map_err(|error| {
                    StepError::Needs(format!("no socket for the ssh agent `{id}` can be made: {error}"))
                })?;
                let path = socket.path();
                mounted.agents.push(socket);
                MountSource::Bind { path, readonly: false }
            }
            MountType::Script { content } => {
                let contents = content.clone().into_bytes().into();
                MountSource::File { contents, mode: 0o755, uid: 0, gid: 0 }
            }
            MountType::Unknown => {
                return Err(StepError::Needs("a newer dbuild made it".to_owned()));
            }
        };
        mounted.mounts.push(sandbox::Mount { target: info.target.clone(), source });
        Ok(())
    }

    fn writable(&self, mounted: &mut Mounted) -> Result<OverlayDirs, StepError> {
        let draft = self.store.new_snapshot()?;
        let dirs = OverlayDirs { upper: draft.fs_dir(), work: draft.work_dir() };
        mounted.drafts.push(draft);
        Ok(dirs)
    }
}

impl std::fmt::Debug for Mounted {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let targets: Vec<&str> = self.mounts.iter().map(|mount| mount.target.as_str()).collect();
        f.debug_struct("Mounted").field("mounts", &targets).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Mounter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mounter").finish_non_exhaustive()
    }
}

/// A secret that a mount wants and the command line does not give.
pub(crate) fn no_secret(id: &str) -> StepError {
    StepError::Needs(format!("no secret `{id}`: give it with `--secret id={id},src=FILE`"))
}

/// An agent that a mount wants and the command line does not give.
pub(crate) fn no_agent(id: &str) -> StepError {
    StepError::Needs(format!("no ssh agent `{id}`: give it with `--ssh {id}`"))
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
    let options = SelectOptions { literal: true, ..SelectOptions::default() };
    let all = select(stack, &path, &options).map_err(failed)?;
    let sources = vec![Source::Selected { selection: &all, unpack: false }];
    let request = CopyRequest::new(sources, "/");
    copy(&request, dir, flavor).map_err(failed)?;
    let top = stack.resolve(source, true).ok().and_then(|resolved| resolved.found);
    let (mode, uid, gid) = top.map_or((0o755, 0, 0), |top| (top.entry.mode, top.entry.uid, top.entry.gid));
    set_owner(dir, mode, uid, gid)
        .map_err(|error| StepError::Needs(format!("a cache cannot be filled: {error}")))
}
