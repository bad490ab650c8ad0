//! What RUN is lent and must not keep: secrets and agents.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use dbuild_integration_tests::{Outcome, TestSpace, Unpacked};

/// No text, no line end at its end, and a line end in it.
const BINARY: &[u8] = b"hunter2-binary\n\x00\xff\xfe\r\nlast";

const SECRETS: &str = r#"FROM busybox
WORKDIR /work
RUN --mount=type=secret,id=file test -f /run/secrets/file && stat -c 'default %a %u:%g' /run/secrets/file \
    && md5sum < /run/secrets/file && ! (: >> /run/secrets/file)
RUN --mount=type=secret,target=conf/file cat /work/conf/file | md5sum && grep -c . conf/file
RUN --mount=type=secret,source=file,target=/etc/token,mode=0440,uid=7,gid=8 stat -c 'owned %a %u:%g' /etc/token && md5sum < /etc/token
RUN --mount=type=secret,id=file,env=TOKEN printf %s "$TOKEN" | md5sum && test ! -e /run/secrets/file
RUN --mount=type=secret,id=variable,env=TOKEN,target=/both test "$TOKEN" = "$(cat /both)" && echo both
RUN --mount=type=secret,id=variable,env= env | grep -c '^variable=' && echo "the id is the name"
RUN --mount=type=secret,id=binary md5sum < /run/secrets/binary
RUN --mount=type=secret,id=sub/dir test -f /run/secrets/dir && echo "the base name is the default"
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent && echo "absent is no error"
USER 7
RUN --mount=type=secret,id=file ! cat /run/secrets/file 2> /dev/null && echo "root's alone"
RUN --mount=type=secret,id=file,uid=7 md5sum < /run/secrets/file
RUN test ! -e /run/secrets && test ! -e /work/conf && test ! -e /etc/token && test ! -e /both && echo "all gone"
"#;

#[test]
fn a_secret_is_where_it_is_asked_for_and_nowhere_else() {
    let space = TestSpace::new();
    let text = "hunter2-first line\nhunter2-second $line\n";
    space.write("file", text);
    space.write("binary", BINARY);
    let secrets = [
        ["--secret", "id=file,src=file"],
        ["--secret", "id=sub/dir,source=file"],
        ["--secret", "type=file,id=binary,src=binary"],
        ["--secret", "id=variable,env=GIVEN"],
    ]
    .concat();
    let done = space.build(SECRETS, &secrets).env("GIVEN", "hunter2-variable").run().expect_ok();
    let count = |sum: &str| done.stderr.matches(sum).count();
    assert_eq!(count(&md5(&space, "file")), 5, "{}", done.stderr);
    assert_eq!(count(&md5(&space, "binary")), 1, "{}", done.stderr);
    let done = done.stderr_has(&[
        "default 400 0:0",
        "Read-only file system",
        "owned 440 7:8",
        "both",
        "the id is the name",
        "the base name is the default",
        "absent is no error",
        "root's alone",
        "all gone",
    ]);
    assert!(!done.stderr.contains("hunter2"), "{}", done.stderr);
    let paths = Unpacked::new(&space, "app").paths();
    let left = |path: &&String| ["secrets", "token", "conf/", "both"].iter().any(|name| path.contains(name));
    assert_eq!(paths.iter().find(left), None);

    // A step that fails is kept, for a shell in it; its secrets are not.
    let failing =
        "FROM busybox\nRUN --mount=type=secret,id=file --mount=type=secret,id=variable,env=A exit 3\n";
    space.build(failing, &secrets).env("GIVEN", "hunter2-variable").run().expect_code(1);
    space.dbuild(["report", "-o", "report.html"]).run().expect_ok();
    for file in ["file", "binary"] {
        std::fs::remove_file(space.path(file)).expect("it is there");
    }
    assert_eq!(files_with(space.root(), b"hunter2"), Vec::<String>::new());
}

#[test]
fn the_value_of_an_argument_that_no_stage_declares_is_kept_nowhere() {
    let space = TestSpace::new();
    space.write("token", "hunter2-secret");
    let text = "FROM busybox\nARG DECLARED\nRUN --mount=type=secret,id=token test -s /run/secrets/token; echo $DECLARED > /file\n";
    let args = ["UNDECLARED=hunter2-flag", "UNSET", "DECLARED=told"].map(|arg| format!("--build-arg={arg}"));
    let secret = ["--secret", "id=token,src=token"].map(str::to_owned);
    let output = "--output=type=image,compression=uncompressed".to_owned();
    let flags: Vec<String> = args.into_iter().chain(secret).chain([output]).collect();
    for strategy in ["linear", "content", "output"] {
        let flags = flags.iter().map(String::as_str).chain(["--explain", "--strategy", strategy]);
        space.build(text, flags).env("UNSET", "hunter2-variable").run().expect_ok();
    }
    space.dbuild(["report", "-o", "report.html"]).run().expect_ok();
    std::fs::remove_file(space.path("token")).expect("it is there");
    assert_eq!(files_with(space.root(), b"hunter2"), Vec::<String>::new());
    assert_ne!(
        files_with(&space.path("store"), b"told"),
        Vec::<String>::new(),
        "what is declared is an ingredient"
    );
}

#[test]
fn a_secret_that_cannot_be_given_is_an_error_that_says_so() {
    let space = TestSpace::new();
    space.write("binary", BINARY);
    let fails = |mount: &str, args: &[&str]| -> Outcome {
        space
            .build(&format!("FROM busybox\nRUN --mount=type=secret,{mount} true\n"), args)
            .run()
            .expect_code(1)
    };
    fails("id=a,required", &[]).stderr_has(&[
        "context/Dockerfile:2",
        "no secret `a`",
        "--secret id=a,src=FILE",
    ]);
    let binary = ["--secret", "id=a,src=binary"];
    let told = fails("id=a,env=A", &binary).stderr_has(&["the secret `a` is no text", "leave `env` out"]);
    assert!(!told.stderr.contains("hunter2"), "{}", told.stderr);
    let unset = ["--secret", "id=a,env=NOT_SET"];
    fails("id=a", &unset).stderr_has(&["the variable NOT_SET, which is not set"]);
    let fields = space.build("FROM scratch\n", ["--secret", "id=a,mode=1"]).run();
    fields.expect_code(2).stderr_has(&["`mode=1` is not known"]);
}

/// Asks the agent twice over one connection, and prints its answers. It needs no modules of Perl's.
const ASK: &str = r#"socket(AGENT, 1, 1, 0) or die $!;
if (!connect(AGENT, pack("S a108", 1, $ENV{SSH_AUTH_SOCK}))) { print("no way in\n"); exit }
for $word ("keys", "sign") { syswrite(AGENT, "$word\n"); print scalar <AGENT>; }
"#;

/// Answers each line of each connection.
fn fake_agent(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket can be made");
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o600)).expect("it is ours");
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut answers = connection.try_clone().expect("a socket can be cloned");
            for line in BufReader::new(connection).lines().map_while(Result::ok) {
                writeln!(answers, "the answer to {line}").expect("somebody listens");
            }
        }
    });
}

#[test]
fn an_agent_answers_whom_the_mount_lets_in() {
    let space = TestSpace::offline();
    // No socket can have an address as long as that of this directory's.
    let store = space.path("long-".repeat(30));
    let host = ["image", "from-host", "-t", "host", "perl", "sh", "stat"];
    space.dbuild(host).env("DBUILD_STORE", &store).run().expect_ok();
    space.write("context/ask", ASK);
    let text = "FROM host\nCOPY ask /ask\nUSER 7\n\
                RUN --mount=type=ssh stat -c 'default %a %u:%g' $SSH_AUTH_SOCK && perl /ask\n\
                RUN --mount=type=ssh,uid=7,gid=8,target=/mine stat -c 'given %a %u:%g' /mine && echo \"given: $(perl /ask)\"\n\
                RUN --network=none --mount=type=ssh,mode=0666 stat -c 'open %a' $SSH_AUTH_SOCK && echo \"open: $(perl /ask)\"\n";
    fake_agent(&space.path("agent"));
    let agent = format!("default={}", space.path("agent").display());
    let build = space.build(text, ["--ssh", &agent]).env("DBUILD_STORE", &store);
    let done = build.run().expect_ok().stderr_has(&[
        "default 600 0:0",
        "no way in",
        "given 600 7:8",
        "given: the answer to keys",
        "open 666",
        "open: the answer to keys",
    ]);
    assert_eq!(done.stderr.matches("the answer to sign\n").count(), 2, "{}", done.stderr);
    let sockets = space.shell("", "find . -type s | sort").expect_ok();
    assert_eq!(sockets.stdout, "./agent\n", "the sockets of the steps are gone");
}

fn md5(space: &TestSpace, file: &str) -> String {
    let sum = space.shell("", &format!("md5sum < {file}")).expect_ok().stdout;
    sum.split_whitespace().next().expect("a sum").to_owned()
}

/// The files below a directory that hold some bytes as they are.
fn files_with(dir: &Path, bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a type");
        if kind.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if kind.is_file()
            && std::fs::read(&path)
                .is_ok_and(|content| content.windows(bytes.len()).any(|part| part == bytes))
        {
            found.push(path.display().to_string());
        }
    }
    found
}
