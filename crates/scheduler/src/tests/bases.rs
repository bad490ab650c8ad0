//! Base images that are unpacked while they come.

use std::fs;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dbuild_digest::BlobDigest;
use dbuild_events::Collector;
use dbuild_layer::{
    Compression, Ignore, LayerFiles, NoContentIndex, NoGzipBlocks, OverlayFlavor, PackOptions, PackedTar,
    Stack, UnpackLimits, decompress, pack, unpack, walk_context,
};
use dbuild_oci::{ImageConfig, Platform};
use dbuild_plan::{BaseImage, LayerDescriptor, StepId};
use dbuild_store::{Incoming, Snapshot, Store};
use tokio::sync::mpsc;

use crate::error::StepError;
use crate::schedule::cancel::{Cancel, Canceller};
use crate::steps::image::Bases;
use crate::{BlobSource, BlobSourceError};

/// How one attempt to download a blob goes.
#[derive(Clone)]
enum Attempt {
    /// These bytes come, and no more.
    Torn(Vec<u8>),
    /// These bytes come, and then none for ever.
    Hangs(Vec<u8>),
    /// These bytes come, and are said to be all.
    Whole(Vec<u8>),
    /// Somebody else brings the blob.
    Elsewhere(Vec<u8>),
}

/// Downloads that go as a test says.
struct Script {
    store: Store,
    attempts: Mutex<Vec<Attempt>>,
    /// Told when a download hangs.
    hangs: mpsc::UnboundedSender<()>,
}

#[async_trait::async_trait]
impl BlobSource for Script {
    async fn fetch(
        &self,
        _: &str,
        digest: &BlobDigest,
        size: u64,
        _: &str,
        incoming: Option<&Incoming>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), BlobSourceError> {
        loop {
            let attempt = self.attempts.lock().unwrap().pop().ok_or("the script is over")?;
            if let Attempt::Elsewhere(bytes) = &attempt {
                self.store.put_blob(bytes)?;
                return Ok(());
            }
            let mut writer = self.store.shown_blob_writer(incoming.unwrap())?;
            let (Attempt::Torn(bytes)
            | Attempt::Hangs(bytes)
            | Attempt::Whole(bytes)
            | Attempt::Elsewhere(bytes)) = &attempt;
            for piece in bytes.chunks(1000) {
                writer.write_all(piece)?;
                progress(writer.size());
                tokio::task::yield_now().await;
            }
            match attempt {
                Attempt::Hangs(_) => {
                    let _ = self.hangs.send(());
                    std::future::pending::<()>().await;
                }
                Attempt::Whole(_) => return Ok(writer.commit(Some(&(*digest, size))).map(drop)?),
                _ => {}
            }
        }
    }
}

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
    runtime: tokio::runtime::Runtime,
}

/// A layer as a registry has it.
struct Layer {
    bytes: Vec<u8>,
    packed: PackedTar,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store"), OverlayFlavor::User).unwrap();
        Self { dir, store, runtime: tokio::runtime::Runtime::new().unwrap() }
    }

    fn layer(&self, compression: Compression) -> Layer {
        self.layer_with(compression, "file")
    }

    /// A layer of 40 files whose names begin so.
    fn layer_with(&self, compression: Compression, name: &str) -> Layer {
        let root = tempfile::tempdir_in(self.dir.path()).unwrap();
        for number in 0..40_u32 {
            // It does not shrink to nothing, so that it comes in many pieces.
            let noise: Vec<u8> = (0..2000_u32).map(|at| ((at * at * (number + 3)) >> 5) as u8).collect();
            fs::write(root.path().join(format!("{name}{number}")), noise).unwrap();
        }
        let tree = walk_context(root.path(), &Ignore::default(), None, &NoContentIndex).unwrap();
        let mut bytes = Vec::new();
        let options = PackOptions { compression, ..PackOptions::default() };
        let packed =
            pack(&tree, &LayerFiles::Snapshot(root.path().to_owned()), &options, &NoGzipBlocks, &mut bytes)
                .unwrap();
        Layer { bytes, packed }
    }

    /// Brings an image of this one layer by downloads that go so, the first first.
    fn bring(
        &self,
        layer: &Layer,
        cancel: Cancel,
        mut attempts: Vec<Attempt>,
        hangs: mpsc::UnboundedSender<()>,
    ) -> Result<Arc<Vec<Snapshot>>, StepError> {
        attempts.reverse();
        let source = Script { store: self.store.clone(), attempts: Mutex::new(attempts), hangs };
        self.bases(source, cancel).layers(StepId(0), &image([layer]))
    }

    fn bases(&self, source: impl BlobSource + 'static, cancel: Cancel) -> Bases {
        let events = Arc::new(Collector::default());
        let runtime = self.runtime.handle().clone();
        Bases::new(self.store.clone(), Arc::new(source), events, runtime, cancel)
    }

    fn bring_freely(&self, layer: &Layer, attempts: Vec<Attempt>) -> Result<Arc<Vec<Snapshot>>, StepError> {
        let (_canceller, cancel) = Canceller::new();
        self.bring(layer, cancel, attempts, mpsc::unbounded_channel().0)
    }

    /// What is in one of the store's directories.
    fn count(&self, room: &str) -> usize {
        fs::read_dir(self.dir.path().join("store").join(room)).unwrap().count()
    }
}

fn image<'a>(layers: impl IntoIterator<Item = &'a Layer>) -> BaseImage {
    let layers = layers.into_iter().map(|layer| LayerDescriptor {
        digest: layer.packed.digest,
        size: layer.packed.size,
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
        diff_id: layer.packed.diff_id,
    });
    BaseImage {
        reference: "example.com/base".to_owned(),
        digest: BlobDigest::of(b"manifest"),
        platform: Platform::normalized("linux", "amd64", None),
        config: ImageConfig::default(),
        history: Vec::new(),
        layers: layers.collect(),
    }
}

#[track_caller]
fn is_whole(bench: &Bench, layer: &Layer, layers: &[Snapshot]) {
    assert_eq!(layers.len(), 1);
    assert_eq!(layers[0].tree.entries().len(), 40);
    let file = fs::read(layers[0].dir.as_ref().unwrap().join("file7")).unwrap();
    assert_eq!(file.len(), 2000);
    assert_eq!(bench.store.has_blob(&layer.packed.digest), Some(layer.packed.size));
}

#[test]
fn a_download_is_unpacked_whatever_happened_on_the_way() {
    for (name, script) in [
        ("at once", (|whole| vec![Attempt::Whole(whole)]) as fn(Vec<u8>) -> Vec<Attempt>),
        ("the second time", |whole| vec![Attempt::Torn(whole[..9000].to_vec()), Attempt::Whole(whole)]),
        ("after other bytes", |whole| vec![Attempt::Torn(vec![b'x'; 5000]), Attempt::Whole(whole)]),
        ("after all but the end", |whole| {
            vec![Attempt::Torn(whole[..whole.len() - 1].to_vec()), Attempt::Whole(whole)]
        }),
        ("by somebody else", |whole| vec![Attempt::Elsewhere(whole)]),
        ("by somebody else, then", |whole| {
            vec![Attempt::Torn(whole[..9000].to_vec()), Attempt::Elsewhere(whole)]
        }),
    ] {
        let bench = Bench::new();
        let before = bench.count("tmp");
        let layer = bench.layer(Compression::Gzip);
        let layers = bench.bring_freely(&layer, script(layer.bytes.clone()));
        is_whole(&bench, &layer, &layers.unwrap_or_else(|error| panic!("{name}: {error}")));
        assert_eq!((bench.count("tmp"), bench.count("snapshots")), (before, 1), "{name}");
    }
}

#[test]
fn every_compression_is_read_to_its_end() {
    for compression in [Compression::Zstd, Compression::Uncompressed] {
        let bench = Bench::new();
        let layer = bench.layer(compression);
        let layers = bench.bring_freely(&layer, vec![Attempt::Whole(layer.bytes.clone())]).unwrap();
        assert_eq!(layers[0].tree.entries().len(), 40, "{compression:?}");
    }
}

#[test]
fn what_is_not_the_blob_is_no_snapshot() {
    let bench = Bench::new();
    let before = bench.count("tmp");
    let layer = bench.layer(Compression::Gzip);
    // A tar that can be unpacked, of the right size, and not what the manifest names.
    let mut other = layer.bytes.clone();
    let at = other.len() / 2;
    other[at] ^= 1;
    bench.bring_freely(&layer, vec![Attempt::Whole(other)]).unwrap_err();
    // The right bytes, and a config that says otherwise of their content.
    let mut lie = bench.layer(Compression::Gzip);
    lie.packed.diff_id = BlobDigest::of(b"something else");
    let error = bench.bring_freely(&lie, vec![Attempt::Whole(lie.bytes.clone())]).unwrap_err();
    assert!(error.to_string().contains("the image's config says"), "{error}");
    // The right bytes, which are no layer.
    let bytes = b"no tar at all".to_vec();
    let digest = BlobDigest::of(&bytes);
    let packed = PackedTar { diff_id: digest, source: digest, digest, size: bytes.len() as u64, toc: None };
    let odd = Layer { bytes: bytes.clone(), packed };
    let error = bench.bring_freely(&odd, vec![Attempt::Whole(bytes)]).unwrap_err();
    assert!(matches!(&error, StepError::OfImage(_, inner) if matches!(**inner, StepError::BadLayer { .. })));
    assert_eq!((bench.count("tmp"), bench.count("snapshots")), (before, 0));
}

#[test]
fn a_signal_ends_a_download_that_hangs() {
    let bench = Bench::new();
    let before = bench.count("tmp");
    let layer = bench.layer(Compression::Gzip);
    let (canceller, cancel) = Canceller::new();
    let (sender, mut hangs) = mpsc::unbounded_channel();
    let attempts = vec![Attempt::Hangs(layer.bytes[..9000].to_vec())];
    let (brought, waited) = std::thread::scope(|scope| {
        let bringing = scope.spawn(|| bench.bring(&layer, cancel, attempts, sender));
        hangs.blocking_recv().unwrap();
        let signaled = Instant::now();
        canceller.cancel();
        (bringing.join().unwrap(), signaled.elapsed())
    });
    assert!(matches!(brought, Err(StepError::Stopped)));
    assert!(waited < Duration::from_secs(2), "{waited:?}");
    assert_eq!((bench.count("tmp"), bench.count("snapshots")), (before, 0));
    assert_eq!(bench.store.has_blob(&layer.packed.digest), None);
}

/// Has some blobs at once, says of one that it is not there, and never answers about others.
struct Holder {
    store: Store,
    blobs: Vec<Vec<u8>>,
    missing: Option<BlobDigest>,
}

#[async_trait::async_trait]
impl BlobSource for Holder {
    async fn fetch(
        &self,
        _: &str,
        digest: &BlobDigest,
        size: u64,
        _: &str,
        incoming: Option<&Incoming>,
        _: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<(), BlobSourceError> {
        if self.missing == Some(*digest) {
            return Err("it is not there".into());
        }
        let Some(bytes) = self.blobs.iter().find(|bytes| BlobDigest::of(bytes) == *digest) else {
            return std::future::pending().await;
        };
        let mut writer = self.store.shown_blob_writer(incoming.unwrap())?;
        writer.write_all(bytes)?;
        Ok(writer.commit(Some(&(*digest, size))).map(drop)?)
    }
}

#[test]
fn many_layers_come_in_their_order() {
    let bench = Bench::new();
    let layers: Vec<Layer> =
        (0..9).map(|at| bench.layer_with(Compression::Gzip, &format!("layer{at}-"))).collect();
    let blobs = layers.iter().map(|layer| layer.bytes.clone()).collect();
    let (_canceller, cancel) = Canceller::new();
    let bases = bench.bases(Holder { store: bench.store.clone(), blobs, missing: None }, cancel);
    let brought = bases.layers(StepId(0), &image(&layers)).unwrap();
    let has =
        |(at, layer): (usize, &Snapshot)| layer.dir.as_ref().unwrap().join(format!("layer{at}-7")).exists();
    assert_eq!((brought.len(), brought.iter().enumerate().all(has)), (9, true));
}

#[test]
fn a_layer_that_fails_ends_the_others() {
    let bench = Bench::new();
    let before = bench.count("tmp");
    let layers: Vec<Layer> =
        (0..9).map(|at| bench.layer_with(Compression::Gzip, &format!("layer{at}-"))).collect();
    let missing = Some(layers[2].packed.digest);
    let (_canceller, cancel) = Canceller::new();
    let bases = bench.bases(Holder { store: bench.store.clone(), blobs: Vec::new(), missing }, cancel);
    let error = bases.layers(StepId(0), &image(&layers)).unwrap_err();
    assert!(format!("{error:?}").contains("it is not there"), "{error:?}");
    assert_eq!((bench.count("tmp"), bench.count("snapshots")), (before, 0));
}

/// A layer's blob that claims the content of another one.
fn lie(blob: &Layer, content: &Layer) -> Layer {
    let packed = PackedTar { diff_id: content.packed.diff_id, ..blob.packed };
    Layer { bytes: blob.bytes.clone(), packed }
}

#[track_caller]
fn is_refused(error: &StepError) {
    let text = error.to_string();
    assert!(text.contains("its content is") && text.contains("the image's config says"), "{text}");
}

#[test]
fn an_image_that_claims_a_layer_which_is_unpacked_here_over_other_bytes_is_refused() {
    for is_here in [true, false] {
        let bench = Bench::new();
        let layer = bench.layer(Compression::Gzip);
        bench.bring_freely(&layer, vec![Attempt::Whole(layer.bytes.clone())]).unwrap();
        let lie = lie(&bench.layer_with(Compression::Gzip, "other"), &layer);
        let attempts = match is_here {
            true => {
                bench.store.put_blob(&lie.bytes).unwrap();
                Vec::new()
            }
            false => vec![Attempt::Whole(lie.bytes.clone())],
        };
        is_refused(&bench.bring_freely(&lie, attempts).unwrap_err());
        // Its blob is here now, and what it holds is no secret any more.
        is_refused(&bench.bring_freely(&lie, Vec::new()).unwrap_err());
        let (_canceller, cancel) = Canceller::new();
        let source = Holder { store: bench.store.clone(), blobs: Vec::new(), missing: None };
        is_refused(&bench.bases(source, cancel).ensure_blobs(StepId(0), &image([&lie])).unwrap_err());
        let layers = bench.bring_freely(&layer, Vec::new()).unwrap();
        is_whole(&bench, &layer, &layers);
    }
}

#[test]
fn an_image_whose_files_nobody_needs_is_verified_before_it_is_exported() {
    let bench = Bench::new();
    let (layer, other) = (bench.layer(Compression::Gzip), bench.layer_with(Compression::Gzip, "other"));
    let lie = lie(&other, &layer);
    let ensure = |layer: &Layer| {
        let blobs = vec![layer.bytes.clone()];
        let (_canceller, cancel) = Canceller::new();
        let source = Holder { store: bench.store.clone(), blobs, missing: None };
        bench.bases(source, cancel).ensure_blobs(StepId(0), &image([layer]))
    };
    is_refused(&ensure(&lie).unwrap_err());
    assert_eq!(bench.store.diff_id(&lie.packed.digest), None);
    ensure(&layer).unwrap();
    assert_eq!(bench.store.diff_id(&layer.packed.digest), Some(layer.packed.diff_id));
    assert_eq!(bench.count("snapshots"), 0);
}

#[test]
fn a_layer_that_an_earlier_version_unpacked_is_verified_when_it_is_used() {
    let bench = Bench::new();
    let layer = bench.layer(Compression::Gzip);
    let draft = bench.store.new_snapshot().unwrap();
    let unpacked = unpack(
        decompress(&*layer.bytes).unwrap(),
        &draft.fs_dir(),
        OverlayFlavor::User,
        &UnpackLimits::default(),
    );
    let made = unpacked.unwrap().complete(&Stack::default()).unwrap();
    bench.store.publish_base_snapshot(draft, &layer.packed.diff_id, made.tree).unwrap();
    bench.store.put_blob(&layer.bytes).unwrap();
    assert_eq!(bench.store.diff_id(&layer.packed.digest), None);
    let layers = bench.bring_freely(&layer, Vec::new()).unwrap();
    is_whole(&bench, &layer, &layers);
    assert_eq!(bench.store.diff_id(&layer.packed.digest), Some(layer.packed.diff_id));
    assert_eq!(bench.count("snapshots"), 1, "it was not unpacked again");
}
