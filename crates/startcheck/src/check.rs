//! The whole of it: user, working directory, command.

use std::collections::BTreeMap;

use dbuild_events::{StartSeverity, StartVerdict};
use dbuild_oci::{DEFAULT_PATH, ImageConfig, Platform};

use crate::accounts::{AccountError, user_of};
use crate::analysis::{Analysis, Scope};
use crate::image_files::Files;
use crate::program::run_program;
use crate::user::User;
use crate::verdict::{Finding, Need, Start};
use crate::view::{PathError, View};

/// Looks into an image: whether what its config starts can start in its files.
pub fn check(config: &ImageConfig, platform: &Platform, files: &dyn Files) -> Start {
    let command =
        [config.entrypoint.clone().unwrap_or_default(), config.cmd.clone().unwrap_or_default()].concat();
    let (user, account) = match user_of(files, &config.user) {
        Ok(user) => (user, None),
        Err(error) => (User::default(), Some(error)),
    };
    let env = environment(config, &user);
    let path = env.get("PATH").cloned().unwrap_or_default();
    let view = View::new(files, user);
    let mut analysis = Analysis::new(view, env, platform.architecture.clone(), run_program);
    account_findings(&mut analysis, account);
    if command.is_empty() {
        return verdict(analysis, command, Some(StartVerdict::NoCommand));
    }
    // The text may hold `..`, and is entered clean.
    let workdir = entered(&config.working_dir);
    workdir_findings(&mut analysis, &workdir);
    let scope = Scope::of_image(workdir, path);
    run_config(&mut analysis, config, &command, &scope);
    verdict(analysis, command, None)
}

/// The variables that the command gets.
fn environment(config: &ImageConfig, user: &User) -> BTreeMap<String, String> {
    let pairs = config.env.iter().filter_map(|entry| entry.split_once('='));
    let mut env: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.entry("PATH".to_owned()).or_insert_with(|| DEFAULT_PATH.to_owned());
    let home = if user.home.is_empty() { "/" } else { &user.home };
    env.entry("HOME".to_owned()).or_insert_with(|| home.to_owned());
    env
}

fn account_findings(analysis: &mut Analysis<'_>, error: Option<AccountError>) {
    let (what, name, file, add) = match error {
        None => return,
        Some(AccountError::Unread(file)) => return analysis.unread(&format!("the user ({file})")),
        Some(AccountError::User(name)) => ("user", name, "/etc/passwd", "useradd"),
        Some(AccountError::Group(name)) => ("group", name, "/etc/group", "groupadd"),
    };
    analysis.find(Finding {
        path: Some(file.to_owned()),
        help: vec![format!("make the {what} in this stage (RUN {add} {name}), or give USER a number")],
        ..Finding::new(
            "user-unknown",
            StartSeverity::WillNotStart,
            format!("USER names the {what} `{name}`, which {file} does not have"),
        )
    });
}

fn workdir_findings(analysis: &mut Analysis<'_>, path: &str) {
    let finding = match analysis.view.walk(path) {
        Ok(place) if !place.node.is_dir() => {
            Finding::new("workdir", StartSeverity::WillNotStart, format!("WORKDIR {path} is no directory"))
        }
        Ok(place) if !analysis.view.user.may(&place.node, 1) => {
            let text = format!("WORKDIR {path} cannot be entered by user {}", analysis.view.user.uid);
            Finding::new("workdir", StartSeverity::MayFail, text)
        }
        Ok(_) => return,
        Err(PathError::AtRunTime(_)) => return,
        Err(PathError::Missing { .. }) => {
            let text =
                format!("WORKDIR {path} is not in the image: Docker makes it when it starts, others refuse");
            Finding::new("workdir", StartSeverity::Advice, text)
        }
        Err(PathError::Denied(dir)) => {
            let text = format!(
                "WORKDIR {path} cannot be reached: user {} may not enter {dir}",
                analysis.view.user.uid
            );
            Finding::new("workdir", StartSeverity::MayFail, text)
        }
        Err(PathError::NotADirectory(at)) => Finding::new(
            "workdir",
            StartSeverity::WillNotStart,
            format!("WORKDIR {path} leads through {at}, which is no directory"),
        ),
        Err(PathError::Loop(_)) => Finding::new(
            "workdir",
            StartSeverity::WillNotStart,
            format!("WORKDIR {path} leads into a cycle of symbolic links"),
        ),
    };
    analysis.find(Finding { path: Some(path.to_owned()), ..finding });
}

/// The worst of what was found decides.
fn verdict(analysis: Analysis<'_>, command: Vec<String>, verdict: Option<StartVerdict>) -> Start {
    let (mut findings, unknown) = analysis.finish();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let worst = findings.first().map(|finding| finding.severity);
    let verdict = verdict.unwrap_or(match worst {
        Some(StartSeverity::WillNotStart) => StartVerdict::WillNotStart,
        Some(StartSeverity::MayFail) => StartVerdict::MayFail,
        _ if !unknown.is_empty() => StartVerdict::Unknown,
        _ => StartVerdict::Starts,
    });
    Start { command, verdict, findings, unknown }
}

/// Where a container starts whose config has this WORKDIR.
fn entered(workdir: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in workdir.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// The image's own command.
fn run_config(analysis: &mut Analysis<'_>, config: &ImageConfig, argv: &[String], scope: &Scope) {
    let entrypoint = config.entrypoint.as_deref().unwrap_or_default();
    let from = if entrypoint.is_empty() { "CMD" } else { "ENTRYPOINT" };
    let form = if entrypoint.is_empty() { config.cmd.as_deref().unwrap_or_default() } else { entrypoint };
    if let [shell, flag, line, ..] = form
        && flag == "-c"
        && shell.starts_with('/')
    {
        if line.trim_start().starts_with("['") && line.contains('\'') {
            let text = format!("{from} {line} is run by the shell: it is no JSON, which has double quotes");
            let mended = line.replace('\'', "\"");
            let finding = Finding::new("not-json", scope.worst, text).help(format!("write {from} {mended}"));
            return analysis.find(finding);
        }
        if analysis.view.walk(shell).is_err() {
            let text = format!("{from} has the shell form, and {shell} is not in the image");
            let finding = Finding::new("shell-missing", scope.worst, text)
                .help(format!("write it as a list: {from} [\"program\", \"argument\"]"))
                .need(Need::Path(shell.clone()));
            return analysis.find(finding.at(shell.clone()));
        }
    }
    analysis.run(argv, scope);
}
