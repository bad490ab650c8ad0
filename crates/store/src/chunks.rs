//! How long lists of ingredients are kept: in pieces that lists share.
//!
//! A COPY of 20,000 files has 20,000 ingredients, and its next version differs in one. A list is cut where its content says
//! so, each piece is kept once under its digest, and so a version costs one piece and a list of digests.

use std::cell::RefCell;

use dbuild_cache::Ingredient;
use dbuild_digest::Framed;
use rusqlite::{Connection, OptionalExtension as _, Transaction};
use serde::{Deserialize, Serialize};
use zstd::zstd_safe::{DCtx, ResetDirective};

/// The digest of a piece, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct ChunkId(pub(crate) String);

/// A piece of a list.
pub(crate) struct Chunk<'a> {
    pub(crate) id: ChunkId,
    items: &'a [Ingredient],
}

/// On average, a piece has this many ingredients…
const AVERAGE: u64 = 256;
/// … and never more than this.
const LONGEST: usize = 1024;
/// Larger than any piece can be: what a damaged one may claim.
const LARGEST: u64 = 1 << 28;

/// Cuts a list.
pub(crate) fn chunks_of(list: &[Ingredient]) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut start = 0;
    let mut framed = Framed::new("ingredients", 1);
    for (index, item) in list.iter().enumerate() {
        // The kind has no number of its own here; its name is as good.
        framed.str(&format!("{:?}", item.kind)).str(&item.name).str(&item.value);
        let last = index + 1 == list.len() || index + 1 - start == LONGEST;
        if last || fnv(item).is_multiple_of(AVERAGE) {
            let id = framed.finish()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            chunks.push(Chunk { id: ChunkId(id), items: &list[start..=index] });
            start = index + 1;
            framed = Framed::new("ingredients", 1);
        }
    }
    chunks
}

/// Keeps the pieces that are not kept yet.
pub(crate) fn write_chunks(db: &Transaction<'_>, chunks: &[Chunk<'_>]) -> rusqlite::Result<()> {
    let mut there = db.prepare_cached("SELECT 1 FROM ingredients WHERE id=?1")?;
    let mut insert = db.prepare_cached("INSERT INTO ingredients (id, data) VALUES (?1, ?2)")?;
    for chunk in chunks {
        if !there.exists([&chunk.id.0])? {
            let json = serde_json::to_vec(chunk.items).unwrap_or_default();
            let packed = zstd::bulk::compress(&json, 1)
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
            insert.execute((&chunk.id.0, packed))?;
        }
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
    matches!(chunks_of(items).as_slice(), [chunk] if chunk.id == *id)
}

fn fnv(item: &Ingredient) -> u64 {
    let bytes = item.name.bytes().chain(item.value.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash >> 17
}
