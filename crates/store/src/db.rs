//! The database: connections, schema, seals, and what is done when it is damaged.
//!
//! SQLite finds damage of its own structures but not of the values in them, so every row that a
//! build would believe is *sealed*: it carries a hash of its key and its body, and a row whose seal
//! is broken is dropped and counts as a miss.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use dbuild_digest::Framed;
use dbuild_support::io_context::IoContext as _;
use dbuild_support::lock;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::{FORMAT, StoreError};

/// A pool of connections to one database file.
pub(crate) struct Db {
    path: PathBuf,
    state: Mutex<PoolState>,
    /// A connection was given back.
    returned: Condvar,
    /// SQLite lets one write at a time, and others sleep for milliseconds before they try again;
    /// the threads of one process wait here instead.
    writing: Mutex<()>,
    /// The store's lock is held by whoever opens the store.
    opening: AtomicBool,
}

struct PoolState {
    idle: Vec<Connection>,
    /// Number of connections in use.
    taken: usize,
    /// Number of threads that wait for one of these.
    waiting: usize,
    /// Grows when the database is replaced, so that connections to the old one are let go of.
    generation: u64,
    /// The file that the connections are to.
    file: Option<(u64, u64)>,
    warnings: Vec<String>,
}

/// `dbld`: tells our database from any other.
const APPLICATION_ID: i64 = 0x6462_6c64;
/// More connections than this are closed rather than kept.
const KEPT_CONNECTIONS: usize = 8;
/// A thread waits so long for a connection that others have before it opens one more: as long as
/// opening takes, which is ten times as long as most look-ups.
const PATIENCE: Duration = Duration::from_micros(200);

const SCHEMA: &str = "
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE snapshots (
    id TEXT PRIMARY KEY, size INTEGER NOT NULL, boot TEXT, created_ms INTEGER NOT NULL,
    last_used_ms INTEGER NOT NULL, hits INTEGER NOT NULL DEFAULT 0, clock REAL NOT NULL DEFAULT 0);
CREATE INDEX snapshots_boot ON snapshots (boot) WHERE boot IS NOT NULL;
CREATE TABLE chains (chain BLOB PRIMARY KEY, snapshot TEXT NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX chains_snapshot ON chains (snapshot);
CREATE TABLE records (
    key BLOB PRIMARY KEY, strategy TEXT NOT NULL, definition BLOB NOT NULL, layer BLOB NOT NULL, snapshot TEXT,
    created_ms INTEGER NOT NULL, duration_ms INTEGER NOT NULL, last_used_ms INTEGER NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0, text TEXT NOT NULL, body TEXT NOT NULL, seal BLOB NOT NULL);
CREATE INDEX records_definition ON records (definition, layer);
CREATE INDEX records_snapshot ON records (snapshot);
CREATE INDEX records_created ON records (strategy, created_ms);
CREATE TABLE ingredients (id TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE blobs (
    digest BLOB PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, boot TEXT,
    created_ms INTEGER NOT NULL, last_used_ms INTEGER NOT NULL);
CREATE INDEX blobs_boot ON blobs (boot) WHERE boot IS NOT NULL;
CREATE TABLE packed (
    snapshot TEXT NOT NULL, pack TEXT NOT NULL, digest BLOB NOT NULL, body TEXT NOT NULL, seal BLOB NOT NULL,
    PRIMARY KEY (snapshot, pack)) WITHOUT ROWID;
CREATE INDEX packed_digest ON packed (digest);
CREATE TABLE refs (
    reference TEXT NOT NULL, platform TEXT NOT NULL, body TEXT NOT NULL, seal BLOB NOT NULL,
    PRIMARY KEY (reference, platform)) WITHOUT ROWID;
CREATE TABLE tags (name TEXT PRIMARY KEY, descriptor TEXT NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE builds (id TEXT PRIMARY KEY, started_ms INTEGER NOT NULL, info TEXT NOT NULL, finished_ms INTEGER, outcome TEXT)
    WITHOUT ROWID;
CREATE TABLE events (
    build TEXT NOT NULL, seq INTEGER NOT NULL, at_ms INTEGER NOT NULL, json TEXT NOT NULL, PRIMARY KEY (build, seq))
    WITHOUT ROWID;
CREATE TABLE durations (definition BLOB PRIMARY KEY, duration_ms INTEGER NOT NULL) WITHOUT ROWID;
";

/// Tables that came later: made where they are missing, and of no interest to an older dbuild.
const LATER: &str = "
CREATE TABLE IF NOT EXISTS downloads (
    url BLOB PRIMARY KEY, used_ms INTEGER NOT NULL, body BLOB NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mounts (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL DEFAULT 0, measured_ms INTEGER NOT NULL DEFAULT 0,
    hits INTEGER NOT NULL DEFAULT 0, clock REAL NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS memos (
    topic TEXT NOT NULL, key BLOB NOT NULL, text TEXT NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (topic, key))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS members (
    content BLOB NOT NULL, level INTEGER NOT NULL, blob BLOB NOT NULL, start INTEGER NOT NULL, length INTEGER NOT NULL,
    seal BLOB NOT NULL, PRIMARY KEY (content, level)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_blob ON members (blob);
CREATE TABLE IF NOT EXISTS diff_ids (blob BLOB PRIMARY KEY, diff_id BLOB NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS traces (
    step BLOB NOT NULL, record BLOB NOT NULL, at_ms INTEGER NOT NULL, length INTEGER NOT NULL, body BLOB NOT NULL,
    seal BLOB NOT NULL, PRIMARY KEY (step, record)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hashed (digest BLOB PRIMARY KEY, at_ms INTEGER NOT NULL, seal BLOB NOT NULL) WITHOUT ROWID;
";

impl Db {
    /// Opens or makes the database. One that is damaged or not ours is moved aside, with a warning.
    /// The caller holds the store's lock until it calls [`Db::opened`].
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut warnings = Vec::new();
        let connection = match prepare(path) {
            Ok(connection) => connection,
            Err(OpenFailure::Error(error)) => return Err(error),
            Err(OpenFailure::Damaged(reason)) => replace(path, &reason, &mut warnings)?,
        };
        let state = PoolState {
            idle: vec![connection],
            taken: 0,
            waiting: 0,
            generation: 0,
            file: file_id(path),
            warnings,
        };
        Ok(Self {
            path: path.to_owned(),
            state: Mutex::new(state),
            returned: Condvar::new(),
            writing: Mutex::default(),
            opening: AtomicBool::new(true),
        })
    }

    /// The store's lock is free again.
    pub(crate) fn opened(&self) {
        self.opening.store(false, Ordering::Release);
    }

    pub(crate) fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.state().warnings)
    }

    /// Reads. A database that turns out to be damaged is replaced, and asked again.
    pub(crate) fn read<T>(
        &self,
        mut work: impl FnMut(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.with(|connection| work(connection))
    }

    /// Reads and writes in one transaction, which other writers wait for; otherwise as
    /// [`Db::read`].
    pub(crate) fn write<T>(
        &self,
        mut work: impl FnMut(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.follow();
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }

    /// Makes all transactions so far survive a crash of the machine.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let log = with_suffix(&self.path, "-wal");
        match fs::File::open(&log).and_then(|file| file.sync_data()) {
            // Then it has been copied into the database, which was synced.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => Ok(other.on("sync", &log)?),
        }
    }

    /// The files of the database.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        ["", "-wal", "-shm"].iter().map(|suffix| with_suffix(&self.path, suffix)).collect()
    }

    fn with<T>(&self, mut work: impl FnMut(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut again = true;
        loop {
            let (generation, idle) = self.take();
            let connected = idle.map_or_else(|| connect(&self.path), Ok);
            let mut taken = PooledConnection { db: self, generation, connection: None };
            let done = connected.and_then(|connection| work(taken.connection.insert(connection)));
            drop(taken);
            match done {
                Err(error) if is_damage(&error) && again => {
                    again = false;
                    self.recover(generation, &error)?;
                }
                other => {
                    return other.map_err(|source| StoreError::Database { path: self.path.clone(), source });
                }
            }
        }
    }

    /// A connection that is idle, or soon is.
    fn take(&self) -> (u64, Option<Connection>) {
        let are_at_work = |state: &mut PoolState| state.idle.is_empty() && state.taken > 0;
        let mut state = self.state();
        if are_at_work(&mut state) {
            state.waiting += 1;
            let waited = self.returned.wait_timeout_while(state, PATIENCE, are_at_work);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
        }
        state.taken += 1;
        (state.generation, state.idle.pop())
    }

    /// Another process may have replaced the database; what is written to the old one is lost.
    fn follow(&self) {
        let mut state = self.state();
        let there = file_id(&self.path);
        if there.is_some() && state.file != there {
            state.idle.clear();
            state.generation += 1;
            state.file = there;
        }
    }

    /// Replaces the database that failed, unless another thread or process has done so. Steps that
    /// are known are forgotten; the build goes on.
    fn recover(&self, failed: u64, error: &rusqlite::Error) -> Result<(), StoreError> {
        let path = self.path.with_file_name("lock");
        let lock = lock::open(&path).on("lock", &path)?;
        if !self.opening.load(Ordering::Acquire) {
            lock.lock().on("lock", &path)?;
        }
        let mut state = self.state();
        if state.generation != failed {
            return Ok(());
        }
        state.idle.clear();
        state.generation += 1;
        if state.file == file_id(&self.path) {
            let connection = replace(&self.path, &error.to_string(), &mut state.warnings)?;
            state.idle.push(connection);
        }
        state.file = file_id(&self.path);
        Ok(())
    }

    /// Replaces a database that was found damaged without an error of SQLite's.
    pub(crate) fn give_up(&self, reason: &str) -> Result<(), StoreError> {
        let generation = self.state().generation;
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        self.recover(generation, &rusqlite::Error::SqliteFailure(code, Some(reason.to_owned())))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection at work, or about to be opened. It is given back when this is dropped.
struct PooledConnection<'a> {
    db: &'a Db,
    generation: u64,
    connection: Option<Connection>,
}

impl Drop for PooledConnection<'_> {
    fn drop(&mut self) {
        let mut state = self.db.state();
        state.taken -= 1;
        let is_current = state.generation == self.generation && state.idle.len() < KEPT_CONNECTIONS;
        if let Some(connection) = self.connection.take_if(|one| is_current && one.is_autocommit()) {
            state.idle.push(connection);
        }
        if state.waiting > 0 {
            self.db.returned.notify_one();
        }
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Db({})", self.path.display())
    }
}

/// The seal of a row: a hash of the table, the key and the body.
pub(crate) fn seal(table: &'static str, key: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut framed = Framed::new("row", 1);
    framed.str(table).u64(key.len() as u64);
    for part in key {
        framed.bytes(part);
    }
    framed.bytes(body);
    framed.finish()[..12].to_vec()
}

/// Asks for what was just written. A bit that flipped in an index can make a row that nobody finds
/// again; such a database is damaged, though SQLite does not see it.
pub(crate) fn read_back(
    db: &Transaction<'_>,
    query: &str,
    key: impl rusqlite::Params,
) -> rusqlite::Result<()> {
    if db.prepare_cached(query)?.exists(key)? {
        return Ok(());
    }
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT_INDEX);
    Err(rusqlite::Error::SqliteFailure(code, Some("a row that was written cannot be found".to_owned())))
}

/// A number for SQLite, which knows no unsigned ones.
pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number from SQLite.
pub(crate) fn uint(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Why a database cannot be opened.
enum OpenFailure {
    Damaged(String),
    Error(StoreError),
}

impl OpenFailure {
    fn into_error(self, path: &Path) -> StoreError {
        match self {
            Self::Damaged(reason) => StoreError::Damaged { path: path.to_owned(), reason },
            Self::Error(error) => error,
        }
    }
}

/// Opens the file and makes sure that it has our schema.
fn prepare(path: &Path) -> Result<Connection, OpenFailure> {
    let judge = |error: rusqlite::Error| {
        if is_damage(&error) {
            OpenFailure::Damaged(error.to_string())
        } else {
            OpenFailure::Error(StoreError::Database { path: path.to_owned(), source: error })
        }
    };
    let connection = connect(path).map_err(judge)?;
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let application = number("PRAGMA application_id").map_err(judge)?;
    let version = number("PRAGMA user_version").map_err(judge)?;
    let tables = number("SELECT count(*) FROM sqlite_schema").map_err(judge)?;
    match (application, version) {
        (0, 0) if tables == 0 => {
            let create = format!(
                "BEGIN IMMEDIATE; {SCHEMA} {LATER} PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={FORMAT}; COMMIT;"
            );
            connection.execute_batch(&create).map_err(judge)?;
        }
        (APPLICATION_ID, version) if version > i64::from(FORMAT) => {
            let found = version.to_string();
            let newer = StoreError::NewerFormat { path: path.to_owned(), found, known: FORMAT };
            return Err(OpenFailure::Error(newer));
        }
        // Nothing is written where they are there.
        (APPLICATION_ID, 1) if tables >= SCHEMA.matches("CREATE ").count() as i64 => {
            connection.execute_batch(LATER).map_err(judge)?;
        }
        (APPLICATION_ID, _) => return Err(OpenFailure::Damaged("its tables are not ours".to_owned())),
        _ => return Err(OpenFailure::Damaged("it is another program's".to_owned())),
    }
    Ok(connection)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(20))?;
    // First: what is written before it is synced at once.
    connection.execute_batch("PRAGMA synchronous=NORMAL;")?;
    if fs::metadata(path).map_or(true, |meta| meta.len() == 0) {
        // Pages that are free can be given back to the file system without rewriting the file. Must
        // come before the first table; in a database that has some it is written again each time,
        // for nothing.
        connection.execute_batch("PRAGMA auto_vacuum=INCREMENTAL;")?;
    }
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; \
         PRAGMA temp_store=MEMORY; \
         PRAGMA wal_autocheckpoint=400; PRAGMA journal_size_limit=4194304; PRAGMA cell_size_check=ON;",
    )?;
    // Whoever closes last would copy the log into the database and sync both: milliseconds at the
    // end of every command. The log stays instead, and is copied when it has grown, as it is while
    // a store is in use.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // Or statements that could use a partial index are prepared again for each value that they are
    // asked with.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// SQLite says so, the schema is not ours (`no such table`), or a value is none that we would have
/// written.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    match error {
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) => true,
        error => match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => true,
            Some(ErrorCode::Unknown) => {
                let text = error.to_string();
                text.contains("no such ") || text.contains("malformed")
            }
            _ => false,
        },
    }
}

/// Moves a database aside, says so, and makes a new one.
fn replace(path: &Path, reason: &str, warnings: &mut Vec<String>) -> Result<Connection, StoreError> {
    let aside = with_suffix(path, &format!(".damaged-{}", crate::ids::unique()));
    for suffix in ["-wal", "-shm", ""] {
        let from = with_suffix(path, suffix);
        if from.exists() {
            fs::rename(&from, with_suffix(&aside, suffix)).on("move aside", &from)?;
        }
    }
    warnings.push(format!(
        "the database {} could not be used ({reason}); it was moved to {} and a new one was made: \
         steps run again, images are kept",
        path.display(),
        aside.display()
    ));
    prepare(path).map_err(|unusable| unusable.into_error(path))
}

fn file_id(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
