//! `dbuild compare`: two builds, two Dockerfiles, two stages or two images, and how they differ.
//!
//! A word is the first of these that there is: the name of an image of the store, a Dockerfile, a
//! directory that has one, a build of the journal, an image by its digest, a stage. Dockerfiles,
//! directories and stages are built (which costs little when they were built before).

use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use dbuild_events::NoEvents;
use dbuild_report::{Build, Comparison, Contents, Inventory, image_files};
use dbuild_scheduler::Canceller;
use dbuild_store::Store;

use super::image_names::is_image_name;
use super::{print, print_json};
use crate::build::{self, dockerfile::default_dockerfile, resolve_images::image_named};
use crate::cli::{Cli, Command, CompareArgs, Global};
use crate::error::Error;
use crate::past_build::read_build;
use crate::session::Session;

/// One side: what is known of its build, and what its image holds.
struct Side {
    build: Build,
    inventory: Option<Inventory>,
}

/// `dbuild compare`.
pub(crate) fn run(global: &Global, args: &CompareArgs) -> Result<(), Error> {
    let session = Session::open(global)?;
    let _lease = session.store.lease().map_err(Error::failed)?;
    let a = side(&session, args, &args.a)?;
    let b = side(&session, args, &args.b)?;
    let mut comparison = compare_builds(&session.store, &a.build, &b.build);
    comparison.a.inventory = comparison.a.inventory.or(a.inventory);
    comparison.b.inventory = comparison.b.inventory.or(b.inventory);
    if args.json {
        return print_json(&comparison);
    }
    print(comparison.to_string().trim_end())
}

/// Two builds, with whatever the store still has of their layers and images.
pub(crate) fn compare_builds(store: &Store, a: &Build, b: &Build) -> Comparison {
    let contents = [a, b].map(|build| Contents::of(build, store));
    let mut comparison = Comparison::of((a, &contents[0]), (b, &contents[1]));
    let inventory = |build: &Build| image_files(build, store).map(|files| Inventory::of(&files));
    comparison.a.inventory = inventory(a);
    comparison.b.inventory = inventory(b);
    comparison
}

fn side(session: &Session, args: &CompareArgs, word: &str) -> Result<Side, Error> {
    let path = Path::new(word);
    let context = args.context.as_deref().unwrap_or(Path::new("."));
    let file = args.file.as_deref().map(|file| vec!["-f".to_owned(), file.display().to_string()]);
    if is_image_name(&session.store, word) {
        return image(session, word);
    }
    if path.join("Dockerfile").is_file() || (path.is_dir() && args.file.is_some()) {
        return built(session, &[file.unwrap_or_default(), vec![word.to_owned()]].concat());
    }
    let words = |more: &[&str]| -> Vec<String> {
        more.iter().map(|word| (*word).to_owned()).chain([context.display().to_string()]).collect()
    };
    if path.is_file() {
        // The directory of a Dockerfile is its context unless another is named.
        let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let context = args.context.as_deref().unwrap_or(beside).display().to_string();
        return built(session, &["-f".to_owned(), word.to_owned(), context]);
    }
    if word == "latest" || session.store.build(Some(word)).is_ok() {
        let (_, build) = read_build(&session.store, Some(word))?;
        return Ok(Side { build, inventory: None });
    }
    if session.store.image(word).is_ok() {
        return image(session, word);
    }
    if args.file.is_some() || default_dockerfile(context).is_some() {
        let target = [file.unwrap_or_default(), words(&["--target", word])].concat();
        return built(session, &target);
    }
    Err(Error::failed(format!("`{word}` is not a build, image, Dockerfile or directory"))
        .hint("`dbuild history` lists builds, `dbuild images` images; a stage needs --context DIR"))
}

/// Builds with these words of `dbuild build`; the image gets no name.
fn built(session: &Session, words: &[String]) -> Result<Side, Error> {
    let words = ["dbuild", "build"].into_iter().map(str::to_owned).chain(words.iter().cloned());
    let cli = Cli::try_parse_from(words).map_err(Error::usage)?;
    let Command::Build(flags) = cli.command else { return Err(Error::usage("only builds are compared")) };
    build::check(&flags)?;
    let (id, done) = build::run_in(session, &flags);
    done?;
    let id = id.ok_or_else(|| Error::failed("a build left no journal"))?;
    let (_, build) = read_build(&session.store, Some(id.as_str()))?;
    Ok(Side { build, inventory: None })
}

/// An image of the store: what it holds, and nothing of how it was built.
fn image(session: &Session, name: &str) -> Result<Side, Error> {
    let image = session.runtime.block_on(image_named(session, name))?;
    let image_bytes = image.layers.iter().map(|layer| layer.size).sum();
    let (_canceller, cancel) = Canceller::new();
    let blobs = Arc::new(session.registry.clone());
    let unpacking = image_files_of(session, blobs, image, cancel);
    let inventory = session.runtime.block_on(unpacking)?;
    let export = dbuild_report::Export {
        output: "type=image".to_owned(),
        names: vec![name.to_owned()],
        digest: None,
        size: image_bytes,
        unpacked: inventory.bytes,
    };
    let build = Build { id: "(image)".to_owned(), exports: vec![export], ..Build::default() };
    Ok(Side { build, inventory: Some(inventory) })
}

async fn image_files_of(
    session: &Session,
    blobs: Arc<dyn dbuild_scheduler::BlobSource>,
    image: dbuild_plan::BaseImage,
    cancel: dbuild_scheduler::Cancel,
) -> Result<Inventory, Error> {
    let events = Arc::new(NoEvents);
    let files = dbuild_scheduler::image_files(&session.store, blobs, events, image, cancel).await;
    Ok(Inventory::of(&files.map_err(Error::failed)?.stack))
}
