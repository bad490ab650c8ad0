//! What an ELF file says of itself, read in a few small pieces however large it is.
//!
//! The bytes are a stranger's: every offset and count is checked, every size has a bound, and what
//! does not add up is [`ElfError::Damaged`].

use crate::view::View;

/// Sections of strings up to this size are read at once, larger ones string by string.
const STRINGS_AT_ONCE: u64 = 256 << 10;
/// Tables of versions are read so far.
const VERSIONS: usize = 64 << 10;
/// The longest name or path.
const MAX_STRING: usize = 4096;
/// More headers, or entries of a table, than any real file has.
const MAX_ENTRIES: u64 = 4096;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;

/// Reads at most so many bytes from an offset on; `None` where the content is not available.
pub(crate) type ReadAt<'a> = dyn Fn(u64, usize) -> Option<Vec<u8>> + 'a;

/// A program or library.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Elf {
    /// The machine that it is built for.
    pub machine: Machine,
    /// True for a program or library, false for an object file or a core.
    pub loadable: bool,
    /// The dynamic loader that the kernel starts for it.
    pub interpreter: Option<String>,
    /// Libraries, by the names under which the loader looks for them.
    pub needed: Vec<String>,
    /// `DT_SONAME`: the name by which a library is known once it is loaded.
    pub soname: Option<String>,
    /// `DT_RPATH`; of no effect beside a runpath.
    pub rpath: Vec<String>,
    /// `DT_RUNPATH`.
    pub runpath: Vec<String>,
    /// Versions of symbols that a library must have: (library, versions).
    pub needs: Vec<(String, Vec<String>)>,
    /// Versions of symbols that it has.
    pub provides: Vec<String>,
}

/// A kind of machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// 64 bits.
    pub wide: bool,
    /// Little-endian.
    pub little: bool,
    /// `e_machine`.
    pub number: u16,
}

/// Why nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// It is something else.
    NotElf,
    /// It begins like one, and does not go on like one.
    Damaged,
    /// Its content is not available.
    Unread,
}

/// Parses the file at a path without links.
pub(crate) fn read_elf(view: &View<'_>, path: &str) -> Result<Elf, ElfError> {
    parse(&|offset, len| view.read_at(path, offset, len))
}

impl Elf {
    /// Parses a file that is in memory.
    pub fn parse(bytes: &[u8]) -> Result<Self, ElfError> {
        parse(&|offset, len| {
            let rest =
                usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
            Some(rest[..rest.len().min(len)].to_vec())
        })
    }
}

/// Parses what a function reads of it.
pub(crate) fn parse(read: &ReadAt<'_>) -> Result<Elf, ElfError> {
    let head = read(0, 64).ok_or(ElfError::Unread)?;
    if !head.starts_with(b"\x7fELF") {
        return Err(ElfError::NotElf);
    }
    let wide = match head.get(4) {
        Some(1) => false,
        Some(2) => true,
        _ => return Err(ElfError::Damaged),
    };
    let little = match head.get(5) {
        Some(1) => true,
        Some(2) => false,
        _ => return Err(ElfError::Damaged),
    };
    let head = Bytes { bytes: &head, wide, little };
    let machine = Machine { wide, little, number: head.u16(18)? };
    let (table, size, count) = match wide {
        true => (head.u64(32)?, head.u16(54)?, head.u16(56)?),
        false => (head.u32(28)?.into(), head.u16(42)?, head.u16(44)?),
    };
    let mut elf = Elf { machine, loadable: matches!(head.u16(16)?, 2 | 3), ..Elf::default() };
    let smallest = if wide { 56 } else { 32 };
    if count > 0 && size < smallest {
        return Err(ElfError::Damaged);
    }
    let reader = Reader { read, wide, little };
    let bytes = reader.exactly(table, usize::from(size) * usize::from(count))?;
    let mut segments = Vec::new();
    for header in bytes.chunks_exact(usize::from(size).max(1)) {
        segments.push(segment(&Bytes { bytes: header, wide, little })?);
    }
    if let Some(interp) = segments.iter().find(|segment| segment.kind == PT_INTERP) {
        let len = usize::try_from(interp.size).unwrap_or(usize::MAX).min(MAX_STRING);
        elf.interpreter = Some(until_zero(&reader.exactly(interp.offset, len)?));
    }
    if let Some(dynamic) = segments.iter().find(|segment| segment.kind == PT_DYNAMIC) {
        reader.dynamic(&mut elf, dynamic, &segments)?;
    }
    Ok(elf)
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

fn segment(header: &Bytes<'_>) -> Result<Segment, ElfError> {
    Ok(match header.wide {
        true => Segment {
            kind: header.u32(0)?,
            offset: header.u64(8)?,
            address: header.u64(16)?,
            size: header.u64(32)?,
        },
        false => Segment {
            kind: header.u32(0)?,
            offset: header.u32(4)?.into(),
            address: header.u32(8)?.into(),
            size: header.u32(16)?.into(),
        },
    })
}

struct Reader<'a> {
    read: &'a ReadAt<'a>,
    wide: bool,
    little: bool,
}

/// The values of a dynamic section that matter here; addresses are those in memory.
#[derive(Default)]
struct Dynamic {
    needed: Vec<u64>,
    soname: Option<u64>,
    rpath: Option<u64>,
    runpath: Option<u64>,
    strings: u64,
    strings_size: u64,
    needs: Option<u64>,
    provides: Option<u64>,
}

/// A table of strings: all of it, or where it is.
enum Strings {
    Whole(Vec<u8>),
    At(u64, u64),
}

impl Reader<'_> {
    fn exactly(&self, offset: u64, len: usize) -> Result<Vec<u8>, ElfError> {
        if len > STRINGS_AT_ONCE as usize {
            return Err(ElfError::Damaged);
        }
        let bytes = (self.read)(offset, len).ok_or(ElfError::Unread)?;
        if bytes.len() == len { Ok(bytes) } else { Err(ElfError::Damaged) }
    }

    fn dynamic(&self, elf: &mut Elf, dynamic: &Segment, segments: &[Segment]) -> Result<(), ElfError> {
        let entry = if self.wide { 16 } else { 8 };
        if dynamic.size / entry > MAX_ENTRIES {
            return Err(ElfError::Damaged);
        }
        let bytes = self.exactly(dynamic.offset, (dynamic.size - dynamic.size % entry) as usize)?;
        let found = self.entries(&bytes, entry as usize)?;
        let offset_of = |address: u64| {
            let of = |segment: &&Segment| {
                segment.kind == PT_LOAD && address.wrapping_sub(segment.address) < segment.size
            };
            let segment = segments.iter().find(of).ok_or(ElfError::Damaged)?;
            segment.offset.checked_add(address - segment.address).ok_or(ElfError::Damaged)
        };
        if found.needed.is_empty()
            && found.soname.is_none()
            && found.needs.is_none()
            && found.provides.is_none()
        {
            return Ok(());
        }
        let at = offset_of(found.strings)?;
        let strings = match found.strings_size {
            size @ 0..=STRINGS_AT_ONCE => Strings::Whole(self.exactly(at, size as usize)?),
            size => Strings::At(at, size),
        };
        for name in &found.needed {
            elf.needed.push(self.string(&strings, *name)?);
        }
        elf.soname = found.soname.map(|name| self.string(&strings, name)).transpose()?;
        let list = |place: Option<u64>| -> Result<Vec<String>, ElfError> {
            let Some(place) = place else { return Ok(Vec::new()) };
            let text = self.string(&strings, place)?;
            Ok(text.split(':').filter(|dir| !dir.is_empty()).map(str::to_owned).collect())
        };
        (elf.rpath, elf.runpath) = (list(found.rpath)?, list(found.runpath)?);
        if let Some(address) = found.needs {
            let table = (self.read)(offset_of(address)?, VERSIONS).ok_or(ElfError::Unread)?;
            elf.needs = self.version_needs(&self.bytes(&table), &strings)?;
        }
        if let Some(address) = found.provides {
            let table = (self.read)(offset_of(address)?, VERSIONS).ok_or(ElfError::Unread)?;
            elf.provides = self.version_definitions(&self.bytes(&table), &strings)?;
        }
        Ok(())
    }

    fn entries(&self, bytes: &[u8], entry: usize) -> Result<Dynamic, ElfError> {
        let mut found = Dynamic::default();
        for pair in bytes.chunks_exact(entry) {
            let pair = self.bytes(pair);
            let (tag, value) = match self.wide {
                true => (pair.u64(0)?, pair.u64(8)?),
                false => (pair.u32(0)?.into(), pair.u32(4)?.into()),
            };
            match tag {
                0 => break,
                1 => found.needed.push(value),
                5 => found.strings = value,
                10 => found.strings_size = value,
                14 => found.soname = Some(value),
                15 => found.rpath = Some(value),
                29 => found.runpath = Some(value),
                0x6fff_fffc => found.provides = Some(value),
                0x6fff_fffe => found.needs = Some(value),
                _ => {}
            }
        }
        Ok(found)
    }

    /// `Elf_Verneed` and its `Elf_Vernaux`: the layout is the same for both widths. What may be
    /// missing (weak) is left out.
    fn version_needs(
        &self,
        table: &Bytes<'_>,
        strings: &Strings,
    ) -> Result<Vec<(String, Vec<String>)>, ElfError> {
        let mut all = Vec::new();
        let mut at = 0_usize;
        for _ in 0..MAX_ENTRIES {
            let (library, aux, next) = (table.u32(at + 4)?, table.u32(at + 8)?, table.u32(at + 12)?);
            let mut versions = Vec::new();
            let mut place = at + aux as usize;
            for _ in 0..table.u16(at + 2)? {
                let (flags, name, next) =
                    (table.u16(place + 4)?, table.u32(place + 8)?, table.u32(place + 12)?);
                if flags & 2 == 0 {
                    versions.push(self.string(strings, name.into())?);
                }
                place += next as usize;
            }
            all.push((self.string(strings, library.into())?, versions));
            if next == 0 {
                return Ok(all);
            }
            at += next as usize;
        }
        Err(ElfError::Damaged)
    }

    /// `Elf_Verdef`: the first name of each.
    fn version_definitions(&self, table: &Bytes<'_>, strings: &Strings) -> Result<Vec<String>, ElfError> {
        let mut all = Vec::new();
        let mut at = 0_usize;
        for _ in 0..MAX_ENTRIES {
            let (aux, next) = (table.u32(at + 12)?, table.u32(at + 16)?);
            all.push(self.string(strings, table.u32(at + aux as usize)?.into())?);
            if next == 0 {
                return Ok(all);
            }
            at += next as usize;
        }
        Err(ElfError::Damaged)
    }

    fn string(&self, strings: &Strings, place: u64) -> Result<String, ElfError> {
        match strings {
            Strings::Whole(bytes) => {
                let rest = usize::try_from(place).ok().and_then(|place| bytes.get(place..));
                let rest = rest.ok_or(ElfError::Damaged)?;
                Ok(until_zero(&rest[..rest.len().min(MAX_STRING)]))
            }
            Strings::At(at, size) if place < *size => {
                let bytes = (self.read)(at.saturating_add(place), 512).ok_or(ElfError::Unread)?;
                Ok(until_zero(&bytes))
            }
            Strings::At(..) => Err(ElfError::Damaged),
        }
    }

    fn bytes<'b>(&self, bytes: &'b [u8]) -> Bytes<'b> {
        Bytes { bytes, wide: self.wide, little: self.little }
    }
}

/// Numbers in the file's order.
struct Bytes<'a> {
    bytes: &'a [u8],
    wide: bool,
    little: bool,
}

impl Bytes<'_> {
    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], ElfError> {
        let bytes = at.checked_add(N).and_then(|end| self.bytes.get(at..end));
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(ElfError::Damaged)
    }

    fn u16(&self, at: usize) -> Result<u16, ElfError> {
        let bytes = self.array(at)?;
        Ok(if self.little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32(&self, at: usize) -> Result<u32, ElfError> {
        let bytes = self.array(at)?;
        Ok(if self.little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn u64(&self, at: usize) -> Result<u64, ElfError> {
        let bytes = self.array(at)?;
        Ok(if self.little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }
}

impl Machine {
    /// Its name as images have it.
    pub fn architecture(self) -> Option<&'static str> {
        Some(match (self.number, self.wide, self.little) {
            (3, ..) => "386",
            (8, true, true) => "mips64le",
            (20, ..) => "ppc",
            (21, true, true) => "ppc64le",
            (22, true, _) => "s390x",
            (40, ..) => "arm",
            (62, true, _) => "amd64",
            (183, true, true) => "arm64",
            (243, true, _) => "riscv64",
            (258, true, _) => "loong64",
            _ => return None,
        })
    }
}

fn until_zero(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
#[path = "tests/elf.rs"]
mod tests;
