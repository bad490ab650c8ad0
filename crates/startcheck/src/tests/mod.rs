//! Images in memory, with real (tiny) ELF files.

mod elf_file;
mod images;
mod python;

use std::collections::BTreeMap;

use dbuild_events::StartSeverity;
use dbuild_oci::{ImageConfig, Platform};

pub(crate) use self::elf_file::ElfFile;
use super::{Files, Node, NodeKind, Start, check};

/// The files of an image.
#[derive(Clone, Default)]
pub(crate) struct Image {
    nodes: BTreeMap<String, (Node, Option<Vec<u8>>)>,
    pub(crate) config: ImageConfig,
}

impl Image {
    /// With this command, in `/app`, and nothing else.
    pub(crate) fn new(cmd: &[&str]) -> Self {
        let mut image = Self::default();
        image.config.cmd = Some(cmd.iter().map(|&word| word.to_owned()).collect());
        image.config.working_dir = "/app".to_owned();
        image.config.env = vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()];
        image.dir("/app")
    }

    /// Debian's: a loader, a libc, a shell, env.
    pub(crate) fn glibc(cmd: &[&str]) -> Self {
        Self::new(cmd)
            .link("/lib64", "usr/lib64")
            .link("/lib", "usr/lib")
            .link("/bin", "usr/bin")
            .program("/usr/lib64/ld-linux-x86-64.so.2", &ElfFile::default())
            .program(
                "/usr/lib/x86_64-linux-gnu/libc.so.6",
                &ElfFile { provides: &["libc.so.6", "GLIBC_2.2.5", "GLIBC_2.31"], ..ElfFile::default() },
            )
            .program("/usr/bin/dash", &ElfFile::glibc(&[]))
            .link("/usr/bin/sh", "dash")
            .program("/usr/bin/env", &ElfFile::glibc(&[]))
    }

    /// Alpine's.
    pub(crate) fn musl(cmd: &[&str]) -> Self {
        Self::new(cmd)
            .program("/lib/ld-musl-x86_64.so.1", &ElfFile::default())
            .program("/bin/busybox", &ElfFile::musl(&["libc.musl-x86_64.so.1"]))
            .link("/bin/sh", "/bin/busybox")
            .link("/usr/bin/env", "/bin/busybox")
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.put(path, NodeKind::Dir, 0o755, None)
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.put(path, NodeKind::Link(target.to_owned()), 0o777, None)
    }

    pub(crate) fn file(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        let bytes = text.as_ref().to_vec();
        self.put(path, NodeKind::File(bytes.len() as u64), 0o644, Some(bytes))
    }

    pub(crate) fn script(self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.file(path, text).mode(path, 0o755)
    }

    pub(crate) fn program(self, path: &str, elf: &ElfFile<'_>) -> Self {
        self.script(path, elf.bytes())
    }

    pub(crate) fn mode(mut self, path: &str, mode: u32) -> Self {
        self.nodes.get_mut(path).unwrap().0.mode = mode;
        self
    }

    /// Without a path.
    pub(crate) fn without(mut self, path: &str) -> Self {
        self.nodes.retain(|other, _| other != path && !other.starts_with(&format!("{path}/")));
        self
    }

    /// All bytes are elsewhere: only the index is known.
    pub(crate) fn unread(mut self) -> Self {
        self.nodes.values_mut().for_each(|(_, bytes)| *bytes = None);
        self
    }

    pub(crate) fn user(mut self, user: &str) -> Self {
        self.config.user = user.to_owned();
        self
    }

    pub(crate) fn env(mut self, entry: &str) -> Self {
        self.config.env.push(entry.to_owned());
        self
    }

    pub(crate) fn check(&self) -> Start {
        check(&self.config, &amd64(), self)
    }

    fn put(mut self, path: &str, kind: NodeKind, mode: u32, bytes: Option<Vec<u8>>) -> Self {
        let mut above = path;
        while let Some((dir, _)) = above.rsplit_once('/').filter(|(dir, _)| !dir.is_empty()) {
            let node = Node { kind: NodeKind::Dir, mode: 0o755, uid: 0, gid: 0 };
            self.nodes.entry(dir.to_owned()).or_insert((node, None));
            above = dir;
        }
        self.nodes.insert(path.to_owned(), (Node { kind, mode, uid: 0, gid: 0 }, bytes));
        self
    }
}

impl Files for Image {
    fn lookup(&self, path: &str) -> Option<Node> {
        Some(self.nodes.get(path)?.0.clone())
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let below = format!("{}/", dir.trim_end_matches('/'));
        let names = self.nodes.keys().filter_map(|path| path.strip_prefix(&below));
        names.filter(|name| !name.contains('/')).map(str::to_owned).collect()
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>> {
        let bytes = self.nodes.get(path)?.1.as_ref()?;
        let start = usize::try_from(offset).unwrap().min(bytes.len());
        Some(bytes[start..bytes.len().min(start.saturating_add(len))].to_vec())
    }
}

pub(crate) fn amd64() -> Platform {
    "linux/amd64".parse().unwrap()
}

/// The rules of what was found, the worst first, with a sign for how bad.
pub(crate) fn rules(start: &Start) -> String {
    let rules = start.findings.iter().map(|finding| {
        let sign = match finding.severity {
            StartSeverity::WillNotStart => "!",
            StartSeverity::MayFail => "?",
            StartSeverity::Advice => "",
        };
        format!("{sign}{}", finding.rule)
    });
    let unknown = start.unknown.iter().map(|unknown| format!("~{}", unknown.text));
    rules.chain(unknown).collect::<Vec<_>>().join(" ")
}
