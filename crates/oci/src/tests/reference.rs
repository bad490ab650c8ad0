use proptest::prelude::*;

use super::Reference;

#[test]
fn short_names_are_completed() {
    let digest = format!("sha256:{}", "a".repeat(64));
    for (text, full, familiar) in [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("debian:12", "docker.io/library/debian:12", "debian:12"),
        ("user/app", "docker.io/user/app:latest", "user/app:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest", "debian:latest"),
        ("index.docker.io/library/debian:1", "docker.io/library/debian:1", "debian:1"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"),
        (
            "localhost:5000/a/b__c/d-e.f:v1",
            "localhost:5000/a/b__c/d-e.f:v1",
            "localhost:5000/a/b__c/d-e.f:v1",
        ),
        ("gcr.io/x/y", "gcr.io/x/y:latest", "gcr.io/x/y:latest"),
        ("ghcr.io/a/b_c/d--e:V1.0", "ghcr.io/a/b_c/d--e:V1.0", "ghcr.io/a/b_c/d--e:V1.0"),
        ("HOST/x", "HOST/x:latest", "HOST/x:latest"),
        ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
        (&format!("a@{digest}"), &format!("docker.io/library/a@{digest}"), &format!("a@{digest}")),
        (&format!("a:1@{digest}"), &format!("docker.io/library/a:1@{digest}"), &format!("a:1@{digest}")),
    ] {
        let reference: Reference = text.parse().unwrap();
        assert_eq!(
            (reference.to_string().as_str(), reference.familiar().as_str()),
            (full, familiar),
            "{text}"
        );
        assert_eq!(reference.to_string().parse(), Ok(reference), "{text}");
    }
}

#[test]
fn what_is_no_name_is_refused_with_the_reason() {
    let error = |text: &str| text.parse::<Reference>().unwrap_err().to_string();
    insta::assert_snapshot!(error("Debian"), @"`Debian` is not the name of an image: a repository is written in lower case");
    insta::assert_snapshot!(error("https://a.b/c"), @"`https://a.b/c` is not the name of an image: it is written without `https://`");
    insta::assert_snapshot!(error("a:"), @"`a:` is not the name of an image: a tag is made of letters, digits, `_`, `.` and `-`, and is at most 128 long");
    insta::assert_snapshot!(error("a b"), @"`a b` is not the name of an image: between slashes stand letters and digits, with single `.`, `_`, `__` or dashes between them");
    insta::assert_snapshot!(error("a@sha256:1"), @"`a@sha256:1` is not the name of an image: what follows `@` is not a digest such as `sha256:` and 64 lower-case hexadecimal digits");
    insta::assert_snapshot!(error(&format!("a@sha512:{}", "1".repeat(4))), @"`a@sha512:1111` is not the name of an image: its digest is a sha512, and dbuild knows sha256 alone");
    insta::assert_snapshot!(error("host:99999/a"), @"`host:99999/a` is not the name of an image: the registry's port is not a number up to 65535");
    let (id, long) = ("a".repeat(64), "a".repeat(300));
    for text in [
        "",
        "/",
        ":a",
        "a::b",
        "a/",
        "/a",
        "a//b",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "a:b c",
        "a@b",
        "a.b:x/c",
        "a_.b",
        "a:b:c/d/",
        "../a",
        "a:.x",
        "ü",
        "a:-b",
        "http://a/b",
        &id,
        &long,
    ] {
        assert!(text.parse::<Reference>().is_err(), "{text}");
    }
    assert!(error(&"x ".repeat(5000)).len() < 300);
}

#[test]
fn the_name_that_was_meant_is_suggested() {
    let suggestion = |text: &str| text.parse::<Reference>().unwrap_err().suggestion;
    assert_eq!(suggestion("App").as_deref(), Some("app"));
    assert_eq!(suggestion("A.b/A.b/C:1").as_deref(), Some("A.b/a.b/c:1"));
    assert_eq!(suggestion("https://a.b/c").as_deref(), Some("a.b/c"));
    assert_eq!(suggestion("𝔻"), None, "a capital without a small letter");
}

/// Texts near to references: words, separators, digests and ports in any order.
fn near_references() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        5 => "[a-z0-9]{1,4}",
        1 => "[A-Z]{1,2}",
        1 => Just("localhost".to_owned()),
        1 => Just("docker.io".to_owned()),
        1 => "[._-]{1,3}",
        1 => "@sha256:[0-9a-f]{64}",
        1 => "@sha512:[0-9a-f]{128}",
        1 => "@[a-z]{3}:[0-9a-f]{32}",
        1 => "[0-9]{1,6}",
    ];
    let separator =
        prop_oneof![3 => Just("/"), 2 => Just(":"), 1 => Just("."), 1 => Just("-"), 2 => Just("")];
    proptest::collection::vec((part, separator), 1..6).prop_map(|parts| {
        parts.into_iter().flat_map(|(part, separator)| [part, separator.to_owned()]).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// The crate `oci-spec` reads the same texts as the same names, but for what is said below.
    #[test]
    fn oci_spec_reads_names_alike(text in near_references()) {
        let ours = text.parse::<Reference>();
        let theirs = text.parse::<oci_spec::distribution::Reference>();
        let first = text.split_once('/').map(|(first, _)| first).unwrap_or_default();
        // Docker takes a first part with capitals as a registry; oci-spec takes it as a repository.
        prop_assume!(!first.chars().any(char::is_uppercase));
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => {
                prop_assert_eq!(ours.registry(), theirs.registry());
                prop_assert_eq!(ours.repository(), theirs.repository());
                prop_assert_eq!(ours.tag(), theirs.tag());
                prop_assert_eq!(ours.digest().map(|digest| digest.to_string()), theirs.digest().map(str::to_owned));
            }
            (Err(_), Ok(theirs)) => {
                let foreign = theirs.digest().is_some_and(|digest| !digest.starts_with("sha256:"));
                let port = theirs.registry().rsplit_once(':').map(|(_, port)| port.parse::<u16>());
                let is_id = text.len() == 64;
                prop_assert!(foreign || port.is_some_and(|port| port.is_err()) || is_id, "{} is refused", text);
            }
            (Ok(_), Err(error)) => prop_assert!(false, "{text} is taken, but {error}"),
            (Err(_), Err(_)) => {}
        }
    }

    #[test]
    fn no_text_makes_it_panic_and_names_are_read_back(text in "\\PC{0,60}") {
        if let Ok(reference) = text.parse::<Reference>() {
            prop_assert_eq!(reference.familiar().parse::<Reference>(), Ok(reference));
        }
    }
}
