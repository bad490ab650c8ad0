//! Where one library is looked for.

use std::collections::BTreeMap;

use super::libc::Libc;
use crate::elf::{Elf, ElfError, Machine, read_elf};
use crate::image_files::{join, parent};
use crate::strings;
use crate::view::View;

/// Caches and configurations of the loader are read so far.
const MAX_CONFIG: usize = 1 << 20;
/// Where glibc looks by default, where the image's loader does not say: that differs between
/// distributions.
const GLIBC_DIRS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
const MUSL_DIRS: [&str; 3] = ["/lib", "/usr/local/lib", "/usr/lib"];
/// What `$LIB` can mean.
const LIBS: [&str; 9] = [
    "lib",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "lib/i386-linux-gnu",
    "lib/arm-linux-gnueabihf",
    "lib/riscv64-linux-gnu",
    "lib/powerpc64le-linux-gnu",
    "lib/s390x-linux-gnu",
];
/// What `$PLATFORM` can mean.
const PLATFORMS: [&str; 12] = [
    "x86_64", "haswell", "xeon_phi", "aarch64", "i686", "i586", "i386", "v8l", "v7l", "power9", "power10",
    "z15",
];
/// Directories below each directory into which older versions of glibc look on some processors.
const LEGACY: [&str; 8] = [
    "tls",
    "haswell",
    "x86_64",
    "avx512_1",
    "haswell/x86_64",
    "tls/x86_64",
    "tls/haswell",
    "tls/haswell/x86_64",
];

pub(crate) enum SearchResult {
    File(String, Elf),
    /// There, on some processors.
    SomeProcessors(String, Elf),
    Unread(String),
    Uncached(String),
    Nowhere,
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
    /// The program that loads a module (a path without links), where it is not a program that is
    /// looked at.
    pub(crate) host: Option<String>,
}

pub(crate) struct Search<'a> {
    view: &'a View<'a>,
    libc: Libc,
    machine: Machine,
    cwd: String,
    library_path: Vec<String>,
    preload: String,
    /// glibc's cache: paths by name. `None` where it cannot be read.
    cache: Option<BTreeMap<String, Vec<String>>>,
    configured: Vec<String>,
    defaults: Vec<String>,
    /// A file that says where libraries are looked for, and whose content is not available.
    pub(crate) unread: Option<String>,
}

impl<'a> Search<'a> {
    pub(crate) fn new(
        view: &'a View<'a>,
        libc: Libc,
        machine: Machine,
        around: &Surroundings,
        program: &str,
    ) -> Self {
        let mut search = Self {
            view,
            libc,
            machine,
            cwd: if around.cwd.is_empty() { "/".to_owned() } else { around.cwd.clone() },
            library_path: Vec::new(),
            preload: around.preload.clone(),
            cache: Some(BTreeMap::new()),
            configured: Vec::new(),
            defaults: Vec::new(),
            unread: None,
        };
        if !around.library_path.is_empty() {
            let origin = parent(around.host.as_deref().unwrap_or(program));
            // An empty directory is the working directory.
            let library_path = around.library_path.split([':', ';']).map(str::to_owned).collect::<Vec<_>>();
            search.library_path = search.expand(&library_path, origin);
        }
        let loader = around.loader.as_deref();
        match libc {
            Libc::Glibc => search.glibc(loader),
            Libc::Musl => search.musl(loader),
        }
        search
    }

    fn glibc(&mut self, loader: Option<&str>) {
        let built_in = loader.and_then(|loader| match strings::paths(self.view, loader) {
            Some(paths) => Some(paths),
            None => {
                self.unread = Some(loader.to_owned());
                None
            }
        });
        let built_in = built_in.unwrap_or_default();
        let cache = built_in.iter().find(|path| path.ends_with("/ld.so.cache"));
        let cache = cache.map_or("/etc/ld.so.cache", String::as_str);
        self.cache = match self.view.file(cache) {
            None => Some(BTreeMap::new()),
            Some(place) => self.view.read_at(&place.path, 0, MAX_CONFIG).map(|bytes| read_cache(&bytes)),
        };
        if self.cache.is_none() {
            self.unread = Some(cache.to_owned());
        }
        self.read_config("/etc/ld.so.conf", 0);
        // The loader keeps them as texts that end in a slash.
        let dirs = built_in.iter().filter(|path| path.len() > 1 && path.ends_with('/'));
        let dirs =
            dirs.filter(|dir| dir.contains("/lib") && !dir.contains("locale") && !dir.contains("gconv"));
        self.defaults = dirs.map(|dir| dir.trim_end_matches('/').to_owned()).collect();
        if self.defaults.is_empty() {
            // Debian's, whichever the machine is.
            for dir in ["/lib", "/usr/lib"] {
                let multiarch = self.view.names(dir).into_iter().filter(|name| name.contains("-linux-gnu"));
                self.defaults.extend(multiarch.map(|name| join(dir, &name)));
            }
            self.defaults.extend(GLIBC_DIRS.map(str::to_owned));
        }
    }

    fn musl(&mut self, loader: Option<&str>) {
        let configured = self
            .view
            .names("/etc")
            .into_iter()
            .find(|name| name.starts_with("ld-musl-") && name.ends_with(".path"));
        let configured = configured.map(|name| join("/etc", &name));
        let text = configured.as_ref().and_then(|path| self.view.text(path, MAX_CONFIG));
        if text.is_none() {
            self.unread = configured;
        }
        let dirs = |text: &str| -> Vec<String> {
            text.split([':', '\n']).filter(|dir| dir.starts_with('/')).map(str::to_owned).collect()
        };
        self.defaults = match text {
            Some(text) => dirs(&text),
            None => MUSL_DIRS.map(str::to_owned).to_vec(),
        };
        if self.unread.is_none()
            && configured_nowhere(self.view)
            && let Some(built_in) = loader.and_then(|loader| strings::paths(self.view, loader))
            // It is the end of no other text, and other lists of directories are of programs.
            && let Some(list) = built_in
                .iter()
                .filter(|text| text.contains(":/") && text.split(':').all(|dir| dir.contains("/lib")))
                .max_by_key(|text| text.len())
        {
            self.defaults = dirs(list);
        }
    }

    /// LD_PRELOAD and `/etc/ld.so.preload`.
    pub(crate) fn preloaded(&self) -> Vec<String> {
        let file = self.view.text("/etc/ld.so.preload", MAX_CONFIG).filter(|_| self.libc == Libc::Glibc);
        let all = [self.preload.clone(), file.unwrap_or_default()].join(" ");
        let names = all.split([' ', ':', '\t', '\n']).filter(|name| !name.is_empty());
        names.map(str::to_owned).collect()
    }

    /// `chain` is the object that needs it, the one that needed that, and so on, each with its
    /// directory.
    pub(crate) fn find(&self, name: &str, chain: &[(&Elf, &str)]) -> SearchResult {
        if name.contains('/') {
            return self.try_at(join(&self.cwd, name)).unwrap_or(SearchResult::Nowhere);
        }
        let before = self.before(chain);
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
        if self.libc == Libc::Glibc {
            for dir in before.iter().chain(&self.defaults) {
                let kinds = join(dir, "glibc-hwcaps");
                let kinds = self.view.names(&kinds).into_iter().map(|kind| join(&kinds, &kind));
                let legacy = LEGACY.iter().map(|kind| join(dir, kind));
                let found = kinds.chain(legacy).find_map(|dir| self.try_at(join(&dir, name)));
                if let Some(SearchResult::File(path, elf)) = found {
                    return SearchResult::SomeProcessors(path, elf);
                }
            }
        }
        match in_dirs(&self.configured).into_iter().find_map(|place| self.try_at(place)) {
            Some(SearchResult::File(path, _) | SearchResult::Unread(path)) => SearchResult::Uncached(path),
            _ => SearchResult::Nowhere,
        }
    }

    /// Directories before the cache and the defaults.
    fn before(&self, chain: &[(&Elf, &str)]) -> Vec<String> {
        let own = chain.first().map(|(elf, dir)| self.expand(&elf.runpath, dir)).unwrap_or_default();
        match self.libc {
            Libc::Glibc => {
                let has_runpath = chain.first().is_some_and(|(elf, _)| !elf.runpath.is_empty());
                let inherited = chain.iter().filter(|(elf, _)| !has_runpath && elf.runpath.is_empty());
                let inherited = inherited.flat_map(|(elf, dir)| self.expand(&elf.rpath, dir));
                inherited.chain(self.library_path.iter().cloned()).chain(own).collect()
            }
            Libc::Musl => {
                let inherited = chain.iter().flat_map(|(elf, dir)| {
                    let list = if elf.runpath.is_empty() { &elf.rpath } else { &elf.runpath };
                    self.expand(list, dir)
                });
                self.library_path.iter().cloned().chain(inherited).collect()
            }
        }
    }

    /// A library of another machine is passed over, as the loaders do, and so is what may not be
    /// read.
    fn try_at(&self, path: String) -> Option<SearchResult> {
        let place = self.view.file(&path).filter(|place| self.view.user.may(&place.node, 4))?;
        match read_elf(self.view, &place.path) {
            Ok(elf) if elf.machine == self.machine => Some(SearchResult::File(path, elf)),
            Ok(_) | Err(ElfError::NotElf | ElfError::Damaged) => None,
            Err(ElfError::Unread) => Some(SearchResult::Unread(path)),
        }
    }

    /// Directories of a list, with everything that its tokens can mean.
    fn expand(&self, list: &[String], origin: &str) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for dir in list {
            let dir = dir.replace("${", "$").replace('}', "").replace("$ORIGIN", origin);
            let libs = if dir.contains("$LIB") { &LIBS[..] } else { &[""] };
            for lib in libs {
                let dir = dir.replace("$LIB", lib);
                let platforms = if dir.contains("$PLATFORM") { &PLATFORMS[..] } else { &[""] };
                all.extend(
                    platforms.iter().map(|platform| join(&self.cwd, &dir.replace("$PLATFORM", platform))),
                );
            }
        }
        all
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

/// Whether no file says where musl looks.
fn configured_nowhere(view: &View<'_>) -> bool {
    !view.names("/etc").iter().any(|name| name.starts_with("ld-musl-") && name.ends_with(".path"))
}

/// `/etc/ld.so.cache` in its new form, which may stand behind one in the old form. What is damaged
/// is as if it were empty.
pub(crate) fn read_cache(bytes: &[u8]) -> BTreeMap<String, Vec<String>> {
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
