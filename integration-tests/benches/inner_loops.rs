//! The inner loops of a build, each alone: parse, lower, key, walk, hash, tar, gzip, unpack.
//!
//! Inputs are made here and are always the same: a Dockerfile in memory and a directory of small
//! files that is gone afterwards. Whole builds are timed by `scripts/bench.py`; this tells which of
//! their parts became slower. What each measures stands in `docs/internals/performance.md`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use dbuild_cache::{Inputs, SelectedPath, SelectedPaths, is_external, key_of, strategies};
use dbuild_digest::{BlobDigest, ContentDigest, StepKey, TreeDigest};
use dbuild_frontend::{BuildArgs, Dockerfile, Resolved, Source, lower, needed, parse};
use dbuild_layer::{
    AskedFile, Compression, ContentIndex, FileStat, Ignore, LayerFiles, LearnedFile, NoContentIndex,
    NoGzipBlocks, OverlayFlavor, OverlayFormat, Ownership, PackOptions, Stack, Tree, TreePath, UnpackLimits,
    decompress, pack, repack, unpack, walk_context,
};
use dbuild_oci::ImageConfig;
use dbuild_plan::{BaseImage, LayerDescriptor, Plan, StepId};

/// Stages of the Dockerfile, besides the first and the last.
const STAGES: usize = 100;
/// Directories of the context.
const DIRS: usize = 40;
/// Files in each of them.
const FILES_IN_DIR: usize = 25;
/// The size of the largest file; on average they are half as large.
const LARGEST: usize = 16 << 10;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    plans(&mut criterion);
    hashes(&mut criterion);
    let context = Context::new();
    walks(&mut criterion, &context);
    layers(&mut criterion, &context);
    criterion.final_summary();
}

/// Dockerfile to plan to keys; nothing is read.
fn plans(criterion: &mut Criterion) {
    let source = Source::new("Dockerfile", dockerfile());
    let ast = parse(&source).into_result().unwrap();
    let args = BuildArgs { build_platform: "linux/amd64".parse().unwrap(), ..BuildArgs::default() };
    let resolved = resolved(&ast, &args);
    let plan = lower(&ast, &args, &resolved).unwrap().plan;

    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Bytes(source.text.len() as u64));
    group.bench_function("Dockerfile", |bencher| bencher.iter(|| parse(black_box(&source))));
    group.finish();

    let mut group = criterion.benchmark_group("lower");
    group.throughput(Throughput::Elements(plan.len() as u64));
    group.bench_function("steps", |bencher| bencher.iter(|| lower(black_box(&ast), &args, &resolved)));
    group.finish();

    let inputs = Known::new(&plan);
    let keyed: Vec<_> = plan.steps().map(|(_, step)| step).filter(|step| !is_external(&step.kind)).collect();
    let mut group = criterion.benchmark_group("key");
    group.throughput(Throughput::Elements(keyed.len() as u64));
    for strategy in strategies() {
        group.bench_function(strategy.name(), |bencher| {
            bencher.iter(|| {
                for step in &keyed {
                    black_box(key_of(*strategy, step, &inputs).unwrap());
                }
            });
        });
    }
    group.finish();
}

fn hashes(criterion: &mut Criterion) {
    let bytes = Text::default().take(8 << 20);
    let mut group = criterion.benchmark_group("hash");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("sha256 of a blob", |bencher| bencher.iter(|| BlobDigest::of(black_box(&bytes))));
    group.bench_function("blake3 of a file", |bencher| bencher.iter(|| ContentDigest::of(black_box(&bytes))));
    group.finish();
}

/// Directory to index.
fn walks(criterion: &mut Criterion, context: &Context) {
    let ignore = Ignore::from_patterns(&["**/*.o", "**/target", "!keep.o", ".git"]).unwrap();
    let walk = |index: &dyn ContentIndex| walk_context(&context.dir, &ignore, None, index).unwrap();

    let mut group = criterion.benchmark_group("walk");
    group.throughput(Throughput::Elements((DIRS * FILES_IN_DIR) as u64));
    group.bench_function("files that are read", |bencher| bencher.iter(|| walk(&NoContentIndex)));
    let index = Remembered::default();
    walk(&index);
    group.bench_function("files that are known", |bencher| bencher.iter(|| walk(&index)));
    group.throughput(Throughput::Elements(context.tree.entries().len() as u64));
    group.bench_function("digest of the index", |bencher| {
        // A tree keeps its digest once it was asked for.
        let entries = || context.tree.entries().to_vec();
        bencher.iter_batched(
            entries,
            |entries| Tree::from_entries(entries).unwrap().digest(),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

/// Index and files to a layer, and back.
fn layers(criterion: &mut Criterion, context: &Context) {
    let uncompressed = PackOptions { compression: Compression::Uncompressed, ..PackOptions::default() };
    let mut tar = Vec::new();
    let files = LayerFiles::Live(context.dir.clone());
    pack(&context.tree, &files, &uncompressed, &NoGzipBlocks, &mut tar).unwrap();
    let mut zipped = Vec::new();
    repack(tar.as_slice(), &PackOptions::default(), &NoGzipBlocks, &mut zipped).unwrap();

    let mut group = layer_group(criterion, "tar", &tar);
    group.bench_function("write", |bencher| {
        bencher.iter(|| pack(&context.tree, &files, &uncompressed, &NoGzipBlocks, io::sink()).unwrap());
    });
    group.finish();

    let mut group = layer_group(criterion, "gzip", &tar);
    group.bench_function("compress", |bencher| {
        bencher.iter(|| {
            repack(black_box(tar.as_slice()), &PackOptions::default(), &NoGzipBlocks, io::sink()).unwrap()
        });
    });
    group.bench_function("decompress", |bencher| {
        bencher.iter(|| io::copy(&mut decompress(black_box(zipped.as_slice())).unwrap(), &mut io::sink()));
    });
    group.finish();

    let mut group = layer_group(criterion, "unpack", &tar);
    let form = OverlayFormat { flavor: OverlayFlavor::User, ownership: Ownership::BestEffort };
    group.bench_function("tar", |bencher| {
        bencher.iter_batched(
            || tempfile::tempdir().unwrap(),
            |out| {
                let unpacked = unpack(tar.as_slice(), out.path(), form, &UnpackLimits::default()).unwrap();
                let made = unpacked.complete(&Stack::new(Vec::new())).unwrap();
                // The directory is removed when the clock has stopped.
                (made, out)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Rates are of bytes of the tar. An iteration takes long, so each sample has as many as the
/// others.
fn layer_group<'a>(criterion: &'a mut Criterion, name: &str, tar: &[u8]) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(tar.len() as u64)).sampling_mode(SamplingMode::Flat);
    group
}

/// What people write: variables, continued lines, mounts, here-documents, copies between stages.
fn dockerfile() -> String {
    let mut text = "# syntax=docker/dockerfile:1\nARG RELEASE=1.2\nFROM debian:12 AS base\nARG RELEASE\n\
                    ENV RELEASE=${RELEASE} LANG=C.UTF-8\nRUN apt-get update && apt-get install -y make\n"
        .to_owned();
    for stage in 0..STAGES {
        write!(
            text,
            "\n# Part {stage}.\nFROM base AS part{stage}\nARG LEVEL=2\nENV PART=\"{stage}\" PATH=/opt/{stage}/bin:$PATH\n\
             WORKDIR /src/{stage}\nCOPY --chown=10:10 lib/{stage} include/*.h ./\n\
             RUN --mount=type=cache,target=/root/.cache,id=part{stage} \\\n    make LEVEL=${{LEVEL:-1}} \\\n    && make install\n\
             RUN <<EOF\nset -e\necho $PART > /out\nEOF\n"
        )
        .unwrap();
    }
    text.push_str("\nFROM base\n");
    for stage in 0..STAGES {
        writeln!(text, "COPY --from=part{stage} /out /parts/{stage}").unwrap();
    }
    text.push_str("CMD [\"/parts/0\"]\n");
    text
}

/// Answers every request for an image.
fn resolved(ast: &Dockerfile, args: &BuildArgs) -> Resolved {
    let mut resolved = Resolved::default();
    for request in needed(ast, args, &Resolved::default()).unwrap() {
        let digest = BlobDigest::of(request.reference.as_bytes());
        let layer = LayerDescriptor {
            digest,
            size: 1,
            media_type: Compression::Gzip.media_type().to_owned(),
            diff_id: digest,
        };
        let image = BaseImage {
            reference: request.reference.clone(),
            digest,
            platform: request.platform.clone(),
            config: ImageConfig { env: vec!["PATH=/usr/bin:/bin".to_owned()], ..ImageConfig::default() },
            history: Vec::new(),
            layers: vec![layer],
        };
        resolved.insert(&request, image);
    }
    resolved
}

/// Everything is known of every input.
struct Known<'a> {
    plan: &'a Plan,
    selected: Vec<SelectedPath>,
}

impl<'a> Known<'a> {
    fn new(plan: &'a Plan) -> Self {
        let content = ContentDigest::of(b"content").hex();
        let path = |at: u32| SelectedPath::new(format!("src/{at:02}.c"), "file", 0o644, 0, 0, &content);
        Self { plan, selected: (0..16).map(path).collect() }
    }

    fn bytes(input: StepId) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&input.0.to_le_bytes());
        bytes
    }
}

impl Inputs for Known<'_> {
    fn key(&self, input: StepId) -> Option<StepKey> {
        Some(StepKey::from_bytes(Self::bytes(input)))
    }

    fn output(&self, input: StepId) -> Option<TreeDigest> {
        Some(TreeDigest::from_bytes(Self::bytes(input)))
    }

    fn selected(&self, _source: usize) -> Option<SelectedPaths> {
        Some(Box::new(self.selected.clone().into_iter()))
    }

    fn is_external(&self, input: StepId) -> bool {
        is_external(&self.plan.step(input).kind)
    }
}

/// A directory of many small files and its index.
struct Context {
    dir: PathBuf,
    tree: Tree,
    /// Removes the directory.
    _space: tempfile::TempDir,
}

impl Context {
    fn new() -> Self {
        let space = tempfile::tempdir().unwrap();
        let mut text = Text::default();
        for dir in 0..DIRS {
            let dir = space.path().join(format!("package-{dir:02}/src"));
            fs::create_dir_all(&dir).unwrap();
            for file in 0..FILES_IN_DIR {
                let size = text.below(LARGEST);
                fs::write(dir.join(format!("file-{file:02}.c")), text.take(size)).unwrap();
            }
        }
        let tree = walk_context(space.path(), &Ignore::default(), None, &NoContentIndex).unwrap();
        Self { dir: space.path().to_owned(), tree, _space: space }
    }
}

/// Remembers in memory what the store has in its database.
#[derive(Default)]
struct Remembered(Mutex<HashMap<TreePath, (FileStat, ContentDigest)>>);

impl ContentIndex for Remembered {
    fn get_many<'a>(
        &self,
        _root: &Path,
        files: &mut dyn Iterator<Item = AskedFile<'a>>,
    ) -> Vec<Option<ContentDigest>> {
        let known = self.0.lock().unwrap();
        let of = |(path, stat): AskedFile<'_>| {
            known.get(path).filter(|(known, _)| *known == stat).map(|(_, content)| *content)
        };
        files.map(of).collect()
    }

    fn put_many<'a>(&self, _root: &Path, files: &mut dyn Iterator<Item = LearnedFile<'a>>) {
        let files = files.map(|(path, stat, content)| (path.clone(), (stat, content)));
        self.0.lock().unwrap().extend(files);
    }
}

/// Words in an order that has no period worth mentioning (xorshift): it shrinks as text does, not
/// as zeros or noise.
struct Text {
    state: u64,
    words: Vec<String>,
}

impl Default for Text {
    fn default() -> Self {
        let mut text = Self { state: 0x2545_f491_4f6c_dd1d, words: Vec::new() };
        text.words = (0..4096).map(|_| format!("{:x} ", text.below(1 << 28))).collect();
        text
    }
}

impl Text {
    fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        usize::try_from(self.state % bound as u64).unwrap()
    }

    fn take(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size + 16);
        while bytes.len() < size {
            let word = self.below(self.words.len());
            bytes.extend_from_slice(self.words[word].as_bytes());
        }
        bytes.truncate(size);
        bytes
    }
}
