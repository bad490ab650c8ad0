//! A blob that is read while it comes.
//!
//! One thread writes it ([`crate::BlobWriter`]); another follows and reads what is there so far,
//! from the memory that the file is still in. The writer never waits for the reader, so a slow
//! reader does not hold a connection, and no more of the blob is in memory than the buffers of
//! both. What is read is not verified until its end was read: the end is only there once the blob
//! is, with the digest that was expected.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use dbuild_digest::BlobDigest;

/// Where the writer and the reader of one blob meet. Clones are the same place.
///
/// A blob may be written several times until it is whole: each begin is an *attempt*, numbered from
/// 1. What was read of an earlier one is worth nothing.
#[derive(Clone, Debug, Default)]
pub struct Incoming(Arc<SharedIncoming>);

/// A blob that somebody is going to need.
#[derive(Clone, Debug)]
pub enum IncomingBlob {
    /// It is there; its digest and size.
    There(BlobDigest, u64),
    /// It is being written.
    Coming(Incoming),
}

#[derive(Debug, Default)]
struct SharedIncoming {
    state: Mutex<IncomingState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct IncomingState {
    attempt: u64,
    file: Option<Arc<File>>,
    written: u64,
    stage: IncomingStage,
    /// Digest of the blob, once it is whole.
    digest: Option<BlobDigest>,
    /// There will be no other attempt.
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum IncomingStage {
    /// Nothing was written yet, or what was written is given up.
    #[default]
    Nothing,
    Writing,
    /// The blob is whole and in the store.
    Whole,
}

impl Incoming {
    /// Waits for an attempt later than this one (0: for the first), to be read from its beginning.
    /// `None`: there will be none.
    pub fn next(&self, after: u64) -> Option<IncomingReader> {
        let mut state = self.lock();
        loop {
            if state.attempt > after
                && let Some(file) = &state.file
            {
                let (incoming, attempt) = (self.clone(), state.attempt);
                return Some(IncomingReader { incoming, attempt, file: Arc::clone(file), position: 0 });
            }
            if state.closed {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// Waits until it is known whether this attempt gives the blob.
    pub fn becomes_whole(&self, attempt: u64) -> bool {
        let mut state = self.lock();
        loop {
            match state.stage {
                _ if state.attempt != attempt => return false,
                IncomingStage::Whole => return true,
                IncomingStage::Nothing => return false,
                IncomingStage::Writing if state.closed => return false,
                IncomingStage::Writing => state = self.wait(state),
            }
        }
    }

    /// Says that nobody writes any more: what is not whole by now will not be.
    pub fn close(&self) {
        self.change(|state| state.closed = true);
    }

    pub(crate) fn begin(&self, file: File) {
        self.change(|state| {
            state.attempt += 1;
            (state.file, state.written, state.stage) = (Some(Arc::new(file)), 0, IncomingStage::Writing);
        });
    }

    pub(crate) fn written(&self, size: u64) {
        self.change(|state| state.written = size);
    }

    pub(crate) fn whole(&self, digest: BlobDigest) {
        self.change(|state| (state.stage, state.digest) = (IncomingStage::Whole, Some(digest)));
    }

    /// The writer goes away.
    pub(crate) fn ended(&self) {
        self.change(|state| {
            if state.stage != IncomingStage::Whole {
                (state.file, state.stage) = (None, IncomingStage::Nothing);
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut IncomingState)) {
        change(&mut self.lock());
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, IncomingState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, IncomingState>) -> MutexGuard<'a, IncomingState> {
        self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one attempt. Waits for bytes that have not come; fails where the attempt is given up. Its
/// end means that the blob is in the store, verified.
#[derive(Debug)]
pub struct IncomingReader {
    incoming: Incoming,
    attempt: u64,
    file: Arc<File>,
    position: u64,
}

impl IncomingReader {
    /// Which attempt it reads.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// Which blob it is; known once its end was read.
    pub fn digest(&self) -> Option<BlobDigest> {
        self.incoming.lock().digest
    }

    /// How many bytes can be read now; 0 at the end.
    fn ready(&self) -> io::Result<u64> {
        let mut state = self.incoming.lock();
        loop {
            let ready = state.written.saturating_sub(self.position);
            match state.stage {
                IncomingStage::Writing | IncomingStage::Whole
                    if state.attempt == self.attempt && ready > 0 =>
                {
                    return Ok(ready);
                }
                IncomingStage::Whole if state.attempt == self.attempt => return Ok(0),
                IncomingStage::Writing if state.attempt == self.attempt && !state.closed => {
                    state = self.incoming.wait(state);
                }
                _ => return Err(io::Error::other("it was given up")),
            }
        }
    }
}

impl Read for IncomingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let ready = usize::try_from(self.ready()?).unwrap_or(usize::MAX);
        if ready == 0 {
            return Ok(0);
        }
        let want = ready.min(buffer.len());
        let got = self.file.read_at(&mut buffer[..want], self.position)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += got as u64;
        Ok(got)
    }
}
