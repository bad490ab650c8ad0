//! `dbuild load`: an OCI layout (directory or tar) or a docker archive, into the store.
//!
//! A tar is read once, from its beginning to its end, so that it may come from a pipe: every file
//! of it becomes a blob by what it contains, whatever it is called, and the names are made sense of
//! afterwards. What nothing refers to is left to the store's collection.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use dbuild_digest::{BlobDigest, BlobHasher};
use dbuild_layer::decompress;
use dbuild_oci::{MediaTypes, Reference};
use dbuild_store::{Store, StoreError};
use oci_spec::image::Descriptor;
use serde::Deserialize;

use crate::annotations::{FULL_NAME, REF_NAME};
use crate::assemble::put_manifest;
use crate::error::Context;
use crate::image::{Image, digest_of};
use crate::image_blobs::{Document, ImageBlobs, parse};
use crate::layout::DockerImage;
use crate::{ExportError, Input, Waiting, assemble_index};

pub(crate) const MAX_JSON: u64 = 16 << 20;
/// More files than any image archive has.
const MAX_FILES: usize = 1 << 20;

const NO_IMAGE: &str = "neither an OCI image layout nor a docker archive";

/// An image that was read in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The image; its blobs are in the store and whole.
    pub image: Image,
    /// The names that came with it, which it has in the store now. Empty: the caller tags it, or it
    /// is collected.
    pub names: Vec<Reference>,
}

/// Reads all images of an archive or layout directory into the store, verified, and tags them. `-`
/// is stdin; the archive may come from a pipe.
pub fn load(store: &Store, path: &Path, waiting: &Waiting) -> Result<Vec<Loaded>, ExportError> {
    let reading = Reading { store, path };
    let files = if path != Path::new("-") && fs::metadata(path).on("read", path)?.is_dir() {
        reading.directory()?
    } else {
        let input = Input::open(path, waiting).on("read", path)?;
        input.ready().on("read", path)?;
        reading.archive(input)?
    };
    let loaded = if files.contains_key("index.json") && files.contains_key("oci-layout") {
        reading.layout(&files)?
    } else if files.contains_key("manifest.json") {
        reading.docker(&files)?
    } else {
        return Err(reading.no_image(NO_IMAGE));
    };
    for Loaded { image, names } in &loaded {
        for name in names {
            store.tag(&name.to_string(), &image.descriptor()?)?;
        }
    }
    Ok(loaded)
}

/// The files of an archive or layout, by their path in it, as blobs of the store.
type Files = BTreeMap<String, (BlobDigest, u64)>;

pub(crate) struct Reading<'a> {
    pub(crate) store: &'a Store,
    pub(crate) path: &'a Path,
}

impl Reading<'_> {
    pub(crate) fn no_image(&self, problem: &str) -> ExportError {
        ExportError::NotAnImage { path: self.path.to_owned(), problem: problem.to_owned() }
    }

    fn archive(&self, file: impl Read + Send) -> Result<Files, ExportError> {
        let broken = |error: io::Error| self.no_image(&format!("not a readable tar: {error}"));
        let reader = decompress(file).map_err(|error| self.no_image(&error.to_string()))?;
        let mut tar = tar::Archive::new(reader);
        let (mut files, mut links) = (Files::new(), Vec::new());
        for entry in tar.entries().map_err(broken)? {
            let mut entry = match entry {
                Ok(entry) => entry,
                Err(_) if files.is_empty() && links.is_empty() => return Err(self.no_image(NO_IMAGE)),
                Err(error) => return Err(broken(error)),
            };
            let Some(name) = clean(&entry.path().map_err(broken)?) else {
                return Err(self.no_image("it has paths that lead out of it"));
            };
            if files.len() + links.len() > MAX_FILES {
                return Err(self.no_image("it has more files than any image"));
            }
            let kind = entry.header().entry_type();
            if kind.is_symlink() || kind.is_hard_link() {
                // Old archives of Docker give a layer that occurs twice as a link.
                let target = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                let base = if kind.is_symlink() {
                    Path::new(&name).parent().unwrap_or(Path::new(""))
                } else {
                    Path::new("")
                };
                let target = resolve(base, &target);
                links.push((name, target));
            } else if kind.is_file() {
                let blob = self.blob(&mut entry, expected(&name))?;
                files.insert(name, blob);
            }
        }
        for (name, target) in links {
            if let Some(blob) = target.and_then(|target| files.get(&target).copied()) {
                files.insert(name, blob);
            }
        }
        Ok(files)
    }

    fn directory(&self) -> Result<Files, ExportError> {
        let mut files = Files::new();
        for name in ["oci-layout", "index.json", "manifest.json"] {
            let path = self.path.join(name);
            match File::open(&path) {
                Ok(file) => files.insert(name.to_owned(), self.blob(file, None)?),
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).on("read", &path),
            };
        }
        let blobs = self.path.join("blobs/sha256");
        let entries = match fs::read_dir(&blobs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            Err(error) => return Err(error).on("read", &blobs),
        };
        for entry in entries {
            let entry = entry.on("read", &blobs)?;
            let name = format!("blobs/sha256/{}", entry.file_name().to_string_lossy());
            if let Some(digest) = expected(&name) {
                let file = File::open(entry.path()).on("read", &entry.path())?;
                files.insert(name, self.blob(file, Some(digest))?);
            }
        }
        Ok(files)
    }

    /// A file into the store, verified where its name is its digest.
    pub(crate) fn blob(
        &self,
        mut from: impl Read,
        expected: Option<BlobDigest>,
    ) -> Result<(BlobDigest, u64), ExportError> {
        let mut writer = self.store.blob_writer()?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match from.read(&mut buffer).on("read", self.path)? {
                0 => break,
                count => writer.write_all(&buffer[..count]).on("write to the store", self.path)?,
            }
        }
        let wanted = expected.map(|digest| (digest, writer.size()));
        match writer.commit(wanted.as_ref()) {
            Ok(blob) => Ok(blob),
            Err(StoreError::Mismatch { expected, found, .. }) => Err(ExportError::Mismatch {
                path: self.path.to_owned(),
                expected: expected.parse().map_err(|_| self.no_image(&expected))?,
                found: found.parse().map_err(|_| self.no_image(&found))?,
            }),
            Err(error) => Err(error.into()),
        }
    }

    fn json<T: for<'de> Deserialize<'de>>(&self, files: &Files, name: &str) -> Result<T, ExportError> {
        let missing = || self.no_image(&format!("{name} is missing"));
        let (digest, _) = files.get(name).ok_or_else(missing)?;
        let bytes = self.store.read_blob(digest, MAX_JSON)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| self.no_image(&format!("{name} cannot be read: {error}")))
    }

    fn layout(&self, files: &Files) -> Result<Vec<Loaded>, ExportError> {
        #[derive(Deserialize)]
        struct Index {
            manifests: Vec<Descriptor>,
        }
        let index: Index = self.json(files, "index.json")?;
        let mut loaded: Vec<Loaded> = Vec::new();
        for descriptor in &index.manifests {
            let image = self.complete(descriptor)?;
            let name = descriptor.annotations().as_ref().and_then(|annotations| {
                let named = |key: &str| annotations.get(key).cloned();
                // `ref.name` is a name in full only in some layouts; in most it is a tag.
                named(FULL_NAME).or_else(|| named(REF_NAME).filter(|name| name.contains('/')))
            });
            let name = match name {
                Some(name) => {
                    Some(name.parse::<Reference>().map_err(|error| self.no_image(&error.to_string()))?)
                }
                None => None,
            };
            match loaded.iter_mut().find(|other| other.image.digest == image.digest) {
                Some(same) => same.names.extend(name),
                None => loaded.push(Loaded { image, names: name.into_iter().collect() }),
            }
        }
        Ok(loaded)
    }

    /// The image of a descriptor, whole; for an index, the platforms that are there: archives of
    /// one platform often carry the index of all.
    fn complete(&self, descriptor: &Descriptor) -> Result<Image, ExportError> {
        let digest = digest_of(descriptor)?;
        let bytes = self.store.read_blob(&digest, MAX_JSON)?;
        let Document::Index(index) = parse(&bytes).map_err(|problem| self.no_image(&problem))? else {
            let image = Image::of(descriptor)?;
            self.verify(&image)?;
            return Ok(Image { config: self.config_of(&image)?, annotations: BTreeMap::new(), ..image });
        };
        let mut whole = Vec::new();
        for child in index.manifests() {
            let image = Image::of(child)?;
            match self.verify(&image) {
                Ok(()) => whole.push(image),
                Err(ExportError::Store(StoreError::NoSuchBlob { .. })) => {}
                Err(error) => return Err(error),
            }
        }
        match whole.as_slice() {
            [] => Err(self.no_image(&format!("no image of the index {digest} is complete"))),
            [one] if index.manifests().len() > 1 => {
                let config = self.config_of(one)?;
                Ok(Image { config, ..one.clone() })
            }
            all if all.len() == index.manifests().len() => {
                Ok(Image { annotations: BTreeMap::new(), ..Image::of(descriptor)? })
            }
            some => assemble_index(self.store, some, &BTreeMap::new(), MediaTypes::Oci),
        }
    }

    fn verify(&self, image: &Image) -> Result<(), ExportError> {
        for (digest, size) in ImageBlobs::read(self.store, image)?.blobs {
            match self.store.has_blob(&digest) {
                Some(found) if found == size => {}
                Some(found) => {
                    return Err(
                        self.no_image(&format!("{digest} has {found} bytes where its manifest says {size}"))
                    );
                }
                None => return Err(StoreError::NoSuchBlob { digest }.into()),
            }
        }
        Ok(())
    }

    fn config_of(&self, image: &Image) -> Result<Option<BlobDigest>, ExportError> {
        Ok(ImageBlobs::read(self.store, image)?.images.first().map(|one| one.config))
    }

    /// Docker's own format: configs and layers by path, without any manifest; one is made.
    fn docker(&self, files: &Files) -> Result<Vec<Loaded>, ExportError> {
        #[derive(Deserialize)]
        struct Config {
            rootfs: RootFs,
        }
        #[derive(Deserialize)]
        struct RootFs {
            #[serde(default)]
            diff_ids: Vec<BlobDigest>,
        }
        let images: Vec<DockerImage> = self.json(files, "manifest.json")?;
        let mut loaded = Vec::new();
        for docker in images {
            let config: Config = self.json(files, &docker.config)?;
            if config.rootfs.diff_ids.len() != docker.layers.len() {
                return Err(self.no_image("the number of its layers and of its diff_ids differ"));
            }
            let mut layers = Vec::new();
            for (path, diff_id) in docker.layers.iter().zip(&config.rootfs.diff_ids) {
                let missing = || self.no_image(&format!("the layer {path} is missing"));
                let blob = *files.get(path).ok_or_else(missing)?;
                layers.push(dbuild_oci::Descriptor::new(self.layer_type(blob.0, diff_id)?, blob.0, blob.1));
            }
            let config = *files.get(&docker.config).ok_or_else(|| self.no_image("its config is missing"))?;
            let (digest, size) = put_manifest(self.store, config, &layers)?;
            let parse = |name: &String| {
                name.parse().map_err(|e: dbuild_oci::ReferenceError| self.no_image(&e.to_string()))
            };
            let names = docker.repo_tags.unwrap_or_default().iter().map(parse).collect::<Result<_, _>>()?;
            let media_type = MediaTypes::Oci.manifest().to_owned();
            let image = Image {
                digest,
                size,
                media_type,
                platform: None,
                config: Some(config.0),
                annotations: BTreeMap::new(),
            };
            loaded.push(Loaded { image, names });
        }
        Ok(loaded)
    }

    /// The media type of a layer, whose uncompressed bytes must be those that the config names.
    fn layer_type(&self, digest: BlobDigest, diff_id: &BlobDigest) -> Result<&'static str, ExportError> {
        let mut magic = [0; 4];
        let count = self.store.open_blob(&digest)?.read(&mut magic).on("read", self.path)?;
        let media_type = match &magic[..count] {
            [0x1f, 0x8b, ..] => "application/vnd.oci.image.layer.v1.tar+gzip",
            [0x28, 0xb5, 0x2f, 0xfd] => "application/vnd.oci.image.layer.v1.tar+zstd",
            _ => "application/vnd.oci.image.layer.v1.tar",
        };
        let found = if media_type.ends_with("tar") { digest } else { self.uncompressed(&digest)? };
        if found != *diff_id {
            return Err(ExportError::Mismatch { path: self.path.to_owned(), expected: *diff_id, found });
        }
        Ok(media_type)
    }

    fn uncompressed(&self, digest: &BlobDigest) -> Result<BlobDigest, ExportError> {
        let mut reader =
            decompress(self.store.open_blob(digest)?).map_err(|error| self.no_image(&error.to_string()))?;
        let (mut hasher, mut buffer) = (BlobHasher::default(), vec![0; 256 << 10]);
        loop {
            match reader.read(&mut buffer).on("read", self.path)? {
                0 => return Ok(hasher.finish()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }
}

/// The digest that a file of a layout must have by its name.
fn expected(name: &str) -> Option<BlobDigest> {
    format!("sha256:{}", name.strip_prefix("blobs/sha256/")?).parse().ok()
}

/// A path without `.` and doubled slashes; `None` if it leads out.
fn clean(path: &Path) -> Option<String> {
    resolve(Path::new(""), path)
}

fn resolve(base: &Path, path: &Path) -> Option<String> {
    let mut clean = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::CurDir => {}
            Component::ParentDir if clean.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(clean.to_string_lossy().into_owned())
}
