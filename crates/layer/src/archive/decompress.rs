//! Decompression of streams that are known by their first bytes.

use std::io::{BufReader, Cursor, Read};

use crate::ArchiveError;

/// Decompresses a stream, which is known by its first bytes: gzip, zstd, bzip2, xz, or none of them
/// (taken as it is). Several compressed streams one after the other are one.
pub fn decompress<'a>(mut reader: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>, ArchiveError> {
    let mut magic = Vec::with_capacity(8);
    (&mut reader).take(8).read_to_end(&mut magic).map_err(ArchiveError::Read)?;
    let kind = Kind::of(&magic);
    let whole = Cursor::new(magic).chain(reader);
    let buffered = |whole| BufReader::with_capacity(128 << 10, whole);
    Ok(match kind {
        Kind::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered(whole))),
        Kind::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(buffered(whole)).map_err(ArchiveError::Read)?;
            // The largest window that decoders must know by default; more is memory in a stranger's
            // hands.
            decoder.window_log_max(27).map_err(ArchiveError::Read)?;
            Box::new(decoder)
        }
        Kind::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(whole))),
        Kind::Xz => {
            let memory = 512 << 20;
            let stream = liblzma::stream::Stream::new_stream_decoder(memory, liblzma::stream::CONCATENATED)
                .map_err(|error| ArchiveError::Read(error.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(buffered(whole), stream))
        }
        Kind::Plain => Box::new(whole),
    })
}

enum Kind {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
    Plain,
}

impl Kind {
    fn of(magic: &[u8]) -> Self {
        match magic {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // Skippable frames, with which some zstd streams begin.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::decompress;

    fn check(compressed: &[u8]) {
        let mut text = String::new();
        decompress(compressed).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello", "{:?}", &compressed[..4]);
    }

    fn twice(mut one: Vec<u8>, two: Vec<u8>) -> Vec<u8> {
        one.extend(two);
        one
    }

    #[test]
    fn every_compression_is_known_by_content_and_may_be_concatenated() {
        let gzip = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let bzip = |text: &[u8]| {
            let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let xz = |text: &[u8]| {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let zstd = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        check(b"hello");
        check(&twice(gzip(b"hel"), gzip(b"lo")));
        check(&twice(bzip(b"hel"), bzip(b"lo")));
        check(&twice(xz(b"hel"), xz(b"lo")));
        check(&twice(zstd(b"hel"), zstd(b"lo")));
    }

    #[test]
    fn a_cut_stream_is_an_error() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&[7; 5000]).unwrap();
        let whole = encoder.finish().unwrap();
        let mut bytes = Vec::new();
        assert!(decompress(&whole[..whole.len() - 9]).unwrap().read_to_end(&mut bytes).is_err());
    }
}
