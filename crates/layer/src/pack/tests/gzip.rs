use std::collections::HashMap;
use std::io::{self, Read as _, Write};
use std::sync::Mutex;

use dbuild_digest::ContentDigest;

use super::{BLOCK, Sink, compress, compress_members};
use crate::{GzipBlockForm, GzipBlocks, LayerError, NoGzipBlocks, WrittenGzipBlock};

fn gzip(level: u32, threads: usize, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let produce = |sink: &mut dyn Sink| sink.write_all(bytes).map_err(LayerError::Output);
    compress(level, threads, &NoGzipBlocks, &mut out, produce).unwrap();
    out
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for byte in &mut bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *byte = state as u8;
    }
    bytes
}

fn text(length: usize) -> Vec<u8> {
    noise(length).iter().map(|byte| b"etaoin shrdlu\n"[usize::from(*byte) % 14]).collect()
}

#[test]
fn what_is_written_is_read_back() {
    let mut mixed = text(BLOCK + 77);
    mixed.extend(noise(BLOCK * 2));
    mixed.extend(text(3 * BLOCK));
    for bytes in
        [Vec::new(), text(1), text(BLOCK), text(BLOCK + 1), noise(BLOCK * 2), mixed, vec![0; BLOCK * 5]]
    {
        for level in [0, 1, 6, 9] {
            let mut back = Vec::new();
            let written = gzip(level, 3, &bytes);
            // Of several members it would read the first alone.
            let mut reader = flate2::bufread::GzDecoder::new(&written[..]);
            reader.read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{} bytes at level {level}", bytes.len());
            assert!(reader.into_inner().is_empty(), "{} bytes at level {level}", bytes.len());
        }
    }
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let mut bytes = [text(BLOCK * 3 + 5), noise(BLOCK), text(BLOCK)].concat();
    // A program, such as layers are full of: what one block leaves behind shows only in such bytes.
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    bytes.extend_from_slice(&program[..program.len().min(24 * BLOCK)]);
    for level in [1, 6] {
        let alone = gzip(level, 1, &bytes);
        for threads in [2, 3, 7] {
            assert!(gzip(level, threads, &bytes) == alone, "level {level}, {threads} threads");
        }
    }
}

#[test]
fn the_program_of_that_name_reads_it() {
    let bytes = [text(BLOCK * 2 + 9), noise(BLOCK)].concat();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), gzip(4, 2, &bytes)).unwrap();
    let read = std::process::Command::new("gzip").arg("-dc").stdin(file.reopen().unwrap()).output().unwrap();
    assert!(read.status.success() && read.stdout == bytes);
}

#[test]
fn noise_is_stored_and_text_shrinks() {
    let noisy = noise(BLOCK * 4);
    let written = gzip(6, 2, &noisy).len();
    assert!(written > noisy.len() && written < noisy.len() + noisy.len() / 5000 + 100, "{written}");
    let written = gzip(6, 2, &text(BLOCK * 4)).len();
    assert!(written < BLOCK * 5 / 2, "{written}");
}

struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_cause_of_a_failure_is_reported_and_nothing_hangs() {
    let bytes = text(BLOCK * 20);
    let produce = |sink: &mut dyn Sink| sink.write_all(&bytes).map_err(LayerError::Output);
    let error = compress(6, 2, &NoGzipBlocks, &mut Full, produce).unwrap_err();
    assert_eq!(error.io_error().map(io::Error::kind), Some(io::ErrorKind::StorageFull));
    let failed = compress(6, 2, &NoGzipBlocks, &mut Vec::new(), |sink| -> Result<(), LayerError> {
        sink.write_all(&bytes).map_err(LayerError::Output)?;
        Err(LayerError::Output(io::ErrorKind::InvalidData.into()))
    });
    assert_eq!(failed.unwrap_err().io_error().map(io::Error::kind), Some(io::ErrorKind::InvalidData));
}

/// What was written, by content and level, and how often it was found.
#[derive(Default)]
struct Kept {
    blocks: Mutex<HashMap<(ContentDigest, u32, GzipBlockForm), Vec<u8>>>,
    found: Mutex<usize>,
}

impl GzipBlocks for Kept {
    fn find(&self, content: &ContentDigest, level: u32, form: GzipBlockForm) -> Option<Vec<u8>> {
        let found = self.blocks.lock().unwrap().get(&(*content, level, form)).cloned()?;
        *self.found.lock().unwrap() += 1;
        Some(found)
    }

    fn written(&self, block: &WrittenGzipBlock<'_>) {
        let key = (block.content, block.level, block.form);
        self.blocks.lock().unwrap().insert(key, block.bytes.to_vec());
    }
}

#[test]
fn what_was_compressed_before_is_taken_from_there_and_gives_the_same_bytes() {
    let kept = Kept::default();
    let packed = |level, bytes: &[u8]| {
        let (mut out, before) = (Vec::new(), *kept.found.lock().unwrap());
        let produce = |sink: &mut dyn Sink| sink.write_all(bytes).map_err(LayerError::Output);
        compress(level, 2, &kept, &mut out, produce).unwrap();
        (out, *kept.found.lock().unwrap() - before)
    };
    let first = text(4 * BLOCK);
    assert_eq!(packed(6, &first), (gzip(6, 1, &first), 0));
    assert_eq!(packed(6, &first), (gzip(6, 1, &first), 4));
    assert_eq!(packed(1, &first), (gzip(1, 1, &first), 0), "another level is another block");
    let mut second = first.clone();
    second[BLOCK + 3] ^= 1;
    assert_eq!(packed(6, &second), (gzip(6, 1, &second), 3));
    // What is stored is not looked for, and what is small neither.
    let noisy = noise(3 * BLOCK);
    assert_eq!([packed(6, &noisy).1, packed(6, &noisy).1], [0, 0]);
    assert_eq!([packed(6, &first[..999]).1, packed(6, &first[..999]).1], [0, 0]);
}

#[test]
fn where_a_block_lies_is_where_its_bytes_are() {
    #[derive(Default)]
    struct Places(Mutex<Vec<(u64, Vec<u8>)>>);
    impl GzipBlocks for Places {
        fn find(&self, _: &ContentDigest, _: u32, _: GzipBlockForm) -> Option<Vec<u8>> {
            None
        }

        fn written(&self, block: &WrittenGzipBlock<'_>) {
            self.0.lock().unwrap().push((block.start, block.bytes.to_vec()));
        }
    }
    let bytes = [text(BLOCK * 2), noise(BLOCK), text(BLOCK)].concat();
    let produce = |sink: &mut dyn Sink| sink.write_all(&bytes).map_err(LayerError::Output);
    let (as_one, as_members) = (Places::default(), Places::default());
    let (mut one, mut members) = (Vec::new(), Vec::new());
    compress(6, 2, &as_one, &mut one, produce).unwrap();
    compress_members(6, 2, BLOCK, &as_members, &mut members, |feeder| produce(feeder)).unwrap();
    for (places, out) in [(as_one, one), (as_members, members)] {
        let places = places.0.into_inner().unwrap();
        assert_eq!(places.len(), 3);
        for (start, bytes) in places {
            assert!(out[start as usize..].starts_with(&bytes));
        }
    }
}

#[test]
fn a_cut_begins_a_block_and_an_empty_one_is_never_written() {
    let parts = |sink: &mut dyn Sink| {
        [b"one".as_slice(), b"", b"two"]
            .iter()
            .try_for_each(|part| sink.write_all(part).and_then(|()| sink.cut()).map_err(LayerError::Output))
    };
    let (mut members, mut alone) = (Vec::new(), Vec::new());
    let (_, offsets) =
        compress_members(6, 2, BLOCK, &NoGzipBlocks, &mut members, |feeder| parts(feeder)).unwrap();
    for part in [b"one", b"two"] {
        compress_members(6, 1, BLOCK, &NoGzipBlocks, &mut alone, |feeder| {
            feeder.write_all(part).map_err(LayerError::Output)
        })
        .unwrap();
    }
    assert_eq!((members.len() as u64, offsets.len()), (*offsets.last().unwrap(), 3));
    assert_eq!(members, alone);
    let mut one = Vec::new();
    compress(6, 2, &NoGzipBlocks, &mut one, |sink| parts(sink)).unwrap();
    let mut back = String::new();
    flate2::bufread::GzDecoder::new(&one[..]).read_to_string(&mut back).unwrap();
    assert_eq!(back, "onetwo");
}

/// RFC 1952 has the length modulo 2^32, and the checksum is one of all blocks.
#[test]
fn the_end_of_a_member_is_made_of_all_blocks() {
    let block = vec![7; 1 << 20];
    let mut whole = crc32fast::Hasher::new();
    let mut of_block = crc32fast::Hasher::new();
    of_block.update(&block);
    let count = (5_u64 << 30) / (1 << 20);
    for _ in 0..count {
        whole.combine(&of_block);
    }
    let length = super::trailer(&whole)[4..].to_vec();
    assert_eq!(length, 0x4000_0000_u32.to_le_bytes());
    let mut read = crc32fast::Hasher::new();
    (0..3).for_each(|_| read.update(&block));
    let mut joined = crc32fast::Hasher::new();
    (0..3).for_each(|_| joined.combine(&of_block));
    assert_eq!(super::trailer(&joined), super::trailer(&read));
}

/// The bytes of a layer must not move without a reason: these are their digests, with every kind of
/// block. A change here gives every image that is built anew another digest.
#[test]
fn the_bytes_are_those_of_the_version_before() {
    let bytes = [text(BLOCK * 2 + 5), noise(BLOCK), text(100), vec![0; BLOCK]].concat();
    let digests: Vec<String> = [1, 4, 9]
        .iter()
        .map(|level| dbuild_digest::BlobDigest::of(&gzip(*level, 2, &bytes)).hex()[..16].to_owned())
        .collect();
    assert_eq!(digests, ["625be586180296b9", "447ab904d6669cb3", "48014caccdbdd824"]);
}
