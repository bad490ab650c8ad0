//! Where an interpreter has its library and its packages, as CPython finds them.

use std::collections::BTreeMap;

use super::library::{Environment, Library, Program, SearchStart, environment};
use crate::elf::read_elf;
use crate::image_files::{base_name, join, parent};
use crate::loader::Libc;
use crate::verdict::Need;
use crate::view::View;

/// An interpreter of an image.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    /// `3.11`: of its library.
    pub(crate) version: String,
    /// The directory of its standard library, without links.
    pub(crate) library: String,
    /// The virtual environment in which it was called.
    pub(crate) environment: Option<String>,
    /// Where it looks for modules after the script's own directory; the library first.
    pub(crate) search: Vec<String>,
    /// Those of them that hold installed packages.
    pub(crate) sites: Vec<String>,
    /// A file of a site directory runs code that can find modules anywhere.
    pub(crate) finders: bool,
    /// The C library that compiled modules must be named for.
    pub(crate) named_for: Option<Libc>,
    /// `311`: what compiled modules must be named for.
    pub(crate) abi: Option<String>,
    /// The C library that it is linked to.
    pub(crate) libc: Option<Libc>,
    /// The program itself, without links.
    pub(crate) program: String,
    /// Something in the search that cannot be looked into.
    pub(crate) opaque: Option<String>,
}

/// How an interpreter is called.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    /// `-E` or `-I`: variables of the environment do not count.
    pub(crate) no_env: bool,
    /// `-S`: no directories of packages.
    pub(crate) no_site: bool,
    /// `-P` or `-I`: the script's own directory is not searched.
    pub(crate) safe_path: bool,
    /// The working directory.
    pub(crate) cwd: String,
}

/// What became of the search for an interpreter's library.
#[derive(Debug)]
pub(crate) enum InterpreterSearch {
    Interpreter(Box<Interpreter>),
    /// It is nowhere where this interpreter looks: a directory, or (of a program that does not say
    /// its version) one in a directory.
    NoLibrary(Need),
    /// Why it is not known.
    Unknown(String),
    /// What is not known because the content of a file is missing.
    Unread(String),
}

impl Interpreter {
    /// The one that is called by this path.
    pub(crate) fn at(
        view: &View<'_>,
        named: &str,
        env: &BTreeMap<String, String>,
        call: &Call,
    ) -> InterpreterSearch {
        let Some(real) = view.file(named).map(|place| place.path) else {
            return InterpreterSearch::Unknown(format!("{named} leads nowhere"));
        };
        let variable = |name: &str| env.get(name).filter(|value| !call.no_env && !value.is_empty());
        let program = Program::of(view, &real);
        let environment = environment(view, named);
        let home = variable("PYTHONHOME").map(|home| home.split(':').next().unwrap_or_default().to_owned());
        let starts = match (&home, &environment) {
            (Some(home), _) => SearchStart::Only(home.clone()),
            (None, Some(Environment { home: Some(home), .. })) => SearchStart::Up(home.clone()),
            _ => SearchStart::Up(parent(&real).to_owned()),
        };
        let python_path: Vec<String> = variable("PYTHONPATH")
            .map(|dirs| {
                dirs.split(':').filter(|dir| !dir.is_empty()).map(|dir| join(&call.cwd, dir)).collect()
            })
            .unwrap_or_default();
        let library = match program.library(view, &starts, &python_path) {
            Library::At(library) => library,
            Library::InArchive(archive) => {
                return InterpreterSearch::Unknown(format!(
                    "the modules of {named}: they are in the archive {archive}"
                ));
            }
            Library::Nowhere => return InterpreterSearch::NoLibrary(program.wanted(&starts)),
            Library::Unknown => {
                return InterpreterSearch::Unread(format!("where {named} has its library"));
            }
        };
        let prefix = parent(parent(&library.path)).to_owned();
        let named_version = base_name(&real).strip_prefix("python").unwrap_or_default().to_owned();
        let mut python = Self {
            named_for: named_for(view, &library.real),
            abi: abi(view, &library.real)
                .or_else(|| Some(named_version.replace('.', "")).filter(|abi| abi.len() > 1)),
            libc: libc(view, &real),
            version: base_name(&library.real).strip_prefix("python").unwrap_or(&library.version).to_owned(),
            program: real,
            environment: environment.as_ref().map(|environment| environment.dir.clone()),
            search: python_path,
            sites: Vec::new(),
            opaque: None,
            finders: false,
            library: library.real.clone(),
        };
        python.search.extend([library.real.clone(), join(&library.real, "lib-dynload")]);
        if !call.no_site {
            let versions = [&library.version, &named_version];
            for site in sites(environment.as_ref(), &prefix, &versions, env) {
                python.site(view, &site);
            }
        }
        // An archive in the place of a directory can hold any module.
        python.opaque = python.search.iter().find(|dir| view.file(dir).is_some()).cloned();
        InterpreterSearch::Interpreter(Box::new(python))
    }

    /// Whether a compiled module of this file name is looked at: `x.so`, `x.abi3.so`,
    /// `x.cpython-311-x86_64-linux-gnu.so`.
    pub(crate) fn loads(&self, file: &str) -> bool {
        let Some((_, suffix)) = file.split_once('.') else { return false };
        let Some(tag) = suffix.strip_suffix("so").map(|tag| tag.trim_end_matches('.')) else { return false };
        let Some(abi) = tag.strip_prefix("cpython-") else { return matches!(tag, "" | "abi3") };
        let digits = abi.split('-').next().unwrap_or_default();
        let of = libc_of_name(tag);
        self.abi.as_ref().is_none_or(|own| own == digits)
            && (of.is_none() || self.named_for.is_none() || of == self.named_for)
    }

    fn site(&mut self, view: &View<'_>, site: &str) {
        let Some(dir) = view.dir(site) else { return };
        if self.sites.contains(&dir) {
            return;
        }
        self.search.push(dir.clone());
        self.sites.push(dir.clone());
        for name in view.names(&dir).into_iter().filter(|name| name.ends_with(".pth")) {
            let text = view.text(&join(&dir, &name), 64 << 10);
            self.finders |= text.is_none();
            for line in text.unwrap_or_default().lines().map(str::trim_end) {
                if line.starts_with("import ") {
                    self.finders |= name != "distutils-precedence.pth" && !name.contains("nspkg");
                } else if !line.is_empty() && !line.starts_with('#') {
                    let place = view.walk(&join(&dir, line)).map(|place| place.path);
                    self.search.extend(place);
                }
            }
        }
    }
}

/// Directories of packages.
fn sites(
    environment: Option<&Environment>,
    prefix: &str,
    versions: &[&String; 2],
    env: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut sites = Vec::new();
    if let Some(Environment { dir, .. }) = environment {
        for lib in ["lib", "lib64"] {
            sites.extend(versions.map(|version| format!("{dir}/{lib}/python{version}/site-packages")));
        }
    }
    if environment.is_none_or(|environment| environment.has_system) {
        if let Some(home) = env.get("HOME") {
            sites.extend(versions.map(|version| format!("{home}/.local/lib/python{version}/site-packages")));
        }
        for version in versions {
            sites.push(format!("{prefix}/lib/python{version}/site-packages"));
            sites.push(format!("{prefix}/lib64/python{version}/site-packages"));
            sites.push(format!("{prefix}/local/lib/python{version}/dist-packages"));
            sites.push(format!("/usr/local/lib/python{version}/dist-packages"));
        }
        sites.push("/usr/lib/python3/dist-packages".to_owned());
    }
    sites
}

/// The names of compiled modules end as those of the library do.
fn named_for(view: &View<'_>, library: &str) -> Option<Libc> {
    view.names(library)
        .iter()
        .filter(|name| name.starts_with("_sysconfigdata_"))
        .find_map(|name| libc_of_name(name.trim_end_matches(".py")))
}

fn libc_of_name(name: &str) -> Option<Libc> {
    match name {
        name if name.contains("-linux-musl") => Some(Libc::Musl),
        name if name.contains("-linux-gnu") => Some(Libc::Glibc),
        _ => None,
    }
}

fn abi(view: &View<'_>, library: &str) -> Option<String> {
    let names = view.names(&join(library, "lib-dynload"));
    names.iter().find_map(|name| Some(name.split_once(".cpython-")?.1.split('-').next()?.to_owned()))
}

fn libc(view: &View<'_>, real: &str) -> Option<Libc> {
    let elf = read_elf(view, real).ok()?;
    let loader = elf.interpreter?;
    let place = view.walk(&loader).map(|place| place.path).unwrap_or_default();
    Libc::of_loader(&place).or_else(|| Libc::of_loader(&loader))
}
