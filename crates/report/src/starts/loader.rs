//! Which libraries a program gets, as the dynamic loaders of glibc and musl look for them.

use std::collections::{BTreeMap, VecDeque};

use super::elf::{self, Elf, ElfError, Machine};
use super::files::{View, base_name, join, parent};

/// A program with more libraries than this is not followed further.
const MAX_LIBRARIES: usize = 512;
/// Caches and configurations of the loader are read so far.
const MAX_CONFIG: usize = 1 << 20;

/// Where glibc looks without being told; distributions differ, so this is all of theirs.
const GLIBC_DIRS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
const MUSL_DIRS: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];
/// Libraries that are inside of musl's loader, by the word after `lib`.
const IN_MUSL: [&str; 8] = ["c", "pthread", "rt", "m", "dl", "util", "xnet", "resolv"];

/// A C library, by its loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Libc {
    Glibc,
    Musl,
}

/// What became of a program's libraries.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Not found: (name, who needs it).
    pub(super) missing: Vec<(String, String)>,
    /// Found only where glibc looks after `ldconfig`: (name, path, who needs it).
    pub(super) uncached: Vec<(String, String, String)>,
    /// Versions that a library does not have.
    pub(super) versions: Vec<MissingVersion>,
    /// Files whose bytes are not at hand, or that cannot be understood.
    pub(super) unknown: Vec<String>,
    /// Found: path by name.
    pub(super) found: BTreeMap<String, String>,
}

/// A library that is older (or another one) than a program was linked against.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MissingVersion {
    pub(super) version: String,
    pub(super) library: String,
    pub(super) path: String,
    pub(super) by: String,
    /// The newest that it has, of the same name.
    pub(super) newest: Option<String>,
}

impl Libc {
    /// The library whose loader this is, by its path.
    pub(super) fn of_loader(loader: &str) -> Option<Libc> {
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
    pub(super) fn of_image(view: &View<'_>) -> Option<Libc> {
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

    pub(super) fn name(self) -> &'static str {
        match self {
            Libc::Glibc => "glibc",
            Libc::Musl => "musl",
        }
    }
}

/// Parses the file at a path without links.
pub(super) fn read_elf(view: &View<'_>, path: &str) -> Result<Elf, ElfError> {
    elf::parse(&|offset, len| view.read_at(path, offset, len))
}

/// Finds everything that `program` (a path without links) needs. `library_path` is LD_LIBRARY_PATH.
pub(super) fn load(view: &View<'_>, program: &str, elf: Elf, libc: Libc, library_path: &str) -> Loaded {
    let mut search = Search::new(view, libc, elf.machine, library_path);
    let handed_on = match libc {
        Libc::Glibc if !elf.runpath.is_empty() => Vec::new(),
        Libc::Glibc => elf.rpath.clone(),
        Libc::Musl => [&elf.rpath[..], &elf.runpath].concat(),
    };
    search.inherited = expand(&handed_on, parent(program));
    let mut loaded = Loaded::default();
    let mut elves: BTreeMap<String, Elf> = BTreeMap::new();
    let mut open = VecDeque::from([(program.to_owned(), elf)]);
    while let Some((path, elf)) = open.pop_front() {
        for name in &elf.needed {
            if loaded.found.contains_key(name)
                || loaded.missing.iter().any(|(known, _)| known == name)
                || libc.has_inside(name)
            {
                continue;
            }
            if loaded.found.len() >= MAX_LIBRARIES {
                loaded.unknown.push(path.clone());
                return loaded;
            }
            match search.find(name, &elf, &path) {
                Where::At(at, library) => {
                    loaded.found.insert(name.clone(), at.clone());
                    elves.insert(name.clone(), library.clone());
                    open.push_back((at, library));
                }
                Where::Unread(at) => {
                    loaded.found.insert(name.clone(), at.clone());
                    loaded.unknown.push(at);
                }
                Where::Uncached(at) => {
                    loaded.found.insert(name.clone(), at.clone());
                    loaded.uncached.push((name.clone(), at, path.clone()));
                }
                Where::Nowhere => loaded.missing.push((name.clone(), path.clone())),
            }
        }
        if libc == Libc::Glibc {
            // All that this one needs is found by now, or will not be.
            loaded.versions.extend(missing_versions(&path, &elf, &elves, &loaded.found));
        }
    }
    loaded
}

fn missing_versions(
    by: &str,
    elf: &Elf,
    elves: &BTreeMap<String, Elf>,
    found: &BTreeMap<String, String>,
) -> Vec<MissingVersion> {
    let mut all = Vec::new();
    for (library, versions) in &elf.needs {
        let Some(provides) = elves.get(library).map(|elf| &elf.provides).filter(|all| !all.is_empty()) else {
            continue;
        };
        let path = found.get(library).cloned().unwrap_or_default();
        for version in versions.iter().filter(|version| !provides.contains(version)) {
            let family = |version: &str| version.rsplit_once('_').map(|(family, _)| family.to_owned());
            let same =
                provides.iter().filter(|other| family(other) == family(version) && number(other).is_some());
            all.push(MissingVersion {
                version: version.clone(),
                library: library.clone(),
                path: path.clone(),
                by: by.to_owned(),
                newest: same.max_by_key(|other| number(other)).cloned(),
            });
        }
    }
    // The newest says it all.
    all.sort_by_key(|missing| std::cmp::Reverse(number(&missing.version)));
    all.truncate(1);
    all
}

/// `GLIBC_2.34` as something that can be compared.
fn number(version: &str) -> Option<Vec<u32>> {
    version.rsplit_once('_')?.1.split('.').map(|part| part.parse().ok()).collect()
}

enum Where {
    At(String, Elf),
    Unread(String),
    Uncached(String),
    Nowhere,
}

struct Search<'a> {
    view: &'a View<'a>,
    libc: Libc,
    machine: Machine,
    /// The program's own RPATH, which counts for its libraries too.
    inherited: Vec<String>,
    told: Vec<String>,
    /// glibc's cache: paths by name. `None` where it cannot be read.
    cache: Option<BTreeMap<String, Vec<String>>>,
    configured: Vec<String>,
    defaults: Vec<String>,
}

impl<'a> Search<'a> {
    fn new(view: &'a View<'a>, libc: Libc, machine: Machine, library_path: &str) -> Self {
        let told =
            library_path.split([':', ';']).filter(|dir| dir.starts_with('/')).map(str::to_owned).collect();
        let mut search = Self {
            view,
            libc,
            machine,
            inherited: Vec::new(),
            told,
            cache: Some(BTreeMap::new()),
            configured: Vec::new(),
            defaults: Vec::new(),
        };
        match libc {
            Libc::Glibc => {
                search.cache = match view.file("/etc/ld.so.cache") {
                    None => Some(BTreeMap::new()),
                    Some(place) => view.read_at(&place.path, 0, MAX_CONFIG).map(|bytes| read_cache(&bytes)),
                };
                search.read_config("/etc/ld.so.conf", 0);
                // Debian's, whichever the machine is.
                for dir in ["/lib", "/usr/lib"] {
                    let multiarch = view.names(dir).into_iter().filter(|name| name.contains("-linux-gnu"));
                    search.defaults.extend(multiarch.map(|name| join(dir, &name)));
                }
                search.defaults.extend(GLIBC_DIRS.map(str::to_owned));
            }
            Libc::Musl => {
                let configured = view
                    .names("/etc")
                    .into_iter()
                    .find(|name| name.starts_with("ld-musl-") && name.ends_with(".path"));
                let text = configured.and_then(|name| view.text(&join("/etc", &name), MAX_CONFIG));
                search.defaults = match text {
                    Some(text) => text
                        .split([':', '\n'])
                        .filter(|dir| dir.starts_with('/'))
                        .map(str::to_owned)
                        .collect(),
                    None => MUSL_DIRS.map(str::to_owned).to_vec(),
                };
            }
        }
        search
    }

    fn find(&self, name: &str, by: &Elf, by_path: &str) -> Where {
        if name.contains('/') {
            return self.try_at(name.to_owned()).unwrap_or(Where::Nowhere);
        }
        let own = |list: &[String]| expand(list, parent(by_path));
        let runpath = own(&by.runpath);
        let rpath =
            if by.runpath.is_empty() || self.libc == Libc::Musl { own(&by.rpath) } else { Vec::new() };
        let before = match self.libc {
            Libc::Glibc => [&rpath[..], &self.inherited, &self.told, &runpath].concat(),
            Libc::Musl => [&self.told[..], &rpath, &runpath, &self.inherited].concat(),
        };
        let cached = self.cache.iter().flat_map(|cache| cache.get(name)).flatten().cloned();
        let in_dirs = |dirs: &[String]| dirs.iter().map(|dir| join(dir, name)).collect::<Vec<_>>();
        let mut places: Vec<String> = in_dirs(&before);
        places.extend(cached);
        places.extend(in_dirs(&self.defaults));
        if self.cache.is_none() {
            places.extend(in_dirs(&self.configured));
        }
        if let Some(found) = places.into_iter().find_map(|place| self.try_at(place)) {
            return found;
        }
        match in_dirs(&self.configured).into_iter().find_map(|place| self.try_at(place)) {
            Some(Where::At(path, _) | Where::Unread(path)) => Where::Uncached(path),
            _ => Where::Nowhere,
        }
    }

    /// A library of another machine is passed over, as the loaders do.
    fn try_at(&self, path: String) -> Option<Where> {
        let place = self.view.file(&path)?;
        match read_elf(self.view, &place.path) {
            Ok(elf) if elf.machine == self.machine => Some(Where::At(path, elf)),
            Ok(_) | Err(ElfError::NotElf | ElfError::Damaged) => None,
            Err(ElfError::Unread) => Some(Where::Unread(path)),
        }
    }

    fn read_config(&mut self, file: &str, depth: usize) {
        let Some(text) = self.view.text(file, MAX_CONFIG) else { return };
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            if let Some(pattern) = line.strip_prefix("include").map(str::trim) {
                let pattern = join(parent(file), pattern);
                // The only pattern in use is a directory's `*.conf`.
                let Some(dir) = pattern.strip_suffix("/*.conf").filter(|_| depth < 4) else { continue };
                for name in self.view.names(dir).iter().filter(|name| name.ends_with(".conf")) {
                    self.read_config(&join(dir, name), depth + 1);
                }
            } else if line.starts_with('/') {
                self.configured.push(line.to_owned());
            }
        }
    }
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

/// Directories of a run path; those with tokens that only the loader knows are left out.
fn expand(list: &[String], origin: &str) -> Vec<String> {
    let expanded = list.iter().map(|dir| dir.replace("$ORIGIN", origin).replace("${ORIGIN}", origin));
    expanded.filter(|dir| dir.starts_with('/') && !dir.contains('$')).collect()
}

/// `/etc/ld.so.cache` in its new form, which may stand behind one in the old form. What is damaged is as if it were empty.
fn read_cache(bytes: &[u8]) -> BTreeMap<String, Vec<String>> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let Some(start) = bytes.windows(MAGIC.len()).position(|window| window == MAGIC) else { return all };
    let table = &bytes[start..];
    let number = |at: usize| {
        let bytes: Option<[u8; 4]> = table.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes)
    };
    let text = |at: u32| {
        let rest = table.get(at as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    };
    for entry in 0..number(20).unwrap_or(0) as usize {
        let at = 48 + 24 * entry;
        let (Some(key), Some(value)) = (number(at + 4).and_then(text), number(at + 8).and_then(text)) else {
            break;
        };
        all.entry(key.to_owned()).or_default().push(value.to_owned());
    }
    all
}

#[cfg(test)]
#[path = "tests/loader.rs"]
mod tests;
