//! Where an interpreter has its library and its packages, as CPython finds them.

use std::collections::BTreeMap;

use super::super::Want;
use super::super::files::{View, base_name, join, parent};
use super::super::loader::{Libc, read_elf};

/// An interpreter of an image.
#[derive(Clone, Debug)]
pub(super) struct Interpreter {
    /// `3.11`: of its library.
    pub(super) version: String,
    /// The directory of its standard library, without links.
    pub(super) library: String,
    /// The virtual environment in which it was called.
    pub(super) environment: Option<String>,
    /// Where it looks for modules after the script's own directory; the library first.
    pub(super) search: Vec<String>,
    /// Those of them that hold installed packages.
    pub(super) sites: Vec<String>,
    /// A file of a site directory runs code that can find modules anywhere.
    pub(super) finders: bool,
    /// The C library that compiled modules must be named for.
    pub(super) named_for: Option<Libc>,
    /// `311`: what compiled modules must be named for.
    pub(super) abi: Option<String>,
    /// The C library that it is linked to.
    pub(super) libc: Option<Libc>,
}

impl Interpreter {
    /// The one that is called by this path.
    pub(super) fn at(view: &View<'_>, named: &str, env: &BTreeMap<String, String>) -> Option<Self> {
        let real = view.file(named)?.path;
        let prefix = parent(parent(&real)).to_owned();
        let (version, library) = library(view, &prefix, &real)?;
        let named_version = base_name(&real).strip_prefix("python").unwrap_or_default().to_owned();
        let versions = [&version, &named_version];
        let environment = parent(parent(named)).to_owned();
        let config = view.text(&join(&environment, "pyvenv.cfg"), 16 << 10);
        let mut python = Self {
            named_for: named_for(view, &library),
            abi: abi(view, &library)
                .or_else(|| Some(named_version.replace('.', "")).filter(|abi| abi.len() > 1)),
            libc: libc(view, &real),
            version: base_name(&library).strip_prefix("python").unwrap_or(&version).to_owned(),
            environment: config.is_some().then_some(environment.clone()),
            search: Vec::new(),
            sites: Vec::new(),
            finders: false,
            library: library.clone(),
        };
        let told = env.get("PYTHONPATH").map(String::as_str).unwrap_or_default();
        python.search.extend(told.split(':').filter(|dir| dir.starts_with('/')).map(str::to_owned));
        python.search.extend([library.clone(), join(&library, "lib-dynload")]);
        let mut sites = Vec::new();
        if config.is_some() {
            sites.extend(versions.map(|version| format!("{environment}/lib/python{version}/site-packages")));
        }
        let global = config.as_ref().is_none_or(|text| {
            let line = text.lines().find(|line| line.starts_with("include-system-site-packages"));
            line.is_some_and(|line| line.ends_with("true"))
        });
        if global {
            if let Some(home) = env.get("HOME") {
                sites.extend(
                    versions.map(|version| format!("{home}/.local/lib/python{version}/site-packages")),
                );
            }
            for version in versions {
                sites.push(format!("{prefix}/lib/python{version}/site-packages"));
                sites.push(format!("{prefix}/lib64/python{version}/site-packages"));
                sites.push(format!("/usr/local/lib/python{version}/dist-packages"));
            }
            sites.push("/usr/lib/python3/dist-packages".to_owned());
        }
        for site in sites {
            python.site(view, &site);
        }
        Some(python)
    }

    /// What is missing where there is no library: a directory, or (of a program that does not say its version) one in a
    /// directory.
    pub(super) fn missing_library(view: &View<'_>, named: &str) -> Option<Want> {
        let real = view.file(named)?.path;
        let lib = join(parent(parent(&real)), "lib");
        let version = base_name(&real).strip_prefix("python").unwrap_or_default();
        Some(match version.contains('.') {
            true => Want::Path(format!("{lib}/python{version}")),
            false => Want::PythonLibrary(lib),
        })
    }

    /// Whether a compiled module of this file name is looked at: `x.so`, `x.abi3.so`, `x.cpython-311-x86_64-linux-gnu.so`.
    pub(super) fn loads(&self, file: &str) -> bool {
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
                    self.search.extend(view.dir(&join(&dir, line)));
                }
            }
        }
    }
}

/// The version and directory of the library: by the program's name, else the one that there is.
fn library(view: &View<'_>, prefix: &str, real: &str) -> Option<(String, String)> {
    let lib = join(prefix, "lib");
    let is_library = |version: &str| {
        let os =
            ["os.py", "os.pyc"].into_iter().find_map(|os| view.file(&format!("{lib}/python{version}/{os}")));
        os.map(|os| parent(&os.path).to_owned())
    };
    if let Some(version) = base_name(real).strip_prefix("python").filter(|version| version.contains('.'))
        && let Some(dir) = is_library(version)
    {
        return Some((version.to_owned(), dir));
    }
    let names = view.names(&lib);
    let mut versions =
        names.iter().filter_map(|name| name.strip_prefix("python3.").map(|minor| format!("3.{minor}")));
    versions.find_map(|version| is_library(&version).map(|dir| (version, dir)))
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
