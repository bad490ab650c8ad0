//! One program: found in PATH, allowed, and startable, be it ELF or a script.

use crate::check::Check;
use crate::command::UNKNOWN_WORD;
use crate::elf::{Elf, ElfError};
use crate::image_files::{Broken, Place, base_name, join};
use crate::loader::{Libc, Loaded, Surroundings, load, read_elf};
use crate::shell;
use crate::strings;
use crate::wrappers::{Env, WRAPPERS, read_env};
use crate::{Finding, Severity, Want};

/// Programs that start programs that start programs: no real image goes further.
const MAX_DEPTH: usize = 8;
/// A shebang line is read so far, as Linux does.
const SHEBANG: usize = 256;

/// From where a program is started.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) cwd: String,
    /// PATH.
    pub(crate) path: String,
    /// What is missing here is no worse than this.
    pub(crate) worst: Severity,
    /// Who starts it, for the sentence: `the shebang of /app/run`.
    pub(crate) by: Option<String>,
    /// A shell starts it: it runs files without a shebang itself.
    pub(crate) by_shell: bool,
    /// That shell, without links.
    pub(crate) shell: Option<String>,
    pub(crate) depth: usize,
}

/// A file whose libraries are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    /// Without links.
    pub(crate) path: &'a str,
    /// What it is called in sentences.
    pub(crate) named: &'a str,
    /// The program that loads it, without links; `None` of a program.
    pub(crate) host: Option<&'a str>,
}

/// Shells that read a file, or a line after `-c`.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh"];

/// A shell that is started.
struct Shell<'a> {
    /// The path by which it is called.
    named: &'a str,
    /// Without links.
    real: &'a str,
}

impl Check<'_> {
    /// Starts a program, as `execvp` would.
    pub(crate) fn run(&mut self, argv: &[String], scope: &Scope) {
        let Some(name) = argv.first() else { return };
        if scope.depth > MAX_DEPTH {
            return self.unknown(format!("what {name} starts in the end"));
        }
        if name.contains(UNKNOWN_WORD) {
            return self.unknown("what is started: its name is known only when it runs".to_owned());
        }
        if let Some(place) = self.find_program(name, scope) {
            let named = if name.contains('/') {
                join(&scope.cwd, name)
            } else {
                self.in_path(name, scope).unwrap_or_default()
            };
            self.start(&place, &named, argv, scope);
        }
    }

    /// Where a program's name leads in PATH, executable or not.
    pub(crate) fn in_path(&self, name: &str, scope: &Scope) -> Option<String> {
        let dirs = scope.path.split(':').map(|dir| join(&scope.cwd, dir));
        let all: Vec<String> =
            dirs.map(|dir| join(&dir, name)).filter(|path| self.view.file(path).is_some()).collect();
        let runs =
            |path: &&String| self.view.file(path).is_some_and(|place| self.view.who.may(&place.node, 1));
        all.iter().find(runs).or(all.first()).cloned()
    }

    fn find_program(&mut self, name: &str, scope: &Scope) -> Option<Place> {
        let by = scope.by.as_ref().map(|by| format!(" (from {by})")).unwrap_or_default();
        let path = match name.contains('/') {
            true => join(&scope.cwd, name),
            false => match self.in_path(name, scope) {
                Some(path) => path,
                None => {
                    self.program_missing(name, &by, scope);
                    return None;
                }
            },
        };
        let worst = scope.worst;
        let finding = match self.view.walk(&path) {
            Ok(place) if !place.node.is_file() => {
                Finding::new("not-executable", worst, format!("{path} is not a file{by}"))
            }
            Ok(place) if !self.view.who.may(&place.node, 1) => {
                let (mode, uid) = (place.node.mode, self.view.who.uid);
                let text = match mode & 0o111 {
                    0 => format!("{path} is not executable (its mode is {mode:04o}){by}"),
                    _ => format!(
                        "user {uid} may not execute {path} (its mode is {mode:04o}, its owner {}){by}",
                        place.node.uid
                    ),
                };
                Finding::new("not-executable", worst, text)
                    .help(format!("COPY it with --chmod=755, or RUN chmod +x {path}"))
            }
            Ok(place) => return Some(place),
            Err(Broken::Missing { path: missing, link }) => {
                let text = match link {
                    Some(link) if missing != path => format!(
                        "{path} is not there: the link {link} leads to {missing}, which is missing{by}"
                    ),
                    _ => format!("{path} is not in the image{by}"),
                };
                Finding::new("program-missing", worst, text).wants(Want::Path(missing))
            }
            Err(Broken::AtRunTime(at)) => {
                self.unknown(format!("what {path} is: {at} is there only when it runs"));
                return None;
            }
            Err(Broken::Denied(dir)) => {
                let text =
                    format!("{path} cannot be reached: user {} may not enter {dir}{by}", self.view.who.uid);
                Finding::new("no-permission", worst, text).help(format!(
                    "copy it to where everybody may read, or open the way with RUN chmod o+x {dir}"
                ))
            }
            Err(Broken::NotADirectory(at)) => Finding::new(
                "program-missing",
                worst,
                format!("{path} leads through {at}, which is no directory{by}"),
            ),
            Err(Broken::Loop(_)) => {
                Finding::new("program-missing", worst, format!("{path} is a link in a circle{by}"))
            }
        };
        self.find(finding.at(path));
        None
    }

    /// Whether a shell may know a name without a file of it: busybox has the programs that it is made of inside.
    fn is_inside(&self, name: &str, scope: &Scope) -> bool {
        let Some(shell) = scope.shell.as_ref().filter(|_| scope.by_shell) else { return false };
        strings::has_applet(&self.view, shell, name).unwrap_or(true)
    }

    fn program_missing(&mut self, name: &str, by: &str, scope: &Scope) {
        if self.is_inside(name, scope) {
            return self
                .unknown(format!("whether the shell has `{name}` inside: no directory of PATH has it"));
        }
        let mut finding =
            Finding::new("program-missing", scope.worst, format!("{name} is in no directory of PATH{by}"))
                .wants(Want::Program(name.to_owned()));
        if name.contains(' ') && !scope.by_shell {
            let words: Vec<String> = name.split_whitespace().map(|word| format!("\"{word}\"")).collect();
            finding = finding.help(format!("a list has one word to a string: [{}]", words.join(", ")));
        }
        // Left in a place that PATH does not name.
        let places = [
            "/app/venv/bin",
            "/app/.venv/bin",
            "/venv/bin",
            "/opt/venv/bin",
            "/root/.local/bin",
            "/app",
            "/app/bin",
        ];
        let places = places.map(str::to_owned).into_iter().chain([
            join(&scope.cwd, "node_modules/.bin"),
            join(&scope.cwd, "venv/bin"),
            join(&scope.cwd, ".venv/bin"),
            scope.cwd.clone(),
        ]);
        if let Some(dir) = places.into_iter().find(|dir| self.view.file(&join(dir, name)).is_some()) {
            finding = finding
                .help(format!("it is in {dir}: set ENV PATH=\"{dir}:$PATH\", or name {}", join(&dir, name)));
        }
        if let Some(package) = self.left_behind(name) {
            finding.rule = "script-left-behind";
            finding.text = format!(
                "{name} is in no directory of PATH: its package is in {package}, its script was left behind{by}"
            );
            finding = finding.help(format!(
                "or start it as a module: [\"python\", \"-m\", \"{}\"]",
                name.replace('-', "_")
            ));
        }
        self.find(finding);
    }

    /// Starts a file that was found. `named` is the path by which it was called, which programs go by.
    pub(crate) fn start(&mut self, place: &Place, named: &str, argv: &[String], scope: &Scope) {
        let Some(head) = self.view.read_at(&place.path, 0, SHEBANG) else {
            return self.unknown(format!("{named}: its bytes are not at hand"));
        };
        let worst = scope.worst;
        if head.starts_with(b"\x7fELF") {
            if self.start_elf(place, named, scope) {
                self.known_program(place, named, argv, scope);
            }
        } else if head.starts_with(b"#!") {
            self.start_script(&head, named, argv, scope);
        } else if head.starts_with(b"\xef\xbb\xbf#!") {
            let text = format!("{named} begins with a byte order mark, so its shebang is none");
            self.find(
                Finding::new("no-shebang", worst, text).at(named).help("save it as UTF-8 without a mark"),
            );
        } else if head.starts_with(b"MZ") || head.starts_with(&[0xcf, 0xfa, 0xed, 0xfe]) {
            let of = if head.starts_with(b"MZ") { "Windows" } else { "macOS" };
            let text = format!("{named} is a program for {of}");
            self.find(Finding::new("wrong-machine", worst, text).at(named));
        } else if !scope.by_shell {
            let what = if head.is_empty() { "is empty" } else { "has no shebang" };
            let finding =
                Finding::new("no-shebang", worst, format!("{named} {what}, so the kernel cannot start it"));
            self.find(
                finding
                    .at(named)
                    .help("begin it with #!/bin/sh, or name the interpreter: [\"sh\", \"script\"]"),
            );
        }
    }

    fn start_script(&mut self, head: &[u8], named: &str, argv: &[String], scope: &Scope) {
        let line = head[2..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let is_crlf = line.ends_with('\r');
        let line = line.trim_matches([' ', '\t', '\r']);
        let (interpreter, argument) = match line.split_once([' ', '\t']) {
            Some((interpreter, argument)) => (interpreter, Some(argument.trim())),
            None => (line, None),
        };
        if is_crlf && (argument.is_none() || base_name(interpreter) == "env") {
            let text = format!(
                "{named} has Windows line ends: its interpreter is read as `{line}\\r`, which is not there"
            );
            let finding = Finding::new("crlf", scope.worst, text).at(named);
            self.find(finding.help("save it with Unix line ends (in .gitattributes: *.sh text eol=lf), or RUN sed -i 's/\\r$//' on it"));
            return;
        }
        let mut scope =
            Scope { by: Some(format!("the shebang of {named}")), depth: scope.depth + 1, ..scope.clone() };
        scope.by_shell = false;
        let rest = std::iter::once(named.to_owned()).chain(argv.iter().skip(1).cloned());
        if base_name(interpreter) == "env" {
            let Some(argument) = argument else { return };
            if self.find_program(interpreter, &scope).is_none() {
                return;
            }
            // Linux hands it over as one word.
            let words: Vec<String> = std::iter::once(argument.to_owned()).chain(rest).collect();
            return self.run_env(&words, &scope);
        }
        let words: Vec<String> =
            std::iter::once(interpreter.to_owned()).chain(argument.map(str::to_owned)).chain(rest).collect();
        if interpreter.starts_with('/')
            && self.view.file(interpreter).is_none()
            && base_name(interpreter).starts_with("python")
        {
            return self.python_of_script_missing(interpreter, named, &scope);
        }
        self.run(&words, &scope);
    }

    /// Whether it can be started.
    fn start_elf(&mut self, place: &Place, named: &str, scope: &Scope) -> bool {
        let worst = scope.worst;
        let elf = match read_elf(&self.view, &place.path) {
            Ok(elf) => elf,
            Err(ElfError::Unread) => {
                self.unknown(format!("{named}: its bytes are not at hand"));
                return false;
            }
            Err(ElfError::NotElf | ElfError::Damaged) => {
                let text = format!("{named} begins like a program and is damaged or cut off");
                self.find(Finding::new("damaged", worst, text).at(named));
                return false;
            }
        };
        let architecture = elf.machine.architecture();
        if let Some(built) = architecture
            && built != self.architecture
            && !(built == "386" && self.architecture == "amd64"
                || built == "arm" && self.architecture == "arm64")
        {
            let text = format!("{named} is built for {built}, and the image is for {}", self.architecture);
            let finding = Finding::new("wrong-machine", worst, text).at(named);
            self.find(finding.help("build it for the image's platform (in a cross build: from $TARGETARCH)"));
            return false;
        }
        if !elf.loadable {
            self.find(
                Finding::new("damaged", worst, format!("{named} is an object file, not a program")).at(named),
            );
            return false;
        }
        let Some(loader) = elf.interpreter.clone() else {
            // Static, or a loader itself.
            return true;
        };
        let Some(libc) = self.loader_there(&loader, named, worst) else { return false };
        self.libraries(&Object { path: &place.path, named, host: None }, elf, libc, scope)
    }

    fn loader_there(&mut self, loader: &str, named: &str, worst: Severity) -> Option<Libc> {
        let of = Libc::of_loader(loader);
        match self.view.walk(loader) {
            // A link to another library's loader (gcompat) makes it that one's program.
            Ok(place) => Libc::of_loader(&place.path).filter(|real| *real == Libc::Musl).or(of),
            Err(_) => {
                let library = of.map_or("", Libc::name);
                let mut text =
                    format!("{named} needs the dynamic loader {loader}, which is not in the image");
                let mut finding = Finding::new("loader-missing", worst, String::new()).at(named);
                match (of, self.libc) {
                    (Some(Libc::Glibc), Some(Libc::Musl)) | (Some(Libc::Musl), Some(Libc::Glibc)) => {
                        let other = self.libc.map_or("", Libc::name);
                        text = format!(
                            "{named} is built for {library}, and the image has {other}: its loader {loader} is not there"
                        );
                        finding.rule = "wrong-libc";
                        finding = finding.help(format!("build it in an image with {other}, link it statically, or start from an image with {library}"));
                    }
                    _ => {
                        finding = finding.help(format!(
                            "link it statically (Go: CGO_ENABLED=0), or start from an image with {}",
                            if library.is_empty() { "that loader" } else { library }
                        ));
                        finding = finding.wants(Want::Path(loader.to_owned()));
                    }
                }
                finding.text = text;
                self.find(finding);
                None
            }
        }
    }

    /// Whether all libraries of a program (or of a module that a program loads) are there.
    pub(crate) fn libraries(&mut self, object: &Object<'_>, elf: Elf, libc: Libc, scope: &Scope) -> bool {
        let Object { path, named, host } = *object;
        let variable = |name: &str| self.env.get(name).cloned().unwrap_or_default();
        let interpreter = match host {
            Some(host) => read_elf(&self.view, host).ok().and_then(|elf| elf.interpreter),
            None => elf.interpreter.clone(),
        };
        let around = Surroundings {
            cwd: scope.cwd.clone(),
            library_path: variable("LD_LIBRARY_PATH"),
            preload: variable("LD_PRELOAD"),
            loader: interpreter.and_then(|loader| Some(self.view.file(&loader)?.path)),
            host: host.map(str::to_owned),
        };
        let Loaded { missing, uncached, perhaps, versions, unknown, .. } =
            load(&self.view, path, elf, libc, &around);
        let fine = missing.is_empty() && uncached.is_empty() && versions.is_empty();
        let whose = |by: String| if by == path { named.to_owned() } else { by };
        for path in unknown {
            self.unknown(format!("{path}: its bytes are not at hand"));
        }
        for (library, at) in perhaps {
            self.unknown(format!("{named}: it needs {library}, which is only at {at}: for some processors"));
        }
        for (library, by) in missing {
            let text = format!("{} needs the library {library}, which is not in the image", whose(by));
            let finding = Finding::new("library-missing", scope.worst, text).at(named);
            self.find(finding.wants(Want::Library(library)));
        }
        for (library, at, by) in uncached {
            let text = format!(
                "{} needs {library}: it is at {at}, where the loader looks only after ldconfig has run",
                whose(by)
            );
            self.find(
                Finding::new("library-uncached", scope.worst, text)
                    .at(at)
                    .help("RUN ldconfig after the COPY"),
            );
        }
        for missing in versions {
            let has = missing
                .newest
                .map(|newest| format!(" has up to {newest}"))
                .unwrap_or_else(|| " does not have it".to_owned());
            let text = format!(
                "{} needs {} of {}, and {}{has}",
                whose(missing.by),
                missing.version,
                missing.library,
                missing.path
            );
            let finding = Finding::new("symbol-version", scope.worst, text).at(missing.path);
            self.find(finding.help("build it in an image as old as this one, or start from one as new as that where it was built"));
        }
        fine
    }

    /// Programs whose own arguments say what is started.
    fn known_program(&mut self, place: &Place, named: &str, argv: &[String], scope: &Scope) {
        let (name, real) = (base_name(named), base_name(&place.path));
        let inner = Scope { depth: scope.depth + 1, by: None, ..scope.clone() };
        let rest = argv.get(1..).unwrap_or_default();
        if crate::python::is_python(name) || crate::python::is_python(real) {
            self.run_python(named, rest, &inner);
        } else if name == "node" || name == "nodejs" {
            self.run_node(&place.path, rest, &inner);
        } else if name == "java" {
            self.run_java(rest, &inner);
        } else if SHELLS.contains(&name) {
            self.run_shell(&Shell { named, real: &place.path }, rest, &inner);
        } else if let ("busybox", Some((applet, words))) = (name, rest.split_first())
            && SHELLS.contains(&applet.as_str())
        {
            self.run_shell(&Shell { named: applet, real: &place.path }, words, &inner);
        } else if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) {
            let rest = wrapper.rest(rest).get(wrapper.skips..).unwrap_or_default();
            self.run(rest, &Scope { by_shell: false, ..inner });
        } else if name == "env" {
            self.run_env(rest, &Scope { by_shell: false, ..inner });
        }
    }

    /// `env`, as a command or in a shebang.
    pub(crate) fn run_env(&mut self, words: &[String], scope: &Scope) {
        let Env { words, path, is_elsewhere, is_empty } = match read_env(words) {
            Some(env) => env,
            None => return self.unknown("what `env` starts".to_owned()),
        };
        if is_elsewhere {
            return self.unknown("what `env` starts in another directory".to_owned());
        }
        let mut scope = scope.clone();
        // Without a PATH the C library has one of its own.
        scope.path = path.unwrap_or(if is_empty { "/bin:/usr/bin".to_owned() } else { scope.path });
        self.run(&words, &scope);
    }

    /// `java -jar`.
    fn run_java(&mut self, words: &[String], scope: &Scope) {
        let Some(at) = words.iter().position(|word| word == "-jar") else { return };
        if let Some(jar) = words.get(at + 1) {
            self.script_there(jar, "java", scope);
        }
    }

    fn run_shell(&mut self, shell: &Shell<'_>, words: &[String], scope: &Scope) {
        let Some(call) = shell::read_options(words) else { return };
        let name = base_name(shell.named);
        // Files that are read first, and functions that come in variables, can make anything of a name.
        let reads = call.is_login
            || name == "bash"
                && self.env.keys().any(|key| key == "BASH_ENV" || key.starts_with("BASH_FUNC_"));
        let mut scope = scope.clone();
        if reads {
            scope.worst = scope.worst.min(Severity::Advice);
            self.unknown(format!("what {name} reads before it begins"));
        }
        scope.shell = Some(shell.real.to_owned());
        if call.has_line {
            return call.word.map_or((), |line| self.run_line(line, &scope));
        }
        let Some(word) = call.word else { return };
        let mut file = word.to_owned();
        // Bash and others look in PATH for what is not in the working directory.
        if !word.contains('/') && !matches!(name, "sh" | "dash" | "ash") {
            let here = join(&scope.cwd, word);
            if self.view.file(&here).is_none()
                && let Some(path) = self.in_path(word, &scope)
            {
                file = path;
            }
        }
        let Some(path) = self.script_there(&file, name, &scope) else { return };
        let Some(text) = self.view.text(&path, 64 << 10) else {
            return self.unknown(format!("{path}: its bytes are not at hand"));
        };
        let first = text.lines().next().unwrap_or_default();
        if text.split('\n').next().is_some_and(|line| line.ends_with('\r')) && !first.is_empty() {
            let finding = Finding::new(
                "crlf",
                Severity::MayFail,
                format!("{path} has Windows line ends, which the shell takes as parts of words"),
            );
            self.find(finding.at(path.clone()).help("save it with Unix line ends"));
        }
        self.script_execs(&path, &text, call.rest, &scope);
    }

    /// What a script ends as: the lines at its margin that say `exec`.
    fn script_execs(&mut self, path: &str, text: &str, arguments: &[String], scope: &Scope) {
        let by = Some(path.to_owned());
        let inner = Scope {
            worst: scope.worst.min(Severity::MayFail),
            by,
            by_shell: true,
            depth: scope.depth + 1,
            ..scope.clone()
        };
        // Another program can be started in a branch, and its lines can change what the last one starts.
        const DECIDES: [&str; 9] =
            ["set -- ", "shift", "case ", "cd ", "PATH=", "exit", ". /", "source ", "eval "];
        let mut decided = false;
        for line in text.lines() {
            let said = line.trim_start();
            let is_inner = said.len() < line.len() && said.contains("exec ");
            decided |= !said.starts_with('#') && (is_inner || DECIDES.iter().any(|word| said.contains(word)));
            let Some(line) = line.strip_prefix("exec ").map(str::trim) else { continue };
            if matches!(line, "\"$@\"" | "$@") {
                // The arguments are CMD's; a word with a dash is an option for what the script puts before it.
                if arguments.first().is_some_and(|word| !word.starts_with('-')) {
                    let told = self.told();
                    self.run(arguments, &Scope { by_shell: false, ..inner.clone() });
                    if decided && self.forget_since(told) {
                        self.unknown(format!("what {path} makes of `{}`", arguments.join(" ")));
                    }
                }
            } else if !line.starts_with(['<', '>', '&'])
                && line.chars().next().is_some_and(|c| !c.is_ascii_digit())
            {
                let line = line.replace("\"$@\"", "");
                let script = shell::parse(&line, &self.env);
                if !script.cut
                    && script
                        .commands
                        .first()
                        .is_some_and(|simple| simple.words.first().is_some_and(Option::is_some))
                {
                    let told = self.told();
                    self.run_line(&line, &inner);
                    if decided && self.forget_since(told) {
                        self.unknown(format!("what {path} starts in the end"));
                    }
                    // Nothing after it is run.
                    return;
                }
            }
        }
    }

    /// The file that an interpreter is to read, if it is there and may be read.
    pub(crate) fn script_there(&mut self, file: &str, reader: &str, scope: &Scope) -> Option<String> {
        if file.contains(UNKNOWN_WORD) {
            self.unknown(format!("what {reader} is to read: it is known only when it runs"));
            return None;
        }
        let path = join(&scope.cwd, file);
        let finding = match self.view.walk(&path) {
            Ok(place) if self.view.who.may(&place.node, 4) => return Some(path),
            Ok(_) => {
                let text = format!("{reader} is to read {path}, which user {} may not", self.view.who.uid);
                Finding::new("no-permission", scope.worst, text)
                    .help(format!("COPY it with --chown or --chmod, or RUN chmod o+r {path}"))
            }
            Err(Broken::AtRunTime(_)) => {
                self.unknown(format!("what {reader} reads from {path}"));
                return None;
            }
            Err(Broken::Denied(dir)) => {
                let text =
                    format!("{reader} is to read {path}: user {} may not enter {dir}", self.view.who.uid);
                Finding::new("no-permission", scope.worst, text)
            }
            Err(Broken::Missing { path: missing, .. }) => {
                let text = match missing == path {
                    true => format!("{reader} is to read {path}, which is not in the image"),
                    false => format!(
                        "{reader} is to read {path}, which leads to {missing}, which is not in the image"
                    ),
                };
                let mut finding = Finding::new("file-missing", scope.worst, text).wants(Want::Path(missing));
                let elsewhere =
                    ["/", "/app", "/src", "/usr/src/app", "/code"].map(|dir| join(dir, base_name(file)));
                if let Some(other) =
                    elsewhere.iter().find(|other| **other != path && self.view.file(other).is_some())
                {
                    finding = finding.help(format!("it is at {other}: set WORKDIR, or name that path"));
                }
                finding
            }
            Err(_) => Finding::new(
                "file-missing",
                scope.worst,
                format!("{reader} is to read {path}, which leads nowhere"),
            ),
        };
        self.find(finding.at(path));
        None
    }
}
