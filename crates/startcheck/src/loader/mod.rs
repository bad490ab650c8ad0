//! Which libraries a program gets, as the dynamic loaders of glibc and musl look for them.
//!
//! Modelled: preloaded libraries, RPATH of an object and of those that needed it, LD_LIBRARY_PATH,
//! RUNPATH, the cache, the directories that the image's loader was built with, directories for
//! kinds of processors, names that are known because of a library's SONAME. Not modelled: what a
//! program loads itself later (`dlopen`).

mod libc;
mod search;

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::elf::{Elf, read_elf};
use crate::image_files::parent;
use crate::view::View;

pub(crate) use libc::Libc;
pub(crate) use search::Surroundings;
use search::{Search, SearchResult};

/// A program with more libraries than this is not followed further.
const MAX_LIBRARIES: usize = 512;
/// What became of a program's libraries.
#[derive(Debug, Default)]
pub(crate) struct LoadResult {
    /// Not found: (name, who needs it).
    pub(crate) missing: Vec<(String, String)>,
    /// Found only where glibc looks after `ldconfig`: (name, path, who needs it).
    pub(crate) uncached: Vec<(String, String, String)>,
    /// Found only in a directory that the loader looks into on some processors: (name, path).
    pub(crate) perhaps: Vec<(String, String)>,
    /// Versions that a library does not have.
    pub(crate) versions: Vec<MissingVersion>,
    /// Files whose content is not available, or that cannot be understood.
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

/// Finds everything that `program` (a path without links) needs.
pub(crate) fn load(
    view: &View<'_>,
    program: &str,
    elf: Elf,
    libc: Libc,
    around: &Surroundings,
) -> LoadResult {
    let search = Search::new(view, libc, elf.machine, around, program);
    let mut loading =
        Loader { libc, search, loaded: LoadResult::default(), objects: Vec::new(), names: BTreeMap::new() };
    let host = around.host.as_ref().and_then(|host| Some((host.clone(), read_elf(view, host).ok()?)));
    let above = host.map(|(path, elf)| {
        loading.begin(path, elf, None);
        0
    });
    if let Some(above) = above {
        // What the host itself lacks was reported for the host.
        loading.go(above);
        let LoadResult { found, .. } = std::mem::take(&mut loading.loaded);
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

struct Loader<'a> {
    libc: Libc,
    search: Search<'a>,
    loaded: LoadResult,
    objects: Vec<Object>,
    /// Objects by the names by which they are known.
    names: BTreeMap<String, usize>,
}

impl Loader<'_> {
    fn begin(&mut self, path: String, elf: Elf, above: Option<usize>) {
        self.objects.push(Object { path, elf: Rc::new(elf), above });
        if above.is_none() {
            self.preload();
        }
    }

    /// What is asked for from outside is loaded before anything that is needed; what is not there
    /// is passed over.
    fn preload(&mut self) {
        for name in self.search.preloaded() {
            let Some(program) = self.objects.first().map(|object| Rc::clone(&object.elf)) else { return };
            if let SearchResult::File(path, elf) = self.search.find(&name, &[(&program, "/")]) {
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
            SearchResult::File(path, elf) => {
                loaded.found.insert(name.to_owned(), path.clone());
                self.add(name.to_owned(), path, elf, by);
            }
            SearchResult::SomeProcessors(path, elf) => {
                loaded.perhaps.push((name.to_owned(), path.clone()));
                loaded.found.insert(name.to_owned(), path.clone());
                self.add(name.to_owned(), path, elf, by);
            }
            SearchResult::Unread(path) => {
                loaded.found.insert(name.to_owned(), path.clone());
                loaded.unknown.push(path);
            }
            SearchResult::Uncached(path) => {
                loaded.found.insert(name.to_owned(), path.clone());
                loaded.uncached.push((name.to_owned(), path, by_path));
            }
            // What says where to look is not known: nothing can be said to be nowhere.
            SearchResult::Nowhere => match self.search.unread.clone() {
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

#[cfg(test)]
#[path = "../tests/loader.rs"]
mod tests;
