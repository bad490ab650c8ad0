//! Hashing the contents of files while they are read, a large one by several threads.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use dbuild_digest::{ContentDigest, ContentHasher, ContentPart};

use crate::disk::threads;

/// From this size on a file is read and hashed by several threads: it takes as long as some ten
/// threads to start.
const LARGE: u64 = 4 << 20;
/// How much of a smaller file is read at once.
const PIECE: usize = 1 << 20;
/// Runs of zeros of this length become holes.
const HOLE: usize = 32 << 10;

/// Where to write what is read, and whether long runs of zeros become holes there.
pub(crate) type Copy<'a> = Option<(&'a File, bool)>;

/// Reads a file to its end, which is expected at `size`, hashing what is read and, with `to`,
/// writing it: the digest is of the bytes that were copied.
pub(crate) fn hash_bytes(from: &File, size: u64, to: Copy<'_>) -> io::Result<(u64, ContentDigest)> {
    if size >= LARGE {
        if let Some(content) = hash_parts(from, size, to)? {
            return Ok((size, content));
        }
        // Another size than expected: somebody writes to it. From the beginning, and with what was
        // copied gone.
        if let Some((file, _)) = to {
            file.set_len(0)?;
        }
    }
    hash_whole(from, size, to)
}

fn hash_whole(mut from: &File, size: u64, to: Copy<'_>) -> io::Result<(u64, ContentDigest)> {
    // One byte more than expected, so that most files take one read and the end another.
    let room = usize::try_from(size.saturating_add(1)).unwrap_or(usize::MAX).clamp(1 << 12, PIECE);
    let mut buffer = vec![0_u8; room];
    let mut hasher = ContentHasher::default();
    let mut total = 0_u64;
    loop {
        let filled = fill(&mut buffer, |rest, _| from.read(rest))?;
        let chunk = &buffer[..filled];
        hasher.update(chunk);
        write_chunk(to, total, chunk)?;
        total += filled as u64;
        if filled < buffer.len() {
            break;
        }
    }
    if let Some((file, true)) = to {
        file.set_len(total)?;
    }
    Ok((total, hasher.finish()))
}

/// `None` if the file has another size.
fn hash_parts(from: &File, size: u64, to: Copy<'_>) -> io::Result<Option<ContentDigest>> {
    let count = usize::try_from(size.div_ceil(ContentPart::LENGTH as u64)).unwrap_or(usize::MAX);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; ContentPart::LENGTH];
        let mut hashed = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(Some(hashed));
            }
            match hash_part(from, size, number, &mut buffer, to) {
                Ok(Some(part)) => hashed.push((number, part)),
                // Nor need the others go on.
                given_up => {
                    next.store(count, Ordering::Relaxed);
                    return given_up.map(|_| None);
                }
            }
        }
    };
    let by_thread: Vec<io::Result<Option<Vec<_>>>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads()).map(|_| scope.spawn(work)).collect();
        let own = work();
        let joined = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(joined).collect()
    });
    let mut hashed = Vec::with_capacity(count);
    for parts in by_thread {
        let Some(parts) = parts? else { return Ok(None) };
        hashed.extend(parts);
    }
    if from.read_at(&mut [0], size)? > 0 {
        return Ok(None);
    }
    if let Some((file, true)) = to {
        file.set_len(size)?;
    }
    hashed.sort_unstable_by_key(|(number, _)| *number);
    let parts: Vec<ContentPart> = hashed.into_iter().map(|(_, part)| part).collect();
    Ok(ContentDigest::of_parts(&parts))
}

/// One part of a file. `None` if the file ends within it.
fn hash_part(
    from: &File,
    size: u64,
    number: usize,
    buffer: &mut [u8],
    to: Copy<'_>,
) -> io::Result<Option<ContentPart>> {
    let start = number as u64 * ContentPart::LENGTH as u64;
    let length = usize::try_from(size - start).unwrap_or(usize::MAX).min(ContentPart::LENGTH);
    let chunk = &mut buffer[..length];
    if fill(chunk, |rest, filled| from.read_at(rest, start + filled as u64))? < length {
        return Ok(None);
    }
    write_chunk(to, start, chunk)?;
    Ok(Some(ContentPart::of(number as u64, chunk)))
}

/// Fills a buffer as far as there is something. The reader gets the number of bytes that are there
/// already.
fn fill(buffer: &mut [u8], mut read: impl FnMut(&mut [u8], usize) -> io::Result<usize>) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(&mut buffer[filled..], filled) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn write_chunk(to: Copy<'_>, at: u64, chunk: &[u8]) -> io::Result<()> {
    match to {
        None => Ok(()),
        Some((file, false)) => file.write_all_at(chunk, at),
        Some((file, true)) => (at..).step_by(HOLE).zip(chunk.chunks(HOLE)).try_for_each(|(at, part)| {
            match part.iter().any(|byte| *byte != 0) {
                true => file.write_all_at(part, at),
                false => Ok(()),
            }
        }),
    }
}

#[cfg(test)]
#[path = "tests/hash.rs"]
mod tests;
