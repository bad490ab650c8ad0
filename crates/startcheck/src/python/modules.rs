//! From a script to the modules that it always imports, and theirs.

use std::collections::{BTreeSet, VecDeque};

use dbuild_events::StartSeverity;

use super::imports::{Import, changes_search, imports, is_moving, is_standard, margin};
use super::interpreter::Interpreter;
use crate::analysis::{Analysis, Scope};
use crate::elf::{ElfError, read_elf};
use crate::image_files::{base_name, join, parent};
use crate::libraries::Object;
use crate::loader::Libc;
use crate::verdict::{Finding, Need};

/// Maximum number of bytes read of a script.
const MAX_SOURCE: usize = 512 << 10;
/// Maximum number of files read for their imports; anything further away is taken to be there.
const MAX_FILES: usize = 300;

/// A walk through imports, from one script on.
pub(crate) struct ImportWalk<'c, 'v> {
    check: &'c mut Analysis<'v>,
    python: &'c Interpreter,
    /// Where modules are looked for, the script's own directory first.
    search: Vec<String>,
    scope: &'c Scope,
    seen: BTreeSet<String>,
    open: VecDeque<String>,
    /// A file changed where modules are looked for.
    moved: bool,
    /// Modules that were not found: (who imports it, module).
    missing: Vec<(String, String)>,
}

/// A module in a directory.
enum Module {
    /// A package, by its directory.
    Package(String),
    Source(String),
    Compiled(String),
    /// Without source: nothing can be said of what it imports.
    Bytecode,
    /// Compiled, and not for this interpreter.
    Foreign(String),
}

impl<'c, 'v> ImportWalk<'c, 'v> {
    /// `dir` is searched first: the script's own directory, or the working directory.
    pub(crate) fn new(
        check: &'c mut Analysis<'v>,
        python: &'c Interpreter,
        dir: Option<String>,
        scope: &'c Scope,
    ) -> Self {
        let search: Vec<String> = dir.into_iter().chain(python.search.iter().cloned()).collect();
        let (seen, open) = (BTreeSet::new(), VecDeque::new());
        let mut walk = Self { check, python, search, scope, seen, open, moved: false, missing: Vec::new() };
        // It is run before anything else, and can change where modules are looked for; directories
        // of packages are searched anyway.
        let custom = walk.search.iter().map(|dir| join(dir, "sitecustomize.py"));
        let custom = custom.filter_map(|path| walk.check.view.text(&path, MAX_SOURCE)).next();
        let foreign = |line: &str| changes_search(line) && !line.contains("-packages");
        walk.moved = custom.is_some_and(|text| text.lines().any(foreign));
        walk
    }

    /// A script, and what it imports.
    pub(crate) fn file(mut self, path: &str) {
        self.open.push_back(path.to_owned());
        self.go();
    }

    /// A program that is given as text.
    pub(crate) fn text(mut self, name: &str, text: &str) {
        self.source(name, text);
        self.go();
    }

    /// `python -m module`.
    pub(crate) fn module(mut self, module: &str) {
        let found = self.dotted("python -m", module);
        if let Some(dir) = found {
            self.open.push_back(join(&dir, "__main__.py"));
        }
        self.go();
    }

    /// A module that a program imports at its start.
    pub(crate) fn imported(mut self, by: &str, module: &str) {
        self.dotted(by, module);
        self.go();
    }

    fn go(&mut self) {
        while let Some(path) = self.open.pop_front() {
            if self.seen.len() >= MAX_FILES
                || !self.seen.insert(path.clone())
                || self.check.view.file(&path).is_none()
            {
                continue;
            }
            match self.check.view.text(&path, MAX_SOURCE) {
                Some(text) => self.source(&path, &text),
                None => self.check.unread(&path),
            }
        }
        // Only now is known whether a file that was read changes the search.
        for (by, module) in std::mem::take(&mut self.missing) {
            if !(self.moved && self.is_nearby(&module)) {
                self.report(&by, &module);
            }
        }
    }

    fn source(&mut self, path: &str, text: &str) {
        self.moved |= match self.is_installed(path) {
            // What a package does in its functions, others would have to call.
            true => !path.ends_with("/six.py") && margin(text).iter().any(|line| is_moving(line)),
            false => changes_search(text),
        };
        for Import { level, module, names } in imports(text) {
            if level == 0 {
                if module == "__future__" {
                    continue;
                }
                let found = self.dotted(path, &module);
                if let Some(dir) = found {
                    self.children(path, &dir, &names);
                }
                continue;
            }
            let mut dir = parent(path).to_owned();
            for _ in 1..level {
                dir = parent(&dir).to_owned();
            }
            let mut package = Some(dir);
            for part in module.split('.').filter(|part| !part.is_empty()) {
                package = package.and_then(|dir| self.enter(path, &dir, part));
            }
            if let Some(dir) = package {
                self.children(path, &dir, &names);
            }
        }
    }

    /// Names that are modules below a package, or attributes of it.
    fn children(&mut self, by: &str, dir: &str, names: &[String]) {
        for name in names {
            self.enter(by, dir, name);
        }
    }

    /// Follows `a.b.c` from the search path. The directory of the package that it is, if it is one.
    fn dotted(&mut self, by: &str, module: &str) -> Option<String> {
        let mut parts = module.split('.');
        let top = parts.next().unwrap_or_default().to_owned();
        if top.is_empty() {
            return None;
        }
        if is_standard(&top) {
            // What the interpreter brings is taken to be whole.
            return None;
        }
        let mut found = None;
        for dir in &self.search {
            match self.look(dir, &top) {
                None => {}
                Some(Module::Foreign(_)) => found = found.or(Some(dir.clone())),
                Some(_) => {
                    found = Some(dir.clone());
                    break;
                }
            }
        }
        let Some(dir) = found else {
            self.missing.push((by.to_owned(), top));
            return None;
        };
        let mut package = self.enter(by, &dir, &top);
        for part in parts {
            package = package.and_then(|dir| self.enter(by, &dir, part));
        }
        package
    }

    /// Whether a module stands beside the script or in a directory there: what `sys.path` is moved
    /// to most often.
    fn is_nearby(&self, module: &str) -> bool {
        let own = self.search.first().map_or("/", String::as_str);
        let around = [own, parent(own)];
        let below =
            around.iter().flat_map(|dir| self.check.view.names(dir).into_iter().map(|name| join(dir, &name)));
        self.look(parent(own), module).is_some()
            || below.into_iter().any(|dir| self.look(&dir, module).is_some())
    }

    /// Goes into a module in a directory. Its own directory, if it is a package.
    fn enter(&mut self, by: &str, dir: &str, name: &str) -> Option<String> {
        match self.look(dir, name)? {
            Module::Package(dir) => {
                self.open.push_back(join(&dir, "__init__.py"));
                self.foreign_parts(&dir, name);
                Some(dir)
            }
            Module::Source(path) => {
                self.open.push_back(path);
                None
            }
            Module::Compiled(path) => {
                self.compiled(by, &path);
                None
            }
            Module::Foreign(path) => {
                self.foreign(by, name, &path);
                None
            }
            Module::Bytecode => {
                self.moved |= !self.is_installed(dir);
                None
            }
        }
    }

    /// In the order in which Python looks.
    fn look(&self, dir: &str, name: &str) -> Option<Module> {
        let view = &self.check.view;
        let at = join(dir, name);
        let package = view.dir(&at);
        if package.is_some()
            && ["__init__.py", "__init__.pyc"].iter().any(|init| view.file(&join(&at, init)).is_some())
        {
            return package.map(Module::Package);
        }
        let source = view.file(&format!("{at}.py")).map(|place| place.path);
        let libraries = view.libraries(dir);
        let compiled = |file: &&String| file.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let all: Vec<&String> = libraries.iter().filter(compiled).collect();
        if let Some(name) = all.iter().find(|name| self.python.loads(name)) {
            return Some(Module::Compiled(join(dir, name)));
        }
        if let Some(path) = source {
            return Some(Module::Source(path));
        }
        if view.file(&format!("{at}.pyc")).is_some() {
            return Some(Module::Bytecode);
        }
        if let Some(dir) = package {
            return Some(Module::Package(dir));
        }
        all.first().map(|name| Module::Foreign(join(dir, name)))
    }

    fn is_installed(&self, path: &str) -> bool {
        self.python.sites.iter().any(|site| path.starts_with(site))
    }

    /// How sure a finding can be that begins at this file.
    fn severity(&self, by: &str) -> StartSeverity {
        let firm = !self.moved && !self.python.finders && !self.is_installed(by);
        if firm { self.scope.worst } else { self.scope.worst.min(StartSeverity::MayFail) }
    }

    fn report(&mut self, by: &str, module: &str) {
        if self.python.opaque.is_some() {
            // It can be in there: that was said.
            return;
        }
        let site =
            self.python.sites.first().cloned().unwrap_or_else(|| join(&self.python.library, "site-packages"));
        let what =
            if by == "python -m" { format!("python -m {module}") } else { format!("{by} imports {module}") };
        let severity = self.severity(by);
        let version = &self.python.version;
        let finding = match self.other_version(module) {
            Some(other) => {
                let text =
                    format!("{what}, which is in {other}: this python is {version} and looks in {site}");
                Finding::new("wrong-python", severity, text).at(other).help(
                    "install packages with the python that will run them: the same version in both stages",
                )
            }
            None => {
                let text = format!("{what}, which is not in the image (python {version} looks in {site})");
                Finding::new("module-missing", severity, text).need(Need::Module(module.to_owned(), site))
            }
        };
        self.check.find(finding);
    }

    /// The packages of another python that have it.
    fn other_version(&self, module: &str) -> Option<String> {
        let view = &self.check.view;
        let lib = parent(&self.python.library).to_owned();
        let environment = self.python.environment.iter().map(|dir| join(dir, "lib"));
        let libs: BTreeSet<String> = [lib, "/usr/local/lib".to_owned(), "/usr/lib".to_owned()]
            .into_iter()
            .chain(environment)
            .collect();
        let sites = libs.iter().flat_map(|lib| {
            let names = view.names(lib).into_iter().filter(|name| name.starts_with("python3"));
            names
                .flat_map(|name| {
                    ["site-packages", "dist-packages"].map(|site| format!("{lib}/{name}/{site}"))
                })
                .collect::<Vec<_>>()
        });
        let has = |site: &String| {
            view.walk(&join(site, module)).is_ok()
                || view.file(&join(site, &format!("{module}.py"))).is_some()
        };
        sites
            .into_iter()
            .find(|site| has(site) && view.dir(site).is_some_and(|real| !self.python.sites.contains(&real)))
    }

    fn foreign(&mut self, by: &str, module: &str, path: &str) {
        let name = base_name(path);
        let severity = self.scope.worst;
        let (wanted, libc) = (self.python.named_for, name.contains("-linux-musl"));
        let built = if libc { Libc::Musl } else { Libc::Glibc };
        let finding = match wanted {
            Some(own) if own != built && name.contains("-linux-") => {
                let text = format!(
                    "{by} imports {module}, which is compiled for {} ({path}), and this python is built for {}",
                    built.name(),
                    own.name()
                );
                let with = if own == Libc::Musl { "alpine" } else { "slim" };
                let without = if own == Libc::Musl { "slim" } else { "alpine" };
                Finding::new("wrong-libc", severity, text).help(format!(
                    "install it in the same kind of image (python:{version}-{with} in both stages), or start from python:{version}-{without}",
                    version = self.python.version
                ))
            }
            _ => {
                let version = &self.python.version;
                let text = format!(
                    "{by} imports {module}, which is compiled for another python ({path}); this one is {version}"
                );
                Finding::new("wrong-python", severity, text).help(
                    "install packages with the python that will run them: the same version in both stages",
                )
            }
        };
        self.check.find(finding.at(path));
    }

    /// Compiled parts of a package that this python never looks at: many packages can do without
    /// theirs.
    fn foreign_parts(&mut self, dir: &str, name: &str) {
        if !self.is_installed(dir) {
            return;
        }
        let foreign = self.check.view.libraries(dir).iter().find(|name| !self.python.loads(name)).cloned();
        if let Some(file) = foreign {
            let text = format!(
                "{name} has a compiled part that this python does not load ({file}): it works if {name} can do without"
            );
            self.check.find(Finding::new("compiled-part", StartSeverity::Advice, text).at(join(dir, &file)));
        }
    }

    fn compiled(&mut self, by: &str, path: &str) {
        if !self.seen.insert(path.to_owned()) {
            return;
        }
        let Some(libc) = self.python.libc else { return };
        let elf = match read_elf(&self.check.view, path) {
            Ok(elf) => elf,
            Err(ElfError::Unread) => return self.check.unread(path),
            Err(_) => {
                let text = format!("{by} imports {path}, which is damaged or no library");
                return self.check.find(Finding::new("damaged", self.scope.worst, text).at(path));
            }
        };
        let glibc = elf
            .needs
            .iter()
            .any(|(_, versions)| versions.iter().any(|version| version.starts_with("GLIBC_")));
        if libc == Libc::Musl && glibc {
            let text =
                format!("{by} imports {path}, which is compiled for glibc, and this python runs with musl");
            let finding = Finding::new("wrong-libc", self.scope.worst.min(StartSeverity::MayFail), text);
            return self.check.find(finding.at(path));
        }
        let object = Object { path, named: path, host: Some(&self.python.program) };
        self.check.libraries(&object, elf, libc, self.scope);
    }
}
