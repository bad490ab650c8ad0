//! One image of an OCI layout directory, into the store: `--build-context
//! NAME=oci-layout://DIR:TAG`.
//!
//! Unlike [`crate::load()`] it takes what the image consists of and nothing else, and gives it no
//! name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use dbuild_digest::BlobDigest;
use dbuild_store::Store;
use oci_spec::image::{Descriptor, ImageIndex};

use crate::ExportError;
use crate::annotations::{FULL_NAME, REF_NAME};
use crate::error::Context;
use crate::image::digest_of;
use crate::image_blobs::{Document, parse};
use crate::load::{MAX_JSON, Reading};

/// Which image of which layout: `DIR[:TAG][@sha256:…]`. A digest goes before a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayoutImage {
    /// The layout.
    pub dir: PathBuf,
    /// What the image is called there: a tag or a name in full.
    pub tag: Option<String>,
    /// Its manifest or index.
    pub digest: Option<BlobDigest>,
}

impl FromStr for LayoutImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, digest) = match text.rsplit_once('@') {
            Some((rest, digest)) if digest.starts_with("sha256:") => {
                let digest = digest.parse().map_err(|error| format!("`{digest}`: {error}"))?;
                (rest, Some(digest))
            }
            _ => (text, None),
        };
        let (dir, tag) = match rest.rsplit_once(':') {
            // A colon may be part of a directory's name.
            Some((dir, tag)) if !tag.is_empty() && !tag.contains('/') && !Path::new(rest).is_dir() => {
                (dir, Some(tag.to_owned()))
            }
            _ => (rest, None),
        };
        match dir {
            "" => Err("it names no directory".to_owned()),
            dir => Ok(Self { dir: PathBuf::from(dir), tag, digest }),
        }
    }
}

impl LayoutImage {
    /// Reads the image into the store, verified, and returns the digest of its manifest or index.
    /// With an index come the platforms that are there, at least one.
    pub fn load(&self, store: &Store) -> Result<BlobDigest, ExportError> {
        let reading = Reading { store, path: &self.dir };
        let path = self.dir.join("index.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
                return Err(
                    reading.no_image("not the directory of an OCI image layout: it has no index.json")
                );
            }
            Err(error) => return Err(error).on("read", &path),
        };
        let index: ImageIndex = serde_json::from_slice(&bytes)
            .map_err(|error| reading.no_image(&format!("its index.json cannot be read: {error}")))?;
        let top = match self.digest {
            Some(digest) => digest,
            None => self.choose(index.manifests()).map_err(|problem| reading.no_image(&problem))?,
        };
        self.take(&reading, &top)?;
        Ok(top)
    }

    fn choose(&self, listed: &[Descriptor]) -> Result<BlobDigest, String> {
        let mut images: Vec<(BlobDigest, &Descriptor)> = Vec::new();
        for descriptor in listed {
            images.push((digest_of(descriptor).map_err(|error| error.to_string())?, descriptor));
        }
        let called = |tag: &str| -> Vec<BlobDigest> {
            let named = images.iter().filter(|(_, descriptor)| is_called(descriptor, tag));
            let mut digests: Vec<BlobDigest> = named.map(|(digest, _)| *digest).collect();
            digests.dedup();
            digests
        };
        let there = || {
            let shown = images.iter().map(|(digest, descriptor)| match names(descriptor).next() {
                Some(name) => format!("`{name}`"),
                None => format!("@{digest}"),
            });
            match shown.collect::<Vec<_>>().as_slice() {
                [] => "it has no images".to_owned(),
                shown => format!("it has {}", shown.join(", ")),
            }
        };
        let all = || {
            let mut digests: Vec<BlobDigest> = images.iter().map(|(digest, _)| *digest).collect();
            digests.sort_unstable();
            digests.dedup();
            digests
        };
        let Some(tag) = &self.tag else {
            return match (all().as_slice(), called("latest").as_slice()) {
                ([only], _) | (_, [only]) => Ok(*only),
                _ => Err(format!("it has several images: {}; name one with `:TAG`", there())),
            };
        };
        match called(tag).as_slice() {
            [only] => Ok(*only),
            [] => Err(format!("no image is called `{tag}`: {}", there())),
            many => {
                let digests: Vec<String> = many.iter().map(|digest| format!("@{digest}")).collect();
                Err(format!("`{tag}` is the tag of several images: name one by {}", digests.join(" or ")))
            }
        }
    }

    /// A manifest or index, after all that it names.
    fn take(&self, reading: &Reading<'_>, digest: &BlobDigest) -> Result<(), ExportError> {
        self.blob(reading, digest)?;
        let bytes = reading.store.read_blob(digest, MAX_JSON)?;
        match parse(&bytes).map_err(|problem| reading.no_image(&format!("{digest}: {problem}")))? {
            Document::Image(manifest) => {
                for descriptor in manifest.layers().iter().chain([manifest.config()]) {
                    self.blob(reading, &digest_of(descriptor)?)?;
                }
            }
            Document::Index(index) => {
                let mut taken = 0;
                for child in index.manifests() {
                    let child = digest_of(child)?;
                    // Layouts of one platform often carry the index of all.
                    if self.place(&child).exists() {
                        self.take(reading, &child)?;
                        taken += 1;
                    }
                }
                if taken == 0 {
                    return Err(reading.no_image(&format!("it has no image of the index {digest}")));
                }
            }
        }
        Ok(())
    }

    fn blob(&self, reading: &Reading<'_>, digest: &BlobDigest) -> Result<(), ExportError> {
        let path = self.place(digest);
        let size = match fs::metadata(&path) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(reading.no_image(&format!("the blob {digest} is missing")));
            }
            Err(error) => return Err(error).on("read", &path),
        };
        if reading.store.has_blob(digest) != Some(size) {
            reading.blob(File::open(&path).on("read", &path)?, Some(*digest))?;
        }
        Ok(())
    }

    fn place(&self, digest: &BlobDigest) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest.hex())
    }
}

/// The names of an image in a layout, the shortest first.
fn names(descriptor: &Descriptor) -> impl Iterator<Item = &str> {
    let annotations = descriptor.annotations().as_ref();
    let named = move |key: &str| annotations.and_then(|annotations| annotations.get(key)).map(String::as_str);
    named(REF_NAME).into_iter().chain(named(FULL_NAME))
}

/// Whether one of its names, or the tag in one of them, is this one.
fn is_called(descriptor: &Descriptor, tag: &str) -> bool {
    names(descriptor).any(|name| {
        let last = name.rsplit('/').next().unwrap_or(name);
        name == tag || last.split_once(':').is_some_and(|(_, own)| own == tag)
    })
}

#[cfg(test)]
mod tests {
    use super::LayoutImage;

    #[test]
    fn directories_tags_and_digests() {
        let read = |text: &str| {
            let image: LayoutImage = text.parse()?;
            Ok::<_, String>((image.dir.display().to_string(), image.tag, image.digest.is_some()))
        };
        let digest = format!("@sha256:{}", "0".repeat(64));
        let tag = |text: &str| Some(text.to_owned());
        assert_eq!(read("a/b").unwrap(), ("a/b".to_owned(), None, false));
        assert_eq!(read("a@b/c:1.0").unwrap(), ("a@b/c".to_owned(), tag("1.0"), false));
        assert_eq!(read("/a:b/c").unwrap(), ("/a:b/c".to_owned(), None, false));
        assert_eq!(read(&format!("a:v1{digest}")).unwrap(), ("a".to_owned(), tag("v1"), true));
        assert_eq!(read(&format!("a{digest}")).unwrap(), ("a".to_owned(), None, true));
        for wrong in ["", ":v1", "a@sha256:12"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
