//! Python: the faults of the well-known tutorials, and their mended forms.

use dbuild_events::StartVerdict;

use super::{ElfFile, Image, amd64, rules};
use crate::{Stage, add_remedies, line};

#[track_caller]
fn check(image: &Image, expected: &str) {
    let start = image.check();
    assert_eq!(rules(&start), expected, "{start}");
}

/// The official image's layout, with this version.
fn python(image: Image, version: &str, libc: &str) -> Image {
    let elf = if libc == "musl" { ElfFile::musl(&["libc.so"]) } else { ElfFile::glibc(&["libc.so.6"]) };
    let digits = version.replace('.', "");
    let lib = format!("/usr/local/lib/python{version}");
    image
        .program(&format!("/usr/local/bin/python{version}"), &elf)
        .link("/usr/local/bin/python3", &format!("python{version}"))
        .link("/usr/local/bin/python", "python3")
        .file(&format!("{lib}/os.py"), "")
        .file(&format!("{lib}/_sysconfigdata__linux_x86_64-linux-{libc}.py"), "")
        .file(&format!("{lib}/lib-dynload/_json.cpython-{digits}-x86_64-linux-{libc}.so"), "")
        .dir(&format!("{lib}/site-packages"))
}

fn slim(cmd: &[&str], version: &str) -> Image {
    python(Image::glibc(cmd), version, "gnu")
}

fn alpine(cmd: &[&str], version: &str) -> Image {
    python(Image::musl(cmd), version, "musl")
}

fn site(version: &str, rest: &str) -> String {
    format!("/usr/local/lib/python{version}/site-packages/{rest}")
}

const FLASK_APP: &str = "from flask import Flask\nimport os, json\n\napp = Flask(__name__)\n";

#[test]
fn scripts_and_their_imports() {
    let app = |text: &str| slim(&["python", "app.py"], "3.11").file("/app/app.py", text);
    check(&app("print(1)\n"), "");
    check(&slim(&["python", "app.py"], "3.11"), "!file-missing");
    check(&slim(&["python", "-u", "app.py"], "3.11"), "!file-missing");
    check(&slim(&["python3"], "3.11"), "");
    check(&app(FLASK_APP), "!module-missing");
    check(&app(FLASK_APP).file(&site("3.11", "flask/__init__.py"), ""), "");
    check(&app(FLASK_APP).file("/opt/lib/flask.py", "").env("PYTHONPATH=/opt/lib"), "");
    check(&app(FLASK_APP).file(&site("3.11", "more.pth"), "/opt/lib\n").file("/opt/lib/flask.py", ""), "");
    check(
        &app(FLASK_APP).file(&site("3.11", "__editable__.pth"), "import __editable___finder\n"),
        "?module-missing",
    );
    let moved = app("import sys\nsys.path.append('x')\nimport flask\n");
    check(&moved, "?module-missing");
    check(&moved.clone().file("/app/vendor/flask/__init__.py", ""), "");
    check(&moved.clone().file("/shared/flask.py", ""), "");
    check(&moved.file("/elsewhere/deep/flask.py", ""), "?module-missing");
    check(&app("try:\n    import flask\nexcept ImportError:\n    flask = None\n"), "");
    check(&app("from models import User\n").file("/app/models.py", "import sqlalchemy\n"), "!module-missing");
    check(
        &app("from pkg.part import x\n")
            .file("/app/pkg/part.py", "from .more import y\n")
            .file("/app/pkg/more.py", ""),
        "",
    );
    let namespace =
        app("import google.cloud.storage\n").file(&site("3.11", "google/cloud/storage/__init__.py"), "");
    check(&namespace, "");
    check(&app("import old\n").file(&site("3.11", "old.pyc"), ""), "");
}

#[test]
fn modules_that_are_started() {
    check(&slim(&["python", "-m", "http.server"], "3.11"), "");
    check(&slim(&["python", "-m", "flask", "run"], "3.11").file("/app/app.py", ""), "!module-missing");
    let flask = slim(&["python", "-m", "flask", "run"], "3.11").file(&site("3.11", "flask/__init__.py"), "");
    check(&flask, "?file-missing");
    check(&flask.clone().env("FLASK_APP=x"), "");
    check(&flask.file("/app/app.py", "import gone\n"), "!module-missing");
}

#[test]
fn console_scripts() {
    let server = |script: &str| {
        slim(&["gunicorn", "-b", "0.0.0.0:80", "app:app"], "3.11")
            .file(&site("3.11", "gunicorn/__init__.py"), "")
            .file(&site("3.11", "gunicorn/app/wsgiapp.py"), "")
            .file(&site("3.11", "gunicorn-21.2.0.dist-info/METADATA"), "")
            .script("/usr/local/bin/gunicorn", script)
    };
    let script = "#!/usr/local/bin/python3.11\nimport sys\nfrom gunicorn.app.wsgiapp import run\n";
    let whole = server(script).file("/app/app.py", "");
    check(&whole, "");
    check(&server(script), "!module-missing");
    // python-slim: the packages were copied, and /usr/local/bin was not.
    let left = whole.without("/usr/local/bin/gunicorn");
    check(&left, "!script-left-behind");
    assert_eq!(
        line(&left.check()),
        "will not start: gunicorn is in no directory of PATH: its package is in /usr/local/lib/python3.11/site-packages, its \
         script was left behind"
    );
    // Or they were, from an image with another python.
    let other = server(&script.replace("3.11", "3.9")).file("/app/app.py", "");
    check(&other, "!interpreter-missing");
}

/// python-slim: built with 3.9, run with 3.7.
#[test]
fn packages_of_another_python() {
    let image = slim(&["python", "app.py"], "3.7")
        .file("/app/app.py", FLASK_APP)
        .file(&site("3.9", "flask/__init__.py"), "");
    check(&image, "!wrong-python");
    assert_eq!(
        line(&image.check()),
        "will not start: /app/app.py imports flask, which is in /usr/local/lib/python3.9/site-packages: this python is 3.7 and \
         looks in /usr/local/lib/python3.7/site-packages"
    );
    let compiled = slim(&["python", "app.py"], "3.7").file("/app/app.py", "import ujson\n");
    check(&compiled.file(&site("3.7", "ujson.cpython-39-x86_64-linux-gnu.so"), ""), "!wrong-python");
}

/// flask: a wheel that was compiled for glibc, on alpine.
#[test]
fn compiled_modules() {
    let module =
        ElfFile { needed: &["libc.so.6"], needs: &[("libc.so.6", &["GLIBC_2.2.5"])], ..ElfFile::default() };
    let app = |image: Image| image.file("/app/app.py", "import ujson\n");
    let gnu = site("3.11", "ujson.cpython-311-x86_64-linux-gnu.so");
    check(&app(slim(&["python", "app.py"], "3.11")).program(&gnu, &module), "");
    let foreign = app(alpine(&["python", "app.py"], "3.11")).program(&gnu, &module);
    check(&foreign, "!wrong-libc");
    let text = foreign.check().to_string();
    assert!(text.contains("compiled for glibc") && text.contains("built for musl"), "{text}");
    let musl = ElfFile { needed: &["libc.musl-x86_64.so.1"], ..ElfFile::default() };
    check(
        &app(alpine(&["python", "app.py"], "3.11"))
            .program(&site("3.11", "ujson.cpython-311-x86_64-linux-musl.so"), &musl),
        "",
    );
    check(
        &app(alpine(&["python", "app.py"], "3.11")).program(&site("3.11", "ujson.abi3.so"), &module),
        "?wrong-libc",
    );
    // A package that can do without its compiled part starts.
    let speedups = alpine(&["python", "app.py"], "3.11")
        .file("/app/app.py", "import markupsafe\n")
        .file(
            &site("3.11", "markupsafe/__init__.py"),
            "try:\n    from ._speedups import escape\nexcept ImportError:\n    from ._native import escape\n",
        )
        .program(&site("3.11", "markupsafe/_speedups.cpython-311-x86_64-linux-gnu.so"), &module);
    check(&speedups, "compiled-part");
    assert_eq!(speedups.check().verdict, StartVerdict::Starts);
    // One that cannot does not.
    let strict = speedups.file(&site("3.11", "markupsafe/__init__.py"), "from ._speedups import escape\n");
    check(&strict, "!wrong-libc compiled-part");
    // psycopg2 without libpq.
    let postgres = slim(&["python", "app.py"], "3.11")
        .file("/app/app.py", "import psycopg2\n")
        .file(&site("3.11", "psycopg2/__init__.py"), "from psycopg2._psycopg import connect\n")
        .program(
            &site("3.11", "psycopg2/_psycopg.cpython-311-x86_64-linux-gnu.so"),
            &ElfFile { needed: &["libpq.so.5"], ..ElfFile::default() },
        );
    check(&postgres, "!library-missing");
}

#[test]
fn environments() {
    let venv = |home: &str, version: &str| {
        slim(&["/app/venv/bin/python", "app.py"], version)
            .file("/app/app.py", "import flask\n")
            .file("/app/venv/pyvenv.cfg", "home = /usr/local/bin\ninclude-system-site-packages = false\n")
            .link("/app/venv/bin/python", home)
            .file("/app/venv/lib/python3.9/site-packages/flask/__init__.py", "")
    };
    check(&venv("/usr/local/bin/python3", "3.9"), "");
    check(&venv("/usr/bin/python3", "3.9"), "!program-missing");
    check(&venv("/usr/local/bin/python3", "3.11"), "!wrong-python ?wrong-python");
    // What the system has is not looked at.
    let system = venv("/usr/local/bin/python3", "3.9")
        .without("/app/venv/lib")
        .dir("/app/venv/lib/python3.9/site-packages");
    check(&system.file(&site("3.9", "flask/__init__.py"), ""), "!wrong-python");
    let mut activated = venv("/usr/local/bin/python3", "3.9").file("/app/venv/bin/activate", "");
    activated.config.cmd =
        Some(["/bin/sh", "-c", ". venv/bin/activate && python app.py"].map(str::to_owned).to_vec());
    check(&activated, "");
}

#[test]
fn an_interpreter_without_its_library() {
    let image = slim(&["python", "-c", "print()"], "3.11").without("/usr/local/lib/python3.11");
    check(&image, "!module-missing");
}

/// calculator: the interpreter is in another stage, with its library and another one.
#[test]
fn what_an_interpreter_needs_is_brought_with_it() {
    let debian = Image::glibc(&[])
        .program("/usr/bin/python3.11", &ElfFile::glibc(&["libc.so.6", "libexpat.so.1"]))
        .link("/usr/bin/python3", "python3.11")
        .program("/usr/lib/x86_64-linux-gnu/libexpat.so.1", &ElfFile::default())
        .file("/usr/lib/python3.11/os.py", "");
    let image = Image::glibc(&["python3", "calculator.py"]).file("/app/calculator.py", "import sys\n");
    let mut start = image.check();
    assert_eq!(line(&start), "will not start: python3 is in no directory of PATH");
    let stages = [Stage { name: "builder".to_owned(), files: &debian }];
    add_remedies(&mut start, &image.config, &amd64(), &image, &stages);
    assert_eq!(
        start.findings[0].help,
        ["the stage builder has it: add\n\
          COPY --from=builder /usr/bin/python3 /usr/bin/python3\n\
          COPY --from=builder /usr/lib/x86_64-linux-gnu/libexpat.so.1 /usr/lib/x86_64-linux-gnu/libexpat.so.1\n\
          COPY --from=builder /usr/lib/python3.11 /usr/lib/python3.11"]
    );
}

/// Debian's interpreter, which was built for `/usr`, at a path; its library is where Debian has it.
fn debian(path: &str, cmd: &[&str]) -> Image {
    let elf = [ElfFile::glibc(&["libc.so.6"]).bytes(), b"\0/usr\0lib/python3.11\0".to_vec()].concat();
    Image::glibc(cmd)
        .script(path, elf)
        .file("/usr/lib/python3.11/os.py", "")
        .file("/app/app.py", "import json\n")
}

#[test]
fn an_interpreter_finds_the_library_that_it_was_built_with() {
    for path in ["/usr/bin/python3.11", "/usr/local/bin/python", "/opt/x/bin/python3", "/python3"] {
        let image = debian(path, &[path, "app.py"]);
        check(&image, "");
        check(&image.clone().without("/usr/lib/python3.11"), "!module-missing");
        check(&image.clone().file("/opt/h/lib/python3.11/os.py", "").env("PYTHONHOME=/opt/h"), "");
        check(&image.clone().env("PYTHONHOME=/nowhere"), "!module-missing");
        let apart = image.without("/usr/lib/python3.11").file("/data/os.py", "");
        check(&apart.clone().env("PYTHONPATH=/data"), "");
        let archive = apart.file("/usr/lib/python311.zip", "PK");
        check(&archive, &format!("~the modules of {path}: they are in the archive /lib/python311.zip"));
    }
    // An environment is searched from where it was made.
    let environment = debian("/usr/local/bin/python3", &["/v/bin/python", "app.py"])
        .link("/v/bin/python", "/usr/local/bin/python3")
        .file("/v/pyvenv.cfg", "home = /usr/local/bin\n");
    check(&environment, "");
    check(&debian("/python3", &["/python3"]).without("/usr/lib/python3.11"), "!module-missing");
}

#[test]
fn words_of_the_interpreter() {
    let app =
        |words: &[&str]| slim(&[&["python"], words].concat(), "3.11").file("/app/app.py", "import mine\n");
    let beside = |words: &[&str]| app(words).file("/app/mine.py", "");
    check(&beside(&["-bB", "app.py"]), "");
    check(&beside(&["-Pu", "app.py"]), "!module-missing");
    check(&beside(&["-I", "app.py"]).env("PYTHONPATH=/app"), "!module-missing");
    check(&beside(&["-W", "ignore", "-Xutf8", "app.py"]), "");
    check(&beside(&["-bc", "import mine"]), "");
    check(&beside(&["-cimport gone"]), "!module-missing");
    check(&beside(&["-um", "mine"]), "");
    check(&app(&["-"]), "");
    check(&app(&["--version", "gone.py"]), "");
    check(&app(&["app.py"]).file("/app/lib/mine.py", "").env("PYTHONPATH=lib"), "");
    check(&app(&["app.py"]).file("/m.zip", "PK").env("PYTHONPATH=/m.zip"), "~which modules are in /m.zip");
}

#[test]
fn what_changes_the_search_or_ends_before() {
    let app = |text: &str| slim(&["python", "app.py"], "3.11").file("/app/app.py", text);
    check(&app("import sys\nsys.exit(0)\nimport gone\n"), "");
    check(
        &app("import helper\nimport gone\n").file("/app/helper.py", "import sys; sys.path.append('x')\n"),
        "?module-missing",
    );
    check(&app("import sys\nsys.modules['gone'] = sys\nimport gone\n"), "?module-missing");
    check(&app("x = 'a\\\nimport gone\\\n'\n"), "");
    check(&app("x = '\"\"\"'\nimport gone\n"), "!module-missing");
}
