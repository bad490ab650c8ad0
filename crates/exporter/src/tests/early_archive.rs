//! Archives that are begun before the image is known.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use dbuild_digest::BlobDigest;
use dbuild_store::{Incoming, IncomingBlob};

use super::{Bench, names};
use crate::image_blobs::ImageBlobs;
use crate::{EarlyArchive, Export, Image, OutputSpec};

fn spec(bench: &Bench, name: &str) -> OutputSpec {
    format!("type=oci,dest={}", bench.path(name).display()).parse().unwrap()
}

fn write(bench: &Bench, image: &Image, name: &str, early: Option<EarlyArchive>) -> Vec<u8> {
    let (store, spec, names) = (&bench.store, spec(bench, name), names(&["app:1"]));
    let image = Some(image);
    Export {
        store,
        spec: &spec,
        image,
        names: &names,
        files: &[],
        multi_platform: false,
        clamp_mtime: None,
        owners: false,
        engine: None,
        waiting: crate::Waiting::default(),
    }
    .write(early)
    .unwrap();
    fs::read(bench.path(name)).unwrap()
}

/// The lower of the image's two layers.
fn base(bench: &Bench, image: &Image) -> Vec<(BlobDigest, u64)> {
    ImageBlobs::read(&bench.store, image).unwrap().blobs[..1].to_vec()
}

/// What is in the directory beside what the bench put there.
fn outputs(bench: &Bench) -> Vec<String> {
    let names = fs::read_dir(bench.path("")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.contains("tar")).collect();
    names.sort();
    names
}

#[test]
fn begun_or_not_the_archive_is_the_same() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let whole = write(&bench, &image, "whole.tar", None);
    let begin = |layers: Vec<(BlobDigest, u64)>| {
        let early = EarlyArchive::begin(&bench.store, &spec(&bench, "app.tar")).unwrap();
        layers.into_iter().for_each(|(digest, size)| early.listener()(IncomingBlob::There(digest, size)));
        early
    };

    let early = begin(base(&bench, &image));
    assert_eq!(outputs(&bench), ["whole.tar"], "nobody sees it");
    assert!(write(&bench, &image, "app.tar", Some(early)) == whole);

    // What is in its place already is left alone.
    let inode = || fs::metadata(bench.path("app.tar")).unwrap().ino();
    let before = inode();
    assert!(write(&bench, &image, "app.tar", Some(begin(base(&bench, &image)))) == whole);
    assert_eq!(inode(), before);

    // An image that begins with other layers, and layers that are not there.
    let other = bench.image("linux/arm64");
    let absent = (BlobDigest::of(b"absent"), 6);
    for layers in [base(&bench, &other), vec![absent], [base(&bench, &image), vec![absent]].concat()] {
        fs::write(bench.path("app.tar"), "something else").unwrap();
        assert!(write(&bench, &image, "app.tar", Some(begin(layers))) == whole);
    }
    assert_eq!(outputs(&bench), ["app.tar", "whole.tar"], "and nothing beside them");
}

#[test]
fn a_layer_is_written_while_it_comes() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let whole = write(&bench, &image, "whole.tar", None);
    let blobs = ImageBlobs::read(&bench.store, &image).unwrap().blobs;
    let bytes = bench.store.read_blob(&blobs[1].0, u64::MAX).unwrap();
    // In place of a file that is the same so far, or is none.
    for old in [None, Some(&whole[..whole.len() / 2]), Some(&whole[..])] {
        let _ = fs::remove_file(bench.path("app.tar"));
        old.into_iter().for_each(|old| fs::write(bench.path("app.tar"), old).unwrap());
        let early = EarlyArchive::begin(&bench.store, &spec(&bench, "app.tar")).unwrap();
        let (listener, incoming) = (early.listener(), Incoming::default());
        listener(IncomingBlob::There(blobs[0].0, blobs[0].1));
        listener(IncomingBlob::Coming(incoming.clone()));
        let mut writer = bench.store.blob_writer().unwrap().shown(&incoming).unwrap();
        for piece in bytes.chunks(7) {
            writer.write_all(piece).unwrap();
        }
        writer.commit(None).unwrap();
        incoming.close();
        assert!(write(&bench, &image, "app.tar", Some(early)) == whole);
    }
    // One that never comes, one that is given up, and one that is another than that of the image.
    for other in [None, Some((&b"other bytes"[..], false)), Some((b"other bytes", true))] {
        let early = EarlyArchive::begin(&bench.store, &spec(&bench, "app.tar")).unwrap();
        let (listener, incoming) = (early.listener(), Incoming::default());
        listener(IncomingBlob::There(blobs[0].0, blobs[0].1));
        listener(IncomingBlob::Coming(incoming.clone()));
        if let Some((bytes, is_whole)) = other {
            let mut writer = bench.store.blob_writer().unwrap().shown(&incoming).unwrap();
            writer.write_all(bytes).unwrap();
            is_whole.then(|| writer.commit(None).unwrap());
        }
        incoming.close();
        fs::remove_file(bench.path("app.tar")).unwrap();
        assert!(write(&bench, &image, "app.tar", Some(early)) == whole);
    }
    assert_eq!(outputs(&bench), ["app.tar", "whole.tar"]);
}

#[test]
fn of_one_that_is_given_up_nothing_is_left() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let early = EarlyArchive::begin(&bench.store, &spec(&bench, "app.tar")).unwrap();
    let listener = early.listener();
    base(&bench, &image).into_iter().for_each(|(digest, size)| listener(IncomingBlob::There(digest, size)));
    listener(IncomingBlob::Coming(Incoming::default()));
    drop(early);
    assert!(outputs(&bench).is_empty());
}

#[test]
fn where_it_cannot_be_begun_it_is_written_at_once() {
    let bench = Bench::new();
    let image = bench.image("linux/amd64");
    let begin = |spec: &OutputSpec| EarlyArchive::begin(&bench.store, spec);
    for output in ["type=oci,dest=-", "type=oci,tar=false,dest=x", "type=local,dest=x", "type=image"] {
        assert!(begin(&output.parse().unwrap()).is_none(), "{output}");
    }
    // The directory is made when there is something to put there.
    let early = begin(&spec(&bench, "new/app.tar"));
    assert!(!bench.path("new").exists());
    assert!(!write(&bench, &image, "new/app.tar", early).is_empty());
}
