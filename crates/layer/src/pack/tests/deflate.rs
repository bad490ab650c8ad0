use std::io::Read as _;

use libdeflater::{CompressionLvl, Compressor};
use proptest::prelude::*;

use super::{END, MOST_APPENDED, open};

/// One of the levels, the bytes as a whole deflate stream.
fn deflated(level: i32, bytes: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::new(level).unwrap());
    let mut out = vec![0; compressor.deflate_compress_bound(bytes.len())];
    let count = compressor.deflate_compress(bytes, &mut out).unwrap();
    out.truncate(count);
    out
}

/// zlib's, which ends its streams in other ways than libdeflate.
fn deflated_by_zlib(level: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::DeflateEncoder::new(bytes, flate2::Compression::new(level)).read_to_end(&mut out).unwrap();
    out
}

/// Reads one stream and asserts that nothing follows it.
fn inflated(stream: &[u8]) -> Vec<u8> {
    let (mut back, mut reader) = (Vec::new(), flate2::bufread::DeflateDecoder::new(stream));
    reader.read_to_end(&mut back).unwrap();
    assert!(reader.into_inner().is_empty());
    back
}

/// Opens streams, joins them and reads them as one.
fn assert_joined(parts: &[(Vec<u8>, Vec<u8>)]) {
    let (mut joined, mut expected) = (Vec::new(), Vec::new());
    for (stream, bytes) in parts {
        let mut opened = stream.clone();
        open(&mut opened).unwrap_or_else(|| panic!("{} bytes are not opened", bytes.len()));
        assert!(opened.len() <= stream.len() + MOST_APPENDED);
        joined.extend_from_slice(&opened);
        expected.extend_from_slice(bytes);
    }
    joined.extend_from_slice(&END);
    assert!(inflated(&joined) == expected);
}

/// Bytes of which many blocks with codes of their own are made: runs, words and noise.
fn mixed(seed: u64, length: usize) -> Vec<u8> {
    let (mut bytes, mut state) = (Vec::with_capacity(length), seed | 1);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let count = (state >> 40) as usize % 900;
        match state % 5 {
            0 => bytes.extend(std::iter::repeat_n((state >> 8) as u8, count)),
            1 => bytes.extend((0..count).map(|at| (state >> (at % 57)) as u8)),
            2 => bytes.extend_from_within(bytes.len().saturating_sub(count)..),
            kind => bytes.extend(
                (0..count).map(|at| b'a' + ((at as u64).wrapping_mul(state) >> (kind + 30)) as u8 % 26),
            ),
        }
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn every_kind_of_last_block_is_opened() {
    let mut parts = Vec::new();
    for bytes in [
        b"".to_vec(),
        b"a".to_vec(),
        b"abcabcabcabcabc".to_vec(),
        vec![0; 300_000],
        mixed(1, 70_000),
        mixed(2, 512 << 10),
        (0..=255).cycle().take(9000).collect(),
    ] {
        for level in [0, 1, 4, 6, 9, 12] {
            parts.push((deflated(level, &bytes), bytes.clone()));
        }
        for level in [0, 1, 6] {
            parts.push((deflated_by_zlib(level, &bytes), bytes.clone()));
        }
    }
    assert_joined(&parts);
}

#[test]
fn this_program_and_its_sources_are_opened() {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let parts = program.chunks(512 << 10).take(24).map(|part| (deflated(4, part), part.to_vec()));
    assert_joined(&parts.collect::<Vec<_>>());
}

#[test]
fn what_is_no_stream_is_refused() {
    for bytes in [b"".as_slice(), b"\x07", b"\xff\xff\xff\xff", b"\x04\xff\xff", b"\x01\x05\x00\xfa\xff"] {
        assert!(open(&mut bytes.to_vec()).is_none(), "{bytes:?}");
    }
    let stream = deflated(6, &mixed(3, 100_000));
    for end in [1, 5, 100, stream.len() / 2] {
        assert!(open(&mut stream[..end].to_vec()).is_none(), "{end} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_are_joined(parts in prop::collection::vec((any::<u64>(), 0..120_000_usize, 1..=12_i32), 1..5)) {
        let streams: Vec<_> = parts
            .iter()
            .map(|(seed, length, level)| {
                let bytes = mixed(*seed, *length);
                (deflated(*level, &bytes), bytes)
            })
            .collect();
        assert_joined(&streams);
    }

    #[test]
    fn noise_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let _ = open(&mut bytes);
    }
}
