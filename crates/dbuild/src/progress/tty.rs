//! `--progress tty`: what is finished scrolls away above, what runs is redrawn below, each step
//! with its stage, its time and the last lines that it wrote.

use std::collections::{BTreeMap, VecDeque};
use std::io::Write as _;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use console::{Style, Term, measure_text_width, strip_ansi_codes, truncate_str};
use dbuild_events::{Event, EventSink};
use dbuild_report::Labels;
use dbuild_support::units::{Bytes, Seconds};

use super::lines::Lines;
use super::{View, brings_heading};

/// Redrawing more often costs time and shows nothing new.
const FRAME: Duration = Duration::from_millis(100);
/// Last lines of output below a running step, where there is room.
const TAIL: usize = 6;

/// The live view. A thread of its own draws, so that steps never wait for a terminal.
pub(crate) struct Tty {
    events: Mutex<Option<Sender<Event>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Tty {
    pub(crate) fn start() -> Arc<Self> {
        let (sender, receiver) = channel();
        let thread = std::thread::spawn(move || Screen::new(Term::stderr()).run(&receiver));
        Arc::new(Self { events: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }
}

impl EventSink for Tty {
    fn emit(&self, event: Event) {
        if let Some(sender) = &*self.events.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = sender.send(event);
        }
    }
}

impl View for Tty {
    fn close(&self) {
        drop(self.events.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

struct Running {
    since: Instant,
    tail: VecDeque<String>,
    progress: Option<String>,
}

struct Screen {
    term: Term,
    labels: Labels,
    lines: Lines,
    running: BTreeMap<u32, Running>,
    finished: usize,
    began: Instant,
    /// Lines that are complete and not on the screen yet.
    above: Vec<String>,
    /// What the last frame drew below them.
    drawn: Vec<String>,
}

impl Screen {
    fn new(term: Term) -> Self {
        Self {
            term,
            labels: Labels::default(),
            lines: Lines::default(),
            running: BTreeMap::new(),
            finished: 0,
            began: Instant::now(),
            above: Vec::new(),
            drawn: Vec::new(),
        }
    }

    fn run(mut self, events: &Receiver<Event>) {
        let mut next_frame = Instant::now();
        loop {
            match events.recv_timeout(next_frame.saturating_duration_since(Instant::now())) {
                Ok(event) => self.learn(event),
                Err(RecvTimeoutError::Timeout) => {
                    self.draw();
                    next_frame = Instant::now() + FRAME;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.running.clear();
        self.draw();
    }

    fn learn(&mut self, event: Event) {
        self.labels.learn(&event);
        match event {
            Event::StepStarted { step } => {
                let running = Running { since: Instant::now(), tail: VecDeque::new(), progress: None };
                self.running.insert(step, running);
            }
            Event::StepLog { step, stream, text } => {
                let lines = self.lines.push(step, stream, &text);
                let Some(running) = self.running.get_mut(&step) else { return };
                running.tail.extend(lines.iter().map(|line| printable(line)).filter(|line| !line.is_empty()));
                let surplus = running.tail.len().saturating_sub(TAIL);
                running.tail.drain(..surplus);
            }
            Event::StepProgress { step, what, current, total } => {
                let Some(running) = self.running.get_mut(&step) else { return };
                running.progress = Some(match total {
                    Some(total) => format!("{what} {} of {}", Bytes(current), Bytes(total)),
                    None => format!("{what} {}", Bytes(current)),
                });
            }
            Event::StepCached { step, .. } => self.end(step, "CACHED", Style::new().cyan(), None),
            Event::StepFinished { step, duration_ms, .. } => {
                self.end(step, "DONE", Style::new().green(), Some(Duration::from_millis(duration_ms)));
            }
            Event::StepFailed { step, .. } => {
                let time = self.running.get(&step).map(|running| running.since.elapsed());
                self.end(step, "ERROR", Style::new().red().bold(), time);
            }
            Event::StepCanceled { step } if self.running.contains_key(&step) => {
                self.end(step, "CANCELED", Style::new().yellow(), None);
            }
            Event::StageSkipped { stage, reason } => {
                let name = self.labels.stages().find(|info| info.id == stage).map(|info| info.name.clone());
                let word = Style::new().for_stderr().dim().apply_to("SKIPPED ").to_string();
                self.above.push(format!("{word} [{}] {reason}", name.unwrap_or_default()));
            }
            Event::Warning { text, rule, line } if brings_heading(&rule, line) => {
                self.above.extend(text.lines().map(str::to_owned));
            }
            Event::Warning { text, .. } => {
                let word = Style::new().for_stderr().yellow().apply_to("warning:").to_string();
                self.above.push(format!("{word} {text}"));
            }
            Event::Note { text } => self.above.push(format!("note: {text}")),
            _ => {}
        }
    }

    fn end(&mut self, step: u32, word: &str, style: Style, time: Option<Duration>) {
        self.running.remove(&step);
        self.lines.finish(step);
        self.finished += 1;
        let word = style.for_stderr().apply_to(format!("{word:8}")).to_string();
        self.above.push(self.step_line(&word, step, time));
    }

    /// One line about a step; the time stands at the right edge.
    fn step_line(&self, word: &str, step: u32, time: Option<Duration>) -> String {
        let width = self.width();
        let time = time.map(|time| Seconds(time).to_string()).unwrap_or_default();
        let room = width.saturating_sub(time.len() + 1);
        let label = console::measure_text_width(word) + 1;
        let text = self.labels.within(step, room.saturating_sub(label));
        // What the terminal counts otherwise is cut here.
        let text = truncate_str(&text, room.saturating_sub(label), "…").into_owned();
        let gap = room.saturating_sub(label + measure_text_width(&text));
        format!("{word} {text}{:gap$} {time}", "").trim_end().to_owned()
    }

    fn width(&self) -> usize {
        usize::from(self.term.size().1).max(20)
    }

    /// The lines of what runs now, fit into the terminal.
    fn frame(&self) -> Vec<String> {
        if self.running.is_empty() {
            return Vec::new();
        }
        let (height, width) = (usize::from(self.term.size().0).max(4), self.width());
        let dim = Style::new().for_stderr().dim();
        let mut frame = vec![format!(
            "[{}/{}] {}",
            self.finished,
            self.labels.step_count(),
            Seconds(self.began.elapsed())
        )];
        let shown = self.running.len().min(height - 2);
        let tail_room = (height - 2 - shown) / shown.max(1);
        let word = Style::new().for_stderr().bold().apply_to("RUNNING ").to_string();
        for (step, running) in self.running.iter().take(shown) {
            frame.push(self.step_line(&word, *step, Some(running.since.elapsed())));
            let from = running.tail.len().saturating_sub(tail_room.min(TAIL));
            for line in running.progress.iter().take(tail_room).chain(running.tail.iter().skip(from)) {
                let text = truncate_str(line, width.saturating_sub(12), "…").into_owned();
                frame.push(format!("         {}", dim.apply_to(format!("| {text}"))));
            }
        }
        if shown < self.running.len() {
            frame[0].push_str(&format!(", {} more running", self.running.len() - shown));
        }
        frame
    }

    fn draw(&mut self) {
        let frame = self.frame();
        if self.above.is_empty() && frame == self.drawn {
            return;
        }
        // A line that was as wide as the terminal takes more rows after the terminal became
        // narrower.
        let width = self.width();
        let rows: usize = self.drawn.iter().map(|line| measure_text_width(line).div_ceil(width).max(1)).sum();
        let mut out = String::new();
        if rows > 0 {
            out.push_str(&format!("\x1b[{rows}A"));
        }
        out.push_str("\r\x1b[J");
        for line in self.above.drain(..).chain(frame.iter().cloned()) {
            out.push_str(&line);
            out.push('\n');
        }
        self.drawn = frame;
        let mut term = &self.term;
        let _ = term.write_all(out.as_bytes());
        let _ = term.flush();
    }
}

/// A line of a command without what would move the cursor or change colours.
fn printable(line: &str) -> String {
    strip_ansi_codes(line)
        .chars()
        .map(|c| if c == '\t' { ' ' } else { c })
        .filter(|c| !c.is_control())
        .collect()
}
