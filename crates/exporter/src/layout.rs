//! OCI image layouts: as a directory, as a tar, and as a tar that `docker load` reads too.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use dbuild_digest::BlobDigest;
use dbuild_oci::{Descriptor, MediaTypes, Reference, index_json};
use dbuild_store::{IncomingReader, Store, replace_file};
use serde::{Deserialize, Serialize};

use crate::ExportError;
use crate::annotations::{FULL_NAME, REF_NAME};
use crate::destination::FileWriter;
use crate::error::Context;
use crate::image::Image;
use crate::image_blobs::ImageBlobs;

const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An image on its way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub store: &'a Store,
    pub image: &'a Image,
    /// Names in full.
    pub names: &'a [Reference],
}

impl Outgoing<'_> {
    /// Writes a tar: an OCI layout, and with `docker` a `manifest.json` as well.
    pub(crate) fn write_archive(&self, out: &mut dyn Write, docker: bool) -> Result<(), ExportError> {
        let contents = ImageBlobs::read(self.store, self.image)?;
        self.complete(Archive::begin(out)?, &contents, docker).map(drop)
    }

    /// Writes what an archive lacks, which has the first blobs.
    pub(crate) fn complete<W: Write>(
        &self,
        mut archive: Archive<W>,
        contents: &ImageBlobs,
        docker: bool,
    ) -> Result<W, ExportError> {
        // Layers come first, in their order: they are there, or known, before what names them.
        for (digest, size) in &contents.blobs[archive.blobs..] {
            archive.blob(self.store, digest, *size)?;
        }
        archive.file("index.json", &self.index()?)?;
        if docker {
            archive.file("manifest.json", &json(&self.docker_manifest(contents)?)?)?;
        }
        archive.file("oci-layout", OCI_LAYOUT)?;
        let finished = archive.tar.into_inner();
        finished.map_err(|error| ExportError::from_io(error, "write", Path::new("the archive")))
    }

    /// Writes a directory. One that is a layout already keeps its other images; blobs that it has
    /// are not written again.
    pub(crate) fn write_directory(&self, dir: &Path) -> Result<u64, ExportError> {
        let existing = existing_index(dir)?;
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).on("make the directory", &blobs)?;
        let mut written = 0;
        for (digest, size) in &ImageBlobs::read(self.store, self.image)?.blobs {
            let place = blobs.join(digest.hex());
            if fs::metadata(&place).is_ok_and(|meta| meta.len() == *size) && holds(&place, digest)? {
                continue;
            }
            let blob = self.store.open_blob(digest)?;
            let mut failure = Ok(());
            replace_file(&place, |file| {
                failure = blob.copy_to(file).map(drop);
                failure.as_ref().map(drop).map_err(|error| error.kind().into())
            })
            .or_else(|error| failure.on("write", &place).and(Err(error.into())))?;
            written += size;
        }
        let index = merged(existing, &self.index()?)?;
        // The index last: it names what is there by now.
        for (name, bytes) in [("oci-layout", OCI_LAYOUT), ("index.json", &index)] {
            let place = dir.join(name);
            if written > 0 || fs::read(&place).ok().as_deref() != Some(bytes) {
                replace_file(&place, |file| file.write_all(bytes))?;
            }
        }
        Ok(written)
    }

    /// One entry for each name, or one without.
    fn index(&self) -> Result<Vec<u8>, ExportError> {
        let entry = |name: Option<&Reference>| {
            // The platform of a single image is in its config.
            let mut entry = Descriptor { platform: None, ..self.image.written_descriptor() };
            if let Some(name) = name {
                entry.annotations.insert(FULL_NAME.to_owned(), name.to_string());
                entry.annotations.insert(REF_NAME.to_owned(), name.tag().unwrap_or("latest").to_owned());
            }
            entry
        };
        let manifests: Vec<Descriptor> = match self.names {
            [] => vec![entry(None)],
            names => names.iter().map(|name| entry(Some(name))).collect(),
        };
        index_json(MediaTypes::Oci, &manifests, &BTreeMap::new()).map_err(unwritten)
    }

    fn docker_manifest(&self, contents: &ImageBlobs) -> Result<Vec<DockerImage>, ExportError> {
        let [image] = contents.images.as_slice() else {
            return Err(ExportError::Unsupported(
                "`docker load` takes one platform at a time: build with one --platform, or use `type=oci`"
                    .to_owned(),
            ));
        };
        let path = |digest: &BlobDigest| format!("blobs/sha256/{}", digest.hex());
        Ok(vec![DockerImage {
            config: path(&image.config),
            repo_tags: Some(self.names.iter().map(Reference::familiar).collect()),
            layers: image.layers.iter().map(path).collect(),
        }])
    }
}

/// An entry of `manifest.json`, as `docker save` writes it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerImage {
    pub config: String,
    pub repo_tags: Option<Vec<String>>,
    pub layers: Vec<String>,
}

/// The index of a directory that is to be written to: empty for a new one, and an error for
/// somebody's other files.
fn existing_index(dir: &Path) -> Result<Vec<serde_json::Value>, ExportError> {
    #[derive(Deserialize)]
    struct Existing {
        #[serde(default)]
        manifests: Vec<serde_json::Value>,
    }
    let path = dir.join("index.json");
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice::<Existing>(&bytes) {
            Ok(index) => Ok(index.manifests),
            Err(error) => {
                Err(ExportError::NotAnImage { path, problem: format!("not the index of a layout: {error}") })
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let is_foreign = fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
            let known = dir.join("oci-layout").exists() || dir.join("blobs").exists();
            if is_foreign && !known {
                let problem = "not empty, and not an OCI layout: name a new directory".to_owned();
                return Err(ExportError::NotAnImage { path: dir.to_owned(), problem });
            }
            Ok(Vec::new())
        }
        Err(error) => Err(error).on("read", &path),
    }
}

/// Other names stay, the same names are replaced, and an image is not listed twice without a name.
fn merged(existing: Vec<serde_json::Value>, new: &[u8]) -> Result<Vec<u8>, ExportError> {
    let name = |entry: &serde_json::Value| {
        let annotation = |key: &str| entry.pointer(&format!("/annotations/{key}")).cloned();
        annotation(FULL_NAME).or_else(|| annotation(REF_NAME))
    };
    let new: serde_json::Value = serde_json::from_slice(new).map_err(unwritten)?;
    let added = new["manifests"].as_array().cloned().unwrap_or_default();
    let replaced = |old: &serde_json::Value| {
        added.iter().any(|new| match (name(old), name(new)) {
            (None, _) => old["digest"] == new["digest"],
            (old, new) => old == new,
        })
    };
    let mut manifests: Vec<serde_json::Value> = existing.into_iter().filter(|old| !replaced(old)).collect();
    manifests.extend(added.iter().cloned());
    let mut index = new.clone();
    index["manifests"] = manifests.into();
    json(&index)
}

/// A file of a layout has the bytes that its name says.
fn holds(place: &Path, digest: &BlobDigest) -> Result<bool, ExportError> {
    let mut file = fs::File::open(place).on("read", place)?;
    let mut hasher = dbuild_digest::BlobHasher::default();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer).on("read", place)? {
            0 => return Ok(hasher.finish() == *digest),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// A tar whose bytes depend on its contents alone.
pub(crate) struct Archive<W: Write> {
    tar: tar::Builder<W>,
    /// Number of blobs written.
    pub(crate) blobs: usize,
}

impl<W: Write> Archive<W> {
    pub(crate) fn begin(out: W) -> Result<Self, ExportError> {
        let mut archive = Self { tar: tar::Builder::new(out), blobs: 0 };
        archive.directory("blobs/")?;
        archive.directory("blobs/sha256/")?;
        Ok(archive)
    }

    fn directory(&mut self, path: &str) -> Result<(), ExportError> {
        let header = header(tar::EntryType::Directory, 0o755, 0);
        self.append(path, header, std::io::empty())
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ExportError> {
        self.append(path, header(tar::EntryType::Regular, 0o644, bytes.len() as u64), bytes)
    }

    pub(crate) fn blob(&mut self, store: &Store, digest: &BlobDigest, size: u64) -> Result<(), ExportError> {
        let blob = store.open_blob(digest)?;
        if blob.size() != size {
            return Err(ExportError::Inconsistent {
                platform: "this image".to_owned(),
                problem: format!(
                    "the blob {digest} has {} bytes where its manifest says {size}",
                    blob.size()
                ),
            });
        }
        let failed = |error| ExportError::from_io(error, "write", Path::new(&blob_path(digest)));
        // Not by the builder, which copies by 8 KiB.
        let out = self.tar.get_mut();
        out.write_all(blob_header(digest, size).map_err(failed)?.as_bytes()).map_err(failed)?;
        let copied = blob.copy_to(out).map_err(failed)?;
        if copied != size {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        out.write_all(padding(size)).map_err(failed)?;
        self.blobs += 1;
        Ok(())
    }

    fn append(&mut self, path: &str, mut header: tar::Header, data: impl Read) -> Result<(), ExportError> {
        self.tar
            .append_data(&mut header, path, data)
            .map_err(|error| ExportError::from_io(error, "write", Path::new(path)))
    }
}

impl Archive<FileWriter> {
    /// The next blob while it is written. Its digest is in its header, which comes last.
    pub(crate) fn coming_blob(&mut self, incoming: &mut IncomingReader) -> io::Result<BlobDigest> {
        let out = self.tar.get_mut();
        out.replace()?;
        let place = out.position();
        out.write_all(&[0; 512])?;
        let mut buffer = vec![0; 512 << 10];
        let mut size = 0;
        loop {
            match incoming.read(&mut buffer)? {
                0 => break,
                count => {
                    out.write_all(&buffer[..count])?;
                    size += count as u64;
                }
            }
        }
        out.write_all(padding(size))?;
        let digest = incoming.digest().ok_or(io::ErrorKind::UnexpectedEof)?;
        out.write_over(place, blob_header(&digest, size)?.as_bytes())?;
        self.blobs += 1;
        Ok(digest)
    }

    /// See [`FileWriter::take_over`].
    pub(crate) fn take_over(&mut self) {
        self.tar.get_mut().take_over();
    }
}

fn blob_path(digest: &BlobDigest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn blob_header(digest: &BlobDigest, size: u64) -> io::Result<tar::Header> {
    let mut header = header(tar::EntryType::Regular, 0o644, size);
    header.set_path(blob_path(digest))?;
    header.set_cksum();
    Ok(header)
}

/// What follows so many bytes.
fn padding(size: u64) -> &'static [u8] {
    let length = size.next_multiple_of(512) - size;
    &[0; 512][..usize::try_from(length).unwrap_or(0)]
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, ExportError> {
    serde_json::to_vec(value).map_err(unwritten)
}

fn unwritten(error: serde_json::Error) -> ExportError {
    ExportError::Unsupported(format!("the index cannot be written: {error}"))
}
