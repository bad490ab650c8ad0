//! What is said of a program whose loader or libraries are missing.

use dbuild_events::StartSeverity;

use crate::analysis::{Analysis, Scope};
use crate::elf::{Elf, read_elf};
use crate::loader::{Libc, LoadResult, Surroundings, load};
use crate::verdict::{Finding, Need};

/// A file whose libraries are looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Object<'a> {
    /// Without links.
    pub(crate) path: &'a str,
    /// What it is called in sentences.
    pub(crate) named: &'a str,
    /// The program that loads it, without links; `None` of a program.
    pub(crate) host: Option<&'a str>,
}

impl Analysis<'_> {
    /// The C library whose loader a program names, if that loader is in the image.
    pub(crate) fn loader_there(&mut self, loader: &str, named: &str, worst: StartSeverity) -> Option<Libc> {
        let of = Libc::of_loader(loader);
        match self.view.walk(loader) {
            // A link to another library's loader (gcompat) makes it that one's program.
            Ok(place) => Libc::of_loader(&place.path).filter(|real| *real == Libc::Musl).or(of),
            Err(_) => {
                let library = of.map_or("", Libc::name);
                let mut text =
                    format!("{named} needs the dynamic loader {loader}, which is not in the image");
                let mut finding = Finding::new("loader-missing", worst, String::new()).at(named);
                match (of, self.libc) {
                    (Some(Libc::Glibc), Some(Libc::Musl)) | (Some(Libc::Musl), Some(Libc::Glibc)) => {
                        let other = self.libc.map_or("", Libc::name);
                        text = format!(
                            "{named} is built for {library}, and the image has {other}: its loader {loader} is not there"
                        );
                        finding.rule = "wrong-libc";
                        finding = finding.help(format!("build it in an image with {other}, link it statically, or start from an image with {library}"));
                    }
                    _ => {
                        finding = finding.help(format!(
                            "link it statically (Go: CGO_ENABLED=0), or start from an image with {}",
                            if library.is_empty() { "that loader" } else { library }
                        ));
                        finding = finding.need(Need::Path(loader.to_owned()));
                    }
                }
                finding.text = text;
                self.find(finding);
                None
            }
        }
    }

    /// Whether all libraries of a program (or of a module that a program loads) are there.
    pub(crate) fn libraries(&mut self, object: &Object<'_>, elf: Elf, libc: Libc, scope: &Scope) -> bool {
        let Object { path, named, host } = *object;
        let variable = |name: &str| self.env.get(name).cloned().unwrap_or_default();
        let interpreter = match host {
            Some(host) => read_elf(&self.view, host).ok().and_then(|elf| elf.interpreter),
            None => elf.interpreter.clone(),
        };
        let around = Surroundings {
            cwd: scope.cwd.clone(),
            library_path: variable("LD_LIBRARY_PATH"),
            preload: variable("LD_PRELOAD"),
            loader: interpreter.and_then(|loader| Some(self.view.file(&loader)?.path)),
            host: host.map(str::to_owned),
        };
        let LoadResult { missing, uncached, perhaps, versions, unknown, .. } =
            load(&self.view, path, elf, libc, &around);
        let fine = missing.is_empty() && uncached.is_empty() && versions.is_empty();
        let whose = |by: String| if by == path { named.to_owned() } else { by };
        for path in unknown {
            self.unread(&path);
        }
        for (library, at) in perhaps {
            self.unknown(format!("{named}: it needs {library}, which is only at {at}: for some processors"));
        }
        for (library, by) in missing {
            let text = format!("{} needs the library {library}, which is not in the image", whose(by));
            let finding = Finding::new("library-missing", scope.worst, text).at(named);
            self.find(finding.need(Need::Library(library)));
        }
        for (library, at, by) in uncached {
            let text = format!(
                "{} needs {library}: it is at {at}, where the loader looks only after ldconfig has run",
                whose(by)
            );
            self.find(
                Finding::new("library-uncached", scope.worst, text)
                    .at(at)
                    .help("RUN ldconfig after the COPY"),
            );
        }
        for missing in versions {
            let has = missing
                .newest
                .map(|newest| format!(" has up to {newest}"))
                .unwrap_or_else(|| " does not have it".to_owned());
            let text = format!(
                "{} needs {} of {}, and {}{has}",
                whose(missing.by),
                missing.version,
                missing.library,
                missing.path
            );
            let finding = Finding::new("symbol-version", scope.worst, text).at(missing.path);
            self.find(finding.help("build it in an image as old as this one, or start from one as new as that where it was built"));
        }
        fine
    }
}
