//! The journal: the events of all builds.
//!
//! An emitter hands its event to a channel and goes on; one thread a build writes what has gathered in one transaction,
//! at the latest 50 ms after it happened. A process that is killed loses those 50 ms of its journal, and nothing else.
//! Progress within a step is shown and not kept, and of each step's output the first 16 MiB are kept.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension as _, Row};
use serde::{Deserialize, Serialize};

use crate::db::{int, uint};
use crate::event::now_ms;
use crate::{BuildId, Event, EventSink, Outcome, Stamped, Store, StoreError};

/// What a build is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildInfo {
    /// The Dockerfile, as the user named it.
    pub dockerfile: String,
    /// The context, as the user named it.
    pub context: String,
    /// The target stage; empty is the last one.
    pub target: String,
    /// The cache strategy.
    pub strategy: String,
    /// The names that the image is to get.
    #[serde(default)]
    pub names: Vec<String>,
}

/// A build as a listing shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSummary {
    /// Its id.
    pub id: BuildId,
    /// When it began, in milliseconds since 1970.
    pub started_ms: u64,
    /// When it ended. `None`: it runs, or its process was killed.
    pub finished_ms: Option<u64>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What it was asked for.
    #[serde(flatten)]
    pub info: BuildInfo,
}

/// Takes the events of one build. Everything is written when it is dropped.
#[derive(Debug)]
pub struct JournalWriter {
    sender: Mutex<Option<SyncSender<Message>>>,
    thread: Option<JoinHandle<()>>,
}

enum Message {
    Event(Box<Stamped>),
    Flush(SyncSender<()>),
}

/// The longest that an event waits to be written.
const PATIENCE: Duration = Duration::from_millis(50);
/// More events than this are not gathered, and as many may wait for the writer before emitters wait for it.
const BATCH: usize = 512;
/// So much of a step's output is kept.
const LOG_LIMIT: usize = 16 << 20;

impl Store {
    /// Notes that a build begins, and names it.
    pub fn begin_build(&self, info: &BuildInfo) -> Result<BuildId, StoreError> {
        let started = now_ms();
        let text = serde_json::to_string(info).unwrap_or_default();
        // 1024 builds a millisecond find a name of their own.
        let mut number = started << 8;
        loop {
            let id = BuildId::from_number(number);
            let inserted = self.inner.db.write(|db| {
                db.execute(
                    "INSERT OR IGNORE INTO builds (id, started_ms, info) VALUES (?1, ?2, ?3)",
                    (id.as_str(), int(started), &text),
                )
            })?;
            if inserted == 1 {
                return Ok(id);
            }
            number += 1;
        }
    }

    /// The writer of a build's events. A build has one.
    pub fn journal(&self, build: &BuildId) -> Result<JournalWriter, StoreError> {
        let (sender, receiver) = sync_channel(BATCH);
        let writer = Writer { store: self.clone(), build: build.clone(), next: 0, logged: HashMap::new() };
        let thread =
            std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run(&receiver));
        let thread = thread.map_err(|source| StoreError::Io {
            action: "start the writer of",
            path: self.root().join("dbuild.db"),
            source,
        })?;
        Ok(JournalWriter { sender: Mutex::new(Some(sender)), thread: Some(thread) })
    }

    /// The builds, the latest first, at most `limit`.
    pub fn builds(&self, limit: usize) -> Result<Vec<BuildSummary>, StoreError> {
        self.inner.db.read(|db| {
            let mut query =
                db.prepare_cached(&format!("SELECT {SUMMARY} FROM builds ORDER BY id DESC LIMIT ?1"))?;
            query.query_map([int(limit as u64)], summary)?.collect()
        })
    }

    /// A build by its id, by the beginning of its id, or the latest one (`None`).
    pub fn build(&self, id: Option<&str>) -> Result<BuildSummary, StoreError> {
        let prefix = id.unwrap_or_default();
        let found = self.inner.db.read(|db| {
            let query =
                format!("SELECT {SUMMARY} FROM builds WHERE substr(id, 1, ?2)=?1 ORDER BY id DESC LIMIT 1");
            db.prepare_cached(&query)?.query_row((prefix, int(prefix.len() as u64)), summary).optional()
        })?;
        found.ok_or_else(|| StoreError::NoSuchBuild { id: prefix.chars().take(64).collect() })
    }

    /// The events of a build, in order. What cannot be read is left out.
    pub fn events(&self, build: &BuildId) -> Result<Vec<Stamped>, StoreError> {
        let rows = self.inner.db.read(|db| {
            let mut query = db.prepare_cached("SELECT json FROM events WHERE build=?1 ORDER BY seq")?;
            query.query_map([build.as_str()], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()
        })?;
        Ok(rows.iter().filter_map(|json| serde_json::from_str(json).ok()).collect())
    }
}

impl JournalWriter {
    /// Returns when everything that was emitted so far is written (or could not be).
    pub fn flush(&self) {
        let (sender, receiver) = sync_channel(1);
        if self.send(Message::Flush(sender)) {
            let _ = receiver.recv();
        }
    }

    fn send(&self, message: Message) -> bool {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sender.is_some_and(|sender| sender.send(message).is_ok())
    }
}

impl EventSink for JournalWriter {
    fn emit(&self, event: Event) {
        if !matches!(event, Event::StepProgress { .. } | Event::Unknown) {
            self.send(Message::Event(Box::new(Stamped::now(event))));
        }
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        // The writer ends when nobody can send to it.
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread that writes.
struct Writer {
    store: Store,
    build: BuildId,
    next: u64,
    /// Bytes of output that were kept, by step.
    logged: HashMap<u32, usize>,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        while let Ok(first) = receiver.recv() {
            let deadline = Instant::now() + PATIENCE;
            let mut batch = Vec::new();
            let mut waiting = Vec::new();
            let mut take = |message: Message, batch: &mut Vec<Stamped>| match message {
                Message::Event(event) => batch.push(*event),
                Message::Flush(done) => waiting.push(done),
            };
            let mut flush = matches!(first, Message::Flush(_));
            take(first, &mut batch);
            while !flush && batch.len() < BATCH {
                match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(message) => {
                        flush = matches!(message, Message::Flush(_));
                        take(message, &mut batch);
                    }
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            self.write(batch);
            for done in waiting {
                let _ = done.send(());
            }
        }
    }

    fn write(&mut self, batch: Vec<Stamped>) {
        let rows: Vec<(u64, String)> = batch
            .iter()
            .filter_map(|stamped| self.kept(stamped))
            .map(|stamped| (stamped.at_ms, serde_json::to_string(&stamped).unwrap_or_default()))
            .collect();
        let finished = batch.iter().rev().find_map(|stamped| match &stamped.event {
            Event::BuildFinished { outcome, .. } => Some((stamped.at_ms, *outcome)),
            _ => None,
        });
        let (build, first) = (self.build.as_str(), self.next);
        let written = self.store.inner.db.write(|db| {
            let mut insert = db.prepare_cached(
                "INSERT OR REPLACE INTO events (build, seq, at_ms, json) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for (seq, (at_ms, json)) in (first..).zip(&rows) {
                insert.execute((build, int(seq), int(*at_ms), json))?;
            }
            if let Some((at_ms, outcome)) = finished {
                let outcome = serde_json::to_string(&outcome).unwrap_or_default();
                db.execute(
                    "UPDATE builds SET finished_ms=?2, outcome=?3 WHERE id=?1",
                    (build, int(at_ms), outcome),
                )?;
            }
            Ok(())
        });
        self.next += rows.len() as u64;
        if let Err(error) = written {
            self.store.warn(format!("the build's journal is incomplete: {error}"));
        }
    }

    /// The event as it is kept.
    fn kept(&mut self, stamped: &Stamped) -> Option<Stamped> {
        let Event::StepLog { step, stream, text } = &stamped.event else { return Some(stamped.clone()) };
        let logged = self.logged.entry(*step).or_default();
        if *logged > LOG_LIMIT {
            return None;
        }
        *logged += text.len();
        let text = if *logged > LOG_LIMIT {
            "\n[dbuild: the rest of this step's output is not kept]\n".to_owned()
        } else {
            text.clone()
        };
        let event = Event::StepLog { step: *step, stream: *stream, text };
        Some(Stamped { at_ms: stamped.at_ms, event })
    }
}

const SUMMARY: &str = "id, started_ms, finished_ms, outcome, info";

fn summary(row: &Row<'_>) -> rusqlite::Result<BuildSummary> {
    let outcome: Option<String> = row.get(3)?;
    let info: String = row.get(4)?;
    Ok(BuildSummary {
        id: BuildId::from_text(row.get(0)?),
        started_ms: uint(row.get(1)?),
        finished_ms: row.get::<_, Option<i64>>(2)?.map(uint),
        outcome: outcome.and_then(|outcome| serde_json::from_str(&outcome).ok()),
        info: serde_json::from_str(&info).unwrap_or_default(),
    })
}
