//! What comes from a network: files of servers and checkouts of repositories.
//!
//! Such a step is first *pinned*, then keyed. Pinning finds out what its words mean now: the digest
//! of a file, the commit of a branch. A file's server is asked for the bytes only if they differ
//! from those that are here; a checksum or the full id of a commit says it all, and nobody is
//! asked. A step that copies from such a step is keyed on what is selected, so it does not matter
//! where the bytes came from, nor when.

use std::borrow::Cow;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use dbuild_digest::{BlobDigest, Framed, StepKey};
use dbuild_events::{Event, LogStream};
use dbuild_layer::{Stack, scan_upper};
use dbuild_plan::{FetchStep, GitStep, Step, StepId, StepKind, is_commit_id, shown_url};
use dbuild_store::{KnownDownload, SnapshotDraft, Validators};

use crate::cache::lookup::StepCache;
use crate::cache::step_inputs::StepInputs;
use crate::error::StepError;
use crate::schedule::cancel::Cancel;
use crate::steps::executed::Executed;
use crate::steps::step_context::StepContext;
use crate::{BlobSourceError, Checkout, Credential, Download, Downloaded, Repository};

/// A step of which is known what its words mean now.
pub(crate) struct PinnedStep {
    /// The step with the digest or the commit in it.
    pub(crate) step: Step,
    /// Its result where it was downloaded while that was found out, and when that began.
    pub(crate) downloaded: Option<(Executed, Instant)>,
}

/// A step with what it means in it, where that is known without asking a server.
pub(crate) fn pinned_without_asking(step: &Step) -> Option<Cow<'_, Step>> {
    match &step.kind {
        StepKind::Fetch(fetch) if fetch.checksum.is_none() => None,
        StepKind::Git(git) => {
            let commit = named_commit(git)?;
            let git = GitStep { reference: None, commit: Some(commit), ..git.clone() };
            Some(Cow::Owned(Step { kind: StepKind::Git(git), ..step.clone() }))
        }
        _ => Some(Cow::Borrowed(step)),
    }
}

/// The commit that a step names in full.
fn named_commit(git: &GitStep) -> Option<String> {
    let by_checksum = git.checksum.as_ref().filter(|_| git.fetch_by_commit);
    let mut named = git.reference.iter().chain(by_checksum);
    named.find(|text| is_commit_id(text)).map(|text| text.to_ascii_lowercase())
}

/// Finds out what a step means now.
pub(crate) fn pin(
    context: &StepContext,
    cache: &StepCache,
    id: StepId,
    step: &Step,
    cancel: &Cancel,
) -> Result<PinnedStep, StepError> {
    let mut pinned = PinnedStep { step: step.clone(), downloaded: None };
    match &mut pinned.step.kind {
        StepKind::Fetch(fetch) if fetch.checksum.is_none() => {
            let began = Instant::now();
            let (digest, executed) = ask_server(context, cache, id, step, fetch, cancel)?;
            fetch.checksum = Some(digest);
            pinned.downloaded = executed.map(|executed| (executed, began));
        }
        StepKind::Git(git) => {
            let (name, commit) = ask_repository(context, git, cancel)?;
            (git.reference, git.commit) = (name, Some(commit));
        }
        _ => {}
    }
    Ok(pinned)
}

/// The digest of what a URL names now, and the file, if it is not in the store.
fn ask_server(
    context: &StepContext,
    cache: &StepCache,
    id: StepId,
    step: &Step,
    fetch: &FetchStep,
    cancel: &Cancel,
) -> Result<(BlobDigest, Option<Executed>), StepError> {
    let lock = Framed::new("ask-server", 1).str(&fetch.url).finish();
    let key = StepKey::from_bytes(lock);
    let Some(_lock) = context.store().lock_key_unless(&key, &|| cancel.is_canceled())? else {
        return Err(StepError::Stopped);
    };
    let known = context.store().known_download(&fetch.url).unwrap_or_default();
    // What is not here any more must come again, whatever the server says of it.
    let known =
        known.filter(|known| !known.validators.is_empty() && is_here(context, cache, step, fetch, known));
    let validators = known.as_ref().map(|known| &known.validators);
    if validators.is_none() {
        context.emit(Event::StepStarted { step: id.0 });
    }
    match (download(context, id, fetch, validators, cancel)?, known) {
        (DownloadOutcome::Unchanged, Some(known)) => Ok((known.digest, None)),
        (DownloadOutcome::Unchanged, None) => {
            Err(StepError::Internal("a server was not asked for all of a file"))
        }
        (DownloadOutcome::File { digest, validators, executed }, _) => {
            let known = KnownDownload { digest, validators };
            cache.or_warn_once(context.store().remember_download(&fetch.url, &known).map(Some));
            Ok((digest, Some(executed)))
        }
    }
}

/// Whether a build may and can use what a URL gave before.
fn is_here(
    context: &StepContext,
    cache: &StepCache,
    step: &Step,
    fetch: &FetchStep,
    known: &KnownDownload,
) -> bool {
    let pinned = FetchStep { checksum: Some(known.digest), ..fetch.clone() };
    let pinned = Step { kind: StepKind::Fetch(pinned), ..step.clone() };
    let inputs = StepInputs::new(context.plan(), &pinned, &context.bases, Vec::new());
    cache.key(&pinned, &inputs).is_ok_and(|key| cache.is_known(step, &key))
}

/// Brings a file whose digest is known.
pub(crate) fn fetch(
    context: &StepContext,
    id: StepId,
    fetch: &FetchStep,
    cancel: &Cancel,
) -> Result<Executed, StepError> {
    let Some(expected) = fetch.checksum else {
        return Err(StepError::Internal("a file is fetched before it is pinned"));
    };
    match download(context, id, fetch, None, cancel)? {
        DownloadOutcome::File { digest, executed, .. } if digest == expected => Ok(executed),
        DownloadOutcome::File { digest, .. } => {
            Err(StepError::Checksum { url: shown_url(&fetch.url), expected, found: digest })
        }
        DownloadOutcome::Unchanged => Err(StepError::Internal("a server was not asked for all of a file")),
    }
}

fn download(
    context: &StepContext,
    id: StepId,
    fetch: &FetchStep,
    known: Option<&Validators>,
    cancel: &Cancel,
) -> Result<DownloadOutcome, StepError> {
    let draft = context.store().new_snapshot()?;
    let path = draft.fs_dir().join(&fetch.file_name);
    let failed =
        |error: std::io::Error| StepError::Remote(format!("cannot write {}: {error}", path.display()).into());
    let file = File::create(&path).map_err(failed)?;
    let shown = shown_url(&fetch.url);
    let host = host_of(&fetch.url);
    let credential = first_secret(
        context,
        &[
            (format!("HTTP_AUTH_HEADER_{host}"), Credential::Header as CredentialForm),
            (format!("HTTP_AUTH_TOKEN_{host}"), Credential::Token),
        ],
    )?;
    let what = Download { url: &fetch.url, shown: &shown, known, credential: credential.as_ref() };
    let started = AtomicBool::new(known.is_none());
    let progress = |current: u64, total: Option<u64>| {
        // What is found to be unchanged is never shown as work.
        if !started.swap(true, Ordering::Relaxed) {
            context.emit(Event::StepStarted { step: id.0 });
        }
        let what = "downloading".to_owned();
        context.emit(Event::StepProgress { step: id.0, what, current, total });
    };
    let downloaded =
        wait_for_remote(context, cancel, context.request.remotes.download(&what, &file, &progress))?;
    let Downloaded::Bytes { digest, modified, validators } = downloaded else {
        return Ok(DownloadOutcome::Unchanged);
    };
    // As BuildKit: what has no time is from 1970.
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(modified.unwrap_or(0).max(0).unsigned_abs());
    file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    file.set_modified(modified).map_err(failed)?;
    let executed = scanned(context, draft)?;
    Ok(DownloadOutcome::File { digest, validators, executed })
}

/// The object that a reference names now: of an annotated tag the commit, unless `.git` is wanted,
/// which has the tag. With it comes the reference's name in full, where it has to be asked for by
/// its name.
fn ask_repository(
    context: &StepContext,
    git: &GitStep,
    cancel: &Cancel,
) -> Result<(Option<String>, String), StepError> {
    let expected = git.checksum.as_deref().unwrap_or_default().to_ascii_lowercase();
    let mismatch = |found: &[&str]| StepError::Commit {
        remote: shown_url(&git.remote),
        reference: git.reference.clone().unwrap_or_else(|| "HEAD".to_owned()),
        expected: expected.clone(),
        found: found.join(" or "),
    };
    if let Some(commit) = named_commit(git) {
        return if commit.starts_with(&expected) { Ok((None, commit)) } else { Err(mismatch(&[&commit])) };
    }
    let found = with_repository(context, git, |repository| {
        wait_for_remote(context, cancel, context.request.remotes.find_commit(&repository))
    })?;
    if found.object == found.commit && !found.commit.starts_with(&expected) {
        return Err(mismatch(&[&found.commit]));
    }
    if !found.object.starts_with(&expected) && !found.commit.starts_with(&expected) {
        return Err(mismatch(&[&found.commit, &found.object]));
    }
    Ok((Some(found.name), if git.keep_git_dir { found.object } else { found.commit }))
}

/// Checks a commit out.
pub(crate) fn check_out(
    context: &StepContext,
    id: StepId,
    git: &GitStep,
    cancel: &Cancel,
) -> Result<Executed, StepError> {
    let commit =
        git.commit.as_deref().ok_or(StepError::Internal("a repository is read before it is pinned"))?;
    let draft = context.store().new_snapshot()?;
    let (into, scratch) = (draft.fs_dir(), context.store().scratch_path());
    let log = |line: &str| {
        let (stream, text) = (LogStream::Stderr, format!("{line}\n"));
        context.emit(Event::StepLog { step: id.0, stream, text });
    };
    with_repository(context, git, |repository| {
        let checkout = Checkout {
            repository,
            commit,
            subdir: git.subdir.as_deref(),
            keep_git_dir: git.keep_git_dir,
            submodules: git.submodules,
            commit_time: git.commit_time,
            scratch: &scratch,
        };
        wait_for_remote(context, cancel, context.request.remotes.check_out(&checkout, &into, &log))
    })?;
    scanned(context, draft)
}

fn with_repository<T>(
    context: &StepContext,
    git: &GitStep,
    work: impl FnOnce(Repository<'_>) -> Result<T, StepError>,
) -> Result<T, StepError> {
    let shown = shown_url(&git.remote);
    let host = host_of(&git.remote);
    let credential = first_secret(
        context,
        &[
            (format!("GIT_AUTH_HEADER.{host}"), Credential::Header as CredentialForm),
            (format!("GIT_AUTH_TOKEN.{host}"), Credential::Token),
            ("GIT_AUTH_HEADER".to_owned(), Credential::Header),
            ("GIT_AUTH_TOKEN".to_owned(), Credential::Token),
        ],
    )?;
    work(Repository {
        remote: &git.remote,
        shown: &shown,
        reference: git.reference.as_deref(),
        credential: credential.as_ref(),
        ssh_agent: context.request.ssh.get("default").map(PathBuf::as_path),
    })
}

/// The first of these secrets that the command line gives.
fn first_secret(
    context: &StepContext,
    names: &[(String, CredentialForm)],
) -> Result<Option<Credential>, StepError> {
    for (name, kind) in names {
        if let Some(value) = context.secret(name)? {
            let text = String::from_utf8_lossy(&value).trim().to_owned();
            return Ok(Some(kind(text)));
        }
    }
    Ok(None)
}

fn wait_for_remote<T>(
    context: &StepContext,
    cancel: &Cancel,
    work: impl Future<Output = Result<T, BlobSourceError>>,
) -> Result<T, StepError> {
    let mut cancel = cancel.clone();
    context.runtime.block_on(async {
        tokio::select! {
            done = work => done.map_err(StepError::Remote),
            () = cancel.canceled() => Err(StepError::Stopped),
        }
    })
}

fn scanned(context: &StepContext, draft: SnapshotDraft) -> Result<Executed, StepError> {
    let tree = scan_upper(&draft.fs_dir(), &Stack::default(), context.store().flavor())?;
    Ok(Executed::written(draft, tree))
}

type CredentialForm = fn(String) -> Credential;

enum DownloadOutcome {
    Unchanged,
    File { digest: BlobDigest, validators: Validators, executed: Executed },
}

/// The host of a URL, without a port.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::host_of;

    #[test]
    fn hosts_of_urls() {
        for (url, host) in [
            ("https://h/a", "h"),
            ("http://u:p@h.example:8080?x", "h.example"),
            ("git@h:a/b", "h"),
            ("https://[::1]:5/a", "::1"),
        ] {
            assert_eq!(host_of(url), host);
        }
    }
}
