use super::{compare_page, page};
use crate::reader::tests::events;
use crate::{Build, Comparison, Contents, NoTrees};

fn contents(build: &Build) -> Contents {
    Contents::of(build, &NoTrees)
}

/// A build in which every text tries to get out.
pub(crate) fn hostile() -> Build {
    let mut build = Build::of(&events());
    let evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{script}}\u{2028}&\"'";
    build.dockerfile = Some(crate::Dockerfile { name: evil.to_owned(), text: format!("FROM {evil}") });
    for step in &mut build.steps {
        step.text = format!("RUN {evil}");
        step.reasons = vec![evil.to_owned()];
        step.error = Some(evil.to_owned());
        for line in &mut step.log {
            line.text = evil.to_owned();
        }
    }
    for stage in &mut build.stages {
        stage.name = evil.to_owned();
    }
    build.targets = vec![evil.to_owned()];
    build
}

#[test]
fn nothing_that_a_build_says_becomes_html() {
    let build = hostile();
    let page = page(&build, &contents(&build));
    assert_eq!(page.matches("<script").count(), 2, "the data and the page's own");
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("<img"));
    let compared = Comparison::of((&build, &contents(&build)), (&build, &contents(&build)));
    let page = compare_page(&compared);
    assert_eq!((page.matches("<script").count(), page.contains("<img")), (2, false));
}

#[test]
fn the_page_asks_nothing_of_a_network() {
    let build = Build::of(&events());
    let page = page(&build, &contents(&build));
    assert!(page.contains("default-src 'none'"));
    for word in
        ["http://", "https://", "url(", "@import", "src=", "fetch(", "XMLHttpRequest", "innerHTML", "<link"]
    {
        let allowed = ["http://www.w3.org/2000/svg", "url(#hatch)"];
        let rest = allowed.iter().fold(page.clone(), |page, allowed| page.replace(allowed, ""));
        assert!(!rest.contains(word), "{word}");
    }
    assert!(!page.contains("{{"), "every slot is filled");
}
