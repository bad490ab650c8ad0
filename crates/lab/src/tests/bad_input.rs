//! What is no history, or not all of one.

use std::process::Command;

use super::{options, scripted, simulate};
use crate::{Costs, LabError, Options};

const BEGIN: &str = "printf 'FROM base\\nCOPY a /\\n' > Dockerfile; echo 1 > a; commit one\n";

#[test]
fn what_is_no_repository_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let told = |path: &std::path::Path| {
        let error = simulate(path, &options(&[]), &Costs::default()).unwrap_err();
        error.to_string().replace(&dir.path().display().to_string(), "DIR")
    };
    assert_eq!(told(dir.path()), "DIR is not a git repository");
    assert_eq!(told(&dir.path().join("x")), "DIR/x is not a git repository: there is no such directory");
}

#[test]
fn revisions_that_are_not_there_are_told() {
    let (_dir, repository) =
        scripted(&format!("{BEGIN}git checkout -q -b side; commit side; git checkout -q main; commit two"));
    let told = |from: Option<&str>, to: &str| {
        let options = Options { from: from.map(str::to_owned), to: to.to_owned(), ..options(&[]) };
        simulate(&repository, &options, &Costs::default()).unwrap_err()
    };
    assert!(matches!(told(None, "nowhere"), LabError::NoSuchRevision { shallow: false, .. }));
    assert!(matches!(told(None, "--all"), LabError::NoSuchRevision { .. }), "a revision is never a flag");
    let apart = told(Some("side"), "main");
    assert_eq!(apart.to_string(), "`side` is not in the first-parent history of `main`");
}

#[test]
fn an_empty_repository_has_no_history() {
    let (_dir, repository) = scripted("true");
    let error = simulate(&repository, &options(&[]), &Costs::default()).unwrap_err();
    assert!(matches!(error, LabError::NoSuchRevision { .. }), "{error}");
}

#[test]
fn commits_that_cannot_be_replayed_are_skipped_with_the_reason() {
    let (_dir, repository) = scripted(&format!(
        "echo x > x; commit zero\n{BEGIN}printf 'FROM base\\nCOPI a /\\n' > Dockerfile; commit typo\n\
         printf 'FROM base\\nCOPY b /\\n' > Dockerfile; commit source\n\
         printf 'FROM missing\\n' > Dockerfile; commit image\n\
         printf 'FROM base\\nCOPY a /\\n' > Dockerfile; commit again"
    ));
    let replay = simulate(&repository, &options(&[]), &Costs::default()).unwrap();
    let skipped: Vec<&str> =
        replay.commits.iter().map(|commit| commit.skipped.as_deref().unwrap_or_default()).collect();
    assert_eq!(skipped[0], "it has no file Dockerfile");
    assert_eq!(skipped[1], "");
    assert!(skipped[2].starts_with("Dockerfile:2: "), "{}", skipped[2]);
    assert_eq!(skipped[3], "COPY b /: `b` is not there in the build context");
    assert_eq!(skipped[4], "Dockerfile:1: it cannot be had");
    assert_eq!(replay.replayed().count(), 2);
    assert!(replay.to_string().contains("2 of 6 commits replayed"), "{replay}");
}

#[test]
fn a_history_without_a_dockerfile_is_an_error() {
    let (_dir, repository) = scripted("echo x > x; commit one; commit two");
    let error = simulate(&repository, &options(&[]), &Costs::default()).unwrap_err();
    assert_eq!(error.to_string(), "none of the 2 commits has a file Dockerfile");
}

#[test]
fn a_history_in_which_nothing_can_be_replayed_is_an_error() {
    let (_dir, repository) = scripted("printf 'FROM missing\\n' > Dockerfile; commit one");
    let error = simulate(&repository, &options(&[]), &Costs::default()).unwrap_err();
    assert!(
        error.to_string().starts_with("none of the 1 commits can be replayed; the last one: Dockerfile:1")
    );
}

#[test]
fn what_is_odd_about_a_history_is_noted() {
    let (dir, repository) = scripted(&format!(
        "{BEGIN}git checkout -q -b side; echo s > s; commit side; git checkout -q main; echo 2 > a; commit two\n\
         git merge -q --no-ff -m merged side\n\
         git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),module; git commit -q -m module\n\
         echo dirty > a"
    ));
    let replay = simulate(&repository, &options(&[]), &Costs::default()).unwrap();
    let notes = replay.notes.join("\n");
    for part in ["not committed", "1 merge is replayed", "submodules"] {
        assert!(notes.contains(part), "{notes}");
    }
    let merges: Vec<bool> = replay.commits.iter().map(|commit| commit.merge).collect();
    assert_eq!(merges, [false, false, true, false], "the side's own commit is not of the first parents");

    let shallow = dir.path().join("shallow");
    let url = format!("file://{}", repository.display());
    let cloned =
        Command::new("git").args(["clone", "-q", "--depth", "1", &url]).arg(&shallow).output().unwrap();
    assert!(cloned.status.success());
    let replay = simulate(&shallow, &options(&[]), &Costs::default()).unwrap();
    assert!(replay.notes[0].starts_with("the repository is shallow"), "{:?}", replay.notes);
    assert_eq!(replay.commits.len(), 1);
}

#[test]
fn texts_of_others_stay_texts_in_the_page() {
    let (_dir, repository) =
        scripted("printf 'FROM base\\nRUN echo \"<script>\"\\n' > Dockerfile; commit '<b>&\"one\"'");
    let replay = simulate(&repository, &options(&[]), &Costs::default()).unwrap();
    let page = crate::html(&replay);
    assert!(page.contains("&lt;b&gt;&amp;&quot;one&quot;") && page.contains("&lt;script&gt;"));
    for never in ["<script", "<b>", "http://", "https://", "src=", "@import", "url("] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(never), "{never}");
    }
}
