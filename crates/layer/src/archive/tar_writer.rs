//! Tar headers: ustar where it suffices, PAX where not. No user names, no access times: only what
//! the entry says.

use crate::disk::CAPABILITY;
use crate::{Entry, EntryKind, TreePath};

const BLOCK: usize = 512;

/// What a header is written of.
#[derive(Debug)]
pub(crate) struct Member<'a> {
    pub(crate) entry: &'a Entry,
    /// Instead of the entry's own (the file that a hardlink leads to).
    pub(crate) kind: &'a EntryKind,
    /// It is a hardlink to this path.
    pub(crate) link: Option<&'a TreePath>,
    /// Times after this many seconds since 1970 become it.
    pub(crate) clamp: Option<i64>,
}

/// Appends the header of a member, extended where that is needed. Bytes of a file follow it, then
/// [`pad`].
pub(crate) fn header(member: &Member<'_>, out: &mut Vec<u8>) {
    let entry = member.entry;
    let mut fields = Fields {
        name: entry.path.as_bytes().to_vec(),
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        mtime: member.clamp.map_or(entry.mtime.secs, |clamp| entry.mtime.secs.min(clamp)),
        ..Fields::default()
    };
    if let Some(target) = member.link {
        fields.kind = b'1';
        fields.link = target.as_bytes().to_vec();
    } else {
        fields.of_kind(member.kind);
    }
    // Of links, too: who unpacks one gives it its owner, and the kernel takes a capability away
    // with that.
    if let Some((_, value)) = entry.xattrs.iter().find(|(name, _)| **name == *CAPABILITY.as_bytes()) {
        fields.capability = Some(value);
    }
    fields.write(out);
}

/// Appends the mark that hides all that lower layers have in a directory.
pub(crate) fn opaque_mark(dir: &TreePath, out: &mut Vec<u8>) {
    let name = [dir.as_bytes(), b"/.wh..wh..opq"].concat();
    Fields { name, kind: b'0', ..Fields::default() }.write(out);
}

/// Appends the zeros that follow a file's bytes.
pub(crate) fn pad(size: u64, out: &mut Vec<u8>) {
    let over = (size % BLOCK as u64) as usize;
    if over > 0 {
        out.resize(out.len() + BLOCK - over, 0);
    }
}

/// Appends the end of an archive.
pub(crate) fn end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK, 0);
}

#[derive(Default)]
struct Fields<'a> {
    name: Vec<u8>,
    link: Vec<u8>,
    kind: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: i64,
    device: (u32, u32),
    capability: Option<&'a [u8]>,
}

impl Fields<'_> {
    fn of_kind(&mut self, kind: &EntryKind) {
        match kind {
            EntryKind::File { size, .. } => (self.kind, self.size) = (b'0', *size),
            EntryKind::Hardlink { target } => (self.kind, self.link) = (b'1', target.as_bytes().to_vec()),
            EntryKind::Dir { .. } => {
                self.kind = b'5';
                self.name.push(b'/');
            }
            EntryKind::Symlink { target } => (self.kind, self.link) = (b'2', target.to_vec()),
            EntryKind::Fifo => self.kind = b'6',
            EntryKind::CharDevice { major, minor } => (self.kind, self.device) = (b'3', (*major, *minor)),
            EntryKind::BlockDevice { major, minor } => (self.kind, self.device) = (b'4', (*major, *minor)),
            EntryKind::Whiteout => {
                self.kind = b'0';
                let slash = self.name.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
                self.name.splice(slash..slash, *b".wh.");
            }
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut records = Vec::new();
        let split = split_name(&self.name);
        if split.is_none() || !self.name.is_ascii() {
            record(&mut records, b"path", &self.name);
        }
        if self.link.len() > 100 || !self.link.is_ascii() {
            record(&mut records, b"linkpath", &self.link);
        }
        for (key, value, digits) in
            [("uid", u64::from(self.uid), 7), ("gid", u64::from(self.gid), 7), ("size", self.size, 11)]
        {
            if value >= 1 << (3 * digits) {
                record(&mut records, key.as_bytes(), value.to_string().as_bytes());
            }
        }
        if !(0..1 << 33).contains(&self.mtime) {
            record(&mut records, b"mtime", self.mtime.to_string().as_bytes());
        }
        if let Some(value) = self.capability {
            record(&mut records, b"SCHILY.xattr.security.capability", value);
        }
        if !records.is_empty() {
            let name = b"PaxHeaders/entry".to_vec();
            let size = records.len() as u64;
            let header = Fields { name, kind: b'x', mode: 0o644, size, ..Fields::default() };
            header.block(Some((0, 0)), out);
            out.extend_from_slice(&records);
            pad(size, out);
        }
        self.block(split, out);
    }

    /// One block; fields that do not fit are cut, as PAX says them.
    fn block(&self, split: Option<(usize, usize)>, out: &mut Vec<u8>) {
        let mut block = [0_u8; BLOCK];
        let (prefix, name) = match split {
            Some((prefix, name)) => (&self.name[..prefix], &self.name[name..]),
            None => (&b""[..], &self.name[..100]),
        };
        put(&mut block, 0, name);
        octal(&mut block[100..108], u64::from(self.mode));
        octal(&mut block[108..116], u64::from(self.uid));
        octal(&mut block[116..124], u64::from(self.gid));
        octal(&mut block[124..136], self.size);
        octal(&mut block[136..148], u64::try_from(self.mtime).unwrap_or(0));
        block[156] = self.kind;
        put(&mut block, 157, &self.link[..self.link.len().min(100)]);
        put(&mut block, 257, b"ustar\x0000");
        octal(&mut block[329..337], u64::from(self.device.0));
        octal(&mut block[337..345], u64::from(self.device.1));
        put(&mut block, 345, prefix);
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut block[148..155], sum);
        out.extend_from_slice(&block);
    }
}

fn put(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Octal digits and a NUL; what does not fit becomes zero, as PAX says it.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let value = if value >> (3 * digits) == 0 { value } else { 0 };
    for (place, byte) in field[..digits].iter_mut().rev().enumerate() {
        *byte = b'0' + ((value >> (3 * place)) & 7) as u8;
    }
    field[digits] = 0;
}

/// Where a name is cut into ustar's prefix and name: the ends of the one and the start of the
/// other. `None` if it does not fit.
fn split_name(name: &[u8]) -> Option<(usize, usize)> {
    if name.len() <= 100 {
        return Some((0, 0));
    }
    // The slash itself is in neither, and the one at the end of a directory is no place to cut.
    let slash = (0..name.len() - 1)
        .filter(|at| name[*at] == b'/')
        .find(|at| *at > 0 && *at <= 155 && name.len() - at - 1 <= 100)?;
    Some((slash, slash + 1))
}

/// `length key=value\n`, where the length counts itself.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() > length {
        length += 1;
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}
