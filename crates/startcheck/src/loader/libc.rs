//! The two C libraries, distinguished by their loaders.

use crate::image_files::base_name;
use crate::view::View;

/// Libraries that are inside of musl's loader, by the word after `lib`.
const IN_MUSL: [&str; 8] = ["c", "pthread", "rt", "m", "dl", "util", "xnet", "resolv"];

/// A C library, by its loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Libc {
    Glibc,
    Musl,
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

    /// Whether a library of this name is part of the loader itself.
    pub(crate) fn has_inside(self, name: &str) -> bool {
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
