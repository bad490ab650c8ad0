//! The table of contents of an eStargz layer: JSON, written while the layer is.
//!
//! Where a member begins is known when it has been compressed, which is after its entry was
//! written: so room is left for the number, and blanks before a number are JSON too.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dbuild_digest::BlobDigest;
use dbuild_support::time::rfc3339;
use serde::Serialize;

use crate::archive::tar_reader::{self, Header};
use crate::{ArchiveError, Mtime};

/// Room for an offset, in digits: 10 TB.
const ROOM: usize = 13;
/// What RFC 3339 can say: the years 0 to 9999.
const YEARS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

/// See the module.
pub(crate) struct Toc {
    json: Vec<u8>,
    /// Where offsets go, and of which members.
    rooms: Vec<(usize, usize)>,
    is_empty: bool,
}

/// A piece of a file, which is the beginning of a member.
pub(crate) struct Chunk {
    pub(crate) member: usize,
    pub(crate) size: u64,
    pub(crate) digest: BlobDigest,
}

/// An entry as it is written, but for its offset.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct TocEntry<'a> {
    name: Cow<'a, str>,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    modtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_name: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_major: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev_minor: Option<u32>,
    /// Values in base64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: BTreeMap<Cow<'a, str>, String>,
    /// Digest of the whole file.
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<BlobDigest>,
    #[serde(skip_serializing_if = "is_zero")]
    chunk_offset: u64,
    /// 0 for the last chunk of a file.
    #[serde(skip_serializing_if = "is_zero")]
    chunk_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk_digest: Option<BlobDigest>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The format's word for what an entry of a tar is.
pub(crate) fn kind_of(header: &Header) -> Result<&'static str, ArchiveError> {
    Ok(match header.kind {
        // In the old format a directory is a file with a slash at the end.
        0 | b'0' | b'7' if header.name.ends_with(b"/") => "dir",
        0 | b'0' | b'7' => "reg",
        b'1' => "hardlink",
        b'2' => "symlink",
        b'3' => "char",
        b'4' => "block",
        b'5' => "dir",
        b'6' => "fifo",
        other => {
            let why = format!("has the type `{}`, which eStargz does not know", other.escape_ascii());
            return Err(ArchiveError::Refused { name: tar_reader::shown(&header.name), why });
        }
    })
}

impl Toc {
    pub(crate) fn new() -> Self {
        Self { json: br#"{"version":1,"entries":["#.to_vec(), rooms: Vec::new(), is_empty: true }
    }

    /// An entry without bytes.
    pub(crate) fn other(&mut self, header: &Header, kind: &'static str) {
        self.push(&TocEntry::of(header, kind), None);
    }

    /// A file with bytes, in the order of its chunks. Its digest, if there are several.
    pub(crate) fn file(&mut self, header: &Header, chunks: &[Chunk], digest: Option<BlobDigest>) {
        let size = chunks.iter().map(|chunk| chunk.size).sum();
        let mut at = 0;
        for (number, chunk) in chunks.iter().enumerate() {
            let mut entry = match number {
                0 => TocEntry {
                    size,
                    digest: Some(digest.unwrap_or(chunk.digest)),
                    ..TocEntry::of(header, "reg")
                },
                _ => TocEntry {
                    name: String::from_utf8_lossy(&header.name),
                    kind: "chunk",
                    ..TocEntry::default()
                },
            };
            entry.chunk_offset = at;
            entry.chunk_size = if number + 1 == chunks.len() { 0 } else { chunk.size };
            entry.chunk_digest = Some(chunk.digest);
            self.push(&entry, Some(chunk.member));
            at += chunk.size;
        }
    }

    /// The JSON, when it is known where the members begin.
    pub(crate) fn finish(mut self, offsets: &[u64]) -> Vec<u8> {
        for (at, member) in self.rooms {
            let offset = offsets.get(member).copied().unwrap_or(0);
            self.json[at..at + ROOM].copy_from_slice(format!("{offset:>ROOM$}").as_bytes());
        }
        self.json.extend_from_slice(b"]}");
        self.json
    }

    fn push(&mut self, entry: &TocEntry<'_>, member: Option<usize>) {
        if !std::mem::take(&mut self.is_empty) {
            self.json.push(b',');
        }
        // Nothing here can fail: keys are strings, and memory takes what is written.
        self.json.extend_from_slice(&serde_json::to_vec(entry).unwrap_or_default());
        if let Some(member) = member {
            self.json.pop();
            self.json.extend_from_slice(br#","offset":"#);
            self.rooms.push((self.json.len(), member));
            self.json.extend_from_slice(&[b' '; ROOM]);
            self.json.push(b'}');
        }
    }
}

impl<'a> TocEntry<'a> {
    fn of(header: &'a Header, kind: &'static str) -> Self {
        let is_device = matches!(kind, "char" | "block");
        let is_link = matches!(kind, "symlink" | "hardlink");
        let time = Mtime { nanos: 0, ..header.mtime };
        let xattrs = header.xattrs.iter();
        Self {
            name: String::from_utf8_lossy(&header.name),
            kind,
            modtime: YEARS.contains(&time.secs).then(|| rfc3339(time.secs, time.nanos)),
            link_name: is_link.then(|| String::from_utf8_lossy(&header.link)),
            mode: Some(header.mode),
            uid: Some(header.uid),
            gid: Some(header.gid),
            dev_major: is_device.then_some(header.device.0),
            dev_minor: is_device.then_some(header.device.1),
            xattrs: xattrs
                .map(|(name, value)| (String::from_utf8_lossy(name), STANDARD.encode(value)))
                .collect(),
            ..Self::default()
        }
    }
}
