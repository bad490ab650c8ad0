//! One image (or the files of one stage) to one output.

use std::path::Path;

use dbuild_digest::BlobDigest;
use dbuild_layer::{Stack, WriteOptions};
use dbuild_oci::{Descriptor, Platform, Reference};
use dbuild_registry::{Pushed, Registry};
use dbuild_store::Store;

use crate::destination::write_file;
use crate::early_archive::EarlyArchive;
use crate::image_blobs::ImageBlobs;
use crate::layout::{Archive, Outgoing};
use crate::{Destination, Engine, ExportError, Image, OutputKind, OutputSpec, Waiting, files};

/// What is to be written, and where.
#[derive(Debug)]
pub struct Export<'a> {
    /// Where the blobs are.
    pub store: &'a Store,
    /// What is asked for.
    pub spec: &'a OutputSpec,
    /// The image; not needed for [`OutputKind::Local`] and [`OutputKind::Tar`].
    pub image: Option<&'a Image>,
    /// All its names: those of `--tag` and those of the output.
    pub names: &'a [Reference],
    /// The files of the final stage by platform; needed only for [`OutputKind::Local`] and
    /// [`OutputKind::Tar`].
    pub files: &'a [(Platform, Stack)],
    /// The build is for several platforms, or counts as such: their files are each in a directory.
    pub multi_platform: bool,
    /// SOURCE_DATE_EPOCH, if files are to be no younger.
    pub clamp_mtime: Option<i64>,
    /// Files get the image's owners, not the caller's.
    pub owners: bool,
    /// Where an output of type `docker` without a destination goes.
    pub engine: Option<&'a Engine>,
    /// What is done while the reader of a pipe is waited for.
    pub waiting: Waiting,
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// In words: `OCI archive app.tar`.
    pub what: String,
    /// Bytes, where they are known.
    pub bytes: Option<u64>,
    /// What the user should know, one line each.
    pub notes: Vec<String>,
}

impl Export<'_> {
    /// Writes the output, with what was begun of it. Nothing is pushed here: see [`push`].
    pub fn write(&self, early: Option<EarlyArchive>) -> Result<Written, ExportError> {
        match (self.spec.kind, &self.spec.dest) {
            (OutputKind::Nothing, _) => Ok(Written::default()),
            (OutputKind::Image, _) => self.tag(),
            (OutputKind::Docker { tar: true }, None) => {
                let engine = self.engine.ok_or(ExportError::NoEngine)?;
                let said = engine.load(self.outgoing()?)?;
                let notes = said.lines().map(str::to_owned).collect();
                Ok(Written { what: format!("loaded into {}", engine.name()), bytes: None, notes })
            }
            (OutputKind::Oci { tar: true }, Some(dest)) => self.archive(dest, false, early),
            (OutputKind::Docker { tar: true }, Some(dest)) => self.archive(dest, true, early),
            (
                OutputKind::Oci { tar: false } | OutputKind::Docker { tar: false },
                Some(Destination::Path(dir)),
            ) => {
                let bytes = self.outgoing()?.write_directory(dir)?;
                Ok(Written {
                    what: format!("OCI layout {}", dir.display()),
                    bytes: Some(bytes),
                    notes: Vec::new(),
                })
            }
            (OutputKind::Local, Some(Destination::Path(dir))) => self.directory(dir),
            (OutputKind::Tar, Some(dest)) => {
                let split = self.is_split()?;
                let bytes = write_file(dest, &self.waiting, |out| {
                    files::write_tar(self.files, split, self.clamp_mtime, out)
                })?;
                Ok(Written { what: format!("tar {}", name(dest)), bytes: Some(bytes), notes: Vec::new() })
            }
            (kind, dest) => {
                Err(ExportError::Unsupported(format!("an output of {kind:?} cannot go to {dest:?}")))
            }
        }
    }

    fn tag(&self) -> Result<Written, ExportError> {
        let image = self.image()?;
        for name in self.names {
            self.store.tag(&name.to_string(), &image.descriptor()?)?;
        }
        let names: Vec<String> = self.names.iter().map(Reference::familiar).collect();
        let bytes = ImageBlobs::read(self.store, image)?.blobs.iter().map(|(_, size)| size).sum();
        Ok(Written { what: format!("image {}", names.join(", ")), bytes: Some(bytes), notes: Vec::new() })
    }

    fn archive(
        &self,
        dest: &Destination,
        docker: bool,
        early: Option<EarlyArchive>,
    ) -> Result<Written, ExportError> {
        let outgoing = self.outgoing()?;
        let contents = ImageBlobs::read(self.store, outgoing.image)?;
        let bytes = match early.and_then(|early| early.take(dest, &contents)) {
            Some(archive) => outgoing.complete(archive, &contents, docker)?.finish()?,
            None => write_file(dest, &self.waiting, |out| {
                outgoing.complete(Archive::begin(out)?, &contents, docker).map(drop)
            })?,
        };
        let kind = if docker { "docker" } else { "OCI" };
        Ok(Written { what: format!("{kind} archive {}", name(dest)), bytes: Some(bytes), notes: Vec::new() })
    }

    fn directory(&self, dir: &Path) -> Result<Written, ExportError> {
        let options = WriteOptions { owners: self.owners, clamp_mtime: self.clamp_mtime };
        let split = self.is_split()?;
        let notes = files::write_directory(self.files, split, dir, &options)?;
        Ok(Written { what: format!("files in {}", dir.display()), bytes: None, notes })
    }

    fn is_split(&self) -> Result<bool, ExportError> {
        let split = self.spec.platform_split.unwrap_or(self.multi_platform);
        if !split && self.files.len() > 1 {
            let problem = "several platforms cannot share a directory: leave out `platform-split=false`";
            return Err(ExportError::Unsupported(problem.to_owned()));
        }
        Ok(split)
    }

    fn image(&self) -> Result<&Image, ExportError> {
        self.image
            .ok_or_else(|| ExportError::Unsupported("no image was put together for this output".to_owned()))
    }

    fn outgoing(&self) -> Result<Outgoing<'_>, ExportError> {
        Ok(Outgoing { store: self.store, image: self.image()?, names: self.names })
    }
}

fn name(dest: &Destination) -> String {
    match dest {
        Destination::Stdout => "to stdout".to_owned(),
        Destination::Path(path) => path.display().to_string(),
    }
}

/// Writes an image of the store to an archive: `dbuild save`.
pub fn save(
    store: &Store,
    image: &Image,
    names: &[Reference],
    dest: &Destination,
    docker: bool,
    waiting: &Waiting,
) -> Result<u64, ExportError> {
    write_file(dest, waiting, |out| Outgoing { store, image, names }.write_archive(out, docker))
}

/// Pushes an image under all its names. `bases` are the images that its layers may come from.
pub async fn push(
    registry: &Registry,
    image: &Image,
    names: &[Reference],
    by_digest: bool,
    bases: &[String],
    progress: &(dyn Fn(&BlobDigest, u64) + Send + Sync),
) -> Result<Vec<Pushed>, ExportError> {
    if names.is_empty() {
        return Err(ExportError::Unsupported(
            "what is pushed needs a name: add `-t REGISTRY/NAME`".to_owned(),
        ));
    }
    let blob = Descriptor::new(&image.media_type, image.digest, image.size);
    let mut pushed = Vec::new();
    for name in names {
        let target = match by_digest {
            true => format!("{}/{}@{}", name.registry(), name.repository(), image.digest),
            false => name.to_string(),
        };
        pushed.push(registry.push(&blob, &target, bases, progress).await?);
    }
    Ok(pushed)
}
