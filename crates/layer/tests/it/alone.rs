//! Property: what a source selects from a context does not depend on which other sources a build
//! has. Alone, beside others, and in the index of the whole context it selects the same or fails
//! the same, and a COPY of it gives the same layer.
//!
//! Contexts and sources are generated: links of every form, ignore files, wildcards, `--exclude`,
//! `--parents`, mounts. `DBUILD_PROPERTY_SECONDS` says how long to go on, `DBUILD_PROPERTY_SEED`
//! where to begin; a failure names its seed.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use dbuild_layer::{
    CopyError, CopyRequest, Ignore, LayerFiles, NoContentIndex, OverlayFlavor, OverlayFormat, Ownership,
    SelectOptions, Source, Stack, StackLayer, Tree, TreePath, copy, select, walk_context,
};

/// Numbers that are the same for the same seed (splitmix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// A build's context, its ignore file, and what its instructions select.
struct Case {
    files: Vec<(String, Kind)>,
    ignore: String,
    sources: Vec<(String, SelectOptions)>,
}

/// What stands at a path.
#[derive(Clone, Debug)]
enum Kind {
    File,
    Dir,
    Fifo,
    Link(String),
    HardLink(String),
}

const NAMES: &[&str] = &["a", "b", "c", "d", "a", "b", "[b]", "a*", "x y", ".h", "a\\b"];

fn path(rng: &mut Rng, names: &[&str], longest: usize) -> String {
    let length = 1 + rng.below(longest);
    (0..length).map(|_| *rng.pick(names)).collect::<Vec<_>>().join("/")
}

impl Case {
    fn new(rng: &mut Rng) -> Self {
        let mut files: Vec<(String, Kind)> = (0..4 + rng.below(14)).map(|_| entry(rng)).collect();
        let mut sources: Vec<_> = (0..2 + rng.below(4)).map(|_| source(rng)).collect();
        // Sources through links that lead somewhere are more frequent than by chance.
        for _ in 0..rng.below(3) {
            let (to, link) = (path(rng, NAMES, 3), path(rng, NAMES, 3));
            let up = "../".repeat(link.matches('/').count());
            let before = *rng.pick(&["/", &up, &up, "../../../../", "d/../", "./"]);
            files.insert(0, (link.clone(), Kind::Link(format!("{before}{to}"))));
            let below = if rng.one_in(2) { format!("{to}/{}", path(rng, NAMES, 2)) } else { to.clone() };
            files.insert(rng.below(files.len()), (below, Kind::File));
            let (mut text, options) = source(rng);
            text = if rng.one_in(2) { link } else { format!("{link}/{text}") };
            sources.push((text, options));
        }
        let ignore = (0..rng.below(4)).map(|_| ignore_line(rng)).collect::<Vec<_>>().join("\n");
        Self { files, ignore, sources }
    }

    /// Makes the context. What has no place (a file where a directory should be) is left out.
    fn make(&self, dir: &Path) {
        for (name, kind) in &self.files {
            let path = dir.join(name);
            // The path itself, not where links lead: those may lead out.
            let parent = path.parent().unwrap_or(dir);
            if fs::create_dir_all(parent).is_err() || !parent.canonicalize().is_ok_and(|real| real == parent)
            {
                continue;
            }
            let _ = match kind {
                Kind::File if fs::symlink_metadata(&path).is_err() => fs::write(&path, name),
                Kind::File => Ok(()),
                Kind::Dir => fs::create_dir(&path),
                Kind::Link(target) => symlink(target, &path),
                Kind::HardLink(target) => fs::hard_link(dir.join(target), &path),
                Kind::Fifo => {
                    let mode = rustix::fs::Mode::from_raw_mode(0o644);
                    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).map_err(Into::into)
                }
            };
        }
    }
}

fn entry(rng: &mut Rng) -> (String, Kind) {
    let at = path(rng, NAMES, 4);
    let kind = match rng.below(12) {
        0..=4 => Kind::File,
        5 => Kind::Dir,
        6 => Kind::Fifo,
        7 => Kind::HardLink(path(rng, NAMES, 3)),
        8 => Kind::Link((*rng.pick(&["nowhere", ".", "..", "/", "../../../..", "//a/./b"])).to_owned()),
        9 => Kind::Link(at.clone()),
        _ => {
            let before = *rng.pick(&["", "", "/", "../", "../", "../../", "./", "a/../", "../a/../"]);
            let after = *rng.pick(&["", "", "", "/", "/..", "/../b", "/."]);
            Kind::Link(format!("{before}{}{after}", path(rng, NAMES, 3)))
        }
    };
    (at, kind)
}

const PATTERNS: &[&str] = &[
    "a", "b", "c", "d", "*", "**", "a*", "?", "[ab]", "[^a]", "[^/]", "*b", "\\[b]", ".*", "x y", "[[]b]",
    "a\\*",
];

fn ignore_line(rng: &mut Rng) -> String {
    format!("{}{}", if rng.one_in(3) { "!" } else { "" }, path(rng, PATTERNS, 3))
}

fn source(rng: &mut Rng) -> (String, SelectOptions) {
    let mut names: Vec<&str> = NAMES.to_vec();
    match rng.below(10) {
        0..=3 => {}
        4..=7 => names.extend(PATTERNS),
        _ => names = PATTERNS.to_vec(),
    }
    let mut options = SelectOptions::default();
    let mut text = path(rng, &names, 4);
    match rng.below(8) {
        0 => options.exclude = (0..1 + rng.below(2)).map(|_| ignore_line(rng)).collect(),
        1 | 2 => {
            options.parents = true;
            if rng.one_in(3) {
                text = format!("{text}/./{}", path(rng, &names, 2));
            }
        }
        3 => options.literal = true,
        _ => {}
    }
    (text, options)
}

/// The path of a source as plans have it: relative, and clean on each side of a pivot.
fn planned(text: &str, parents: bool) -> String {
    let clean = |text: &str| {
        let clean = TreePath::clean(text.as_bytes()).unwrap();
        String::from_utf8(clean.as_bytes().to_vec()).unwrap()
    };
    match text.split_once("/./").filter(|_| parents) {
        Some((before, after)) => format!("{}/./{}", clean(before), clean(after)),
        None => clean(text),
    }
}

/// What a build in which these sources stand has of the context.
fn walked(dir: &Path, ignore: &Ignore, sources: Option<&[&String]>) -> Stack {
    let wanted: Option<BTreeSet<String>> = sources.and_then(|sources| {
        let all: BTreeSet<String> = sources.iter().map(|text| planned(text, false)).collect();
        // All of a context is needed for the root.
        (!all.contains("")).then_some(all)
    });
    let wanted: Option<Vec<String>> = wanted.map(|wanted| wanted.into_iter().collect());
    let tree: Tree = walk_context(dir, ignore, wanted.as_deref(), &NoContentIndex).unwrap();
    Stack::new(vec![StackLayer { tree: tree.into(), files: LayerFiles::Live(dir.to_owned()) }])
}

/// All that a source selects, or why it does not; what it may be called instead is a matter of the
/// message.
fn selected(context: &Stack, source: &(String, SelectOptions), out: Option<&Path>) -> Vec<String> {
    let selection = match select(context, &source.0, &source.1) {
        Ok(selection) => selection,
        Err(CopyError::NotFound { path, .. }) => return vec![format!("there is no {path}")],
        Err(error) => return vec![error.to_string()],
    };
    let mut shown: Vec<String> = selection.items().map(|item| format!("{item:?}")).collect();
    if let Some(out) = out {
        fs::create_dir(out).unwrap();
        let sources = vec![Source::Selected { selection: &selection, unpack: false }];
        let form = OverlayFormat { flavor: OverlayFlavor::User, ownership: Ownership::BestEffort };
        match copy(&CopyRequest::new(sources, "/to/"), out, form) {
            // With times, but for those of directories that are made now.
            Ok(made) => shown.extend(made.tree.entries().iter().map(|entry| match entry.path.as_bytes() {
                b"" | b"to" => format!("{:?}", entry.path),
                _ => format!("{entry:?}"),
            })),
            Err(error) => shown.push(error.to_string()),
        }
    }
    shown
}

/// A directory that is gone after the test, in memory where there is such a place.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What is wrong with a case.
fn fault(case: &Case, with_copies: bool) -> Option<String> {
    let space = in_memory();
    let dir = space.path().join("context");
    fs::create_dir(&dir).unwrap();
    case.make(&dir.canonicalize().unwrap());
    let Ok(ignore) = Ignore::parse(case.ignore.as_bytes()) else { return None };
    let sources: Vec<(String, SelectOptions)> = case
        .sources
        .iter()
        .map(|(text, options)| (planned(text, options.parents), options.clone()))
        .collect();
    let all: Vec<&String> = sources.iter().map(|(text, _)| text).collect();
    let (beside, whole) = (walked(&dir, &ignore, Some(&all)), walked(&dir, &ignore, None));
    sources.iter().enumerate().find_map(|(number, source)| {
        let alone = walked(&dir, &ignore, Some(&[&source.0]));
        let look = |context: &Stack, name: &str| {
            let out = space.path().join(format!("{name}{number}"));
            selected(context, source, with_copies.then_some(&*out))
        };
        let expected = look(&whole, "whole");
        for (name, context) in [("alone", &alone), ("beside", &beside)] {
            let found = look(context, name);
            if found != expected {
                return Some(format!("{source:?} {name}: {found:#?}\nof all: {expected:#?}"));
            }
        }
        None
    })
}

fn run(seed: u64, mut go_on: impl FnMut(u64) -> bool) -> u64 {
    let mut count = 0;
    while go_on(count) {
        let mut rng = Rng(seed.wrapping_add(count).wrapping_mul(0x9e37_79b9));
        let mut case = Case::new(&mut rng);
        let with_copies = count.is_multiple_of(8);
        if fault(&case, with_copies).is_some() {
            shrink(&mut case, with_copies);
            let Case { files, ignore, sources } = &case;
            panic!(
                "DBUILD_PROPERTY_SEED={} fails: {files:#?}\nignored: {ignore:?}\n{sources:?}\n{}",
                seed.wrapping_add(count),
                fault(&case, with_copies).unwrap_or_default()
            );
        }
        count += 1;
    }
    count
}

/// Leaves out what the fault does not need.
fn shrink(case: &mut Case, with_copies: bool) {
    let mut at = 0;
    while at < case.files.len() {
        let line = case.files.remove(at);
        if fault(case, with_copies).is_none() {
            case.files.insert(at, line);
            at += 1;
        }
    }
    at = 0;
    while at < case.sources.len() {
        let source = case.sources.remove(at);
        if fault(case, with_copies).is_none() {
            case.sources.insert(at, source);
            at += 1;
        }
    }
    let ignore = std::mem::take(&mut case.ignore);
    if fault(case, with_copies).is_none() {
        case.ignore = ignore;
    }
}

#[test]
fn each_source_selects_what_it_selects_alone() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = variable("DBUILD_PROPERTY_SECONDS");
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
    let seed = variable("DBUILD_PROPERTY_SEED").unwrap_or_else(|| seconds.map_or(1, |_| now()));
    let began = Instant::now();
    let count = run(seed, |count| match seconds {
        Some(seconds) => began.elapsed() < Duration::from_secs(seconds),
        None => count < 500,
    });
    let _ = writeln!(std::io::stderr(), "{count} contexts from seed {seed} in {:?}", began.elapsed());
}

/// The generator makes what the property is about.
#[test]
fn generated_sources_go_through_links_and_find_things() {
    let (mut found, mut failed, mut through) = (0, 0, 0);
    for seed in 0..300 {
        let case = Case::new(&mut Rng(seed));
        let space = in_memory();
        case.make(&space.path().canonicalize().unwrap());
        let Ok(ignore) = Ignore::parse(case.ignore.as_bytes()) else { continue };
        let whole = walked(space.path(), &ignore, None);
        for (text, options) in &case.sources {
            match select(&whole, &planned(text, options.parents), options) {
                Ok(selection) if !selection.is_empty() => found += 1,
                Ok(_) => {}
                Err(_) => failed += 1,
            }
            let resolved = whole.resolve(text, true).ok().filter(|resolved| resolved.found.is_some());
            through +=
                usize::from(resolved.is_some_and(|resolved| resolved.path.to_string() != format!("/{text}")));
        }
    }
    assert!(found > 300 && failed > 100 && through > 50, "{found} {failed} {through}");
}
