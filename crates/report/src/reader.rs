//! From the events of a build to what its readers see of it.

use std::collections::BTreeMap;

use dbuild_events::{Event, LogStream, Stamped, StepInfo};

use crate::labels::Labels;
use crate::model::{
    Build, Dockerfile, Export, Image, LogLine, Message, Pinned, Stage, StageBytes, Starts, State, Step,
};
use crate::timeline;

impl Build {
    /// The build that these events tell of.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Stamped>) -> Self {
        let mut reader = Reader::default();
        for stamped in events {
            reader.learn(stamped);
        }
        reader.finish()
    }
}

#[derive(Default)]
struct Reader {
    build: Build,
    labels: Labels,
    /// Lines that have no end yet, by step and stream.
    open: BTreeMap<(u32, bool), LogLine>,
}

impl Reader {
    fn learn(&mut self, stamped: &Stamped) {
        if self.build.started_ms == 0 {
            self.build.started_ms = stamped.at_ms;
        }
        let at = stamped.at_ms.saturating_sub(self.build.started_ms);
        self.build.duration_ms = self.build.duration_ms.max(at);
        self.labels.learn(&stamped.event);
        match &stamped.event {
            Event::BuildStarted { build, targets, stages, steps, strategy } => {
                self.build.id = build.to_string();
                self.build.targets.clone_from(targets);
                self.build.strategy.clone_from(strategy);
                self.build.stages = stages.iter().map(stage_of).collect();
                self.build.steps = steps.iter().map(|step| self.step_of(step)).collect();
            }
            Event::DockerfileRead { name, text } => {
                self.build.dockerfile = Some(Dockerfile { name: name.clone(), text: text.clone() });
            }
            Event::StageSkipped { stage, reason } => {
                if let Some(stage) = self.stage(*stage) {
                    stage.skipped = Some(reason.clone());
                }
            }
            Event::StageSummary { stage, base_bytes, made_bytes, shipped_bytes, left_bytes, .. } => {
                let (base, made) = (*base_bytes, *made_bytes);
                let bytes = StageBytes { base, made, shipped: *shipped_bytes, left: *left_bytes };
                if let Some(stage) = self.stage(*stage) {
                    stage.bytes = Some(bytes);
                }
            }
            Event::Warning { text, rule, line } => {
                self.message(true, text, rule.clone(), *line);
            }
            Event::Note { text } => self.message(false, text, None, None),
            Event::ImageAssembled { stage, layers } => {
                self.build.images.push(Image { stage: *stage, layers: layers.clone() });
            }
            Event::ExportFinished { output, names, digest, size, unpacked } => {
                self.build.exports.push(Export {
                    output: output.clone(),
                    names: names.clone(),
                    digest: *digest,
                    size: *size,
                    unpacked: *unpacked,
                });
            }
            Event::StartChecked { stage, verdict, line, findings } => self.build.starts.push(Starts {
                stage: *stage,
                verdict: *verdict,
                line: line.clone(),
                findings: findings.clone(),
            }),
            Event::BuildFinished { outcome, duration_ms } => {
                self.build.outcome = Some(*outcome);
                self.build.duration_ms = *duration_ms;
            }
            event => self.learn_step(event, at),
        }
    }

    fn learn_step(&mut self, event: &Event, at: u64) {
        match event {
            Event::StepLog { step, stream, text } => {
                return self.log(*step, *stream == LogStream::Stderr, text, at);
            }
            Event::StepFinished { step, .. }
            | Event::StepFailed { step, .. }
            | Event::StepCanceled { step } => {
                self.end_lines(*step);
            }
            _ => {}
        }
        let Some(step) = self.step_named(event) else { return };
        match event {
            Event::ImagePinned { reference, digest, layers, .. } => {
                let (reference, digest, layers) = (reference.clone(), *digest, layers.clone());
                step.image = Some(Pinned { reference, digest, layers });
            }
            Event::StepStarted { .. } => {
                step.state = State::Running;
                step.started_ms.get_or_insert(at);
            }
            Event::StepCached { key, layer_bytes, files, snapshot, .. } => {
                step.end(State::Cached, at);
                step.key = Some(key.to_string());
                (step.layer_bytes, step.files) = (*layer_bytes, *files);
                step.snapshot.clone_from(snapshot);
            }
            Event::StepExplained { reasons, differences, inputs, .. } => {
                step.changes.extend(inputs.iter().cloned());
                step.reasons.extend(reasons.iter().cloned());
                step.differences.extend(differences.iter().cloned());
            }
            Event::StepFinished { key, duration_ms, layer_bytes, files, snapshot, .. } => {
                step.end(State::Done, at);
                step.key = Some(key.to_string());
                // An image step can finish twice: it is downloaded, and it is unpacked.
                step.duration_ms += *duration_ms;
                (step.layer_bytes, step.files) = (*layer_bytes, *files);
                step.snapshot.clone_from(snapshot);
            }
            Event::StepFailed { error, .. } => {
                step.end(State::Failed, at);
                step.duration_ms = at.saturating_sub(step.started_ms.unwrap_or(at));
                step.error = Some(plain(error));
            }
            Event::StepCanceled { .. } => {
                step.end(State::Canceled, at);
                step.duration_ms = at.saturating_sub(step.started_ms.unwrap_or(at));
            }
            _ => {}
        }
    }

    fn step_named(&mut self, event: &Event) -> Option<&mut Step> {
        let id = match event {
            Event::ImagePinned { step, .. }
            | Event::StepStarted { step }
            | Event::StepCached { step, .. }
            | Event::StepExplained { step, .. }
            | Event::StepFinished { step, .. }
            | Event::StepFailed { step, .. }
            | Event::StepCanceled { step } => *step,
            _ => return None,
        };
        self.step(id)
    }

    fn step(&mut self, id: u32) -> Option<&mut Step> {
        self.build.steps.iter_mut().find(|step| step.id == id)
    }

    fn stage(&mut self, id: u32) -> Option<&mut Stage> {
        self.build.stages.iter_mut().find(|stage| stage.id == id)
    }

    fn step_of(&self, info: &StepInfo) -> Step {
        Step {
            id: info.id,
            stage: self.labels.is_of_stage(info.id).then_some(info.stage),
            label: self.labels.bracket(info.id),
            text: info.text.clone(),
            kind: info.kind.clone(),
            lines: info.line.map(|first| (first, info.last_line.unwrap_or(first).max(first))),
            inputs: info.inputs.clone(),
            ..Step::default()
        }
    }

    fn message(&mut self, warning: bool, text: &str, rule: Option<String>, line: Option<u32>) {
        self.build.messages.push(Message { warning, rule, line, text: plain(text) });
    }

    fn log(&mut self, step: u32, stderr: bool, text: &str, at: u64) {
        for piece in text.split_inclusive('\n') {
            let line = self.open.entry((step, stderr)).or_insert_with(|| LogLine {
                at_ms: at,
                stderr,
                text: String::new(),
            });
            line.text.push_str(piece);
            if piece.ends_with('\n')
                && let Some(line) = self.open.remove(&(step, stderr))
            {
                self.put_line(step, line);
            }
        }
    }

    fn end_lines(&mut self, step: u32) {
        for stderr in [false, true] {
            if let Some(line) = self.open.remove(&(step, stderr)) {
                self.put_line(step, line);
            }
        }
    }

    fn put_line(&mut self, step: u32, mut line: LogLine) {
        let ended = line.text.trim_end_matches(['\n', '\r']);
        line.text = plain(ended.rsplit('\r').next().unwrap_or_default());
        if let Some(step) = self.step(step) {
            step.log.push(line);
        }
    }

    fn finish(mut self) -> Build {
        let open: Vec<u32> = self.open.keys().map(|(step, _)| *step).collect();
        open.into_iter().for_each(|step| self.end_lines(step));
        timeline::complete(&mut self.build);
        self.build
    }
}

impl Step {
    fn end(&mut self, state: State, at: u64) {
        self.state = state;
        self.ended_ms = Some(at);
    }
}

fn stage_of(info: &dbuild_events::StageInfo) -> Stage {
    Stage {
        id: info.id,
        name: info.name.clone(),
        base: info.base.clone(),
        platform: info.platform.clone(),
        reached: info.reached,
        ..Stage::default()
    }
}

/// A text without the sequences that colour it or move a cursor.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Drops what follows an escape character: a control sequence, a string (the title of a window), or
/// one character.
fn skip_escape(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.next() {
        Some('[') => while chars.next().is_some_and(|c| !('\u{40}'..='\u{7e}').contains(&c)) {},
        Some(']' | 'P' | '_' | '^') => {
            while let Some(c) = chars.next() {
                if c == '\u{7}' || (c == '\u{1b}' && chars.next_if_eq(&'\\').is_some()) {
                    break;
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "tests/reader.rs"]
pub(crate) mod tests;
