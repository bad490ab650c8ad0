//! The form in which a [`Tree`] is kept in a file.
//!
//! A magic text and a version byte (2 where something else than a file has several names, which
//! version 1 does not know); the number of entries; the entries in order, each path as the length
//! that it shares with the one before and the rest; the blake3 digest of all bytes before it.
//! Numbers are LEB128, signed ones zigzag.

use dbuild_digest::ContentDigest;

use crate::{Entry, EntryKind, Mtime, Tree, TreeError, TreePath, Xattrs};

const MAGIC: &[u8] = b"dbuild tree\n";
const VERSION: u8 = 1;
const VERSION_WITH_OTHER_LINKS: u8 = 2;
const CHECKSUM: usize = 32;

impl Tree {
    /// The tree as bytes, for [`Tree::decode`]. Equal trees give equal bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries().len() * 64 + 64);
        out.extend_from_slice(MAGIC);
        out.push(if self.links_only_files() { VERSION } else { VERSION_WITH_OTHER_LINKS });
        number(&mut out, self.entries().len() as u64);
        let mut before: &[u8] = b"";
        for entry in self.entries() {
            let path = entry.path.as_bytes();
            let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
            number(&mut out, shared as u64);
            bytes(&mut out, &path[shared..]);
            before = path;
            encode_entry(&mut out, entry);
        }
        out.extend_from_slice(blake3::hash(&out).as_bytes());
        out
    }

    /// The tree that [`Tree::encode`] wrote. Bytes that were cut or changed are an error, and so
    /// are trees that break a rule of [`Tree::from_entries`].
    pub fn decode(encoded: &[u8]) -> Result<Self, TreeError> {
        let rest = encoded.strip_prefix(MAGIC).ok_or(TreeError::Damaged("it does not begin like one"))?;
        let version = *rest.first().ok_or(TreeError::Damaged("it is cut"))?;
        if !matches!(version, VERSION | VERSION_WITH_OTHER_LINKS) {
            return Err(TreeError::Version(version));
        }
        let body_end = encoded.len().checked_sub(CHECKSUM).ok_or(TreeError::Damaged("it is cut"))?;
        let (body, checksum) = encoded.split_at(body_end);
        if blake3::hash(body).as_bytes().as_slice() != checksum {
            return Err(TreeError::Damaged("its checksum does not match"));
        }
        let mut reader = Reader { rest: body.get(MAGIC.len() + 1..).unwrap_or_default() };
        let count = reader.number()?;
        // Every entry takes several bytes, so a count cannot make us allocate more than was read.
        let mut entries = Vec::with_capacity((count as usize).min(body.len() / 8));
        let mut path: Vec<u8> = Vec::new();
        for _ in 0..count {
            let shared = reader.number()? as usize;
            if shared > path.len() {
                return Err(TreeError::Damaged("a path shares too much"));
            }
            path.truncate(shared);
            path.extend_from_slice(reader.bytes()?);
            let at = TreePath::from_bytes(&path).map_err(|_| TreeError::Damaged("a path is not clean"))?;
            entries.push(decode_entry(&mut reader, at)?);
        }
        if !reader.rest.is_empty() {
            return Err(TreeError::Damaged("something follows its end"));
        }
        Self::from_entries(entries)
    }

    fn links_only_files(&self) -> bool {
        let is_link = |entry: &&Entry| matches!(entry.kind, EntryKind::Hardlink { .. });
        self.entries().iter().filter(is_link).all(|link| self.file_of(link).is_some())
    }
}

fn encode_entry(out: &mut Vec<u8>, entry: &Entry) {
    out.push(entry.kind.tag());
    match &entry.kind {
        EntryKind::File { size, content } => {
            number(out, *size);
            out.extend_from_slice(content.as_bytes());
        }
        EntryKind::Hardlink { target } => bytes(out, target.as_bytes()),
        EntryKind::Dir { opaque } => out.push(u8::from(*opaque)),
        EntryKind::Symlink { target } => bytes(out, target),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            number(out, u64::from(*major));
            number(out, u64::from(*minor));
        }
        EntryKind::Fifo | EntryKind::Whiteout => {}
    }
    for field in [entry.mode, entry.uid, entry.gid] {
        number(out, u64::from(field));
    }
    number(out, ((entry.mtime.secs << 1) ^ (entry.mtime.secs >> 63)) as u64);
    number(out, u64::from(entry.mtime.nanos));
    number(out, entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        bytes(out, name);
        bytes(out, value);
    }
}

fn decode_entry(reader: &mut Reader<'_>, path: TreePath) -> Result<Entry, TreeError> {
    let kind = match reader.take(1)?[0] {
        0 => {
            let size = reader.number()?;
            let digest = reader.take(32)?.try_into().map_err(|_| TreeError::Damaged("it is cut"))?;
            EntryKind::File { size, content: ContentDigest::from_bytes(digest) }
        }
        1 => {
            let target = TreePath::from_bytes(reader.bytes()?);
            EntryKind::Hardlink { target: target.map_err(|_| TreeError::Damaged("a link is not clean"))? }
        }
        2 => EntryKind::Dir { opaque: reader.take(1)?[0] != 0 },
        3 => EntryKind::Symlink { target: reader.bytes()?.into() },
        4 => EntryKind::Fifo,
        5 => EntryKind::CharDevice { major: reader.small()?, minor: reader.small()? },
        6 => EntryKind::BlockDevice { major: reader.small()?, minor: reader.small()? },
        7 => EntryKind::Whiteout,
        _ => return Err(TreeError::Damaged("it holds an unknown kind")),
    };
    let (mode, uid, gid) = (reader.small()?, reader.small()?, reader.small()?);
    let zigzag = reader.number()?;
    let secs = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
    let nanos = reader.small()?;
    let mut xattrs: Xattrs = Vec::new();
    for _ in 0..reader.number()? {
        xattrs.push((reader.bytes()?.into(), reader.bytes()?.into()));
    }
    Ok(Entry { path, kind, mode, uid, gid, mtime: Mtime { secs, nanos }, xattrs })
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    number(out, value.len() as u64);
    out.extend_from_slice(value);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], TreeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(TreeError::Damaged("it is cut"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<u64, TreeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(TreeError::Damaged("a number is too long"))
    }

    fn small(&mut self) -> Result<u32, TreeError> {
        u32::try_from(self.number()?).map_err(|_| TreeError::Damaged("a number is too large"))
    }

    fn bytes(&mut self) -> Result<&'a [u8], TreeError> {
        let length = self.number()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
#[path = "tests/encoding.rs"]
mod tests;
