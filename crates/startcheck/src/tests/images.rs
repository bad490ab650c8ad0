//! Images that do not start, and those like them that do.

use dbuild_events::StartVerdict;

use super::{ElfFile, Image, amd64, rules};
use crate::{Stage, add_remedies, line};

#[track_caller]
fn check(image: &Image, expected: &str) {
    let start = image.check();
    assert_eq!(rules(&start), expected, "{start}");
    if expected.is_empty() {
        assert_eq!(start.verdict, StartVerdict::Starts);
    }
}

fn app() -> ElfFile<'static> {
    ElfFile::glibc(&["libc.so.6"])
}

#[test]
fn programs_of_an_image() {
    check(&Image::glibc(&["/app/app"]).program("/app/app", &app()), "");
    check(&Image::glibc(&["./app"]).program("/app/app", &app()), "");
    check(&Image::glibc(&["app"]).program("/usr/local/bin/app", &app()), "");
    check(&Image::new(&["/server"]).program("/server", &ElfFile::default()), "");
    check(&Image::glibc(&["app"]).program("/app/app", &app()), "!program-missing");
    check(&Image::glibc(&["/app/app"]).file("/app/app", app().bytes()), "!not-executable");
    check(&Image::glibc(&["/app/app"]).dir("/app/app"), "!not-executable");
    check(&Image::glibc(&["/app/app"]).link("/app/app", "../gone"), "!program-missing");
    check(&Image::glibc(&["/app/app"]).link("/app/app", "app"), "!program-missing");
    check(&Image::glibc(&["app --port 80"]).program("/usr/bin/app", &app()), "!program-missing");
    check(
        &Image::glibc(&["/app/app"]).program("/app/app", &ElfFile { machine: 183, ..app() }),
        "!wrong-machine",
    );
    check(&Image::glibc(&["/app/app"]).script("/app/app", "MZ"), "!wrong-machine");
    check(&Image::glibc(&["/app/app"]).script("/app/app", &app().bytes()[..70]), "!damaged");
    assert_eq!(Image::new(&[]).check().verdict, StartVerdict::NoCommand);
}

#[test]
fn a_dangling_link_is_followed_in_words() {
    let start = Image::glibc(&["run"]).link("/usr/bin/run", "/opt/run").link("/opt/run", "v2/run").check();
    assert_eq!(line(&start), "will not start: run is in no directory of PATH");
    let start =
        Image::glibc(&["/usr/bin/run"]).link("/usr/bin/run", "/opt/run").link("/opt/run", "v2/run").check();
    assert_eq!(
        line(&start),
        "will not start: /usr/bin/run is not there: the link /opt/run leads to /opt/v2/run, which is missing"
    );
}

#[test]
fn loaders_and_libraries() {
    let go = ElfFile::glibc(&["libc.so.6"]);
    check(&Image::new(&["/app/app"]).program("/app/app", &go), "!loader-missing");
    check(&Image::musl(&["/app/app"]).program("/app/app", &go), "!wrong-libc");
    check(&Image::musl(&["/app/app"]).program("/app/app", &ElfFile::musl(&["libc.so"])), "");
    check(&Image::glibc(&["/app/app"]).program("/app/app", &ElfFile::musl(&["libc.so"])), "!wrong-libc");
    // gcompat: glibc's loader is a link to musl's.
    let compat = Image::musl(&["/app/app"]).program("/app/app", &go);
    check(&compat.link("/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"), "");
    check(
        &Image::glibc(&["/app/app"]).program("/app/app", &ElfFile::glibc(&["libpq.so.5"])),
        "!library-missing",
    );
    let new = ElfFile { needs: &[("libc.so.6", &["GLIBC_2.34"])], ..app() };
    let start = Image::glibc(&["/app/app"]).program("/app/app", &new).check();
    assert_eq!(
        line(&start),
        "will not start: /app/app needs GLIBC_2.34 of libc.so.6, and /lib/x86_64-linux-gnu/libc.so.6 has up to GLIBC_2.31"
    );
}

#[test]
fn shell_forms() {
    let form = |line: &'static str| Image::glibc(&["/bin/sh", "-c", line]).program("/app/app", &app());
    check(&form("./app --fast"), "");
    check(&form("exec ./app \"$@\""), "");
    check(&form("cd /app && A=1 exec ./app"), "");
    check(&form("./gone"), "!program-missing");
    check(&form("cd /gone && ./app"), "!file-missing");
    check(&form("./app && ./gone"), "?program-missing");
    check(&form("./gone || ./app"), "~what `./gone || ./app` starts if a command of it fails");
    check(
        &form("for a in 1 2; do ./gone; done"),
        "~what `for a in 1 2; do ./gone; done` starts: its shell has to say",
    );
    check(&form("$SERVER"), "~what is started: its name is a variable that the image does not set");
    check(&form("${SERVER:-./app} x"), "");
    check(&form("['./app']"), "!not-json");
    check(&Image::new(&["/bin/sh", "-c", "app"]), "!shell-missing");
    check(&Image::glibc(&["/bin/sh", "-c", "./run"]).script("/app/run", "echo no shebang\n"), "");
    check(&Image::musl(&["sh"]), "");
}

#[test]
fn scripts() {
    let script = |text: &str| Image::glibc(&["/app/run"]).script("/app/run", text);
    check(&script("#!/bin/sh\necho\n"), "");
    check(&script("#!/usr/bin/env sh\necho\n"), "");
    check(&script("#!/usr/bin/env -S sh -e\necho\n"), "");
    check(&script("#!/bin/bash\necho\n"), "!program-missing");
    check(&script("#!/usr/bin/env bash\necho\n"), "!program-missing");
    check(&script("#!/bin/sh\r\necho\r\n"), "!crlf");
    check(&script("#!/bin/sh -e\r\necho\r\n"), "?crlf");
    check(&script("\u{feff}#!/bin/sh\n"), "!no-shebang");
    check(&script("echo\n"), "!no-shebang");
    check(&script(""), "!no-shebang");
    check(&Image::glibc(&["sh", "run.sh"]), "!file-missing");
    check(&Image::glibc(&["sh", "run.sh"]).file("/app/run.sh", "echo\n"), "");
}

#[test]
fn entry_points_hand_over() {
    let image = |cmd: &[&str]| {
        let mut image = Image::glibc(cmd).script("/entry.sh", "#!/bin/sh\nset -e\nexec \"$@\"\n");
        image.config.entrypoint = Some(vec!["/entry.sh".to_owned()]);
        image
    };
    check(&image(&["env"]), "");
    check(&image(&["gone"]), "?program-missing");
    check(&image(&["--flag"]), "");
    // Where the script decides, the word need not be a program.
    let deciding = |cmd: &[&str], branch: &str| {
        let text = format!("#!/bin/sh\nif [ \"$1\" = serve ]; then\n  {branch}\nfi\nexec \"$@\"\n");
        let mut image = Image::glibc(cmd).script("/entry.sh", text);
        image.config.entrypoint = Some(vec!["/entry.sh".to_owned()]);
        image
    };
    check(&deciding(&["env"], "exec env"), "");
    for branch in ["shift; exec env \"$@\"", "exec env \"$@\"", "set -- env \"$@\""] {
        let start = deciding(&["serve"], branch).check();
        assert_eq!(rules(&start), "~what /entry.sh makes of `serve`", "{branch}");
        assert!(start.is_final(), "it will not be known tomorrow either");
    }
    let tini = Image::glibc(&["/sbin/tini", "--", "gone"]).program("/sbin/tini", &ElfFile::default());
    check(&tini, "!program-missing");
}

#[test]
fn users_and_permissions() {
    let image = || Image::glibc(&["/app/app"]).program("/app/app", &app());
    check(&image().user("1000"), "");
    check(&image().user("app"), "!user-unknown");
    check(&image().user("app").file("/etc/passwd", "app:x:5:5::/:/bin/sh\n"), "");
    check(&image().user("0:app"), "!user-unknown");
    check(&image().mode("/app/app", 0o700), "");
    check(&image().mode("/app/app", 0o700).user("1000"), "!not-executable");
    check(&image().mode("/app", 0o700).user("1000"), "!no-permission ?workdir");
    check(&image().mode("/app/app", 0o710).user("1000:0"), "");
}

#[test]
fn working_directories() {
    let at = |dir: &str| {
        let mut image = Image::glibc(&["/app/app"]).program("/app/app", &app()).file("/file", "");
        image.config.working_dir = dir.to_owned();
        image
    };
    check(&at("/gone"), "workdir");
    assert_eq!(at("/gone").check().verdict, StartVerdict::Starts, "Docker makes it");
    check(&at("/file"), "!workdir");
    check(&at("/file/below"), "!workdir");
    check(&at(""), "");
}

#[test]
fn what_cannot_be_read_is_unknown() {
    let start = Image::glibc(&["/app/app"]).program("/app/app", &app()).unread().check();
    assert_eq!(start.verdict, StartVerdict::Unknown);
    assert_eq!(rules(&start), "~/app/app: the content of the file is not available");
    assert!(!start.is_final(), "they can be unpacked by the next time");
    // The index alone says that it is not there.
    assert_eq!(Image::glibc(&["gone"]).unread().check().verdict, StartVerdict::WillNotStart);
}

#[test]
fn node() {
    let node = |cmd: &[&str]| Image::glibc(cmd).program("/usr/bin/node", &app());
    let server = |text: &str| node(&["node", "server.js"]).file("/app/server.js", text);
    check(&node(&["node", "server.js"]), "!file-missing");
    check(&node(&["node", "dist/index"]).file("/app/dist/index.js", ""), "");
    check(&server("const http = require('node:http');\n"), "");
    check(&server("const express = require('express');\n"), "!module-missing");
    check(
        &server("const express = require('express');\n").file("/app/node_modules/express/index.js", ""),
        "",
    );
    check(
        &server("const a = require('./a');\n").file("/app/a.js", "import b from 'b';\n"),
        "!module-missing",
    );
    check(&server("try {\n  require('maybe');\n} catch {}\n"), "");
    check(&server("let f; try { f = require('fsevents') } catch {}\n"), "");
    let npm = |json: &str| {
        node(&["npm", "start"])
            .script("/usr/lib/node_modules/npm/bin/npm-cli.js", "#!/usr/bin/env node\n")
            .link("/usr/bin/npm", "../lib/node_modules/npm/bin/npm-cli.js")
            .file("/app/package.json", json)
    };
    check(&npm(r#"{"scripts":{"start":"node server.js"}}"#), "!file-missing");
    check(&npm(r#"{"scripts":{"start":"node server.js"}}"#).file("/app/server.js", ""), "");
    check(&npm(r#"{"scripts":{"start":"next start"}}"#), "!program-missing");
    check(
        &npm(r#"{"scripts":{"start":"next start"}}"#)
            .script("/app/node_modules/.bin/next", "#!/usr/bin/env node\n"),
        "",
    );
    check(&npm("{}"), "!script-missing");
    check(&npm("{}").file("/app/server.js", ""), "");
    check(&npm("{").file("/app/server.js", ""), "!damaged");
    check(&npm("{}").without("/app/package.json"), "!file-missing");
}

#[test]
fn a_jar() {
    let java = Image::glibc(&["java", "-Xmx1g", "-jar", "app.jar"]).program("/usr/bin/java", &app());
    check(&java, "!file-missing");
    check(&java.file("/app/app.jar", "PK"), "");
}

#[test]
fn the_stage_that_has_it() {
    let builder = Image::glibc(&[])
        .program("/usr/local/bin/tool", &ElfFile::glibc(&["liba.so.1", "libc.so.6"]))
        .program(
            "/usr/lib/x86_64-linux-gnu/liba.so.1",
            &ElfFile { needed: &["libb.so.2"], ..ElfFile::default() },
        )
        .program("/usr/lib/x86_64-linux-gnu/libb.so.2", &ElfFile::default());
    let image = Image::glibc(&["tool"]);
    let help = |image: &Image, builder: &Image| {
        let mut start = image.check();
        let stages = [
            Stage { name: "docs".to_owned(), files: &Image::default() },
            Stage { name: "builder".to_owned(), files: builder },
        ];
        add_remedies(&mut start, &image.config, &amd64(), image, &stages);
        start.findings[0].help.join("\n")
    };
    assert_eq!(
        help(&image, &builder),
        "the stage builder has it: add\n\
         COPY --from=builder /usr/local/bin/tool /usr/local/bin/tool\n\
         COPY --from=builder /usr/lib/x86_64-linux-gnu/liba.so.1 /usr/lib/x86_64-linux-gnu/liba.so.1\n\
         COPY --from=builder /usr/lib/x86_64-linux-gnu/libb.so.2 /usr/lib/x86_64-linux-gnu/libb.so.2"
    );
    // A line that would not do is not given.
    assert_eq!(
        help(&Image::musl(&["tool"]), &builder),
        "the stage builder has it (/usr/local/bin/tool), and a COPY of that alone would not do: install it in this stage, too"
    );
    assert_eq!(help(&image, &Image::default()), "");
}
