//! The last lines of a build: what was made, what of it is shipped, what was left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use dbuild_digest::BlobDigest;
use dbuild_events::{Event, LeftResults, StartSeverity};
use dbuild_support::units::{Bytes, Seconds};

use crate::Labels;
use crate::columns::{columns, fit};

/// The totals of a build, read from its events. Its Display is the text.
#[derive(Debug, Default, Clone)]
pub struct Summary {
    labels: Labels,
    stages: BTreeMap<u32, StageBytes>,
    exports: Vec<Export>,
    starts: Vec<Starts>,
    /// Steps that ran, and those that were found. One that was found, and was damaged, ran.
    run: BTreeSet<u32>,
    cached: BTreeSet<u32>,
    imports: Imports,
    /// A line for each export to a cache of other machines.
    caches: Vec<String>,
    duration: Duration,
}

#[derive(Debug, Clone)]
struct StageBytes {
    base: u64,
    made: u64,
    shipped: u64,
    left: u64,
}

/// What was found out about the start of a target's image.
#[derive(Debug, Clone)]
struct Starts {
    stage: u32,
    line: String,
    more: bool,
}

#[derive(Debug, Clone)]
struct Export {
    output: String,
    names: Vec<String>,
    digest: Option<BlobDigest>,
    size: u64,
    unpacked: u64,
}

impl Summary {
    /// Takes one event of the build.
    pub fn learn(&mut self, event: &Event) {
        self.labels.learn(event);
        match event {
            Event::StepCached { step, .. } => drop(self.cached.insert(*step)),
            Event::RemoteHit { step, cache } => self.imports.hit(cache, *step),
            Event::RemoteLayerFetched { cache, bytes, .. } => self.imports.fetched(cache, *bytes),
            Event::CacheExported { cache, sent, bytes, present, left, .. } => {
                self.caches.push(export_line(cache, (*sent, *bytes), *present, left));
            }
            // The context is read every time: it is no step that could be cached.
            Event::StepFinished { step, .. }
                if self.labels.step(*step).is_none_or(|step| step.kind != "context") =>
            {
                self.run.insert(*step);
            }
            Event::StageSummary { stage, base_bytes, made_bytes, shipped_bytes, left_bytes, .. } => {
                let (base, made) = (*base_bytes, *made_bytes);
                let bytes = StageBytes { base, made, shipped: *shipped_bytes, left: *left_bytes };
                self.stages.insert(*stage, bytes);
            }
            Event::ExportFinished { output, names, digest, size, unpacked } => self.exports.push(Export {
                output: output.clone(),
                names: names.clone(),
                digest: *digest,
                size: *size,
                unpacked: *unpacked,
            }),
            Event::StartChecked { stage, line, findings, .. } => {
                self.starts.push(Starts {
                    stage: *stage,
                    line: line.clone(),
                    more: findings.iter().any(|finding| finding.severity > StartSeverity::Advice),
                });
            }
            Event::BuildFinished { duration_ms, .. } => self.duration = Duration::from_millis(*duration_ms),
            _ => {}
        }
    }

    /// All of a build at once.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut summary = Self::default();
        events.into_iter().for_each(|event| summary.learn(event));
        summary
    }
}

impl Summary {
    /// What is known of an image's start, wrapped: paths are never cut.
    fn start(&self, start: &Starts, width: usize) -> Vec<String> {
        let platform = self.labels.stages().find(|stage| stage.id == start.stage);
        let platform = platform.and_then(|stage| stage.platform.as_ref());
        let line = match platform {
            Some(platform) => format!("{platform} {}", start.line),
            None => start.line.clone(),
        };
        let mut lines = wrapped(&line, width);
        let name = self.exports.iter().find_map(|export| export.names.first());
        if let (Some(name), true) = (name, start.more) {
            let name = name.strip_prefix("docker.io/library/").unwrap_or(name);
            lines.push(format!("  `dbuild check {name}` says more"));
        }
        lines
    }
}

/// The words of a line on lines of so many columns; all but the first are indented.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if columns(line) + 1 + columns(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) => lines.push(format!("  {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.within(usize::MAX))
    }
}

impl Summary {
    /// The text for a terminal of so many columns. Where a name and its figures do not fit into one
    /// line, every stage takes two lines, or three; names of stages are only cut where they are
    /// longer than a line. Digests and names of images are never cut.
    pub fn within(&self, width: usize) -> String {
        let mut lines = Vec::new();
        let longest = self.labels.stages().map(|stage| columns(&stage.name)).max().unwrap_or(0);
        // Two spaces before and after the name, then the figures.
        let is_wide = width.saturating_sub(FIGURES + 4) >= longest;
        let two_lines = width >= FIGURES + 4;
        if self.labels.stages().count() > 0 && !self.stages.is_empty() {
            lines.push("stages:".to_owned());
        }
        for stage in self.labels.stages() {
            let skipped = !stage.reached;
            match self.stages.get(&stage.id) {
                None if !skipped => {}
                bytes if is_wide => {
                    let gap = longest - columns(&stage.name);
                    let text = bytes.map_or(SKIPPED.to_owned(), StageBytes::to_string);
                    lines.push(format!("  {}{:gap$}  {text}", stage.name, ""));
                }
                bytes => {
                    lines.push(format!("  {}", fit(&stage.name, width.saturating_sub(2))));
                    let short = if two_lines { StageBytes::to_string } else { StageBytes::short };
                    let text = bytes.map_or(SKIPPED.to_owned(), short);
                    lines.extend(
                        text.lines().map(|line| format!("    {}", fit(line, width.saturating_sub(4)))),
                    );
                }
            }
        }
        lines.extend(self.exports.iter().map(Export::to_string));
        lines.extend(self.starts.iter().flat_map(|start| self.start(start, width)));
        lines.extend(self.imports.lines());
        lines.extend(self.caches.iter().cloned());
        let (steps, cached) =
            (self.run.union(&self.cached).count(), self.cached.difference(&self.run).count());
        lines.push(format!("done in {}: {cached} of {steps} steps cached", Seconds(self.duration)));
        lines.join("\n")
    }
}

/// What was taken from caches of other machines, by cache.
#[derive(Debug, Clone, Default)]
struct Imports(BTreeMap<String, Import>);

#[derive(Debug, Clone, Default)]
struct Import {
    steps: BTreeSet<u32>,
    layers: u32,
    bytes: u64,
}

impl Imports {
    fn hit(&mut self, cache: &str, step: u32) {
        self.0.entry(cache.to_owned()).or_default().steps.insert(step);
    }

    fn fetched(&mut self, cache: &str, bytes: u64) {
        let import = self.0.entry(cache.to_owned()).or_default();
        import.layers += 1;
        import.bytes += bytes;
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(cache, Import { steps, layers, bytes })| {
            let fetched = match layers {
                0 => "no layer was fetched".to_owned(),
                layers => format!("{} fetched ({})", count(*layers, "layer"), Bytes(*bytes)),
            };
            format!("from cache {cache}: {}, {fetched}", count(steps.len() as u32, "result"))
        })
    }
}

/// The line of a summary about an export to a cache of other machines, of the event that tells of
/// it.
pub fn cache_export_line(event: &Event) -> Option<String> {
    match event {
        Event::CacheExported { cache, sent, bytes, present, left, .. } => {
            Some(export_line(cache, (*sent, *bytes), *present, left))
        }
        _ => None,
    }
}

/// A warning as one line, where an event is one.
pub fn warning_line(event: &Event) -> Option<String> {
    match event {
        Event::Warning { text, .. } => Some(format!("warning: {text}")),
        _ => None,
    }
}

/// What became of an export.
fn export_line(cache: &str, (sent, bytes): (u32, u64), present: u32, left: &[LeftResults]) -> String {
    let mut line = format!("to cache {cache}: {} sent ({})", count(sent, "result"), Bytes(bytes));
    if present > 0 {
        line.push_str(&format!(", {present} there already"));
    }
    for LeftResults { reason, count } in left {
        line.push_str(&format!(", {count} left: {reason}"));
    }
    line
}

fn count(count: u32, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The columns of a stage's figures.
const FIGURES: usize = 67;
const SKIPPED: &str = "SKIPPED: the target does not need it";

impl StageBytes {
    /// On lines of their own, for narrow terminals.
    fn short(&self) -> String {
        let Self { base, made, shipped, left } = *self;
        let base = if base > 0 { format!("base {} + ", Bytes(base)) } else { String::new() };
        format!("{base}made {}\nshipped {}, left {}", Bytes(made), Bytes(shipped), Bytes(left))
    }
}

impl fmt::Display for StageBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, made, shipped, left } = *self;
        if base > 0 {
            write!(f, "base {:>7} + ", Bytes(base))?;
        } else {
            write!(f, "{:15}", "")?;
        }
        write!(f, "made {:>7} -> shipped {:>7}, left behind {:>7}", Bytes(made), Bytes(shipped), Bytes(left))
    }
}

impl fmt::Display for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(digest) = &self.digest else {
            return write!(f, "output: {}, {}", self.output, Bytes(self.size));
        };
        match (self.names.is_empty(), self.output.as_str()) {
            (true, "type=image") => writeln!(f, "image:  (no name; give it one with -t)")?,
            (true, output) => writeln!(f, "image:  {output}")?,
            (false, "type=image") => writeln!(f, "image:  {}", self.names.join(", "))?,
            (false, output) => writeln!(f, "image:  {} ({output})", self.names.join(", "))?,
        }
        write!(f, "digest: {digest}\nsize:   {}", Bytes(self.size))?;
        match self.unpacked {
            0 => Ok(()),
            unpacked => write!(f, ", unpacked {}", Bytes(unpacked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use dbuild_digest::{BlobDigest, StepKey};
    use dbuild_events::{Event, Outcome, StageInfo, StartFinding, StartSeverity, StartVerdict};

    use super::Summary;

    #[test]
    fn a_stage_a_line_then_the_image() {
        let stage = |id, name: &str, reached| StageInfo {
            id,
            name: name.to_owned(),
            index: id,
            reached,
            ..StageInfo::default()
        };
        let key = StepKey::from_bytes([0; 32]);
        let sum = |stage, base_bytes, made_bytes, shipped_bytes, left_bytes| Event::StageSummary {
            stage,
            base_bytes,
            made_bytes,
            shipped_bytes,
            left_bytes,
            cached: 0,
            steps: 1,
        };
        let events = [
            Event::BuildStarted {
                build: "b".parse().unwrap(),
                targets: vec!["app".to_owned()],
                stages: vec![stage(0, "builder", true), stage(1, "docs", false), stage(2, "app", true)],
                steps: Vec::new(),
                strategy: "output".to_owned(),
            },
            Event::StepCached { step: 0, key, layer_bytes: 1, files: 1, snapshot: None },
            Event::StepFinished { step: 1, key, duration_ms: 5, layer_bytes: 1, files: 1, snapshot: None },
            sum(0, 412_000_000, 38_000_000, 12_000_000, 438_000_000),
            sum(2, 0, 12_000_000, 12_000_000, 0),
            Event::ExportFinished {
                output: "type=image".to_owned(),
                names: vec!["docker.io/library/app:latest".to_owned()],
                digest: Some(BlobDigest::of(b"")),
                size: 4_100_000,
                unpacked: 12_000_000,
            },
            Event::StartChecked {
                stage: 2,
                verdict: StartVerdict::WillNotStart,
                line: "will not start: app is in no directory of PATH".to_owned(),
                findings: vec![StartFinding {
                    severity: StartSeverity::WillNotStart,
                    ..StartFinding::default()
                }],
            },
            Event::BuildFinished { outcome: Outcome::Done, duration_ms: 1234 },
        ];
        assert_eq!(
            Summary::of(&events).to_string(),
            "stages:\n\
             \x20 builder  base   412MB + made  38.0MB -> shipped  12.0MB, left behind   438MB\n\
             \x20 docs     SKIPPED: the target does not need it\n\
             \x20 app                     made  12.0MB -> shipped  12.0MB, left behind      0B\n\
             image:  docker.io/library/app:latest\n\
             digest: sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n\
             size:   4.10MB, unpacked 12.0MB\n\
             will not start: app is in no directory of PATH\n\
             \x20 `dbuild check app:latest` says more\n\
             done in 1.23s: 1 of 2 steps cached"
        );
        for (width, longest) in [(200, 79), (80, 79), (79, 79), (78, 79), (40, 79)] {
            let text = Summary::of(&events).within(width);
            let lines = text.lines().filter(|line| !line.starts_with("digest: "));
            assert!(lines.clone().all(|line| line.chars().count() <= width.min(longest)), "{width}\n{text}");
        }
        assert!(Summary::of(&events).within(40).starts_with(
            "stages:\n  builder\n    base 412MB + made 38.0MB\n    shipped 12.0MB, left 438MB\n  docs\n    SKIPPED"
        ));
    }

    #[test]
    fn long_names_take_a_line_of_their_own_where_there_is_no_room() {
        let stage =
            StageInfo { name: "a-stage-with-a-long-name".to_owned(), reached: true, ..StageInfo::default() };
        let bytes = Event::StageSummary {
            stage: 0,
            base_bytes: 1,
            made_bytes: 1,
            shipped_bytes: 1,
            left_bytes: 1,
            cached: 0,
            steps: 1,
        };
        let another =
            StageInfo { id: 1, name: "a-stage-with-another-name".to_owned(), ..StageInfo::default() };
        let events = [
            Event::BuildStarted {
                build: "b".parse().unwrap(),
                targets: vec![stage.name.clone()],
                stages: vec![stage, another],
                steps: Vec::new(),
                strategy: "output".to_owned(),
            },
            bytes,
        ];
        for width in [80, 71] {
            assert!(
                Summary::of(&events).within(width).starts_with(
                    "stages:\n\
                     \x20 a-stage-with-a-long-name\n\
                     \x20   base      1B + made      1B -> shipped      1B, left behind      1B\n\
                     \x20 a-stage-with-another-name\n\
                     \x20   SKIPPED: the target does not need it\n"
                ),
                "names that begin alike stay apart\n{}",
                Summary::of(&events).within(width)
            );
        }
        for width in [20, 40, 70, 71, 80, 95, 96, 200] {
            let text = Summary::of(&events).within(width);
            assert!(
                text.lines()
                    .filter(|line| !line.starts_with("done"))
                    .all(|line| line.chars().count() <= width),
                "{text}"
            );
        }
        assert!(Summary::of(&events).to_string().contains("a-stage-with-a-long-name   base"));
    }
}
