//! `--progress plain`: lines for logs. Each line names its step by a number, so that steps that run
//! side by side can be distinguished; nothing that a command wrote is clipped.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dbuild_events::{Event, EventSink};
use dbuild_report::Labels;
use dbuild_support::units::{Bytes, Seconds};

use super::lines::Lines;
use super::{View, brings_heading};

pub(crate) struct Plain<W>(Mutex<State<W>>);

struct State<W> {
    out: W,
    labels: Labels,
    lines: Lines,
    started: HashMap<u32, Instant>,
    /// The step whose line was written last: another one's header is repeated where they alternate.
    last: Option<u32>,
    /// Steps whose results another machine made, and the caches that have them.
    remote: HashMap<u32, String>,
}

impl<W: Write> Plain<W> {
    pub(crate) fn new(out: W) -> Self {
        let state = State {
            out,
            labels: Labels::default(),
            lines: Lines::default(),
            started: HashMap::new(),
            last: None,
            remote: HashMap::new(),
        };
        Self(Mutex::new(state))
    }
}

impl<W: Write + Send> EventSink for Plain<W> {
    fn emit(&self, event: Event) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that has gone does not stop the build.
        let _ = state.show(event);
    }
}

impl<W: Write + Send> View for Plain<W> {}

impl<W: Write> State<W> {
    fn show(&mut self, event: Event) -> std::io::Result<()> {
        self.labels.learn(&event);
        match event {
            Event::StepStarted { step } => {
                self.started.insert(step, Instant::now());
                self.header(step)
            }
            Event::StepCached { step, .. } => {
                self.header(step)?;
                match self.remote.get(&step).cloned() {
                    Some(cache) => self.line(step, &format!("CACHED in {cache}")),
                    None => self.line(step, "CACHED"),
                }
            }
            Event::RemoteHit { step, cache } => {
                self.remote.insert(step, cache);
                Ok(())
            }
            Event::StepLog { step, stream, text } => {
                let lines = self.lines.push(step, stream, &text);
                self.output(step, &lines)
            }
            Event::StepFinished { step, duration_ms, layer_bytes, .. } => {
                self.rest(step)?;
                let time = Seconds(Duration::from_millis(duration_ms));
                match layer_bytes {
                    0 => self.line(step, &format!("DONE {time}")),
                    bytes => self.line(step, &format!("DONE {time}, {} added", Bytes(bytes))),
                }
            }
            Event::StepFailed { step, error } => {
                self.rest(step)?;
                self.line(step, &format!("ERROR: {error}"))
            }
            Event::StepCanceled { step } if self.started.contains_key(&step) => {
                self.rest(step)?;
                self.line(step, "CANCELED")
            }
            Event::StageSkipped { stage, reason } => {
                let name = self.labels.stages().find(|info| info.id == stage).map(|info| info.name.clone());
                writeln!(self.out, "[{}] SKIPPED: {reason}", name.unwrap_or_default())
            }
            Event::Warning { text, rule, line } => match brings_heading(&rule, line) {
                true => writeln!(self.out, "{text}"),
                false => writeln!(self.out, "warning: {text}"),
            },
            Event::Note { text } => writeln!(self.out, "note: {text}"),
            Event::ExportStarted { output } => writeln!(self.out, "exporting {output}"),
            Event::BuildStarted { .. }
            | Event::DockerfileRead { .. }
            | Event::ImagePinned { .. }
            | Event::StepCanceled { .. }
            | Event::StepProgress { .. }
            | Event::StepExplained { .. }
            | Event::LayerPacked { .. }
            | Event::RemoteLayerFetched { .. }
            | Event::CacheExported { .. }
            | Event::ImageAssembled { .. }
            | Event::ExportFinished { .. }
            | Event::StageSummary { .. }
            | Event::StepKept { .. }
            | Event::StartChecked { .. }
            | Event::BuildFinished { .. }
            | Event::Unknown => Ok(()),
        }
    }

    fn header(&mut self, step: u32) -> std::io::Result<()> {
        self.last = Some(step);
        writeln!(self.out, "#{step} {}", self.labels.full(step))
    }

    fn line(&mut self, step: u32, text: &str) -> std::io::Result<()> {
        self.mark(step)?;
        writeln!(self.out, "#{step} {text}")
    }

    /// Where lines of several steps alternate, says whose turn it is.
    fn mark(&mut self, step: u32) -> std::io::Result<()> {
        if self.last.is_some_and(|last| last != step) {
            writeln!(self.out)?;
            self.header(step)?;
        }
        Ok(())
    }

    fn output(&mut self, step: u32, lines: &[String]) -> std::io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.mark(step)?;
        let at = self.started.get(&step).map_or(0.0, |start| start.elapsed().as_secs_f64());
        lines.iter().try_for_each(|line| writeln!(self.out, "#{step} {at:.3} {line}"))
    }

    fn rest(&mut self, step: u32) -> std::io::Result<()> {
        let lines = self.lines.finish(step);
        self.output(step, &lines)
    }
}
