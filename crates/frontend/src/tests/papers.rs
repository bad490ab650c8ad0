//! What an image says of itself: its platform and its time.

use dbuild_plan::StepKind;

use super::{args, base_image, built, show, steps, with_args};
use crate::{
    BuildArgs, EpochSource, NamedContext, Resolved, Source, lower, needed, parse, source_date_epoch,
};

#[test]
fn an_image_is_for_the_platform_that_was_asked_for_or_for_that_of_its_base() {
    let label = |text: &str, asked: &[&str], found: &str| -> Vec<String> {
        let platforms = asked.iter().map(|text| text.parse().unwrap()).collect();
        let args = BuildArgs { platforms, ..args() };
        let ast = parse(&Source::new("Dockerfile", text)).ast;
        let mut resolved = Resolved::default();
        for request in needed(&ast, &args, &resolved).unwrap() {
            let mut image = base_image(&request);
            if !found.is_empty() {
                image.platform = found.parse().unwrap();
            }
            resolved.insert(&request, image);
        }
        let lowered = lower(&ast, &args, &resolved).unwrap();
        lowered.plan.targets().iter().map(|target| target.platform.to_string()).collect()
    };
    let (own, stages) = ("FROM --platform=linux/s390x a\n", "FROM --platform=linux/s390x a AS x\nFROM x\n");
    for text in [own, stages] {
        assert_eq!(label(text, &[], ""), ["linux/s390x"]);
        assert_eq!(label(text, &[], "linux/arm/v6"), ["linux/arm/v6"], "the image keeps its label");
        assert_eq!(label(text, &["linux/arm64"], ""), ["linux/arm64"]);
        let both = ["linux/arm64", "linux/amd64", "linux/arm64/v8"];
        assert_eq!(label(text, &both, ""), ["linux/arm64", "linux/amd64"]);
    }
    assert_eq!(label("FROM a\n", &["linux/amd64"], "linux/amd64/v2"), ["linux/amd64/v2"]);
    assert_eq!(label("FROM a\n", &["linux/amd64/v3"], "linux/amd64/v2"), ["linux/amd64/v3"]);
    assert_eq!(label("FROM a\n", &["linux/arm64"], "linux/arm/v7"), ["linux/arm64"]);
    assert_eq!(label("FROM scratch\n", &[], ""), ["linux/amd64"]);
    assert_eq!(label("FROM --platform=linux/s390x scratch\n", &["linux/arm64"], ""), ["linux/arm64"]);
}

#[test]
fn the_time_of_the_image_has_several_sources() {
    let found = |text: &str, args: &BuildArgs| {
        let parsed = parse(&Source::new("Dockerfile", text));
        source_date_epoch(&parsed.ast, args).map_err(|errors| show(text, &errors))
    };
    let of = |value: &str, stages: &str| format!("ARG SOURCE_DATE_EPOCH={value}\n{stages}FROM scratch\n");
    assert_eq!(found("FROM scratch\nARG SOURCE_DATE_EPOCH=5\n", &args()), Ok(None));
    assert_eq!(found("ARG SOURCE_DATE_EPOCH\nFROM scratch\n", &args()), Ok(None));
    assert_eq!(found(&of("\"\"", ""), &args()), Ok(None));
    assert_eq!(found(&of("5", ""), &args()), Ok(Some(EpochSource::Time(5))));
    let given = |value| with_args(&[("SOURCE_DATE_EPOCH", value)]);
    assert_eq!(found(&of("x", ""), &given("7")), Ok(Some(EpochSource::Time(7))));
    assert_eq!(found("FROM scratch\n", &given("context")), Ok(Some(EpochSource::Context)));
    let step = |text: &str, args: &BuildArgs| match found(text, args) {
        Ok(Some(EpochSource::Step(step))) => *step,
        other => panic!("{other:?}"),
    };
    let add = "ARG v=1\nFROM scratch AS src\nARG v\nADD https://h/$v.tar /\n";
    assert!(
        matches!(step(&of("SRC", add), &args()), StepKind::Fetch(fetch) if fetch.url == "https://h/1.tar")
    );
    let git = "FROM scratch AS src\nADD https://h/r.git#v1 /\n";
    assert!(matches!(step(&of("src", git), &args()), StepKind::Git(_)));
    let contexts = |context| BuildArgs { contexts: [("src".to_owned(), context)].into(), ..args() };
    let url = contexts(NamedContext::Url("https://h/f".to_owned()));
    assert!(matches!(step(&of("src", git), &url), StepKind::Fetch(_)), "a context goes before a stage");
    assert_eq!(found(&of("src", ""), &contexts(NamedContext::Directory)), Ok(Some(EpochSource::Unknown)));
    for stages in [
        "FROM scratch AS src\nWORKDIR /x\n",
        "FROM scratch AS src\nADD a /\n",
        "FROM a AS src\nADD https://h/f /\n",
        "FROM scratch AS src\nADD https://h/f https://h/g /\n",
        "FROM scratch AS src\nADD https://h/f /\nRUN true\n",
    ] {
        let error = found(&of("src", stages), &args()).unwrap_err();
        assert!(
            error.contains("the stage `src` has no time") && error.contains("Dockerfile:1:23"),
            "{error}"
        );
    }
    for bad in ["today", "-1", "1.5", "99999999999999999999", "other"] {
        let error = found(&of(bad, ""), &args()).unwrap_err();
        assert!(error.contains(&format!("SOURCE_DATE_EPOCH={bad} is not a number")), "{error}");
        assert!(found("FROM scratch\n", &given(bad)).is_err(), "{bad}");
    }
}

#[test]
fn a_context_for_a_platform_goes_before_one_for_all() {
    let text = "FROM src AS a\nFROM other\nCOPY --from=src a /\n";
    let contexts = ["src", "src::linux/arm64/v8", "other::linux/s390x", "a::linux/s390x"];
    let contexts = contexts.map(|name| (name.to_owned(), NamedContext::Directory)).into();
    let platforms = vec!["linux/arm64".parse().unwrap(), "linux/amd64".parse().unwrap()];
    let plan = steps(&built(text, &BuildArgs { contexts, platforms, ..args() }).plan);
    let named: Vec<&str> = plan.lines().map(str::trim).filter(|line| line.starts_with("context ")).collect();
    let expected = [
        "context Some(\"src::linux/arm64/v8\") wanted Some([\"a\"])",
        "context Some(\"src\") wanted Some([\"a\"])",
    ];
    assert_eq!(named, expected, "{plan}");
}
