//! eStargz as its readers read it: the footer, the table, and each file from its own place.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use dbuild_digest::{BlobDigest, ContentDigest};
use flate2::bufread::GzDecoder;
use flate2::read::MultiGzDecoder;
use serde_json::Value;

use super::{CHUNK, Header, TOC, compress};
use crate::archive::tar_reader;
use crate::testing::{Space, TarBuilder, at, form, raw_header};
use crate::{
    Compression, GzipBlockForm, GzipBlocks, LayerError, NoGzipBlocks, PackOptions, PackedTar, Stack, Tree,
    UnpackLimits, WrittenGzipBlock, pack, repack, unpack,
};

const ESTARGZ: PackOptions =
    PackOptions { compression: Compression::Estargz, level: None, clamp_mtime: None };
const GZIP: PackOptions = PackOptions { compression: Compression::Gzip, ..ESTARGZ };
/// The landmark: its header, and its byte in a block.
const LANDMARK_BYTES: usize = 1024;

/// A layer that was opened.
struct OpenedFiles {
    table_at: usize,
    entries: Vec<Value>,
    /// All of it, decompressed.
    tar: Vec<u8>,
}

fn open(blob: &[u8], packed: &PackedTar) -> OpenedFiles {
    assert_eq!((blob.len() as u64, BlobDigest::of(blob)), (packed.size, packed.digest));
    let footer = &blob[blob.len() - 51..];
    assert_eq!(&footer[..16], b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0");
    assert_eq!((&footer[32..38], &footer[38..]), (&b"STARGZ"[..], &b"\x01\0\0\xff\xff\0\0\0\0\0\0\0\0"[..]));
    let at = std::str::from_utf8(&footer[16..32]).unwrap();
    let table_at = usize::from_str_radix(at, 16).unwrap();
    // One member, up to the footer.
    let mut member = GzDecoder::new(&blob[table_at..]);
    let mut table = Vec::new();
    member.read_to_end(&mut table).unwrap();
    assert_eq!(member.into_inner().len(), 51);
    let mut reader = tar_reader::Reader::new(table.as_slice(), u64::MAX);
    let header = reader.next().unwrap().unwrap();
    assert_eq!(header.name, TOC.as_bytes());
    let json = data(&mut reader);
    assert_eq!(reader.next().unwrap(), None);
    let mut tar = Vec::new();
    MultiGzDecoder::new(blob).read_to_end(&mut tar).unwrap();
    let info = packed.toc.unwrap();
    assert_eq!(info.digest, BlobDigest::of(&json));
    assert_eq!((info.uncompressed_size, packed.diff_id), (tar.len() as u64, BlobDigest::of(&tar)));
    assert!(tar.ends_with(&table), "the table is the last entry");
    let json: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["version"], 1);
    OpenedFiles { table_at, entries: json["entries"].as_array().unwrap().clone(), tar }
}

fn data<R: std::io::Read>(reader: &mut tar_reader::Reader<R>) -> Vec<u8> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match reader.read_data(&mut buffer).unwrap() {
            0 => return all,
            got => all.extend_from_slice(&buffer[..got]),
        }
    }
}

impl OpenedFiles {
    /// Every file, read through the table alone, each chunk compared with its digest.
    fn files(&self, blob: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut sizes = BTreeMap::new();
        for entry in &self.entries {
            let (name, kind) = (entry["name"].as_str().unwrap().to_owned(), entry["type"].as_str().unwrap());
            if kind == "reg" {
                assert!(files.insert(name.clone(), Vec::new()).is_none(), "{name} twice");
                sizes.insert(name.clone(), entry["size"].as_u64().unwrap_or(0));
            }
            let Some(offset) = entry["offset"].as_u64() else { continue };
            let file = files.get_mut(&name).unwrap();
            assert_eq!(entry["chunkOffset"].as_u64().unwrap_or(0), file.len() as u64);
            let size = entry["chunkSize"].as_u64().unwrap_or(sizes[&name] - file.len() as u64);
            let mut chunk = vec![0; size as usize];
            assert!(offset < self.table_at as u64);
            GzDecoder::new(&blob[offset as usize..]).read_exact(&mut chunk).unwrap();
            assert_eq!(entry["chunkDigest"], BlobDigest::of(&chunk).to_string());
            file.extend_from_slice(&chunk);
        }
        for entry in self.entries.iter().filter(|entry| entry["type"] == "reg") {
            let file = &files[entry["name"].as_str().unwrap()];
            assert_eq!(file.len() as u64, entry["size"].as_u64().unwrap_or(0));
            if !file.is_empty() {
                assert_eq!(entry["digest"], BlobDigest::of(file).to_string());
            }
        }
        files
    }

    /// The headers and files of the tar, the table's last.
    fn headers(&self) -> Vec<(Header, Vec<u8>)> {
        let mut reader = tar_reader::Reader::new(self.tar.as_slice(), u64::MAX);
        std::iter::from_fn(|| reader.next().unwrap().map(|header| (header, data(&mut reader)))).collect()
    }

    fn entry(&self, name: &str) -> String {
        self.entries.iter().find(|entry| entry["name"] == name).unwrap().to_string()
    }
}

fn noise(length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at.wrapping_mul(at ^ 0x9e37_79b9) >> 11) as u8).collect()
}

/// A layer of all kinds, with a file of three chunks and one of exactly one.
fn some(space: &Space) -> Stack {
    let dir = space.files("l", &["a 0600 = 12345", "b => a", "d/l -> ../a", "d/p |", "empty", "z = last"]);
    std::fs::write(dir.join("big"), noise(2 * CHUNK + 77)).unwrap();
    std::fs::write(dir.join("chunk"), noise(CHUNK)).unwrap();
    space.layer("l", &[])
}

fn packed(tree: &Tree, space: &Space, options: &PackOptions) -> (Vec<u8>, PackedTar) {
    let mut bytes = Vec::new();
    let packed =
        pack(tree, &crate::LayerFiles::Snapshot(space.path("l")), options, &NoGzipBlocks, &mut bytes)
            .unwrap();
    (bytes, packed)
}

fn repacked(from: &[u8], options: &PackOptions) -> (Vec<u8>, PackedTar) {
    let mut bytes = Vec::new();
    let packed = repack(from, options, &NoGzipBlocks, &mut bytes).unwrap();
    (bytes, packed)
}

#[test]
fn every_file_can_be_read_without_the_rest() {
    let space = Space::new();
    let layer = some(&space);
    let (blob, packed) = packed(&layer.layers()[0].tree, &space, &ESTARGZ);
    let opened = open(&blob, &packed);
    let files = opened.files(&blob);
    let of_tar = opened.headers();
    assert_eq!(of_tar.first().unwrap().0.name, b".no.prefetch.landmark");
    for (header, bytes) in
        of_tar.iter().filter(|(header, _)| header.kind == b'0' && header.name != TOC.as_bytes())
    {
        assert!(&files[std::str::from_utf8(&header.name).unwrap()] == bytes, "{header:?}");
    }
    let chunks = opened.entries.iter().filter(|entry| entry["name"] == "big");
    let chunks: Vec<_> = chunks.map(|entry| (entry["type"].clone(), entry["chunkSize"].clone())).collect();
    let size = Value::from(CHUNK);
    assert_eq!(chunks, [("reg".into(), size.clone()), ("chunk".into(), size), ("chunk".into(), Value::Null)]);
    insta::assert_snapshot!(opened.entry(".no.prefetch.landmark").split_once("\"offset\"").unwrap().0, @r#"{"chunkDigest":"sha256:dc0e9c3658a1a3ed1ec94274d8b19925c93e1abb7ddba294923ad9bde30f8cb8","digest":"sha256:dc0e9c3658a1a3ed1ec94274d8b19925c93e1abb7ddba294923ad9bde30f8cb8","gid":0,"mode":420,"modtime":"1970-01-01T00:00:00Z","name":".no.prefetch.landmark","#);
    insta::assert_snapshot!(opened.entry("b"), @r#"{"gid":0,"linkName":"a","mode":384,"modtime":"1970-01-12T13:46:40Z","name":"b","type":"hardlink","uid":0}"#);
    insta::assert_snapshot!(opened.entry("empty"), @r#"{"gid":0,"mode":420,"modtime":"1970-01-12T13:46:40Z","name":"empty","type":"reg","uid":0}"#);
    let plain = packed_plain(&layer, &space);
    assert_eq!(packed.source, plain.diff_id, "the tar is the one that gzip packs");
    assert_ne!(packed.diff_id, plain.diff_id);
}

fn packed_plain(layer: &Stack, space: &Space) -> PackedTar {
    let plain = packed(&layer.layers()[0].tree, space, &GZIP).1;
    assert_eq!((plain.source, plain.toc), (plain.diff_id, None));
    plain
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let space = Space::new();
    let layer = some(&space);
    let tar = packed(
        &layer.layers()[0].tree,
        &space,
        &PackOptions { compression: Compression::Uncompressed, ..GZIP },
    )
    .0;
    let of_threads = |threads| {
        let mut out = Vec::new();
        let produce =
            |sink: &mut dyn crate::pack::gzip::Sink| sink.write_all(&tar).map_err(LayerError::Output);
        let ((), diff_id, info) = compress(4, threads, &NoGzipBlocks, &mut out, produce).unwrap();
        (out, diff_id, info)
    };
    let alone = of_threads(1);
    for threads in [2, 3, 7] {
        assert!(of_threads(threads) == alone, "{threads} threads");
    }
}

/// What other tools write, and what an image may bring along: attributes, devices, times, a table
/// of its own.
fn foreign() -> TarBuilder {
    let records = [
        TarBuilder::record("SCHILY.xattr.user.k", b"\x00\xff"),
        TarBuilder::record("mtime", b"-1.5"),
        TarBuilder::record("path", "é/x".as_bytes()),
    ];
    let device = raw_header(b'3', "dev", "", 0, |block| {
        block[329..336].copy_from_slice(b"0000001");
        block[337..344].copy_from_slice(b"0000003");
    });
    TarBuilder::default()
        .dir("./")
        .file("./f", b"12345")
        .member(b'g', "global", "", &TarBuilder::record("comment", b"x"))
        .pax(&records.concat())
        .file("x", b"abc")
        .raw(&device)
        .file("old/", b"")
        .file(".wh.gone", b"")
}

#[test]
fn a_layer_of_others_keeps_its_entries_byte_by_byte() {
    let original = foreign().0;
    let own =
        TarBuilder::default().file("./.prefetch.landmark", &[0xf]).file("stargz.index.json", &[b' '; 700]);
    let tar = TarBuilder([own.0, original.clone()].concat()).file(".no.prefetch.landmark", &[0xf]).end();
    let (blob, packed) = repacked(&tar, &ESTARGZ);
    assert_eq!(packed.source, BlobDigest::of(&tar));
    let opened = open(&blob, &packed);
    assert!(opened.tar[LANDMARK_BYTES..].starts_with(&original));
    let table = opened.tar.len() - LANDMARK_BYTES - original.len();
    assert_eq!(&opened.tar[opened.tar.len() - table..][..TOC.len()], TOC.as_bytes());
    let files = opened.files(&blob);
    assert_eq!((&files["./f"][..], &files["é/x"][..]), (&b"12345"[..], &b"abc"[..]));
    let names: Vec<_> =
        opened.entries.iter().map(|entry| format!("{} {}", entry["type"], entry["name"])).collect();
    insta::assert_snapshot!(names.join("\n"), @r#"
    "reg" ".no.prefetch.landmark"
    "dir" "./"
    "reg" "./f"
    "reg" "é/x"
    "char" "dev"
    "dir" "old/"
    "reg" ".wh.gone"
    "#);
    insta::assert_snapshot!(opened.entry("dev"), @r#"{"devMajor":1,"devMinor":3,"gid":0,"mode":420,"modtime":"1970-01-12T13:46:40Z","name":"dev","type":"char","uid":0}"#);
    let entry = opened.entry("é/x");
    assert!(
        entry.contains(r#""modtime":"1969-12-31T23:59:58Z""#)
            && entry.contains(r#""xattrs":{"user.k":"AP8="}"#),
        "{entry}"
    );
    assert_eq!(repacked(&blob, &ESTARGZ).0, blob, "once more changes nothing");
}

#[test]
fn what_cannot_be_told_is_refused() {
    let error = repack(
        &TarBuilder::default().member(b'V', "v", "", b"").end()[..],
        &ESTARGZ,
        &NoGzipBlocks,
        Vec::new(),
    );
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "the archive's entry `v` has the type `V`, which eStargz does not know");
    // Nobody takes a tar that is cut for a whole one.
    let cut = foreign().0;
    assert!(repack(&cut[..cut.len() - 700], &ESTARGZ, &NoGzipBlocks, Vec::new()).is_err());
}

#[test]
fn unpacked_it_is_what_was_packed() {
    let space = Space::new();
    let names = |tar: &[u8], name: &str| {
        let out = space.dir(name);
        let unpacked = unpack(tar, &out, form(), &UnpackLimits::default()).unwrap();
        let made = unpacked.complete(&Stack::default()).unwrap();
        assert!(!out.join(".wh..dbuild-spool").exists());
        let on_disk = std::fs::read_dir(&out).unwrap().count();
        let names = made.tree.entries().iter().map(|entry| entry.path.to_string()).collect::<Vec<_>>();
        (names, on_disk)
    };
    let tar = TarBuilder::default().file("a", b"1").dir("d/").file("d/stargz.index.json", b"{}").end();
    let blob = repacked(&tar, &ESTARGZ).0;
    let mut wrapped = Vec::new();
    MultiGzDecoder::new(&blob[..]).read_to_end(&mut wrapped).unwrap();
    assert_eq!(names(&wrapped, "wrapped"), names(&tar, "plain"));
    // Files that are only called so are files.
    let alike = TarBuilder::default().file("a", b"1").file("stargz.index.json", b"{}").end();
    assert!(names(&alike, "alike").0.contains(&at("stargz.index.json").to_string()));
}

#[test]
fn the_programs_of_others_read_it() {
    let space = Space::new();
    let layer = some(&space);
    let file = space.path("layer.tar.gz");
    std::fs::write(&file, packed(&layer.layers()[0].tree, &space, &ESTARGZ).0).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).arg(&file).output().unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    run("gzip", &["-t"]);
    let listed = run("tar", &["-tf"]);
    let listed: Vec<&str> = listed.lines().collect();
    assert_eq!((listed[0], listed[1]), (".no.prefetch.landmark", "a"));
    assert_eq!(listed.last(), Some(&TOC));
}

/// Members as a store keeps them, and how many were taken.
#[derive(Default)]
struct Kept {
    members: Mutex<HashMap<(ContentDigest, u32), Vec<u8>>>,
    taken: AtomicUsize,
}

impl GzipBlocks for Kept {
    fn find(&self, content: &ContentDigest, level: u32, _: GzipBlockForm) -> Option<Vec<u8>> {
        let found = self.members.lock().unwrap().get(&(*content, level)).cloned();
        self.taken.fetch_add(usize::from(found.is_some()), Ordering::Relaxed);
        found
    }

    fn written(&self, member: &WrittenGzipBlock<'_>) {
        self.members.lock().unwrap().insert((member.content, member.level), member.bytes.to_vec());
    }
}

#[test]
fn what_was_compressed_before_is_taken_and_gives_the_same_bytes() {
    let space = Space::new();
    some(&space);
    let text: String = (0..600_000).map(|n| format!("{n} ")).collect();
    std::fs::write(space.path("l/text"), &text).unwrap();
    let kept = Kept::default();
    let pack = |members: &dyn GzipBlocks| {
        let layer = space.layer("l", &[]);
        let mut bytes = Vec::new();
        let files = crate::LayerFiles::Snapshot(space.path("l"));
        pack(&layer.layers()[0].tree, &files, &ESTARGZ, members, &mut bytes).unwrap();
        bytes
    };
    pack(&kept);
    // Chunks of one layer can be alike.
    kept.taken.store(0, Ordering::Relaxed);
    std::fs::write(space.path("l/a"), "another").unwrap();
    let again = pack(&kept);
    // The text is more than three chunks.
    assert!(kept.taken.load(Ordering::Relaxed) >= 3, "{:?}", kept.taken);
    assert!(again == pack(&NoGzipBlocks));
}
