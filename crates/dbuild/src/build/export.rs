//! From what a build made to its outputs.

use std::collections::{BTreeMap, BTreeSet};

use dbuild_events::{Event, EventSink};
use dbuild_exporter::{
    Annotation, AnnotationLevel, EarlyArchive, Engine, Export, Image, ImageParts, OutputKind, OutputSpec,
    Waiting, assemble, assemble_index, dated, find_engine, image_id, metadata, write_iidfile,
    write_metadata_file,
};
use dbuild_oci::{HistoryEntry, MediaTypes, Reference};
use dbuild_plan::{Plan, Stage, StepKind};
use dbuild_scheduler::{Built, BuiltTarget};
use dbuild_store::IncomingBlob;

use super::resolve_images::Images;
use crate::cli::BuildArgs;
use crate::error::Error;
use crate::session::Session;

/// All that an export needs to know.
pub(crate) struct ExportJob<'a> {
    pub(crate) session: &'a Session,
    pub(crate) flags: &'a BuildArgs,
    pub(crate) plan: &'a Plan,
    pub(crate) images: &'a Images,
    pub(crate) built: &'a Built,
    pub(crate) epoch: Option<u64>,
    /// What is done while the reader of a pipe is waited for.
    pub(crate) waiting: Waiting,
}

/// Begins the first archive while the steps run, with the layers of the base; not if they are going
/// to be compressed anew.
pub(crate) fn begin(session: &Session, plan: &Plan, outputs: &[OutputSpec]) -> Option<(usize, EarlyArchive)> {
    if outputs.iter().any(|output| output.force_compression) {
        return None;
    }
    let last = plan.stage(plan.targets().first()?.stage).last?;
    let base = plan.chain(last).first().map(|step| plan.step(*step))?;
    let begin = |(at, output)| Some((at, EarlyArchive::begin(&session.store, output)?));
    let early = outputs.iter().enumerate().find_map(begin)?;
    if let StepKind::Image(base) = &base.kind {
        let layers = base.image.layers.iter().map(|layer| IncomingBlob::There(layer.digest, layer.size));
        layers.for_each(early.1.listener());
    }
    Some(early)
}

/// What the command line says in the end.
pub(crate) struct ExportResult {
    /// The image's id; `None` where only files were written.
    pub(crate) id: Option<String>,
}

/// Writes every output.
pub(crate) async fn export(
    job: ExportJob<'_>,
    outputs: &[OutputSpec],
    mut early: Option<(usize, EarlyArchive)>,
    events: &dyn EventSink,
) -> Result<ExportResult, Error> {
    let names = names(&job.flags.tag)?;
    let mut last = None;
    for (at, output) in outputs.iter().enumerate() {
        let mut names = names.clone();
        names.extend(self::names(&output.names)?);
        let label = label(output);
        events.emit(Event::ExportStarted { output: label.clone() });
        let image = match output.is_files() || output.kind == OutputKind::Nothing {
            true => None,
            false => Some(job.image(output)?),
        };
        let engine = engine(output)?;
        let early = early.take_if(|(of, _)| *of == at).map(|(_, early)| early);
        let written = job.write(output, image.as_ref(), &names, engine.as_ref(), early)?;
        for text in written.notes {
            events.emit(Event::Note { text });
        }
        if let (Some(image), true) = (&image, output.push) {
            job.push(output, image, &names, events).await?;
        }
        let size = match &image {
            Some(image) => job.size_of(image),
            None => written.bytes.unwrap_or_default(),
        };
        events.emit(Event::ExportFinished {
            output: label,
            names: names.iter().map(Reference::to_string).collect(),
            digest: image.as_ref().map(|image| image.digest),
            size,
            unpacked: match &image {
                Some(_) => job.built.targets.iter().map(|target| target.unpacked).sum(),
                None => 0,
            },
        });
        last = image.or(last);
    }
    job.result_files(last.as_ref(), &names)?;
    Ok(ExportResult { id: last.map(|image| image_id(&image).to_string()) })
}

impl ExportJob<'_> {
    /// Config, manifest and (of several platforms) index.
    fn image(&self, output: &OutputSpec) -> Result<Image, Error> {
        let media_types = if output.docker_media_types { MediaTypes::Docker } else { MediaTypes::Oci };
        let mut images = Vec::new();
        for target in &self.built.targets {
            let stage = self.plan.stage(target.stage);
            let base = self.base_config(stage);
            let (history, created) = self.history(stage, target, base.as_deref());
            let parts = ImageParts {
                platform: target.platform.clone(),
                base_config: base,
                config: stage.config.clone(),
                history,
                layers: target.layers.clone(),
                created,
                annotations: annotations(output, AnnotationLevel::Manifest),
                media_types,
            };
            let mut image = assemble(&self.session.store, &parts).map_err(Error::of_export)?;
            image.annotations = annotations(output, AnnotationLevel::ManifestDescriptor);
            images.push(image);
        }
        match multi_platform(self.flags)? {
            false => images.pop().ok_or_else(|| Error::failed("no image was made")),
            true => {
                let on_index = annotations(output, AnnotationLevel::Index);
                let mut index = assemble_index(&self.session.store, &images, &on_index, media_types)
                    .map_err(Error::of_export)?;
                index.annotations = annotations(output, AnnotationLevel::IndexDescriptor);
                Ok(index)
            }
        }
    }

    /// The history with times, and the time of the image. Without SOURCE_DATE_EPOCH an entry has
    /// the time at which its layer was first made, so that a build that finds everything in the
    /// cache gives the same image again.
    fn history(
        &self,
        stage: &Stage,
        target: &BuiltTarget,
        base: Option<&[u8]>,
    ) -> (Vec<HistoryEntry>, Option<String>) {
        dated(&stage.history, target.layer_times(), base, self.epoch)
    }

    fn base_config(&self, stage: &Stage) -> Option<Vec<u8>> {
        let chain = self.plan.chain(stage.last?);
        match &self.plan.step(*chain.first()?).kind {
            dbuild_plan::StepKind::Image(step) => self.images.configs.get(&step.image.digest).cloned(),
            _ => None,
        }
    }

    fn write(
        &self,
        output: &OutputSpec,
        image: Option<&Image>,
        names: &[Reference],
        engine: Option<&Engine>,
        early: Option<EarlyArchive>,
    ) -> Result<dbuild_exporter::Written, Error> {
        let mut files = Vec::new();
        if output.is_files() {
            for target in &self.built.targets {
                let stack =
                    tokio::task::block_in_place(|| self.built.stack(target)).map_err(Error::failed)?;
                files.push((target.platform.clone(), stack));
            }
        }
        let export = Export {
            store: &self.session.store,
            spec: output,
            image,
            names,
            files: &files,
            multi_platform: multi_platform(self.flags)?,
            clamp_mtime: self.epoch.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
            // Outside of a user namespace root can give files away; inside, most owners do not
            // exist.
            owners: matches!(self.session.identity, dbuild_sandbox::rootless::Identity::Root),
            engine,
            waiting: self.waiting.clone(),
        };
        // All that the image is made of has been looked up: what was used can be noted beside the
        // writing, not after it.
        let store = self.session.store.clone();
        tokio::task::spawn_blocking(move || store.flush_uses());
        tokio::task::block_in_place(|| export.write(early)).map_err(Error::of_export)
    }

    async fn push(
        &self,
        output: &OutputSpec,
        image: &Image,
        names: &[Reference],
        events: &dyn EventSink,
    ) -> Result<(), Error> {
        let bases = self.plan.stages().iter().map(|stage| stage.base.clone()).collect::<Vec<_>>();
        let quiet = |_: &dbuild_digest::BlobDigest, _: u64| {};
        let pushed = dbuild_exporter::push(
            &self.session.registry,
            image,
            names,
            output.push_by_digest,
            &bases,
            &quiet,
        )
        .await;
        pushed.map_err(Error::of_export)?;
        for name in names {
            events.emit(Event::Note { text: format!("pushed {name}") });
        }
        Ok(())
    }

    /// What the image takes as it is shipped: its layers, packed.
    fn size_of(&self, image: &Image) -> u64 {
        let layers = self.built.targets.iter().flat_map(|target| &target.layers).map(|layer| layer.size);
        layers.sum::<u64>() + image.size
    }

    fn result_files(&self, image: Option<&Image>, names: &[Reference]) -> Result<(), Error> {
        if let (Some(path), Some(image)) = (&self.flags.iidfile, image) {
            write_iidfile(path, image, &self.waiting).map_err(Error::of_export)?;
        }
        if let Some(path) = &self.flags.metadata_file {
            write_metadata_file(path, &metadata(image, names, None), &self.waiting)
                .map_err(Error::of_export)?;
        }
        Ok(())
    }
}

/// What can be known to be wrong before anything runs.
pub(crate) fn check(flags: &BuildArgs, outputs: &[OutputSpec]) -> Result<(), Error> {
    names(&flags.tag)?;
    let multi_platform = multi_platform(flags)?;
    for output in outputs {
        names(&output.names)?;
        one_image(output, multi_platform)?;
        engine(output)?;
        if let Some(dbuild_exporter::Destination::Path(path)) = &output.dest {
            let is_file = matches!(
                output.kind,
                OutputKind::Oci { tar: true } | OutputKind::Docker { tar: true } | OutputKind::Tar
            );
            if is_file && path.is_dir() {
                return Err(Error::usage(format!(
                    "{} is a directory, and {} is a file",
                    path.display(),
                    label(output)
                ))
                .hint("name a file in it"));
            }
        }
    }
    [&flags.iidfile, &flags.metadata_file, &flags.report]
        .into_iter()
        .flatten()
        .try_for_each(|path| writable_place(path))
}

/// Whether the result is an index, with a directory for each platform's files: for several
/// platforms, and where `BUILDKIT_MULTI_PLATFORM` says so.
fn multi_platform(flags: &BuildArgs) -> Result<bool, Error> {
    const ARG: &str = "BUILDKIT_MULTI_PLATFORM";
    let parsed = flags.source.platforms().map(crate::build::flags::platform);
    let platforms: BTreeSet<String> =
        parsed.map(|platform| platform.map(|platform| platform.to_string())).collect::<Result<_, _>>()?;
    let several = platforms.len() > 1;
    let given = flags.source.build_arg.iter().rfind(|arg| arg.key == ARG);
    let value = given.and_then(|arg| arg.value.clone().or_else(|| std::env::var(ARG).ok()));
    match value.as_deref().unwrap_or_default() {
        "" => Ok(several),
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" if several => Err(Error::usage(format!(
            "{ARG}=false contradicts --platform, which names {} platforms",
            platforms.len()
        ))),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        other => Err(Error::usage(format!("{ARG}={other}: expected true or false"))),
    }
}

/// A docker archive holds one image, and what is said of an index needs one.
fn one_image(output: &OutputSpec, multi_platform: bool) -> Result<(), Error> {
    let of_index = |annotation: &&Annotation| {
        matches!(annotation.level, AnnotationLevel::Index | AnnotationLevel::IndexDescriptor)
    };
    match output.annotations.iter().find(of_index) {
        Some(Annotation { key, .. }) if !multi_platform && !output.is_files() => {
            return Err(Error::usage(format!(
                "the annotation `{key}` is for an index, and the image of one platform has none"
            ))
            .hint("annotate the `manifest`, or make an index with `--build-arg BUILDKIT_MULTI_PLATFORM=1`"));
        }
        _ => {}
    }
    if output.kind != (OutputKind::Docker { tar: true }) || !multi_platform {
        return Ok(());
    }
    Err(Error::usage("`docker load`, and a docker archive, takes one image, and this build makes an index")
        .hint(
            "use `type=oci` or `--push` for all platforms as one index, or `type=local` for a directory each",
        ))
}

/// A file is made beside its place, so the directory must be there.
fn writable_place(path: &std::path::Path) -> Result<(), Error> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match parent {
        Some(parent) if !parent.is_dir() => {
            Err(Error::usage(format!("there is no directory {} for {}", parent.display(), path.display())))
        }
        _ => Ok(()),
    }
}

/// Names in full, as they are kept.
pub(crate) fn names(texts: &[String]) -> Result<Vec<Reference>, Error> {
    let parse = |text: &String| {
        text.parse::<Reference>().map_err(|error| Error::usage(format!("-t {text}: {error}")))
    };
    texts.iter().map(parse).collect()
}

fn engine(output: &OutputSpec) -> Result<Option<Engine>, Error> {
    if output.dest.is_some() || output.kind != (OutputKind::Docker { tar: true }) {
        return Ok(None);
    }
    find_engine(&std::env::var_os("PATH").unwrap_or_default()).map(Some).map_err(Error::of_export)
}

fn annotations(output: &OutputSpec, level: AnnotationLevel) -> BTreeMap<String, String> {
    let of_level = output.annotations.iter().filter(|annotation| annotation.level == level);
    of_level.map(|Annotation { key, value, .. }| (key.clone(), value.clone())).collect()
}

fn label(output: &OutputSpec) -> String {
    use dbuild_exporter::Destination;
    let kind = match output.kind {
        OutputKind::Image => "image",
        OutputKind::Oci { .. } => "oci",
        OutputKind::Docker { .. } => "docker",
        OutputKind::Local => "local",
        OutputKind::Tar => "tar",
        OutputKind::Nothing => "cacheonly",
    };
    match &output.dest {
        None => format!("type={kind}"),
        Some(Destination::Stdout) => format!("type={kind},dest=-"),
        Some(Destination::Path(path)) => format!("type={kind},dest={}", path.display()),
    }
}
