//! Which libraries a program gets, as the dynamic loaders of glibc and musl look for them.
//!
//! Modelled: preloaded libraries, RPATH of an object and of those that needed it, LD_LIBRARY_PATH, RUNPATH, the cache, the
//! directories that the loader at hand was built with, directories for kinds of processors, names that are known because of
//! a library's SONAME. Not modelled: what a program loads itself later (`dlopen`).

mod search;

use std::collections::BTreeMap;
use std::rc::Rc;

use search::{Search, Where};

use crate::elf::{self, Elf, ElfError};
use crate::image_files::{View, base_name, parent};

/// A program with more libraries than this is not followed further.
const MAX_LIBRARIES: usize = 512;
/// Libraries that are inside of musl's loader, by the word after `lib`.
const IN_MUSL: [&str; 8] = ["c", "pthread", "rt", "m", "dl", "util", "xnet", "resolv"];

/// A C library, by its loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Libc {
    Glibc,
    Musl,
}

/// What became of a program's libraries.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Not found: (name, who needs it).
    pub(crate) missing: Vec<(String, String)>,
    /// Found only where glibc looks after `ldconfig`: (name, path, who needs it).
    pub(crate) uncached: Vec<(String, String, String)>,
    /// Found only in a directory that the loader looks into on some processors: (name, path).
    pub(crate) perhaps: Vec<(String, String)>,
    /// Versions that a library does not have.
    pub(crate) versions: Vec<MissingVersion>,
    /// Files whose bytes are not at hand, or that cannot be understood.
    pub(crate) unknown: Vec<String>,
    /// Found: path by name.
    pub(crate) found: BTreeMap<String, String>,
}

/// A library that is older (or another one) than a program was linked against.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MissingVersion {
    pub(crate) version: String,
    pub(crate) library: String,
    pub(crate) path: String,
    pub(crate) by: String,
    /// The newest that it has, of the same name.
    pub(crate) newest: Option<String>,
}

impl Libc {
    /// The library whose loader this is, by its path.
    pub(crate) fn of_loader(loader: &str) -> Option<Libc> {
        let name = base_name(loader);
        if name.starts_with("ld-musl") || name.contains("gcompat") {
            Some(Libc::Musl)
        } else if ["ld-linux", "ld64.so", "ld.so.1", "ld-2."].iter().any(|start| name.starts_with(start)) {
            Some(Libc::Glibc)
        } else {
            None
        }
    }

    /// The one that an image has, by the loaders in the usual places.
    pub(crate) fn of_image(view: &View<'_>) -> Option<Libc> {
        let loaders = |dir: &str| {
            view.names(dir).into_iter().filter_map(|name| Libc::of_loader(&name)).collect::<Vec<_>>()
        };
        let all = [loaders("/lib64"), loaders("/lib")].concat();
        match (all.contains(&Libc::Glibc), all.contains(&Libc::Musl)) {
            (true, false) => Some(Libc::Glibc),
            (false, true) => Some(Libc::Musl),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Libc::Glibc => "glibc",
            Libc::Musl => "musl",
        }
    }
}

/// Parses the file at a path without links.
pub(crate) fn read_elf(view: &View<'_>, path: &str) -> Result<Elf, ElfError> {
    elf::parse(&|offset, len| view.read_at(path, offset, len))
}

/// From where a program is started, as far as its loader looks at that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// The working directory: relative directories of a search begin there.
    pub(crate) cwd: String,
    /// LD_LIBRARY_PATH.
    pub(crate) library_path: String,
    /// LD_PRELOAD.
    pub(crate) preload: String,
    /// The loader itself, without links: it holds the directories that it was built with.
    pub(crate) loader: Option<String>,
    /// The program that loads a module (a path without links), where it is not a program that is looked at.
    pub(crate) host: Option<String>,
}

/// Finds everything that `program` (a path without links) needs.
pub(crate) fn load(view: &View<'_>, program: &str, elf: Elf, libc: Libc, around: &Surroundings) -> Loaded {
    let search = Search::new(view, libc, elf.machine, around, program);
    let mut loading =
        Loading { libc, search, loaded: Loaded::default(), objects: Vec::new(), names: BTreeMap::new() };
    let host = around.host.as_ref().and_then(|host| Some((host.clone(), read_elf(view, host).ok()?)));
    let above = host.map(|(path, elf)| {
        loading.begin(path, elf, None);
        0
    });
    if let Some(above) = above {
        // What the host itself lacks was told of the host.
        loading.go(above);
        let Loaded { found, .. } = std::mem::take(&mut loading.loaded);
        loading.loaded.found = found;
    }
    let own = loading.objects.len();
    loading.begin(program.to_owned(), elf, above);
    loading.go(own);
    loading.loaded
}

/// Something that is in memory, once the program is.
struct Object {
    path: String,
    elf: Rc<Elf>,
    /// The object that needed it first.
    above: Option<usize>,
}

struct Loading<'a> {
    libc: Libc,
    search: Search<'a>,
    loaded: Loaded,
    objects: Vec<Object>,
    /// Objects by the names by which they are known.
    names: BTreeMap<String, usize>,
}

impl Loading<'_> {
    fn begin(&mut self, path: String, elf: Elf, above: Option<usize>) {
        self.objects.push(Object { path, elf: Rc::new(elf), above });
        if above.is_none() {
            self.preload();
        }
    }

    /// What is asked for from outside is loaded before anything that is needed; what is not there is passed over.
    fn preload(&mut self) {
        for name in self.search.preloaded() {
            let Some(program) = self.objects.first().map(|object| Rc::clone(&object.elf)) else { return };
            if let Where::At(path, elf) = self.search.find(&name, &[(&program, "/")]) {
                self.add(name, path, elf, 0);
            }
        }
    }

    fn add(&mut self, name: String, path: String, elf: Elf, above: usize) {
        let at = self.objects.len();
        if let Some(soname) = elf.soname.clone().filter(|_| self.libc == Libc::Glibc) {
            self.names.entry(soname).or_insert(at);
        }
        self.names.entry(name).or_insert(at);
        self.objects.push(Object { path, elf: Rc::new(elf), above: Some(above) });
    }

    /// Loads what the objects from `at` on need, and theirs.
    fn go(&mut self, mut at: usize) {
        while at < self.objects.len() {
            let elf = Rc::clone(&self.objects[at].elf);
            for name in &elf.needed {
                if self.names.contains_key(name)
                    || self.loaded.found.contains_key(name)
                    || self.loaded.missing.iter().any(|(known, _)| known == name)
                    || self.libc.has_inside(name)
                {
                    continue;
                }
                if self.objects.len() >= MAX_LIBRARIES {
                    self.loaded.unknown.push(self.objects[at].path.clone());
                    return;
                }
                self.need(name, at);
            }
            if self.libc == Libc::Glibc {
                // All that this one needs is found by now, or will not be.
                let versions = self.missing_versions(at);
                self.loaded.versions.extend(versions);
            }
            at += 1;
        }
    }

    fn need(&mut self, name: &str, by: usize) {
        let mut chain = Vec::new();
        let mut next = Some(by);
        while let Some(object) = next.and_then(|at| self.objects.get(at)) {
            chain.push((&*object.elf, parent(&object.path)));
            next = object.above;
        }
        let found = self.search.find(name, &chain);
        let by_path = self.objects[by].path.clone();
        let loaded = &mut self.loaded;
        match found {
            Where::At(path, elf) => {
                loaded.found.insert(name.to_owned(), path.clone());
                self.add(name.to_owned(), path, elf, by);
            }
            Where::Perhaps(path, elf) => {
                loaded.perhaps.push((name.to_owned(), path.clone()));
                loaded.found.insert(name.to_owned(), path.clone());
                self.add(name.to_owned(), path, elf, by);
            }
            Where::Unread(path) => {
                loaded.found.insert(name.to_owned(), path.clone());
                loaded.unknown.push(path);
            }
            Where::Uncached(path) => {
                loaded.found.insert(name.to_owned(), path.clone());
                loaded.uncached.push((name.to_owned(), path, by_path));
            }
            // What says where to look is not known: nothing can be said to be nowhere.
            Where::Nowhere => match self.search.unread.clone() {
                Some(unread) => loaded.unknown.push(unread),
                None => loaded.missing.push((name.to_owned(), by_path)),
            },
        }
    }

    fn missing_versions(&self, at: usize) -> Vec<MissingVersion> {
        let by = &self.objects[at];
        let mut all = Vec::new();
        for (library, versions) in &by.elf.needs {
            let Some(object) = self.names.get(library).and_then(|at| self.objects.get(*at)) else { continue };
            let provides = &object.elf.provides;
            if provides.is_empty() {
                continue;
            }
            for version in versions.iter().filter(|version| !provides.contains(version)) {
                let family = |version: &str| version.rsplit_once('_').map(|(family, _)| family.to_owned());
                let same = provides
                    .iter()
                    .filter(|other| family(other) == family(version) && number(other).is_some());
                all.push(MissingVersion {
                    version: version.clone(),
                    library: library.clone(),
                    path: object.path.clone(),
                    by: by.path.clone(),
                    newest: same.max_by_key(|other| number(other)).cloned(),
                });
            }
        }
        // The newest says it all.
        all.sort_by_key(|missing| std::cmp::Reverse(number(&missing.version)));
        all.truncate(1);
        all
    }
}

/// `GLIBC_2.34` as something that can be compared.
fn number(version: &str) -> Option<Vec<u32>> {
    version.rsplit_once('_')?.1.split('.').map(|part| part.parse().ok()).collect()
}

impl Libc {
    fn has_inside(self, name: &str) -> bool {
        if self == Libc::Glibc {
            // Every program's own loader is in memory already.
            return Libc::of_loader(name) == Some(Libc::Glibc);
        }
        let word = name.strip_prefix("lib").and_then(|rest| rest.split('.').next());
        name.starts_with("libc.musl-")
            || Libc::of_loader(name).is_some()
            || word.is_some_and(|word| IN_MUSL.contains(&word))
    }
}

#[cfg(test)]
#[path = "../tests/loader.rs"]
mod tests;
