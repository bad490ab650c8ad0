//! A fuzzer without coverage: it needs no nightly compiler, runs in every test, and as long as
//! `DBUILD_FUZZ_SECONDS` says. The seed is said where something fails; `DBUILD_FUZZ_SEED` sets it.

use std::cell::Cell;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime};

use dbuild_digest::BlobDigest;
use dbuild_frontend::{
    BuildArgs, Diagnostic, Dockerfile, Ignored, NamedContext, Resolved, Source, check, examine, lower,
    needed, outline, parse, render, targets,
};
use dbuild_layer::{Ignore, TreePath};
use dbuild_oci::{ImageConfig, Reference};
use dbuild_plan::{BaseImage, LayerDescriptor};

use crate::corpus;
use crate::mutate::{Rng, mutated, shrunk};

/// An input that should be survived, and what happened.
#[derive(Debug)]
struct Failure {
    seed: u64,
    run: u64,
    text: String,
    message: String,
}

/// Tries inputs until `go_on` says no.
fn fuzz(
    seed: u64,
    corpus: &[(String, String)],
    mut go_on: impl FnMut(u64) -> bool,
    target: impl Fn(&str, &mut Rng),
) -> Result<u64, Failure> {
    let mut run = 0;
    while go_on(run) {
        let mut rng = Rng(seed.wrapping_add(run));
        let text = mutated(&mut rng, corpus);
        let failed = |text: &str| {
            let mut rng = rng.clone();
            catch_unwind(AssertUnwindSafe(|| target(text, &mut rng))).err()
        };
        if let Some(payload) = failed(&text) {
            let message = payload.downcast_ref::<String>().map(String::as_str);
            let message = message.or(payload.downcast_ref::<&str>().copied()).unwrap_or("?").to_owned();
            let text = shrunk(&text, |text| failed(text).is_some());
            return Err(Failure { seed, run, text, message });
        }
        run += 1;
    }
    Ok(run)
}

/// A fixed number of inputs, or as many as fit into the time that the environment gives.
fn run(name: &str, corpus: &[(String, String)], least: u64, target: impl Fn(&str, &mut Rng)) {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = variable("DBUILD_FUZZ_SECONDS");
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
    let seed = variable("DBUILD_FUZZ_SEED").unwrap_or_else(|| if seconds.is_some() { now() } else { 1 });
    // Told first: what overflows the stack ends the process.
    let _ = writeln!(std::io::stderr(), "fuzz {name}: seed {seed}");
    let began = Instant::now();
    let go_on = |run| match seconds {
        Some(seconds) => began.elapsed() < Duration::from_secs(seconds),
        None => run < least,
    };
    match fuzz(seed, corpus, go_on, target) {
        Ok(runs) => {
            let _ = writeln!(std::io::stderr(), "fuzz {name}: {runs} inputs");
        }
        Err(Failure { seed, run, text, message }) => {
            panic!("{name} fails with DBUILD_FUZZ_SEED={seed} at input {run}: {message}\n{text:?}")
        }
    }
}

#[test]
fn dockerfiles_are_survived() {
    run("Dockerfile", &corpus("Dockerfile"), 1500, exercise);
}

#[test]
fn ignore_files_are_survived() {
    let mut files = corpus(".dockerignore");
    files.push((String::new(), "**/*.md\n!a/b/**\n/x/[a-z]?\\*\n# c\n!**/y\n".to_owned()));
    run("dockerignore", &files, 1500, |text, rng| {
        let Ok(ignore) = Ignore::parse(text.as_bytes()) else { return };
        for path in ["a", "a/b/c.md", "x/q*", "é/\u{feff}", "a/../b"] {
            let Ok(path) = TreePath::clean(path.as_bytes()) else { continue };
            let matched = ignore.matches(&path);
            assert!(!matched || !ignore.is_empty());
            ignore.may_reinclude_below(&path);
        }
        let _ = Ignore::from_patterns(&text.lines().take(rng.below(20)).collect::<Vec<_>>());
    });
}

#[test]
fn references_are_survived() {
    let names = ["debian:12", "localhost:5000/a/b@sha256:00", "[::1]:80/x", "a.b/c__d:e", "Ä/b"];
    let names: Vec<_> = names.map(|name| (String::new(), name.to_owned())).into();
    run("reference", &names, 5000, |text, _| {
        let Ok(reference) = text.parse::<Reference>() else { return };
        assert_eq!(reference.to_string().parse().as_ref(), Ok(&reference));
        assert_eq!(reference.familiar().parse().as_ref(), Ok(&reference));
    });
}

#[test]
fn a_planted_fault_is_found_and_shrunk() {
    // Of its own, so that no new file anywhere moves the fault out of reach.
    let texts = ["# a\nCOPY a /b\n", "FROM scratch\nCOPY a/**/b /c\n", "RUN true\n"];
    let corpus: Vec<(String, String)> =
        texts.iter().map(|text| ("Dockerfile".to_owned(), (*text).to_owned())).collect();
    let planted = |text: &str, _: &mut Rng| {
        let ast = parse(&Source::new("Dockerfile", text)).ast;
        let odd = ast.instructions.iter().any(|one| one.line.text.contains("**") && !one.comments.is_empty());
        assert!(!odd, "planted");
    };
    let tried = Cell::new(0);
    let found = fuzz(
        7,
        &corpus,
        |run| {
            tried.set(run);
            run < 20_000
        },
        planted,
    );
    let failure = found.expect_err("the fault was not found");
    assert!(failure.message.contains("planted") && failure.text.len() < 40, "{failure:?}");
    let again =
        fuzz(failure.seed, &corpus, |run| run <= failure.run, planted).expect_err("it is found again");
    assert_eq!((again.run, again.text), (failure.run, failure.text));
}

/// Everything that can be done with a text.
fn exercise(text: &str, rng: &mut Rng) {
    let source = Source::new("Dockerfile", text);
    let parsed = parse(&source);
    shown(&parsed.diagnostics, &source);
    let args = odd_args(rng, &parsed.ast);
    shown(&check(&parsed.ast, &args), &source);
    let described = targets(&parsed.ast);
    assert!(described.iter().filter(|target| target.default).count() <= 1);
    if parsed.diagnostics.is_empty() {
        let printed = parsed.ast.to_string();
        let again = parse(&Source::new("Dockerfile", printed.as_str()));
        assert_eq!(again.diagnostics, [], "printed as {printed:?}");
        let (before, after) = (&parsed.ast.instructions, &again.ast.instructions);
        assert!(
            before.iter().map(|one| &one.line.text).eq(after.iter().map(|one| &one.line.text)),
            "{printed:?}"
        );
    }
    let mut resolved = Resolved::default();
    for _ in 0..4 {
        match needed(&parsed.ast, &args, &resolved) {
            Ok(requests) if requests.is_empty() => break,
            Ok(requests) => requests.iter().for_each(|request| {
                let image = odd_base(rng, &parsed.ast, &request.reference, &request.platform);
                resolved.insert(request, image);
            }),
            Err(errors) => return shown(&errors.0, &source),
        }
    }
    match lower(&parsed.ast, &args, &resolved) {
        Ok(lowered) => {
            shown(&lowered.warnings, &source);
            for (id, _) in lowered.plan.steps() {
                let (first, last) = lowered.source_of(id).expect("a step has a place").lines(&source);
                assert!(first <= last);
            }
        }
        Err(errors) => shown(&errors.0, &source),
    }
    let findings = examine(&parsed.ast, &args, &resolved);
    shown(&findings.warnings, &source);
    shown(&findings.errors, &source);
    if let Err(errors) = outline(&parsed.ast, &args, &resolved) {
        shown(&errors.0, &source);
    }
}

/// Every diagnostic has words, and points into the text.
fn shown(diagnostics: &[Diagnostic], source: &Source) {
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty());
        for label in &diagnostic.labels {
            assert!(source.text.get(label.span.range()).is_some(), "{diagnostic:?}");
        }
        let text = render(diagnostic, source, false);
        assert!(!text.is_empty() && text.len() < 60_000, "{}", text.len());
    }
}

/// Words of the file and others, as whatever a command line can hold.
fn odd_args(rng: &mut Rng, ast: &Dockerfile) -> BuildArgs {
    let words: Vec<&str> = ast.instructions.iter().flat_map(|one| one.line.text.split_whitespace()).collect();
    let word = |rng: &mut Rng| if words.is_empty() { "A".to_owned() } else { (*rng.pick(&words)).to_owned() };
    let name = |rng: &mut Rng| word(rng).split(['=', '$', '{']).next().unwrap_or_default().to_owned();
    let mut args = BuildArgs { build_platform: "linux/amd64".parse().unwrap(), ..BuildArgs::default() };
    for _ in 0..rng.below(3) {
        args.args.insert(name(rng), word(rng));
    }
    if rng.one_in(6) {
        args.args.insert("BUILDKIT_DOCKERFILE_CHECK".to_owned(), word(rng));
    }
    args.target = rng.one_in(4).then(|| word(rng));
    args.all_stages = rng.one_in(3);
    let platforms = ["linux/arm64", "linux/arm/v6", "linux/amd64", "windows/amd64"];
    args.platforms = (0..rng.below(3)).map(|_| rng.pick(&platforms).parse().unwrap()).collect();
    if rng.one_in(5) {
        let context = match rng.below(4) {
            0 => NamedContext::Directory,
            1 => NamedContext::Git(word(rng)),
            _ => NamedContext::Image(word(rng)),
        };
        args.contexts.insert(word(rng), context);
    }
    if rng.one_in(3) {
        args.ignored = Some(Ignored(std::sync::Arc::new(|path: &str| path.len() % 2 == 1)));
    }
    args
}

/// A base whose config holds lines of the file where they do not belong.
fn odd_base(rng: &mut Rng, ast: &Dockerfile, reference: &str, platform: &dbuild_oci::Platform) -> BaseImage {
    let lines: Vec<String> = ast.instructions.iter().map(|one| one.line.text.clone()).collect();
    let digest = BlobDigest::of(reference.as_bytes());
    let mut config =
        ImageConfig { env: vec!["PATH=/bin".to_owned(), "A".to_owned()], ..ImageConfig::default() };
    if rng.one_in(3) && !lines.is_empty() {
        config.on_build = (0..rng.below(3)).map(|_| rng.pick(&lines).clone()).collect();
        config.working_dir.clone_from(rng.pick(&lines));
        config.user.clone_from(rng.pick(&lines));
        config.env.push(rng.pick(&lines).clone());
    }
    let layer = LayerDescriptor {
        digest,
        size: 1,
        media_type: "application/vnd.oci.image.layer.v1.tar".to_owned(),
        diff_id: digest,
    };
    BaseImage {
        reference: reference.to_owned(),
        digest,
        platform: platform.clone(),
        config,
        history: Vec::new(),
        layers: vec![layer; rng.below(3)],
    }
}
