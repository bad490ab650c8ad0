//! Zstandard with a bound on what comes out.

use std::io::Read;

use crate::Refusal;

const LEVEL: i32 = 3;

/// Compresses; equal bytes give equal bytes.
pub(crate) fn compress(bytes: &[u8]) -> Vec<u8> {
    // Writing to memory cannot fail.
    zstd::encode_all(bytes, LEVEL).unwrap_or_default()
}

/// Unpacks at most so many bytes.
pub(crate) fn decompress(bytes: &[u8], limit: u64, what: &'static str) -> Result<Vec<u8>, Refusal> {
    let damaged = |_| Refusal::Damaged(what);
    let decoder = zstd::Decoder::with_buffer(bytes).map_err(damaged)?;
    let mut unpacked = Vec::new();
    decoder.take(limit + 1).read_to_end(&mut unpacked).map_err(damaged)?;
    if unpacked.len() as u64 > limit {
        return Err(Refusal::TooLarge(what));
    }
    Ok(unpacked)
}
