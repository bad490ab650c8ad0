//! A strict reader of tar archives: ustar, PAX, the old format and GNU's long names.
//!
//! The `tar` crate splits PAX records at line breaks, which loses binary attributes, and its raw
//! mode does not know of sizes that PAX gives. So headers are read here, each field checked, and
//! nothing is guessed.

use std::io::Read;

use crate::{ArchiveError, Mtime, Xattrs};

const BLOCK: usize = 512;
/// Maximum size of one extended header or long name, in bytes.
const MAX_EXTENSION: u64 = 1 << 20;

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    /// As written.
    pub(crate) name: Vec<u8>,
    /// The target of a link, as written.
    pub(crate) link: Vec<u8>,
    /// The type flag.
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: Mtime,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Xattrs,
}

/// Reads members one after the other.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    inner: R,
    position: u64,
    limit: u64,
    /// Bytes of the current member that were not read, and its padding.
    left: u64,
    padding: u64,
}

/// What extended headers say of the next member.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<Mtime>,
    xattrs: Xattrs,
    sparse: bool,
}

impl<R: Read> Reader<R> {
    /// Reads at most `limit` bytes in all.
    pub(crate) fn new(inner: R, limit: u64) -> Self {
        Self { inner, position: 0, limit, left: 0, padding: 0 }
    }

    /// What is read from.
    pub(crate) fn inner(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Bytes of the current member that were not read.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Bytes between the current member and the next header: fewer than 512.
    pub(crate) fn padding(&self) -> usize {
        self.padding as usize
    }

    /// The next member; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut extension = Extension::default();
        let mut extended = false;
        loop {
            self.skip_member()?;
            let mut block = [0_u8; BLOCK];
            if !self.block(&mut block)? || block.iter().all(|byte| *byte == 0) {
                return match extended {
                    true => Err(self.damaged("it ends after an extended header")),
                    false => Ok(None),
                };
            }
            self.check_sum(&block)?;
            let size = self.number(&block[124..136], "size")?;
            match block[156] {
                b'x' => self.pax(size, &mut extension)?,
                // Global headers hold comments; what they could say of all members, nobody writes.
                b'g' => drop(self.extension_bytes(size)?),
                b'L' => extension.name = Some(self.long_name(size)?),
                b'K' => extension.link = Some(self.long_name(size)?),
                kind => {
                    let header = self.header(&block, kind, size, extension)?;
                    self.left = match kind {
                        // Links carry no bytes, whatever their size says.
                        b'1'..=b'6' => 0,
                        _ => header.size,
                    };
                    self.padding = padding_of(self.left);
                    return Ok(Some(header));
                }
            }
            extended |= block[156] != b'g';
        }
    }

    /// Bytes of the current member; 0 at its end.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let got = self.read(&mut buffer[..want])?;
        if got == 0 {
            return Err(self.damaged("it ends within a file"));
        }
        self.left -= got as u64;
        Ok(got)
    }

    /// Reads what follows the end, so that whoever hashes the stream has seen all of it.
    pub(crate) fn drain(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        loop {
            match self.inner.read(buffer) {
                Ok(got) => {
                    self.position += got as u64;
                    if self.position > self.limit {
                        return Err(ArchiveError::TooLarge { limit: self.limit, unit: "bytes" });
                    }
                    return Ok(got);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ArchiveError::Read(error)),
            }
        }
    }

    /// Fills a block; false at a clean end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, ArchiveError> {
        let mut filled = 0;
        while filled < BLOCK {
            match self.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(self.damaged("it ends within a header")),
                got => filled += got,
            }
        }
        Ok(true)
    }

    fn skip_member(&mut self) -> Result<(), ArchiveError> {
        let mut rest = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        let mut buffer = [0_u8; 16 << 10];
        while rest > 0 {
            let want = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
            match self.read(&mut buffer[..want])? {
                0 => return Err(self.damaged("it ends within a file")),
                got => rest -= got as u64,
            }
        }
        Ok(())
    }

    fn extension_bytes(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_EXTENSION {
            return Err(self.damaged("an extended header is larger than 1 MiB"));
        }
        (self.left, self.padding) = (size, padding_of(size));
        let mut bytes = vec![0; size as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read_data(&mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut name = self.extension_bytes(size)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    /// Records are `length key=value\n`, the length in decimal and of the whole record.
    fn pax(&mut self, size: u64, extension: &mut Extension) -> Result<(), ArchiveError> {
        let bytes = self.extension_bytes(size)?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let record =
                pax_record(rest).ok_or_else(|| self.damaged("an extended header has a malformed record"))?;
            let (length, key, value) = record;
            rest = &rest[length..];
            self.pax_value(key, value, extension)?;
        }
        Ok(())
    }

    fn pax_value(&self, key: &[u8], value: &[u8], extension: &mut Extension) -> Result<(), ArchiveError> {
        let decimal = || {
            let text = std::str::from_utf8(value).ok().filter(|text| !text.is_empty());
            text.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or_else(|| self.damaged("an extended header has a number that is none"))
        };
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.len() > 255 || name.contains(&0) || value.len() > 64 << 10 {
                return Err(self.damaged("an extended attribute is impossible"));
            }
            extension.xattrs.retain(|(other, _)| **other != *name);
            extension.xattrs.push((name.into(), value.into()));
            return Ok(());
        }
        match key {
            b"path" => extension.name = Some(self.no_nul(value)?),
            b"linkpath" => extension.link = Some(self.no_nul(value)?),
            b"size" => extension.size = Some(decimal()?),
            b"uid" => extension.uid = Some(decimal()?),
            b"gid" => extension.gid = Some(decimal()?),
            b"mtime" => {
                let mtime = pax_time(value);
                extension.mtime =
                    Some(mtime.ok_or_else(|| self.damaged("an extended header has a time that is none"))?);
            }
            _ if key.starts_with(b"GNU.sparse.") => extension.sparse = true,
            _ => {}
        }
        Ok(())
    }

    fn no_nul(&self, value: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        match value.contains(&0) {
            true => Err(self.damaged("a name holds a NUL byte")),
            false => Ok(value.to_vec()),
        }
    }

    fn header(
        &self,
        block: &[u8; BLOCK],
        kind: u8,
        size: u64,
        extension: Extension,
    ) -> Result<Header, ArchiveError> {
        let mut name = until_nul(&block[..100]).to_vec();
        // GNU's format keeps other things where POSIX has the prefix.
        let prefix = until_nul(&block[345..500]);
        if &block[257..263] == b"ustar\0" && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let name = extension.name.unwrap_or(name);
        let refuse = |why: &str| ArchiveError::Refused { name: shown(&name), why: why.to_owned() };
        if extension.sparse || kind == b'S' {
            return Err(refuse("is sparse, which dbuild does not decode; pack it again without `--sparse`"));
        }
        let id = |ours: Option<u64>, field: &[u8], what: &'static str| {
            let id = match ours {
                Some(id) => id,
                None => self.number(field, what)?,
            };
            // The largest one means "no change" to the kernel.
            u32::try_from(id)
                .ok()
                .filter(|id| *id != u32::MAX)
                .ok_or_else(|| refuse("has an owner that does not fit into 32 bits"))
        };
        let secs = self.signed(&block[136..148], "time")?;
        let device = |field: &[u8]| match kind {
            b'3' | b'4' => u32::try_from(self.number(field, "device number")?)
                .map_err(|_| refuse("has a device number that does not fit into 32 bits")),
            _ => Ok(0),
        };
        let mut xattrs = extension.xattrs;
        xattrs.sort();
        Ok(Header {
            link: extension.link.unwrap_or_else(|| until_nul(&block[157..257]).to_vec()),
            kind,
            // Some writers put the type's bits into the mode.
            mode: (self.number(&block[100..108], "mode")? & 0o7777) as u32,
            uid: id(extension.uid, &block[108..116], "owner")?,
            gid: id(extension.gid, &block[116..124], "group")?,
            size: extension.size.unwrap_or(size),
            mtime: extension.mtime.unwrap_or(Mtime { secs, nanos: 0 }),
            device: (device(&block[329..337])?, device(&block[337..345])?),
            xattrs,
            name,
        })
    }

    fn check_sum(&self, block: &[u8; BLOCK]) -> Result<(), ArchiveError> {
        let expected = self.number(&block[148..156], "checksum")?;
        let byte = |(index, byte): (usize, &u8)| if (148..156).contains(&index) { b' ' } else { *byte };
        let unsigned: u64 = block.iter().enumerate().map(|at| u64::from(byte(at))).sum();
        // Some old writers added signed bytes.
        let signed: i64 = block.iter().enumerate().map(|at| i64::from(byte(at) as i8)).sum();
        match expected == unsigned || i64::try_from(expected) == Ok(signed) {
            true => Ok(()),
            false => Err(self.damaged("a header's checksum does not match")),
        }
    }

    fn number(&self, field: &[u8], what: &str) -> Result<u64, ArchiveError> {
        let number = self.signed(field, what)?;
        u64::try_from(number).map_err(|_| self.damaged(&format!("a {what} is negative")))
    }

    /// Octal text, or GNU's binary numbers, which are marked by the first bit.
    fn signed(&self, field: &[u8], what: &str) -> Result<i64, ArchiveError> {
        let fault = || self.damaged(&format!("a {what} is no number"));
        if field[0] & 0x80 != 0 {
            let negative = field[0] & 0x40 != 0;
            let mut value = if negative { i128::from(field[0] as i8) } else { i128::from(field[0] & 0x3f) };
            for byte in &field[1..] {
                value = value << 8 | i128::from(*byte);
            }
            return i64::try_from(value).map_err(|_| fault());
        }
        let text = until_nul(field).trim_ascii();
        let mut value = 0_i64;
        for digit in text {
            if !(b'0'..=b'7').contains(digit) {
                return Err(fault());
            }
            value = value << 3 | i64::from(digit - b'0');
        }
        Ok(value)
    }

    fn damaged(&self, why: &str) -> ArchiveError {
        ArchiveError::Damaged { position: self.position, why: why.to_owned() }
    }
}

/// A name as it can be shown.
pub(crate) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}

fn padding_of(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

fn pax_record(rest: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let space = rest.iter().take(20).position(|byte| *byte == b' ')?;
    let digits = std::str::from_utf8(&rest[..space]).ok()?;
    let length: usize = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
    let record = rest.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=').filter(|equals| *equals > 0)?;
    Some((length, &record[..equals], &record[equals + 1..]))
}

/// Decimal seconds, possibly negative and with a fraction, which counts upwards in [`Mtime`].
fn pax_time(value: &[u8]) -> Option<Mtime> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let secs: i64 = whole.parse().ok()?;
    let nanos: u32 = format!("{:0<9.9}", fraction).parse().ok()?;
    Some(match (negative, nanos) {
        (false, nanos) => Mtime { secs, nanos },
        (true, 0) => Mtime { secs: -secs, nanos: 0 },
        (true, nanos) => Mtime { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
#[path = "tests/tar_reader.rs"]
mod tests;
