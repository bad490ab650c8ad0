//! Checkouts of git repositories, by the git command: what a reference names now, and the files of
//! a commit.

mod command;
mod tree;

use std::path::{Path, PathBuf};

use command::{Failed, Git};
use dbuild_scheduler::{Checkout, FoundCommit, Repository};
use dbuild_support::escape::one_line;

use crate::error::RemoteError;

type Log<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// What a reference names, with the rules of `git checkout`: a branch goes before a tag of the same
/// name.
pub(crate) async fn find_commit(program: &Path, what: &Repository<'_>) -> Result<FoundCommit, RemoteError> {
    let git = Git::new(program, *what, &|_| ());
    let failed = |failed| explain(what, "read", failed);
    let Some(reference) = what.reference else {
        let listed = git.run(&["ls-remote", "--symref", "--", what.remote, "HEAD"]).await.map_err(failed)?;
        return head(&listed).ok_or_else(|| {
            let problem = "it has no branch that it calls its own (HEAD)".to_owned();
            let help = Some("name a branch: `#main`".to_owned());
            RemoteError::Git { action: "read", remote: what.shown.to_owned(), problem, help }
        });
    };
    let peeled = format!("{reference}^{{}}");
    let listed = git.run(&["ls-remote", "--", what.remote, reference, &peeled]).await.map_err(failed)?;
    named(&listed, reference).ok_or_else(|| {
        let problem = format!("it has no branch or tag `{reference}`");
        let is_id = reference.len() >= 4 && reference.bytes().all(|byte| byte.is_ascii_hexdigit());
        let help = if is_id { "a commit is named by its id in full" } else { "check the spelling" };
        let help = Some(help.to_owned());
        RemoteError::Git { action: "read", remote: what.shown.to_owned(), problem, help }
    })
}

/// Reads `ref: refs/heads/main<TAB>HEAD` and `ID<TAB>HEAD`.
fn head(listed: &str) -> Option<FoundCommit> {
    let lines =
        || listed.lines().filter_map(|line| line.split_once('\t')).filter(|(_, name)| *name == "HEAD");
    let target = lines().find_map(|(value, _)| value.strip_prefix("ref: "));
    let object = lines().map(|(value, _)| value).find(|value| is_id(value))?;
    Some(FoundCommit {
        name: target.unwrap_or("HEAD").to_owned(),
        object: object.to_owned(),
        commit: object.to_owned(),
    })
}

fn named(listed: &str, reference: &str) -> Option<FoundCommit> {
    let id_of = |name: &str| {
        let mut lines = listed.lines().filter_map(|line| line.split_once('\t'));
        lines.find(|(id, listed)| *listed == name && is_id(id)).map(|(id, _)| id.to_owned())
    };
    let bare = |prefix: &str| format!("{prefix}{}", reference.strip_prefix(prefix).unwrap_or(reference));
    for name in [bare("refs/"), bare("refs/heads/"), bare("refs/tags/")] {
        if let Some(object) = id_of(&name) {
            let commit = id_of(&format!("{name}^{{}}")).unwrap_or_else(|| object.clone());
            return Some(FoundCommit { name, object, commit });
        }
    }
    None
}

fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Writes the files of a commit into an empty directory.
pub(crate) async fn check_out(
    program: &Path,
    what: &Checkout<'_>,
    into: &Path,
    log: Log<'_>,
) -> Result<(), RemoteError> {
    let failed = |failed| explain(&what.repository, "check out", failed);
    let done = write(program, what, into, log).await.map_err(failed);
    let removed = dbuild_store::remove_tree(what.scratch);
    done?;
    removed.map_err(Failed::Local).map_err(failed)
}

async fn write(program: &Path, what: &Checkout<'_>, into: &Path, log: Log<'_>) -> Result<(), Failed> {
    let outer = Git::new(program, what.repository, log);
    std::fs::create_dir_all(what.scratch).map_err(Failed::Local)?;
    // With a directory of the repository the rest must not be in the result, not even for a moment.
    let tree = match what.subdir {
        Some(_) => what.scratch.join("tree"),
        None => into.to_owned(),
    };
    std::fs::create_dir_all(&tree).map_err(Failed::Local)?;
    let git_dir: PathBuf =
        if what.keep_git_dir { into.join(".git") } else { what.scratch.join("repository") };
    let git = outer.with_dir(&git_dir).with_work_tree(&tree);
    let format = if what.commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" };
    git.run(&["init", "--quiet", "--template=", format]).await?;
    git.run(&["remote", "add", "origin", what.repository.remote]).await?;
    fetch(&git, what).await?;
    git.run(&["checkout", "--quiet", "--force", "--detach", what.commit]).await?;
    if what.keep_git_dir {
        git.run(&["remote", "set-url", "origin", what.repository.shown]).await?;
    }
    if what.submodules {
        submodules(&git).await?;
    }
    if what.keep_git_dir {
        git.run(&["reflog", "expire", "--all", "--expire=now"]).await?;
        let _ = std::fs::remove_file(git_dir.join("FETCH_HEAD"));
    }
    let time = match what.commit_time {
        true => {
            let peeled = format!("{}^{{commit}}", what.commit);
            let text = git.run(&["log", "-1", "--format=%ct", &peeled]).await?;
            text.trim().parse::<i64>().ok()
        }
        false => None,
    };
    if let Some(subdir) = what.subdir {
        tree::take_subdir(&tree, subdir, into).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                Failed::Said(format!("fatal: it has no directory `{subdir}` in commit {}", what.commit))
            }
            _ => Failed::Local(error),
        })?;
    }
    tree::normalize(into, what.keep_git_dir, time).map_err(Failed::Local)
}

/// Brings the commit: with nothing but itself where the server gives that, else with all that it
/// has.
async fn fetch(git: &Git<'_>, what: &Checkout<'_>) -> Result<(), Failed> {
    let commit = what.commit;
    let is_here = format!("{commit}^{{commit}}");
    let by_name = what.repository.reference.filter(|name| name.starts_with("refs/"));
    let by_name = by_name.map(|name| format!("+{name}:{name}"));
    // The name may have moved since it was looked up; the commit counts.
    for wanted in by_name.iter().map(String::as_str).chain([commit]) {
        for depth in [&["--depth=1"][..], &[]] {
            // A commit that nothing names is not to be had with its history, either.
            if depth.is_empty() && wanted == commit && by_name.is_none() {
                continue;
            }
            let mut args = vec!["fetch", "--quiet", "--no-tags", "--update-head-ok"];
            args.extend(depth);
            args.extend(["origin", wanted]);
            match git.run(&args).await {
                Ok(_) if git.run(&["cat-file", "-e", &is_here]).await.is_ok() => return Ok(()),
                Ok(_) => break,
                Err(Failed::Said(text)) if may_help_to_ask_otherwise(&text) => {}
                Err(failed) => return Err(failed),
            }
        }
    }
    let all =
        ["fetch", "--quiet", "--update-head-ok", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*"];
    git.run(&all).await?;
    match git.run(&["cat-file", "-e", &is_here]).await {
        Ok(_) => Ok(()),
        Err(Failed::Said(_)) => {
            Err(Failed::Said(format!("fatal: commit {commit} is in no branch and no tag of it")))
        }
        Err(failed) => Err(failed),
    }
}

/// Servers that know no shallow clones, or give only what has a name.
fn may_help_to_ask_otherwise(stderr: &str) -> bool {
    ["shallow", "--depth", "not our ref", "unadvertised object", "couldn't find remote ref", "not allowed"]
        .iter()
        .any(|words| stderr.contains(words))
}

async fn submodules(git: &Git<'_>) -> Result<(), Failed> {
    let args = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"];
    match git.run(&args).await {
        // A server that gives a submodule's commit only with the branch above it.
        Err(Failed::Said(_)) => git.run(&args[..5]).await.map(drop),
        other => other.map(drop),
    }
}

/// An error in words, with what to try.
fn explain(what: &Repository<'_>, action: &'static str, failed: Failed) -> RemoteError {
    let (problem, help) = match failed {
        Failed::Missing => (
            "git is not installed".to_owned(),
            Some("install it, such as with `apt install git`; `dbuild doctor` looks for it".to_owned()),
        ),
        Failed::Local(error) => (error.to_string(), None),
        Failed::Said(text) => (reason(&text), advice(what, &text)),
    };
    RemoteError::Git { action, remote: what.shown.to_owned(), problem, help }
}

/// The lines of git's standard error that say what is wrong.
fn reason(stderr: &str) -> String {
    let lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = |line: &&str| {
        ["fatal:", "error:", "ERROR:", "remote:"].iter().any(|word| line.starts_with(word))
            || line.contains("Permission denied")
            || line.contains("verification failed")
    };
    let mut kept: Vec<&str> = lines.clone().filter(telling).collect();
    kept.dedup();
    if kept.is_empty() {
        kept = lines.collect();
    }
    let all = kept.iter().map(|line| line.trim_start_matches("fatal: ")).collect::<Vec<_>>().join("; ");
    if all.is_empty() { "git failed and did not say why".to_owned() } else { one_line(&all) }
}

fn advice(what: &Repository<'_>, stderr: &str) -> Option<String> {
    let has = |words: &[&str]| words.iter().any(|word| stderr.contains(word));
    let text = if has(&["Permission denied (publickey"]) {
        match what.ssh_agent {
            None => "give the build an ssh agent with a key that may read it: `--ssh default`",
            Some(_) => "the keys of the agent that `--ssh` names may not read it: see `ssh-add -l`",
        }
    } else if has(&["Host key verification failed", "HOST IDENTIFICATION HAS CHANGED"]) {
        "the host's key is not the one in ~/.ssh/known_hosts"
    } else if has(&["could not read Username", "Authentication failed", "terminal prompts disabled", "403"]) {
        "check the name; if it is private, give a token: `--secret id=GIT_AUTH_TOKEN,env=TOKEN`"
    } else if has(&["Could not resolve", "onnection refused", "timed out", "Failed to connect"]) {
        "check the network and the name of the host"
    } else if has(&["not found", "does not appear to be a git repository", "not exported"]) {
        "check the spelling of the repository"
    } else if has(&["transport", "protocol"]) && has(&["not allowed"]) {
        "repositories and their submodules are reached by https, http, ssh and git"
    } else {
        return None;
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{head, named, reason};

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    #[test]
    fn a_branch_goes_before_a_tag_and_a_tag_is_peeled() {
        let listed = format!("{A}\trefs/heads/v1\n{B}\trefs/tags/v1\n");
        let found = named(&listed, "v1").unwrap();
        assert_eq!((found.name.as_str(), found.commit.as_str()), ("refs/heads/v1", A));
        assert_eq!(named(&listed, "refs/tags/v1").unwrap().commit, B);
        assert_eq!(named(&listed, "tags/v1").unwrap().commit, B);
        let annotated = format!("{A}\trefs/tags/v1\n{B}\trefs/tags/v1^{{}}\n");
        let found = named(&annotated, "v1").unwrap();
        assert_eq!((found.object.as_str(), found.commit.as_str()), (A, B));
        assert_eq!(named(&format!("{A}\trefs/heads/x/v1\n"), "v1"), None, "only a whole name counts");
        assert_eq!(named("garbage\trefs/heads/v1\n", "v1"), None);
    }

    #[test]
    fn head_is_followed() {
        let found = head(&format!("ref: refs/heads/main\tHEAD\n{A}\tHEAD\n")).unwrap();
        assert_eq!((found.name.as_str(), found.object.as_str()), ("refs/heads/main", A));
        assert_eq!(head(&format!("{A}\tHEAD\n")).unwrap().name, "HEAD");
        assert_eq!(head(""), None, "an empty repository");
    }

    #[test]
    fn of_what_git_says_the_reason_is_kept() {
        let said = "Cloning into 'x'...\nWarning: something\nfatal: repository 'x' not found\n";
        assert_eq!(reason(said), "repository 'x' not found");
        assert_eq!(reason("odd\n"), "odd");
    }
}
