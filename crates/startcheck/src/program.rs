//! One program: found in PATH, allowed, and startable, be it ELF or a script.

use crate::analysis::{Analysis, Scope, UNKNOWN_WORD};
use crate::elf::{ElfError, read_elf};
use crate::image_files::{base_name, join};
use crate::libraries::Object;
use crate::shell::ShellCall;
use crate::verdict::Finding;
use crate::view::Location;
use crate::wrappers::WRAPPERS;

/// Programs that start programs that start programs: no real image goes further.
const MAX_DEPTH: usize = 8;
/// A shebang line is read so far, as Linux does.
const SHEBANG: usize = 256;

/// Shells that read a file, or a line after `-c`.
const SHELLS: [&str; 7] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "mksh"];

/// Starts a program, as `execvp` would.
pub(crate) fn run_program(analysis: &mut Analysis<'_>, argv: &[String], scope: &Scope) {
    let Some(name) = argv.first() else { return };
    if scope.depth > MAX_DEPTH {
        return analysis.unknown(format!("what {name} starts in the end"));
    }
    if name.contains(UNKNOWN_WORD) {
        return analysis.unknown("what is started: its name is known only when it runs".to_owned());
    }
    if let Some(place) = analysis.find_program(name, scope) {
        let named = if name.contains('/') {
            join(&scope.cwd, name)
        } else {
            analysis.in_path(name, scope).unwrap_or_default()
        };
        analysis.start(&place, &named, argv, scope);
    }
}

impl Analysis<'_> {
    /// Starts a file that was found. `named` is the path by which it was called, which programs go
    /// by.
    pub(crate) fn start(&mut self, place: &Location, named: &str, argv: &[String], scope: &Scope) {
        let Some(head) = self.view.read_at(&place.path, 0, SHEBANG) else {
            return self.unread(named);
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

    /// Whether it can be started.
    fn start_elf(&mut self, place: &Location, named: &str, scope: &Scope) -> bool {
        let worst = scope.worst;
        let elf = match read_elf(&self.view, &place.path) {
            Ok(elf) => elf,
            Err(ElfError::Unread) => {
                self.unread(named);
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

    /// Programs whose own arguments say what is started.
    fn known_program(&mut self, place: &Location, named: &str, argv: &[String], scope: &Scope) {
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
            self.run_shell(&ShellCall { named, real: &place.path }, rest, &inner);
        } else if let ("busybox", Some((applet, words))) = (name, rest.split_first())
            && SHELLS.contains(&applet.as_str())
        {
            self.run_shell(&ShellCall { named: applet, real: &place.path }, words, &inner);
        } else if let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == name) {
            let rest = wrapper.rest(rest).get(wrapper.skips..).unwrap_or_default();
            self.run(rest, &Scope { by_shell: false, ..inner });
        } else if name == "env" {
            self.run_env(rest, &Scope { by_shell: false, ..inner });
        }
    }

    /// `java -jar`.
    fn run_java(&mut self, words: &[String], scope: &Scope) {
        let Some(at) = words.iter().position(|word| word == "-jar") else { return };
        if let Some(jar) = words.get(at + 1) {
            self.readable_script(jar, "java", scope);
        }
    }
}
