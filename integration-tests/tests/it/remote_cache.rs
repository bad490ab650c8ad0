//! Results that travel from one machine to another: two stores that share nothing but a cache.

use std::path::Path;

use dbuild_integration_tests::{Outcome, Registry, TestSpace, Unpacked};

/// Expensive enough that its results are worth to be moved, and never the same twice.
const BUILT: &str = "FROM busybox AS build\n\
    COPY main.c /src/\n\
    RUN sleep 1; date +%s%N > /src/made; cat /proc/sys/kernel/random/uuid >> /src/made\n\
    RUN cp /src/made /out\n\
    FROM busybox\n\
    COPY --from=build /out /app/out\n\
    RUN sleep 1; cat /app/out > /app/final\n";

fn machine() -> TestSpace {
    let space = TestSpace::new();
    space.write("context/main.c", "int main;\n");
    space
}

fn exported(space: &TestSpace, to: &str) -> Outcome {
    space.build(BUILT, ["--cache-to", to]).run().expect_ok()
}

/// The second machine finds all that the first one made, and has the same image.
fn travels(to: &str, from: &str) {
    let (one, other) = (machine(), machine());
    exported(&one, to).stderr_has(&["to cache ", "results sent"]);
    let imported = other.build(BUILT, ["--cache-from", from]).run().expect_ok();
    let imported = imported.stderr_has(&["CACHED in ", "from cache "]).lacks(&["DONE 1.", "warning"]);
    // Nobody looks into the files of the first stage: of five results two layers are the image's.
    assert!(imported.stderr.contains(": 5 results, 2 layers fetched ("), "{}", imported.stderr);
    let (here, there) = (Unpacked::new(&one, "app"), Unpacked::new(&other, "app"));
    assert_eq!(here.read("/app/final"), there.read("/app/final"));
    // A step that is new runs on files of layers that were fetched.
    let more = format!("{BUILT}RUN cmp /app/out /app/final && echo same\n");
    other.build(&more, ["--cache-from", from]).run().expect_ok().stderr_has(&["same"]);
}

#[test]
fn a_result_travels_through_a_directory() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("cache").display().to_string();
    travels(&format!("type=local,dest={dir},mode=max"), &format!("type=local,src={dir}"));
}

#[test]
fn a_result_travels_through_a_registry() {
    let storage = tempfile::tempdir().unwrap();
    let registry = Registry::start(storage.path());
    let reference = format!("{}/team/app:cache", registry.address());
    travels(
        &format!("type=registry,ref={reference},mode=max,image-manifest=true,oci-mediatypes=true"),
        &reference,
    );
}

#[test]
fn what_is_cheaper_to_make_than_to_move_is_left_and_said() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().display().to_string();
    let space = machine();
    let to = format!("type=local,dest={dir}");
    // Otherwise the first COPY waits for the base image.
    space.build("FROM busybox\nRUN true\n", [""; 0]).run().expect_ok();
    exported(&space, &to).stderr_has(&["left: cheaper to make than to move"]).lacks(&[" 0 results sent"]);
    // Nothing is sent twice.
    exported(&space, &to).stderr_has(&[": 0 results sent (0B), ", " there already"]);
    // The image's own layers alone.
    let (min, other) = (place.path().join("min"), machine());
    let to = format!("type=local,dest={},mode=min", min.display());
    exported(&other, &to).stderr_has(&["not a layer of the image (`mode=min`)"]);
}

#[test]
fn a_cache_that_is_out_of_reach_costs_a_word() {
    let space = machine();
    let one = "type=s3,bucket=b,endpoint_url=http://127.0.0.1:1,access_key_id=a,secret_access_key=b";
    let began = std::time::Instant::now();
    let done = space
        .build(
            "FROM busybox\nRUN echo 1\nRUN echo 2\n",
            ["--cache-from", "127.0.0.1:1/x", "--cache-from", one],
        )
        .args(["--cache-to", "type=registry,ref=127.0.0.1:1/x,mode=max"])
        .run()
        .expect_ok();
    assert_eq!(done.stderr.matches("this cache is not used").count(), 2, "{}", done.stderr);
    assert_eq!(done.stderr.matches("results are not exported").count(), 1, "{}", done.stderr);
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

/// The blobs of a directory, the largest first.
fn blobs(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> =
        std::fs::read_dir(dir.join("blobs/sha256")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort_by_key(|path| std::cmp::Reverse(std::fs::metadata(path).unwrap().len()));
    found
}

#[test]
fn damaged_and_missing_layers_are_misses_and_their_steps_run() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("cache");
    let dockerfile = "FROM busybox\nRUN sleep 1; seq 1 200000 > /large\n";
    let one = machine();
    let to = format!("type=local,dest={},mode=max", dir.display());
    one.build(dockerfile, ["--cache-to", &to]).run().expect_ok();
    let from = format!("type=local,src={}", dir.display());
    let large = blobs(&dir).remove(0);
    let bytes = std::fs::read(&large).unwrap();
    let spoil: [&dyn Fn(); 3] = [
        &|| std::fs::write(&large, &bytes[..bytes.len() / 2]).unwrap(),
        &|| std::fs::write(&large, vec![7; bytes.len()]).unwrap(),
        &|| std::fs::remove_file(&large).unwrap(),
    ];
    for spoil in spoil {
        spoil();
        let other = machine();
        let built = other.build(dockerfile, ["--cache-from", &from]).run().expect_ok();
        let built = built.stderr_has(&["cannot be used: ", "; its step runs", "DONE 1."]);
        assert!(built.stderr.contains("warning: "), "{}", built.stderr);
        assert_eq!(other.run_in("app", &["tail", "-n1", "/large"]), "200000\n");
    }
}

#[test]
fn signatures_are_required_where_keys_are_named() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("cache").display().to_string();
    let one = machine();
    one.dbuild(["cache", "keygen", "ours"]).run().expect_ok();
    one.dbuild(["cache", "keygen", "theirs"]).run().expect_ok();
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(one.path("ours")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    exported(&one, &format!("type=local,dest={dir},mode=max"));
    let trust = |key: &str| format!("type=local,src={dir},trust={}", one.path(key).display());
    let built = |from: &str| machine().build(BUILT, ["--cache-from", from]).run().expect_ok();
    built(&trust("ours.pub")).stderr_has(&["a result is not used: it is not signed"]).lacks(&["CACHED in"]);
    exported(&one, &format!("type=local,dest={dir},mode=max,sign-key={}", one.path("ours").display()));
    built(&trust("ours.pub")).stderr_has(&["CACHED in"]).lacks(&["is not used"]);
    built(&trust("theirs.pub"))
        .stderr_has(&["a result is not used: it is signed with a key that is not trusted"])
        .lacks(&["CACHED in"]);
}

#[test]
fn twenty_builds_export_at_once_and_lose_nothing() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("cache").display().to_string();
    let dockerfile = |number: usize| format!("FROM busybox\nRUN echo {number} > /number\n");
    let spaces: Vec<TestSpace> = (0..20).map(|_| machine()).collect();
    std::thread::scope(|scope| {
        for (number, space) in spaces.iter().enumerate() {
            let (to, text) = (format!("type=local,dest={dir},mode=max"), dockerfile(number));
            scope.spawn(move || space.build(&text, ["--cache-to", &to]).run().expect_ok());
        }
    });
    let reader = machine();
    for number in 0..20 {
        let from = format!("type=local,src={dir}");
        reader
            .build(&dockerfile(number), ["--cache-from", &from])
            .run()
            .expect_ok()
            .stderr_has(&["CACHED in"]);
        assert_eq!(reader.run_in("app", &["cat", "/number"]), format!("{number}\n"));
    }
}
