//! The journal: the events of all builds.
//!
//! An emitter adds its event to what has gathered and goes on; one thread a build writes what has
//! gathered in one transaction, at the latest 50 ms after it happened. A process that is killed
//! loses those 50 ms of its journal, and nothing else. Progress within a step is shown and not
//! kept, and of each step's output the first 16 MiB are kept.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use dbuild_events::{BuildId, Event, EventSink, Outcome, Stamped};
use dbuild_support::io_context::IoContext as _;
use dbuild_support::time::now_ms;
use rusqlite::{OptionalExtension as _, Row};
use serde::{Deserialize, Serialize};

use crate::db::{int, uint};
use crate::{Store, StoreError};

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
    gathering: Arc<EventQueue>,
    thread: Option<JoinHandle<()>>,
}

/// Where emitters and the writer meet. The writer is woken for the first event of a batch and when
/// it need wait no longer, not for each: a build that changes nothing has as many events as others,
/// and little else to do.
#[derive(Debug, Default)]
struct EventQueue {
    gathered: Mutex<PendingEvents>,
    /// There is something for the writer.
    wanted: Condvar,
    /// The writer has taken or written something.
    done: Condvar,
}

#[derive(Debug, Default)]
struct PendingEvents {
    events: Vec<Stamped>,
    /// Number of events ever gathered, and of those written (or given up).
    emitted: u64,
    written: u64,
    /// Somebody waits until what has gathered is written.
    is_urgent: bool,
    /// Nothing more comes.
    is_closed: bool,
    /// The writer has ended; it takes nothing more.
    is_over: bool,
}

/// The longest that an event waits to be written.
const PATIENCE: Duration = Duration::from_millis(50);
/// With so many events the writer waits no longer.
const BATCH: usize = 512;
/// With so many the emitters wait for the writer.
const MOST_GATHERED: usize = 2 * BATCH;
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
        let gathering = Arc::new(EventQueue::default());
        let source = Arc::clone(&gathering);
        let writer = Writer { store: self.clone(), build: build.clone(), next: 0, logged: HashMap::new() };
        let thread =
            std::thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run(&source));
        let thread = thread.on("start the writer of", self.root().join("dbuild.db"))?;
        Ok(JournalWriter { gathering, thread: Some(thread) })
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
        let mut gathered = self.gathering.lock();
        let emitted = gathered.emitted;
        if !gathered.events.is_empty() {
            gathered.is_urgent = true;
            self.gathering.wanted.notify_one();
        }
        let is_pending = |gathered: &mut PendingEvents| gathered.written < emitted && !gathered.is_over;
        drop(self.gathering.done.wait_while(gathered, is_pending));
    }
}

impl EventSink for JournalWriter {
    fn emit(&self, event: Event) {
        if matches!(event, Event::StepProgress { .. } | Event::Unknown) {
            return;
        }
        let stamped = Stamped::now(event);
        let is_full =
            |gathered: &mut PendingEvents| gathered.events.len() >= MOST_GATHERED && !gathered.is_over;
        let gathered = self.gathering.done.wait_while(self.gathering.lock(), is_full);
        let mut gathered = gathered.unwrap_or_else(PoisonError::into_inner);
        if gathered.is_over {
            return;
        }
        gathered.events.push(stamped);
        gathered.emitted += 1;
        if matches!(gathered.events.len(), 1 | BATCH) {
            self.gathering.wanted.notify_one();
        }
    }
}

impl Drop for JournalWriter {
    fn drop(&mut self) {
        self.gathering.lock().is_closed = true;
        self.gathering.wanted.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl EventQueue {
    fn lock(&self) -> MutexGuard<'_, PendingEvents> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has gathered, after some patience. `None` when nothing more comes.
    fn take(&self) -> Option<Vec<Stamped>> {
        let is_idle = |gathered: &mut PendingEvents| gathered.events.is_empty() && !gathered.is_closed;
        let gathered = self.wanted.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
        let may_grow = |gathered: &mut PendingEvents| {
            gathered.events.len() < BATCH && !gathered.is_urgent && !gathered.is_closed
        };
        let waited = self.wanted.wait_timeout_while(gathered, PATIENCE, may_grow);
        let mut gathered = waited.unwrap_or_else(PoisonError::into_inner).0;
        gathered.is_urgent = false;
        let events = std::mem::take(&mut gathered.events);
        self.done.notify_all();
        (!events.is_empty()).then_some(events)
    }

    fn wrote(&self, count: usize) {
        self.lock().written += count as u64;
        self.done.notify_all();
    }
}

/// Lets nobody wait for a writer that has ended, however it did.
struct QueueEnd<'a>(&'a EventQueue);

impl Drop for QueueEnd<'_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.done.notify_all();
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
    fn run(mut self, source: &EventQueue) {
        let _ends = QueueEnd(source);
        while let Some(batch) = source.take() {
            let count = batch.len();
            self.write(batch);
            source.wrote(count);
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
