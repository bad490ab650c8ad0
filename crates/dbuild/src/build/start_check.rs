//! The files of images and stages, as the question whether an image starts needs them.

use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use dbuild_digest::BlobDigest;
use dbuild_events::{Event, EventSink};
use dbuild_layer::{EntryKind, Stack, StackEntry, TreePath};
use dbuild_oci::{ImageConfig, Platform};
use dbuild_plan::{Plan, StageId};
use dbuild_scheduler::Built;
use dbuild_startcheck::{Files, Node, NodeKind, Start};
use dbuild_store::Store;

/// Layers on top of each other. Nothing is unpacked: files that are not, are unknown.
pub(crate) struct StackFiles {
    stack: Stack,
    /// The file that was read last: the parts of one are read one after the other.
    open: RefCell<Option<(String, File)>>,
}

impl StackFiles {
    pub(crate) fn new(stack: Stack) -> Self {
        Self { stack, open: RefCell::default() }
    }
}

impl Files for StackFiles {
    fn lookup(&self, path: &str) -> Option<Node> {
        let found = self.stack.lookup(&TreePath::clean(path.as_bytes()).ok()?)?;
        let (mode, uid, gid) = (found.entry.mode, found.entry.uid, found.entry.gid);
        Some(Node { kind: kind(&found), mode, uid, gid })
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let Ok(path) = TreePath::clean(dir.as_bytes()) else { return Vec::new() };
        let found = self.stack.read_dir(&path);
        let names = found.iter().filter_map(|found| found.entry.path.file_name());
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> Option<Vec<u8>> {
        let mut open = self.open.borrow_mut();
        if open.as_ref().is_none_or(|(known, _)| known != path) {
            let found = self.stack.lookup(&TreePath::clean(path.as_bytes()).ok()?)?;
            *open = Some((path.to_owned(), self.stack.open(&found).ok()?));
        }
        let (_, file) = open.as_ref()?;
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while filled < len {
            match file.read_at(&mut bytes[filled..], offset.checked_add(filled as u64)?) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        bytes.truncate(filled);
        Some(bytes)
    }
}

fn kind(found: &StackEntry<'_>) -> NodeKind {
    match found.kind() {
        EntryKind::File { size, .. } => NodeKind::File(*size),
        EntryKind::Dir { .. } => NodeKind::Dir,
        EntryKind::Symlink { target } => NodeKind::Link(String::from_utf8_lossy(target).into_owned()),
        _ => NodeKind::Other,
    }
}

/// Topic of the remembered results; its number changes with the analysis.
const TOPIC: &str = "starts 4";

/// Tells of each image that a build made whether it will start. An image that was looked at before
/// is not looked at again.
pub(crate) fn tell(store: &Store, plan: &Plan, built: &Built, events: &dyn EventSink) {
    for target in &built.targets {
        let stage = plan.stage(target.stage);
        let layers = target.layers.iter().map(|layer| layer.diff_id.to_string()).collect::<Vec<_>>();
        let Ok(known_by) = serde_json::to_vec(&(&stage.config, &stage.platform, layers)) else { continue };
        let key = BlobDigest::of(&known_by);
        let remembered = store.analysis(TOPIC, &key).and_then(|text| serde_json::from_str(&text).ok());
        if let Some(Event::StartChecked { verdict, line, findings, .. }) = remembered {
            events.emit(Event::StartChecked { stage: target.stage.0, verdict, line, findings });
            continue;
        }
        let Some(start) = of_build(plan, built, target.stage) else { continue };
        let event = start.event(target.stage.0);
        if let (true, Ok(text)) = (start.is_final(), serde_json::to_string(&event)) {
            store.put_analysis(TOPIC, &key, &text);
        }
        events.emit(event);
    }
}

/// Whether what a build made for a stage will start, with the stages that have what is missing.
/// Nothing is pulled or unpacked for it: `None` where that would be needed.
fn of_build(plan: &Plan, built: &Built, target: StageId) -> Option<Start> {
    let stage = plan.stage(target);
    let files = StackFiles::new(built.stack_if_present(stage.last?)?);
    let mut start = dbuild_startcheck::check(&stage.config, &stage.platform, &files);
    if start.findings.iter().any(|finding| finding.need.is_some()) {
        let others: Vec<(String, StackFiles)> = plan
            .stages()
            .iter()
            .enumerate()
            .filter(|(id, other)| *id != target.index() && other.platform == stage.platform)
            .filter_map(|(_, other)| {
                let stack = built.stack_if_present(other.last?)?;
                Some((copy_name(&other.name, other.index), StackFiles::new(stack)))
            })
            .collect();
        add_remedies(&mut start, &stage.config, &stage.platform, &files, &others);
    }
    Some(start)
}

/// How COPY names a stage: one without a name has its number.
pub(crate) fn copy_name(name: &str, index: u32) -> String {
    if name == format!("stage-{index}") { index.to_string() } else { name.to_owned() }
}

/// Adds which stage has what is missing. `others` are in the order of the Dockerfile.
pub(crate) fn add_remedies(
    start: &mut Start,
    config: &ImageConfig,
    platform: &Platform,
    files: &StackFiles,
    others: &[(String, StackFiles)],
) {
    // The last stages first: what they have is what was meant for the image.
    let others: Vec<dbuild_startcheck::Stage<'_>> = others
        .iter()
        .rev()
        .map(|(name, files)| dbuild_startcheck::Stage { name: name.clone(), files })
        .collect();
    dbuild_startcheck::add_remedies(start, config, platform, files, &others);
}
