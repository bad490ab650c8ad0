//! The COPY that would bring what is missing in the image and present in another stage.

use std::collections::BTreeSet;

use dbuild_events::StartSeverity;
use dbuild_oci::{DEFAULT_PATH, ImageConfig, Platform};

use crate::check::check;
use crate::image_files::{Files, Node, NodeKind, join, parent};
use crate::user::User;
use crate::verdict::{Finding, Need, Start};
use crate::view::View;

/// Maximum number of lines in a remedy.
const MOST_LINES: usize = 6;
/// Maximum number of findings that are looked for in other stages.
const MOST_FINDINGS: usize = 8;

/// A stage of the build, as COPY can name it.
pub struct Stage<'a> {
    /// Its name, or its number where it has none.
    pub name: String,
    /// Its files.
    pub files: &'a dyn Files,
}

/// Says of each finding which stage has what is missing, with lines for the Dockerfile. The lines
/// are tried: what they copy is put on top of the image, and the analysis is made again.
pub fn add_remedies(
    start: &mut Start,
    config: &ImageConfig,
    platform: &Platform,
    files: &dyn Files,
    stages: &[Stage<'_>],
) {
    let before: BTreeSet<String> = start.findings.iter().map(|finding| finding.text.clone()).collect();
    let image = Image { config, platform, files, before };
    for finding in start.findings.iter_mut().take(MOST_FINDINGS) {
        let Some(want) = finding.need.clone() else { continue };
        let remedy = stages.iter().find_map(|stage| image.remedy(finding, &want, stage));
        finding.help.splice(0..0, remedy);
    }
}

struct Image<'a> {
    config: &'a ImageConfig,
    platform: &'a Platform,
    files: &'a dyn Files,
    before: BTreeSet<String>,
}

impl Image<'_> {
    fn remedy(&self, finding: &Finding, want: &Need, stage: &Stage<'_>) -> Option<String> {
        let path = self.locate(want, stage.files)?;
        let mut copies = vec![path.clone()];
        // Each turn brings what the files before it need.
        let complete = loop {
            let trial = WithCopies::new(self.files, stage.files, &copies);
            let after = check(self.config, self.platform, &trial);
            if after.findings.iter().any(|other| other.text == finding.text) {
                break false;
            }
            let new = after
                .findings
                .iter()
                .filter(|other| !self.before.contains(&other.text) && other.severity > StartSeverity::Advice);
            let new: Vec<&Finding> = new.collect();
            if new.is_empty() {
                break true;
            }
            let more: Option<Vec<String>> =
                new.iter().map(|finding| self.locate(finding.need.as_ref()?, stage.files)).collect();
            let count = copies.len();
            copies.extend(
                more.into_iter().flatten().filter(|path| !copies.contains(path)).collect::<BTreeSet<_>>(),
            );
            if copies.len() == count || copies.len() > MOST_LINES {
                break false;
            }
        };
        let name = &stage.name;
        if !complete {
            return Some(format!(
                "the stage {name} has it ({path}), and a COPY of that alone would not do: install it in this stage, too"
            ));
        }
        let lines: Vec<String> =
            copies.iter().map(|path| format!("COPY --from={name} {path} {path}")).collect();
        Some(format!("the stage {name} has it: add\n{}", lines.join("\n")))
    }

    /// Where a stage has it, at a path at which it would do in the image.
    fn locate(&self, want: &Need, files: &dyn Files) -> Option<String> {
        let view = View::new(files, User::default());
        let there = |path: &String| view.walk(path).is_ok();
        match want {
            Need::Path(path) => Some(path.clone()).filter(there),
            Need::Program(name) => {
                let path = self.config.env.iter().find_map(|entry| entry.strip_prefix("PATH="));
                let path = path.unwrap_or(DEFAULT_PATH);
                let places = path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| join(dir, name));
                places.into_iter().find(|path| view.file(path).is_some())
            }
            Need::PythonLibrary(lib) => {
                let dirs = view
                    .names(lib)
                    .into_iter()
                    .filter(|name| name.starts_with("python3."))
                    .map(|name| join(lib, &name));
                dirs.into_iter().find(|dir| view.file(&join(dir, "os.py")).is_some())
            }
            Need::Library(name) => {
                let multiarch = ["/usr/lib", "/lib"].into_iter().flat_map(|dir| {
                    let names = view.names(dir).into_iter().filter(|name| name.contains("-linux-gnu"));
                    names.map(|name| join(dir, &name)).collect::<Vec<_>>()
                });
                let dirs = ["/usr/local/lib", "/lib64", "/usr/lib64", "/usr/lib", "/lib"].map(str::to_owned);
                multiarch.chain(dirs).map(|dir| join(&dir, name)).find(|path| view.file(path).is_some())
            }
            Need::Module(module, site) => {
                let has = view.walk(&join(site, module)).is_ok()
                    || view.file(&join(site, &format!("{module}.py"))).is_some();
                Some(site.clone()).filter(|_| has)
            }
        }
    }
}

/// An image with paths of a stage copied to the same places. As COPY does, a link at the source's
/// end is followed.
struct WithCopies<'a> {
    image: &'a dyn Files,
    stage: &'a dyn Files,
    /// (in the stage without links, in the image).
    copies: Vec<(String, String)>,
}

impl<'a> WithCopies<'a> {
    fn new(image: &'a dyn Files, stage: &'a dyn Files, paths: &[String]) -> Self {
        let (in_stage, in_image) = (View::new(stage, User::default()), View::new(image, User::default()));
        let copies = paths.iter().filter_map(|path| {
            let source = in_stage.walk(path).ok()?.path;
            // The directory may be reached through links (/lib is usr/lib).
            let dir = in_image.dir(parent(path)).unwrap_or_else(|| parent(path).to_owned());
            Some((source, join(&dir, crate::image_files::base_name(path))))
        });
        let copies = copies.collect();
        Self { image, stage, copies }
    }

    /// Where in the stage a path comes from.
    fn source(&self, path: &str) -> Option<String> {
        self.copies.iter().find_map(|(source, dest)| {
            let rest = path.strip_prefix(dest.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{source}{rest}"))
        })
    }
}

impl Files for WithCopies<'_> {
    fn lookup(&self, path: &str) -> Option<Node> {
        let copied = self.source(path).and_then(|source| self.stage.lookup(&source));
        copied.or_else(|| self.image.lookup(path)).or_else(|| {
            let below = format!("{}/", path.trim_end_matches('/'));
            let made = self.copies.iter().any(|(_, dest)| dest.starts_with(&below));
            made.then_some(Node { kind: NodeKind::Dir, mode: 0o755, uid: 0, gid: 0 })
        })
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let mut names: BTreeSet<String> = self.image.names(dir).into_iter().collect();
        names.extend(self.source(dir).map(|source| self.stage.names(&source)).unwrap_or_default());
        let below = format!("{}/", dir.trim_end_matches('/'));
        let made = self.copies.iter().filter_map(|(_, dest)| dest.strip_prefix(&below)?.split('/').next());
        names.extend(made.map(str::to_owned));
        names.into_iter().collect()
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>> {
        match self.source(path).filter(|source| self.stage.lookup(source).is_some()) {
            Some(source) => self.stage.read(&source, offset, len),
            None => self.image.read(path, offset, len),
        }
    }
}
