//! The five tutorials: both versions are built and run, and what they are about is so.

use dbuild_integration_tests::{
    Background, Bases, Outcome, TestSpace, Unpacked, free_port, http_get, workspace,
};

/// Programs that belong to a compiler.
const COMPILERS: [&str; 8] = ["cc", "gcc", "cpp", "c++", "g++", "make", "ld", "as"];

fn space() -> TestSpace {
    TestSpace::with_bases(Bases::All)
}

/// Builds `fixtures/tutorials/FOLDER/Dockerfile[.VARIANT]` under the name of the variant, or
/// `multi`.
#[track_caller]
fn build(space: &TestSpace, folder: &str, variant: Option<&str>) -> Outcome {
    let context = workspace().join("fixtures/tutorials").join(folder);
    let file = match variant {
        Some(variant) => context.join(format!("Dockerfile.{variant}")),
        None => context.join("Dockerfile"),
    };
    let name = variant.unwrap_or("multi");
    let words = ["build", "--progress", "plain", "-t", name, "-f"];
    space.dbuild(words).args([file, context]).run().expect_ok()
}

/// What `dbuild check` says of an image that will not start.
#[track_caller]
fn check(space: &TestSpace, image: &str) -> String {
    space.dbuild(["check", image]).run().expect_code(1).stdout
}

/// The multi-stage image is the smaller one, and brings no compiler, no package cache and nothing
/// of `builder_only`.
#[track_caller]
fn assert_lean(space: &TestSpace, builder_only: &[&str]) -> Unpacked {
    let multi = Unpacked::new(space, "multi");
    let single = Unpacked::size_of(space, "single");
    assert!(multi.size < single, "multi-stage: {} bytes, single-stage: {single} bytes", multi.size);
    for path in multi.paths() {
        assert!(!is_compiler(&path), "{path} is of a compiler");
        assert!(!is_package_cache(&path), "{path} is of a package cache");
        let of_builder = builder_only.iter().any(|start| path.starts_with(start));
        assert!(!of_builder, "{path} belongs to the builder stage only");
    }
    multi
}

fn is_compiler(path: &str) -> bool {
    let program = path.rsplit_once("/bin/").is_some_and(|(_, name)| COMPILERS.contains(&name));
    program || path.starts_with("/usr/lib/gcc/")
}

fn is_package_cache(path: &str) -> bool {
    let lists = path.starts_with("/var/lib/apt/lists/") && path.contains("_dists_");
    lists
        || path.ends_with(".deb")
        || path.starts_with("/root/.cache/")
        || path.starts_with("/root/.npm/_cacache/content")
}

/// What the image's own command prints.
#[track_caller]
fn answer(space: &TestSpace, image: &str) -> String {
    space.run_in(image, &[])
}

#[test]
fn python_slim() {
    let space = space();
    build(&space, "python-slim", Some("single")).stderr_has(&["\nstarts: python app.py\n"]);
    build(&space, "python-slim", None).stderr_has(&["\nstarts: python app.py\n"]);
    for image in ["single", "multi"] {
        assert!(answer(&space, image).contains("3 rivers, 19350 km"), "{image}");
    }
    // What the first ships and the second does not: so the absence below says something.
    space.run_in("single", &["ls", "/usr/bin/gcc", "/usr/lib/gcc", "/usr/local/bin/tabulate"]);
    let multi = assert_lean(&space, &["/usr/local/bin/tabulate"]);
    assert!(multi.paths().contains("/usr/local/lib/python3.7/site-packages/tabulate/__init__.py"));

    // The packages are there and the script is not: dbuild says so, and what it proposes works.
    let said = "will not start: tabulate is in no directory of PATH: its package is in /usr/local/lib/python3.7/site-packages";
    build(&space, "python-slim", Some("scripts"))
        .stderr_has(&[said, "`dbuild check scripts:latest` says more"]);
    space.dbuild(["run", "scripts"]).run().expect_code(127);
    let line = "COPY --from=builder /usr/local/bin/tabulate /usr/local/bin/tabulate";
    assert!(check(&space, "scripts").contains(line));
    let mended =
        std::fs::read_to_string(workspace().join("fixtures/tutorials/python-slim/Dockerfile.scripts"));
    space.write("mended", format!("{}\n{line}\n", mended.unwrap()));
    let context = workspace().join("fixtures/tutorials/python-slim");
    let build_mended = space.dbuild(["build", "-t", "mended", "-f", "mended"]).args([context]);
    build_mended.run().expect_ok().stderr_has(&["\nstarts: tabulate "]);
    assert!(answer(&space, "mended").contains("Nile"));

    build(&space, "python-slim", Some("versions")).stderr_has(&[
        "will not start: /app/app.py imports tabulate, which is in /usr/local/lib/python3.9/site-packages: this python is 3.7",
    ]);
    space.dbuild(["run", "versions"]).run().expect_code(1).stderr_has(&["No module named 'tabulate'"]);
}

#[test]
fn calculator() {
    let space = space();
    build(&space, "calculator", Some("single")).stderr_has(&["\nstarts: python3 calculator.py\n"]);
    build(&space, "calculator", None).stderr_has(&[
        "\nwill not start: python3 is in no directory of PATH\n",
        "`dbuild check multi:latest` says more",
    ]);
    assert_eq!(answer(&space, "single"), "6 * 7 = 42\n");
    space.run_in("single", &["sh", "-c", "ls /usr/bin/gcc /usr/bin/pip /var/lib/apt/lists/*_dists_*"]);
    assert_lean(&space, &["/usr/bin/python3", "/usr/lib/python3"]);
    // The lesson: what the second stage does not name is not there.
    let outcome = space.dbuild(["run", "multi"]).run().stderr_has(&["python3"]);
    assert_ne!(outcome.code(), Some(0));

    // What dbuild proposes is enough.
    let said = check(&space, "multi");
    let lines: Vec<&str> =
        said.lines().map(str::trim).filter(|line| line.starts_with("COPY --from=builder ")).collect();
    assert!(lines.contains(&"COPY --from=builder /usr/bin/python3 /usr/bin/python3"), "{said}");
    let folder = workspace().join("fixtures/tutorials/calculator");
    let broken = std::fs::read_to_string(folder.join("Dockerfile")).unwrap();
    space.write("proposed", format!("{broken}\n{}\n", lines.join("\n")));
    space.dbuild(["build", "-t", "proposed", "-f", "proposed"]).args([folder]).run().expect_ok();
    assert_eq!(answer(&space, "proposed"), "6 * 7 = 42\n");

    build(&space, "calculator", Some("mended")).stderr_has(&["\nstarts: python3 calculator.py\n"]);
    assert_eq!(answer(&space, "mended"), "6 * 7 = 42\n");
    let (mended, single) = (Unpacked::size_of(&space, "mended"), Unpacked::size_of(&space, "single"));
    assert!(mended < single, "mended: {mended} bytes, single-stage: {single} bytes");
}

#[test]
fn node() {
    let space = space();
    build(&space, "node", Some("single")).stderr_has(&["\nstarts: node dist/server.js\n"]);
    build(&space, "node", None).stderr_has(&["\nstarts: node dist/server.js\n"]);
    for image in ["single", "multi"] {
        let port = free_port();
        let words = ["run", image, "node", "dist/server.js", &port.to_string()].map(str::to_owned);
        let mut server = Background::start(space.dbuild(words).into_command());
        server.wait_for_line("listening on port");
        assert!(http_get(port, "/").contains("up for "), "{image}");
    }
    space.run_in(
        "single",
        &["ls", "/usr/bin/gcc", "/root/.npm/_cacache", "/app/node_modules/uglify-js", "/app/src"],
    );
    let multi = assert_lean(&space, &["/app/src", "/app/build.js", "/app/node_modules/uglify-js"]);
    assert!(multi.paths().contains("/app/node_modules/ms/index.js"));
}

#[test]
fn flask() {
    let space = space();
    build(&space, "flask", Some("single")).stderr_has(&["\nstarts: python app.py\n"]);
    build(&space, "flask", None).stderr_has(&["\nstarts: python app.py\n"]);
    for image in ["single", "multi"] {
        let port = free_port();
        let words = ["run", image, "python", "app.py", &port.to_string()].map(str::to_owned);
        let mut server = Background::start(space.dbuild(words).into_command());
        server.wait_for_line("Running on http://127.0.0.1");
        assert!(http_get(port, "/").contains("<h1>Hello from a multi-stage build</h1>"), "{image}");
        assert!(http_get(port, "/api/sum/2/3").contains(r#"{"sum":5}"#), "{image}");
    }
    space.run_in("single", &["ls", "/usr/local/bin/pip", "/usr/bin/apt-get"]);
    let multi = assert_lean(&space, &["/install", "/usr/local/bin/pip", "/usr/bin/apt-get"]);
    assert_eq!(multi.config["config"]["ExposedPorts"], serde_json::json!({"5000/tcp": {}}));

    // The lesson: a module that was compiled for glibc is not there for a python that was built for
    // musl.
    build(&space, "flask", Some("ujson"))
        .stderr_has(&["will not start: /app/app_ujson.py imports ujson, which is compiled for glibc ("]);
    assert!(
        check(&space, "ujson")
            .contains("(python:3.11-alpine in both stages), or start from python:3.11-slim")
    );
    space.dbuild(["run", "ujson"]).run().expect_code(1).stderr_has(&["No module named 'ujson'"]);
}

#[test]
fn venv() {
    let space = space();
    let starts = ["\nstarts: bash -c 'source venv/bin/activate && python app.py'\n"];
    build(&space, "venv", Some("single")).stderr_has(&starts);
    build(&space, "venv", None).stderr_has(&starts);
    for image in ["single", "multi"] {
        assert!(answer(&space, image).contains("rendered by the environment in /app/venv"), "{image}");
    }
    space.run_in("single", &["ls", "/usr/bin/gcc", "/usr/bin/make"]);
    assert_lean(&space, &[]);
}
