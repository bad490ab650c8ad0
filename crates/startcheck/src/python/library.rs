//! Where an interpreter finds its standard library, as CPython computes its prefix.
//!
//! From the directory of the program (of `home` in `pyvenv.cfg`) upwards, the first that has
//! `lib/python3.N/os.py`; PYTHONHOME instead, if it is set; else the prefix that was built into the
//! program, or into its `libpython`. That one is a text of the program: where none of its texts is
//! the path of a directory that has the library, there is none.

use std::collections::BTreeSet;

use crate::elf::read_elf;
use crate::image_files::{base_name, join, parent};
use crate::strings;
use crate::verdict::Need;
use crate::view::View;

/// Directories below a prefix that hold the library.
const LIBS: [&str; 2] = ["lib", "lib64"];

/// A virtual environment.
#[derive(Clone, Debug)]
pub(crate) struct Environment {
    pub(crate) dir: String,
    /// The directory of the program that it was made from.
    pub(crate) home: Option<String>,
    /// It sees the packages of that one, too.
    pub(crate) has_system: bool,
}

/// Where the search begins.
#[derive(Clone, Debug)]
pub(crate) enum SearchStart {
    /// In a directory and those above it.
    Up(String),
    /// At this prefix alone.
    Only(String),
}

/// A library that was found.
#[derive(Debug)]
pub(crate) struct LibraryDir {
    pub(crate) version: String,
    /// Below the prefix.
    pub(crate) path: String,
    /// Without links.
    pub(crate) real: String,
}

/// What became of the search.
#[derive(Debug)]
pub(crate) enum Library {
    At(LibraryDir),
    /// A zip file has it.
    InArchive(String),
    Nowhere,
    Unknown,
}

/// What a program says of itself.
pub(crate) struct Program {
    real: String,
    /// Files that hold its texts: itself, and its library if that is apart.
    files: Vec<String>,
    versions: Vec<String>,
}

/// The environment to which a program belongs by the path by which it is called.
pub(crate) fn environment(view: &View<'_>, named: &str) -> Option<Environment> {
    let beside = parent(named);
    let dirs = [beside, parent(beside)];
    let (dir, text) =
        dirs.iter().find_map(|dir| Some((*dir, view.text(&join(dir, "pyvenv.cfg"), 16 << 10)?)))?;
    let value = |name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim().to_ascii_lowercase() == name).then(|| value.trim().to_owned())
        })
    };
    Some(Environment {
        dir: dir.to_owned(),
        home: value("home").filter(|home| home.starts_with('/')),
        has_system: value("include-system-site-packages").is_some_and(|value| value == "true"),
    })
}

impl Program {
    /// The program at a path without links.
    pub(crate) fn of(view: &View<'_>, real: &str) -> Self {
        let mut versions = BTreeSet::new();
        let mut files = vec![real.to_owned()];
        versions.extend(base_name(real).strip_prefix("python").filter(|text| text.contains('.')));
        let needed = read_elf(view, real).map(|elf| elf.needed).unwrap_or_default();
        let library = needed.iter().find(|name| name.starts_with("libpython"));
        if let Some(name) = library {
            let version = name.trim_start_matches("libpython").split(".so").next().unwrap_or_default();
            versions.insert(version);
            let beside = join(parent(parent(real)), "lib");
            let dirs = [beside.as_str(), "/usr/local/lib", "/usr/lib", "/usr/lib64", "/lib"];
            let multiarch = view.names("/usr/lib").into_iter().filter(|name| name.contains("-linux-"));
            let dirs = dirs.into_iter().map(str::to_owned).chain(multiarch.map(|dir| join("/usr/lib", &dir)));
            let places = dirs.filter_map(|dir| view.file(&join(&dir, name)));
            files.extend(places.map(|place| place.path));
        }
        let versions = versions.into_iter().filter(|version| version.starts_with('3')).map(str::to_owned);
        Self { real: real.to_owned(), files, versions: versions.collect() }
    }

    /// Searches as far as it takes.
    pub(crate) fn library(&self, view: &View<'_>, starts: &SearchStart, python_path: &[String]) -> Library {
        let prefixes: Vec<&str> = match starts {
            SearchStart::Only(home) => vec![home],
            SearchStart::Up(dir) => {
                std::iter::successors(Some(dir.as_str()), |dir| (*dir != "/").then(|| parent(dir))).collect()
            }
        };
        if let Some(library) = prefixes.iter().find_map(|prefix| self.below(view, prefix)) {
            return Library::At(library);
        }
        let mut all: BTreeSet<String> = prefixes.into_iter().map(str::to_owned).collect();
        if matches!(starts, SearchStart::Up(_)) {
            for file in &self.files {
                match strings::paths(view, file) {
                    Some(paths) => all.extend(paths.into_iter().filter(|path| is_plain(path))),
                    None => return Library::Unknown,
                }
            }
            if let Some(library) = all.iter().find_map(|prefix| self.below(view, prefix)) {
                return Library::At(library);
            }
        }
        // PYTHONPATH is searched before: it can hold the library, too.
        if let Some(dir) = python_path.iter().find(|dir| view.file(&join(dir, "os.py")).is_some()) {
            let (path, real) = (dir.clone(), view.dir(dir).unwrap_or_else(|| dir.clone()));
            let version = self.versions.first().cloned().unwrap_or_default();
            return Library::At(LibraryDir { version, path, real });
        }
        let archives = python_path.iter().find(|dir| view.file(dir).is_some()).cloned();
        let archives = archives.or_else(|| all.iter().find_map(|prefix| archive(view, prefix)));
        archives.map_or(Library::Nowhere, Library::InArchive)
    }

    /// The library below a prefix: of the program's version, else the one that there is.
    fn below(&self, view: &View<'_>, prefix: &str) -> Option<LibraryDir> {
        view.dir(prefix)?;
        LIBS.iter().find_map(|lib| {
            let lib = join(prefix, lib);
            let is_library = |version: &String| {
                let path = format!("{lib}/python{version}");
                let os = ["os.py", "os.pyc"].iter().find_map(|os| view.file(&join(&path, os)))?;
                let real = parent(&os.path).to_owned();
                Some(LibraryDir { version: version.clone(), path, real })
            };
            if !self.versions.is_empty() {
                return self.versions.iter().find_map(is_library);
            }
            let names = view.names(&lib).into_iter();
            let mut versions =
                names.filter_map(|name| name.strip_prefix("python3.").map(|minor| format!("3.{minor}")));
            versions.find_map(|version| is_library(&version))
        })
    }

    /// What would mend it.
    pub(crate) fn wanted(&self, starts: &SearchStart) -> Need {
        let lib = match starts {
            SearchStart::Only(home) => join(home, "lib"),
            SearchStart::Up(_) => join(parent(parent(&self.real)), "lib"),
        };
        match self.versions.first() {
            Some(version) => Need::Path(format!("{lib}/python{version}")),
            None => Need::PythonLibrary(lib),
        }
    }
}

/// `lib/python311.zip` can hold the library.
fn archive(view: &View<'_>, prefix: &str) -> Option<String> {
    view.dir(prefix)?;
    LIBS.iter().find_map(|lib| {
        let lib = join(prefix, lib);
        let names = view.names(&lib).into_iter();
        let mut archives = names.filter(|name| name.starts_with("python3") && name.ends_with(".zip"));
        archives.next().map(|name| join(&lib, &name))
    })
}

/// Whether a text can be the prefix of an installation.
fn is_plain(path: &str) -> bool {
    let fine =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-' | b'+' | b'@');
    path.len() < 200 && !path.ends_with('/') && path.bytes().all(fine)
}
