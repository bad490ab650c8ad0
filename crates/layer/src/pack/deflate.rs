//! Whole deflate streams made into parts of one.
//!
//! libdeflate takes whole buffers only, and every stream that it writes says in its last block that
//! nothing follows. A gzip member that several threads compress is one stream of many parts. So the
//! mark of the last block is cleared and an empty stored block ends the part at a byte, as zlib's
//! `Z_SYNC_FLUSH` does: such parts can be put one after another, in any number.
//!
//! Where the last block begins is said nowhere. It is found by walking over the codes of the blocks
//! before it, which is far less work than to decompress them: nothing is written, and several
//! literals are passed over at once. Of the last block only the header is read, in most cases. See
//! RFC 1951, whose terms are used here.

/// Bits that select an entry of a table.
const INDEX_BITS: usize = 11;
/// The longest code of deflate, in bits.
const LONGEST: usize = 15;
/// The symbol that ends a block.
const END_OF_BLOCK: usize = 256;
const LITERALS: usize = 288;
const DISTANCES: usize = 32;
/// The order in which a header lists the lengths of the codes for code lengths.
const CODE_LENGTH_ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
/// Bytes after a stream that may be read along with its last ones.
const PADDING: usize = 8;

/// An empty stored block without its three header bits: the length, and the length inverted.
const EMPTY_STORED: [u8; 4] = [0, 0, 0xff, 0xff];
/// Bytes that [`open`] appends at the most.
pub(crate) const MOST_APPENDED: usize = EMPTY_STORED.len() + 1;
/// An empty last block, which ends a deflate stream of such parts.
pub(crate) const END: [u8; 2] = [3, 0];

/// Clears the mark of a deflate stream's last block, and ends the stream at a byte. `None` where
/// the bytes are no deflate stream; they may have been changed then.
pub(crate) fn open(stream: &mut Vec<u8>) -> Option<()> {
    let length = stream.len();
    stream.extend_from_slice(&[0; PADDING]);
    let found = Walk { bytes: stream, at: 0, end: length * 8 }.last_block();
    stream.truncate(length);
    let LastBlock { start, unused } = found?;
    stream[start / 8] &= !(1 << (start % 8));
    // The three bits of the stored block's header are zero, and so are the bits that are unused.
    if unused < 3 {
        stream.push(0);
    }
    stream.extend_from_slice(&EMPTY_STORED);
    Some(())
}

/// Where the last block of a stream is.
struct LastBlock {
    /// The bit of its header that says that it is the last.
    start: usize,
    /// Bits of the stream's last byte that are not part of it.
    unused: usize,
}

/// A place in a deflate stream.
struct Walk<'a> {
    /// The stream, and [`PADDING`].
    bytes: &'a [u8],
    /// In bits.
    at: usize,
    /// In bits: that of the stream's last byte.
    end: usize,
}

impl Walk<'_> {
    fn last_block(&mut self) -> Option<LastBlock> {
        loop {
            let start = self.at;
            let is_last = self.bits(1)? == 1;
            match self.bits(2)? {
                0 => self.pass_stored()?,
                kind @ (1 | 2) => {
                    let codes = if kind == 1 { Codes::fixed()? } else { self.codes()? };
                    if is_last && let Some(unused) = self.unused_after(&codes) {
                        return Some(LastBlock { start, unused });
                    }
                    self.pass_compressed(&codes)?;
                }
                _ => return None,
            }
            if is_last {
                let unused = self.end.checked_sub(self.at).filter(|unused| *unused < 8)?;
                return Some(LastBlock { start, unused });
            }
        }
    }

    /// The bits after the stream's end, without walking there: all of them are zero, so the last
    /// bit that is set is the last one of the last symbol, which ends the block. `None` where the
    /// code of that symbol has no bit that is set.
    fn unused_after(&self, codes: &Codes) -> Option<usize> {
        let code = codes.literals.code_of(END_OF_BLOCK)?;
        // Codes are packed with their first bit first, so the end of a code is its lowest bit.
        let zeros_of_code = (code != 0).then(|| code.trailing_zeros() as usize)?;
        let last = self.bytes[..self.end / 8].iter().rposition(|byte| *byte != 0)?;
        let zeros = (self.end / 8 - 1 - last) * 8 + self.bytes[last].leading_zeros() as usize;
        zeros.checked_sub(zeros_of_code).filter(|unused| *unused < 8)
    }

    /// At least 57 bits from here on.
    fn peek(&self) -> u64 {
        let from = self.at / 8;
        let bytes = self.bytes.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes) >> (self.at % 8)
    }

    fn bits(&mut self, count: usize) -> Option<usize> {
        let bits = self.peek() as usize & ((1 << count) - 1);
        self.at += count;
        (self.at <= self.end).then_some(bits)
    }

    fn pass_stored(&mut self) -> Option<()> {
        self.at = self.at.next_multiple_of(8);
        let length = self.bits(16)?;
        (self.bits(16)? == length ^ 0xffff).then_some(())?;
        self.at += length * 8;
        (self.at <= self.end).then_some(())
    }

    fn pass_compressed(&mut self, codes: &Codes) -> Option<()> {
        // Bits are loaded when there may be too few for another code.
        const ENOUGH: usize = 57 - LONGEST;
        let (literals, distances) =
            (Table::of_literals(&codes.literals), Table::of_distances(&codes.distances));
        while self.at <= self.end {
            let (mut bits, mut passed) = (self.peek(), 0);
            while passed <= ENOUGH {
                let entry = literals.look(bits)?;
                bits >>= entry.bits();
                passed += entry.bits();
                match entry.kind() {
                    Kind::Literals => {}
                    Kind::Length => {
                        if passed > ENOUGH {
                            self.at += std::mem::take(&mut passed);
                            bits = self.peek();
                        }
                        let distance = distances.look(bits)?.bits();
                        bits >>= distance;
                        passed += distance;
                    }
                    Kind::End => {
                        self.at += passed;
                        return (self.at <= self.end).then_some(());
                    }
                }
            }
            self.at += passed;
        }
        None
    }

    /// Reads the header of a block with codes of its own.
    fn codes(&mut self) -> Option<Codes> {
        let literals = self.bits(5)? + 257;
        let distances = self.bits(5)? + 1;
        let listed = self.bits(4)? + 4;
        let mut lengths = [0; CODE_LENGTH_ORDER.len()];
        for symbol in &CODE_LENGTH_ORDER[..listed] {
            lengths[*symbol] = self.bits(3)? as u8;
        }
        let of_lengths = Code::new(&lengths)?;
        let mut all = [0; LITERALS + DISTANCES];
        let (mut count, total) = (0, literals + distances);
        while count < total {
            let (symbol, length) = of_lengths.decode(self.peek())?;
            self.at += length;
            let (repeat, value) = match symbol {
                16 => (3 + self.bits(2)?, *all.get(count.checked_sub(1)?)?),
                17 => (3 + self.bits(3)?, 0),
                18 => (11 + self.bits(7)?, 0),
                length => (1, length as u8),
            };
            all.get_mut(count..count + repeat).filter(|_| count + repeat <= total)?.fill(value);
            count += repeat;
        }
        Codes::new(&all[..literals], &all[literals..total])
    }
}

/// The two codes of a block.
struct Codes {
    literals: Code,
    distances: Code,
}

impl Codes {
    fn new(literals: &[u8], distances: &[u8]) -> Option<Self> {
        Some(Self { literals: Code::new(literals)?, distances: Code::new(distances)? })
    }

    /// Those of RFC 1951, 3.2.6.
    fn fixed() -> Option<Self> {
        let mut literals = [8; LITERALS];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        Self::new(&literals, &[5; DISTANCES])
    }
}

/// A canonical Huffman code.
struct Code {
    /// The length of each symbol's code in bits; 0 is a symbol that has none.
    lengths: Vec<u8>,
    /// How many codes have each length.
    counts: [u16; LONGEST + 1],
    /// The symbols that have codes, in the order of these.
    symbols: Vec<u16>,
}

impl Code {
    /// `None` where there are more codes than the lengths allow.
    fn new(lengths: &[u8]) -> Option<Self> {
        let mut counts = [0; LONGEST + 1];
        lengths.iter().for_each(|length| counts[usize::from(*length)] += 1);
        counts[0] = 0;
        let mut free = 1_i32;
        for count in &counts[1..] {
            free = free * 2 - i32::from(*count);
            if free < 0 {
                return None;
            }
        }
        let mut symbols: Vec<u16> =
            (0_u16..).zip(lengths).filter(|(_, length)| **length > 0).map(|(symbol, _)| symbol).collect();
        symbols.sort_by_key(|symbol| lengths[usize::from(*symbol)]);
        Some(Self { lengths: lengths.to_vec(), counts, symbols })
    }

    /// The codes of all symbols that have one, with their lengths.
    fn codes(&self) -> impl Iterator<Item = (usize, u16, usize)> {
        let (mut code, mut length) = (0_u16, 0);
        self.symbols.iter().map(move |symbol| {
            let of_symbol = usize::from(self.lengths[usize::from(*symbol)]);
            code <<= of_symbol - length;
            length = of_symbol;
            code += 1;
            (usize::from(*symbol), code - 1, length)
        })
    }

    fn code_of(&self, wanted: usize) -> Option<u16> {
        self.codes().find(|(symbol, ..)| *symbol == wanted).map(|(_, code, _)| code)
    }

    /// The symbol that the bits begin with, and the length of its code.
    fn decode(&self, bits: u64) -> Option<(usize, usize)> {
        let (mut code, mut first, mut index) = (0_u32, 0_u32, 0_u32);
        for length in 1..=LONGEST {
            code |= (bits >> (length - 1)) as u32 & 1;
            let count = u32::from(self.counts[length]);
            if code < first + count {
                return Some((usize::from(self.symbols[(index + code - first) as usize]), length));
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        None
    }
}

/// What a walk passes over in one step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Literals, or a distance.
    Literals,
    /// A length, perhaps behind literals; a distance follows.
    Length,
    /// The end of the block, perhaps behind literals.
    End,
}

/// How many bits a step passes over, and what they are. 0 is no entry.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Entry(u8);

impl Entry {
    const KINDS: [Kind; 3] = [Kind::Literals, Kind::Length, Kind::End];

    fn new(bits: usize, kind: Kind) -> Self {
        Self((bits as u8) << 2 | kind as u8)
    }

    fn bits(self) -> usize {
        usize::from(self.0 >> 2)
    }

    fn kind(self) -> Kind {
        Self::KINDS[usize::from(self.0 & 3)]
    }
}

/// A code, and what to do for each beginning of bits.
struct Table<'a> {
    code: &'a Code,
    entries: Box<[Entry; 1 << INDEX_BITS]>,
    /// The entry of one symbol whose code has this length.
    entry_of: fn(usize, usize) -> Entry,
}

impl<'a> Table<'a> {
    fn of_distances(code: &'a Code) -> Self {
        let entry_of = |symbol: usize, length: usize| {
            Entry::new(length + (symbol / 2).saturating_sub(1), Kind::Literals)
        };
        Self { entries: by_index(code, entry_of), code, entry_of }
    }

    fn of_literals(code: &'a Code) -> Self {
        let entry_of = |symbol: usize, length: usize| match symbol {
            0..END_OF_BLOCK => Entry::new(length, Kind::Literals),
            END_OF_BLOCK => Entry::new(length, Kind::End),
            265..285 => Entry::new(length + (symbol - 261) / 4, Kind::Length),
            _ => Entry::new(length, Kind::Length),
        };
        let mut table = Self { entries: by_index(code, entry_of), code, entry_of };
        table.join_literals();
        table
    }

    /// Makes an entry pass over all literals whose codes are whole in its index, and over what
    /// comes after them if its code is, too.
    fn join_literals(&mut self) {
        let single = self.entries.clone();
        let lengths = by_index(self.code, |_, length| length as u8);
        for (index, joined) in self.entries.iter_mut().enumerate() {
            while joined.kind() == Kind::Literals && joined.0 != 0 {
                let passed = joined.bits();
                let next = single[index >> passed];
                if next.0 == 0 || passed + usize::from(lengths[index >> passed]) > INDEX_BITS {
                    break;
                }
                *joined = Entry::new(passed + next.bits(), next.kind());
            }
        }
    }

    fn look(&self, bits: u64) -> Option<Entry> {
        let entry = self.entries[bits as usize & ((1 << INDEX_BITS) - 1)];
        if entry.0 != 0 {
            return Some(entry);
        }
        let (symbol, length) = self.code.decode(bits)?;
        Some((self.entry_of)(symbol, length))
    }
}

/// What `of` says of the symbol and the code's length, for each index that begins with a code.
fn by_index<T: Copy + Default>(code: &Code, of: impl Fn(usize, usize) -> T) -> Box<[T; 1 << INDEX_BITS]> {
    let mut all = Box::new([T::default(); 1 << INDEX_BITS]);
    for (symbol, code, length) in code.codes().take_while(|(.., length)| *length <= INDEX_BITS) {
        let first = usize::from(code.reverse_bits()) >> (16 - length);
        for index in (first..1 << INDEX_BITS).step_by(1 << length) {
            all[index] = of(symbol, length);
        }
    }
    all
}

#[cfg(test)]
#[path = "tests/deflate.rs"]
mod tests;
