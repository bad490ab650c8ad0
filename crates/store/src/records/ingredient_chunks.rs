//! How long lists of ingredients are kept: in pieces that lists share.
//!
//! A COPY of 20,000 files has 20,000 ingredients, and its next version differs in one. A list is
//! cut where its content says so, each piece is kept once under its digest, and so a version costs
//! one piece and a list of digests.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use dbuild_cache::{Ingredient, IngredientKind, IngredientList, Sink};
use dbuild_digest::Framed;
use rusqlite::{Connection, OptionalExtension as _, Transaction};
use serde::{Deserialize, Serialize};
use zstd::zstd_safe::{DCtx, ResetDirective};

/// The digest of a piece, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ChunkId(pub(crate) String);

/// On average, a piece has this many ingredients…
const AVERAGE: u64 = 256;
/// … and never more than this.
const LONGEST: usize = 1024;
/// Larger than any piece can be: what a damaged one may claim.
const LARGEST: u64 = 1 << 28;

/// Cuts a list while it is walked.
pub(crate) struct Cutter {
    framed: Framed,
    length: usize,
    /// The kind has no number of its own here; its name is as good.
    kind: Option<(IngredientKind, String)>,
}

impl Cutter {
    pub(crate) fn new() -> Self {
        Self { framed: Framed::new("ingredients", 1), length: 0, kind: None }
    }

    /// Takes an ingredient; if a piece ends with it, that one's digest.
    pub(crate) fn add(&mut self, kind: IngredientKind, name: &str, value: &str) -> Option<ChunkId> {
        let known = self.kind.take().filter(|(known, _)| *known == kind);
        let (_, of_kind) = self.kind.insert(known.unwrap_or_else(|| (kind, format!("{kind:?}"))));
        self.framed.str(of_kind).str(name).str(value);
        self.length += 1;
        let ends = self.length == LONGEST || fnv(name, value).is_multiple_of(AVERAGE);
        ends.then(|| self.end()).flatten()
    }

    /// The piece that the end of the list ends.
    pub(crate) fn end(&mut self) -> Option<ChunkId> {
        if self.length == 0 {
            return None;
        }
        self.length = 0;
        let framed = std::mem::replace(&mut self.framed, Framed::new("ingredients", 1));
        Some(ChunkId(framed.finish()[..16].iter().map(|byte| format!("{byte:02x}")).collect()))
    }
}

/// The pieces of a list.
pub(crate) fn chunks_of(list: &(impl IngredientList + ?Sized)) -> Vec<ChunkId> {
    struct Ids(Cutter, Vec<ChunkId>);
    impl Sink for Ids {
        fn add(&mut self, kind: IngredientKind, name: &str, value: &str) {
            self.1.extend(self.0.add(kind, name, value));
        }
    }
    let mut ids = Ids(Cutter::new(), Vec::new());
    list.walk(&mut ids);
    ids.1.extend(ids.0.end());
    ids.1
}

/// Pieces as they are kept.
pub(crate) type Packed = HashMap<ChunkId, Vec<u8>>;

/// Those pieces of a list that are wanted, packed. One of them is in memory at a time.
pub(crate) fn pack_chunks(list: &(impl IngredientList + ?Sized), wanted: &HashSet<ChunkId>) -> Packed {
    struct Pieces<'a> {
        cutter: Cutter,
        items: Vec<Ingredient>,
        wanted: &'a HashSet<ChunkId>,
        packed: Packed,
    }
    impl Pieces<'_> {
        fn ended(&mut self, id: Option<ChunkId>) {
            let Some(id) = id else { return };
            if self.wanted.contains(&id) && !self.packed.contains_key(&id) {
                // Of texts alone, into memory: neither can fail. What is missing all the same is an
                // error when it is stored.
                let json = serde_json::to_vec(&self.items).unwrap_or_default();
                self.packed.extend(zstd::bulk::compress(&json, 1).ok().map(|packed| (id, packed)));
            }
            self.items.clear();
        }
    }
    impl Sink for Pieces<'_> {
        fn add(&mut self, kind: IngredientKind, name: &str, value: &str) {
            self.items.add(kind, name, value);
            let id = self.cutter.add(kind, name, value);
            self.ended(id);
        }
    }
    if wanted.is_empty() {
        return Packed::new();
    }
    let mut pieces = Pieces { cutter: Cutter::new(), items: Vec::new(), wanted, packed: Packed::new() };
    list.walk(&mut pieces);
    let last = pieces.cutter.end();
    pieces.ended(last);
    pieces.packed
}

/// The pieces that are not kept.
pub(crate) fn missing_chunks(db: &Connection, ids: &[ChunkId]) -> rusqlite::Result<HashSet<ChunkId>> {
    let mut there = db.prepare_cached("SELECT 1 FROM ingredients WHERE id=?1")?;
    let mut missing = HashSet::new();
    for id in ids {
        if !there.exists([&id.0])? {
            missing.insert(id.clone());
        }
    }
    Ok(missing)
}

/// Keeps pieces.
pub(crate) fn write_chunks(
    db: &Transaction<'_>,
    ids: &HashSet<ChunkId>,
    packed: &Packed,
) -> rusqlite::Result<()> {
    let mut insert = db.prepare_cached("INSERT INTO ingredients (id, data) VALUES (?1, ?2)")?;
    for id in ids {
        let data = packed.get(id).ok_or(rusqlite::Error::InvalidQuery)?;
        insert.execute((&id.0, data))?;
    }
    Ok(())
}

/// The list that pieces make, or the first piece that is missing or damaged.
pub(crate) fn read_chunks(
    db: &Connection,
    ids: &[ChunkId],
) -> rusqlite::Result<Result<Vec<Ingredient>, ChunkId>> {
    let mut query = db.prepare_cached("SELECT data FROM ingredients WHERE id=?1")?;
    let mut list = Vec::new();
    for id in ids {
        let data: Option<Vec<u8>> = query.query_row([&id.0], |row| row.get(0)).optional()?;
        let items = data.and_then(|data| unpacked(&data)).filter(|items| chunk_id_is(items, id));
        match items {
            Some(items) => list.extend(items),
            None => return Ok(Err(id.clone())),
        }
    }
    Ok(Ok(list))
}

fn unpacked(data: &[u8]) -> Option<Vec<Ingredient>> {
    thread_local! {
        /// To make one costs more than to read a piece with it.
        static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    }
    CONTEXT.with_borrow_mut(|context| {
        context.reset(ResetDirective::SessionOnly).ok()?;
        let reader = zstd::Decoder::with_context(data, context);
        serde_json::from_reader(std::io::BufReader::new(std::io::Read::take(reader, LARGEST))).ok()
    })
}

fn chunk_id_is(items: &[Ingredient], id: &ChunkId) -> bool {
    chunks_of(items) == std::slice::from_ref(id)
}

fn fnv(name: &str, value: &str) -> u64 {
    let hash = name.bytes().chain(value.bytes()).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash >> 17
}
