//! The words of `--output`: what is written, where, and how.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

use dbuild_layer::Compression;
use dbuild_support::csv::{CsvError, csv_fields};
use dbuild_support::edit_distance::distance;

/// One `--output` of a build, with the meaning that it has for `docker buildx build`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// What is written.
    pub kind: OutputKind,
    /// Where to. `None`: into the store, for [`OutputKind::Image`]; to `docker load` or `podman
    /// load`, for [`OutputKind::Docker`].
    pub dest: Option<Destination>,
    /// Names of the image, besides those of `--tag`.
    pub names: Vec<String>,
    /// How layers are compressed that have to be packed.
    pub compression: Compression,
    /// The compressor's level; `None` is its default.
    pub compression_level: Option<i32>,
    /// Compress the base image's layers anew as well.
    pub force_compression: bool,
    /// Docker's media types instead of OCI's.
    pub docker_media_types: bool,
    /// Files in layers get no later time than SOURCE_DATE_EPOCH.
    pub rewrite_timestamp: bool,
    /// Send the image to its registry.
    pub push: bool,
    /// Send it without a tag.
    pub push_by_digest: bool,
    /// Annotations of the image.
    pub annotations: Vec<Annotation>,
    /// For files and tar: each platform in a directory of its own. `None`: if there are several.
    pub platform_split: Option<bool>,
}

/// What an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// `type=image` and `type=registry`: an image in the store.
    Image,
    /// `type=oci`: an OCI image layout, in a tar or a directory.
    Oci {
        /// One tar file.
        tar: bool,
    },
    /// `type=docker`: what `docker load` reads, in a tar or (as an OCI layout) a directory.
    Docker {
        /// One tar file.
        tar: bool,
    },
    /// `type=local`: the files of the final stage.
    Local,
    /// `type=tar`: the files of the final stage, in a tar.
    Tar,
    /// `type=cacheonly`: nothing; the steps stay cached.
    Nothing,
}

/// Where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// `-`
    Stdout,
    /// A file or directory.
    Path(PathBuf),
}

/// `annotation.KEY=VALUE`, or with a level: `annotation-index.KEY=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Of what.
    pub level: AnnotationLevel,
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}

/// What an annotation is written on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnotationLevel {
    /// Each image's manifest (the default).
    Manifest,
    /// The descriptor of each manifest in the index above.
    ManifestDescriptor,
    /// The index of several platforms.
    Index,
    /// The descriptor of the index in `index.json`.
    IndexDescriptor,
}

/// A value of `--output` that cannot be meant; the display underlines the words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    text: String,
    at: Range<usize>,
    problem: String,
}

impl std::error::Error for SpecError {}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const OPTION: &str = "--output ";
        let column = OPTION.len() + self.text[..self.at.start].chars().count();
        let width = self.text[self.at.clone()].chars().count().max(1);
        write!(f, "{}\n  {OPTION}{}\n  {}{}", self.problem, self.text, " ".repeat(column), "^".repeat(width))
    }
}

const KEYS: [&str; 27] = [
    "type",
    "dest",
    "tar",
    "name",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "rewrite-timestamp",
    "push",
    "push-by-digest",
    "platform-split",
    "store",
    "unpack",
    "dangling-name-prefix",
    "name-canonical",
    "registry.insecure",
    "attestation-prefix",
    "context",
    "buildinfo",
    "annotation.KEY",
    "mode",
    "attestation-inline",
    "buildinfo-attrs",
    "danging-name-empty-only",
    "oci-artifact",
    "prefer-nondist-layers",
];

impl FromStr for OutputSpec {
    type Err = SpecError;

    /// Reads `type=…,key=value,…`; `-` is `type=tar,dest=-`, and a lone path is
    /// `type=local,dest=PATH`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |at: Range<usize>, problem: String| SpecError { text: text.to_owned(), at, problem };
        let fields =
            csv_fields(text).map_err(|CsvError { at, reason }| error(at..text.len(), reason.to_owned()))?;
        if text.is_empty() {
            return Err(error(0..0, "an output needs a destination".to_owned()));
        }
        if let [field] = fields.as_slice() {
            if field.text == "-" {
                return Ok(Self::new(OutputKind::Tar, Some(Destination::Stdout)));
            }
            if !field.text.contains('=') {
                return Ok(Self::new(OutputKind::Local, Some(Destination::Path(field.text.clone().into()))));
            }
        }
        let mut reading = Reading { spec: Self::new(OutputKind::Image, None), kind: None, tar: None };
        for field in fields {
            let problem = match field.text.split_once('=') {
                Some((key, value)) => reading.set(key, value).map_err(|(whole, problem)| {
                    let at =
                        if whole { field.at.clone() } else { field.at.start..field.at.start + key.len() };
                    (at, problem)
                }),
                None => Err((field.at.clone(), format!("`{}` is not `key=value`", field.text))),
            };
            problem.map_err(|(at, problem)| error(at, problem))?;
        }
        reading.finish().map_err(|problem| error(0..text.len(), problem))
    }
}

impl OutputSpec {
    /// An output with the defaults of its kind.
    pub fn new(kind: OutputKind, dest: Option<Destination>) -> Self {
        Self {
            kind,
            dest,
            names: Vec::new(),
            compression: Compression::Gzip,
            compression_level: None,
            force_compression: false,
            docker_media_types: false,
            rewrite_timestamp: false,
            push: false,
            push_by_digest: false,
            annotations: Vec::new(),
            platform_split: None,
        }
    }

    /// The output needs the files of the final stage, and no image.
    pub fn is_files(&self) -> bool {
        matches!(self.kind, OutputKind::Local | OutputKind::Tar)
    }
}

struct Reading {
    spec: OutputSpec,
    kind: Option<&'static str>,
    tar: Option<bool>,
}

/// Whether the whole `key=value` is at fault or only the key, and what is wrong.
type Fault = (bool, String);

impl Reading {
    fn set(&mut self, key: &str, value: &str) -> Result<(), Fault> {
        let spec = &mut self.spec;
        match key.trim().to_ascii_lowercase().as_str() {
            "type" => self.kind = Some(kind(value)?),
            "dest" if value.is_empty() => return Err((true, "`dest` is empty".to_owned())),
            "dest" if value == "-" => spec.dest = Some(Destination::Stdout),
            "dest" => spec.dest = Some(Destination::Path(value.into())),
            "tar" => self.tar = Some(flag(key, value)?),
            "name" => spec.names.extend(value.split(',').filter(|name| !name.is_empty()).map(str::to_owned)),
            "compression" => spec.compression = compression(value)?,
            "compression-level" => {
                let level = value.parse().map_err(|_| (true, format!("`{value}` is not a number")))?;
                spec.compression_level = Some(level);
            }
            "force-compression" => spec.force_compression = flag(key, value)?,
            "oci-mediatypes" => spec.docker_media_types = !flag(key, value)?,
            "rewrite-timestamp" => spec.rewrite_timestamp = flag(key, value)?,
            "push" => spec.push = flag(key, value)?,
            "push-by-digest" => spec.push_by_digest = flag(key, value)?,
            "platform-split" => spec.platform_split = Some(flag(key, value)?),
            // dbuild's store always keeps, and unpacks when it needs to; the rest speaks to a
            // daemon, or of what dbuild does not make. Which of these need a word to the user is in
            // the table of the command line.
            "store"
            | "unpack"
            | "dangling-name-prefix"
            | "danging-name-empty-only"
            | "name-canonical"
            | "attestation-inline"
            | "attestation-prefix"
            | "buildinfo"
            | "buildinfo-attrs"
            | "oci-artifact"
            | "prefer-nondist-layers" => {}
            "registry.insecure" => {
                let problem = "set `insecure = true` for the registry in the configuration instead";
                return Err((false, problem.to_owned()));
            }
            "mode" if value == "copy" => {}
            "mode" => {
                return Err((
                    true,
                    format!("`mode={value}` is not supported: files are only added, as with `copy`"),
                ));
            }
            "context" => {
                return Err((false, "docker contexts are not supported: set DOCKER_HOST instead".to_owned()));
            }
            other => match annotation(other, key, value) {
                Some(annotation) => spec.annotations.push(annotation),
                None => return Err((false, unknown_key(other))),
            },
        }
        Ok(())
    }

    fn finish(self) -> Result<OutputSpec, String> {
        let Self { mut spec, kind, tar } = self;
        let kind = kind.ok_or("`type` is missing: one of image, registry, oci, docker, local, tar")?;
        spec.kind = match kind {
            "oci" => OutputKind::Oci { tar: tar.unwrap_or(true) },
            "docker" => OutputKind::Docker { tar: tar.unwrap_or(true) },
            "local" => OutputKind::Local,
            "tar" => OutputKind::Tar,
            "cacheonly" => OutputKind::Nothing,
            _ => OutputKind::Image,
        };
        spec.push |= kind == "registry";
        let only_images = |set: bool, key: &str| match set {
            true if spec.is_files() => Err(format!("`{key}` is for images, and `type={kind}` writes files")),
            _ => Ok(()),
        };
        only_images(spec.push, "push")?;
        only_images(!spec.names.is_empty(), "name")?;
        only_images(!spec.annotations.is_empty(), "annotation")?;
        if spec.push && spec.kind != OutputKind::Image {
            return Err(format!("`type={kind}` cannot be pushed: use `type=image,push=true`"));
        }
        if spec.compression == Compression::Estargz && spec.docker_media_types {
            return Err("`compression=estargz` is written with OCI's media types alone: leave `oci-mediatypes=false` out".to_owned());
        }
        match (spec.kind, &spec.dest) {
            (OutputKind::Local, None) => return Err("`type=local` needs `dest=DIRECTORY`".to_owned()),
            (OutputKind::Local, Some(Destination::Stdout)) => {
                return Err("a directory cannot go to stdout: use `type=tar,dest=-`".to_owned());
            }
            (
                OutputKind::Oci { tar: false } | OutputKind::Docker { tar: false },
                None | Some(Destination::Stdout),
            ) => {
                return Err("`tar=false` writes a directory and needs `dest=DIRECTORY`".to_owned());
            }
            (OutputKind::Image | OutputKind::Nothing, Some(_)) => {
                return Err(format!("`type={kind}` has no `dest`: use `type=oci` for a file"));
            }
            (OutputKind::Oci { .. } | OutputKind::Tar, None) => spec.dest = Some(Destination::Stdout),
            _ => {}
        }
        Ok(spec)
    }
}

fn kind(value: &str) -> Result<&'static str, Fault> {
    const KINDS: [&str; 7] = ["image", "registry", "oci", "docker", "local", "tar", "cacheonly"];
    let known = KINDS.into_iter().find(|kind| *kind == value.to_ascii_lowercase());
    known.ok_or_else(|| (true, format!("`{value}` is not a type of output: use one of {}", KINDS.join(", "))))
}

fn flag(key: &str, value: &str) -> Result<bool, Fault> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err((true, format!("`{key}` is `true` or `false`, not `{value}`"))),
    }
}

fn compression(value: &str) -> Result<Compression, Fault> {
    match value {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "uncompressed" => Ok(Compression::Uncompressed),
        "estargz" => Ok(Compression::Estargz),
        _ => Err((
            true,
            format!("`{value}` is not a compression: use one of gzip, estargz, zstd, uncompressed"),
        )),
    }
}

/// `annotation.KEY`, `annotation-LEVEL.KEY`; a platform in brackets after the level is not
/// supported and falls through to the error.
fn annotation(lower: &str, key: &str, value: &str) -> Option<Annotation> {
    let (head, _) = lower.split_once('.')?;
    let level = match head {
        "annotation" | "annotation-manifest" => AnnotationLevel::Manifest,
        "annotation-manifest-descriptor" => AnnotationLevel::ManifestDescriptor,
        "annotation-index" => AnnotationLevel::Index,
        "annotation-index-descriptor" => AnnotationLevel::IndexDescriptor,
        _ => return None,
    };
    // The key itself keeps its case.
    let key = key.trim().get(head.len() + 1..)?;
    (!key.is_empty()).then(|| Annotation { level, key: key.to_owned(), value: value.to_owned() })
}

fn unknown_key(key: &str) -> String {
    let near = match key {
        "dst" | "destination" | "output" | "path" | "file" => Some("dest"),
        "tag" | "tags" | "names" | "ref" => Some("name"),
        "level" => Some("compression-level"),
        key => KEYS
            .into_iter()
            .filter(|known| distance(known, key) <= 2)
            .min_by_key(|known| distance(known, key)),
    };
    match near {
        Some(near) => format!("`{key}` is not a key of an output: did you mean `{near}`?"),
        None => format!("`{key}` is not a key of an output: {}", KEYS[..12].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::{AnnotationLevel, Compression, Destination, OutputKind, OutputSpec};

    fn spec(text: &str) -> OutputSpec {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn error(text: &str) -> String {
        text.parse::<OutputSpec>().expect_err(text).to_string()
    }

    fn path(path: &str) -> Option<Destination> {
        Some(Destination::Path(path.into()))
    }

    #[test]
    fn short_forms() {
        assert_eq!(spec("-"), OutputSpec::new(OutputKind::Tar, Some(Destination::Stdout)));
        assert_eq!(spec("out"), OutputSpec::new(OutputKind::Local, path("out")));
        assert_eq!(spec("./a b"), OutputSpec::new(OutputKind::Local, path("./a b")));
    }

    #[test]
    fn long_forms() {
        assert_eq!(spec("type=local,dest=out"), OutputSpec::new(OutputKind::Local, path("out")));
        assert_eq!(
            spec("type=oci,dest=a.tar"),
            OutputSpec::new(OutputKind::Oci { tar: true }, path("a.tar"))
        );
        assert_eq!(
            spec("type=oci"),
            OutputSpec::new(OutputKind::Oci { tar: true }, Some(Destination::Stdout))
        );
        assert_eq!(
            spec("tar=false,TYPE=oci,dest=d"),
            OutputSpec::new(OutputKind::Oci { tar: false }, path("d"))
        );
        assert_eq!(spec("type=docker"), OutputSpec::new(OutputKind::Docker { tar: true }, None));
        let image = spec(
            r#"type=registry,"name=a,b:1",name=c,compression=zstd,compression-level=7,force-compression=true,oci-mediatypes=false,rewrite-timestamp=1"#,
        );
        assert_eq!(image.kind, OutputKind::Image);
        assert_eq!(image.names, ["a", "b:1", "c"]);
        assert_eq!((image.compression, image.compression_level), (Compression::Zstd, Some(7)));
        assert!(image.push && image.force_compression && image.docker_media_types && image.rewrite_timestamp);
        assert_eq!(spec("type=oci,compression=estargz").compression, Compression::Estargz);
        assert_eq!(spec(r#"type=tar,"dest=a,""b"".tar""#).dest, path(r#"a,"b".tar"#));
    }

    #[test]
    fn annotations_have_levels_and_keep_their_case() {
        let found = spec("type=image,annotation.org.Title=a=b,annotation-index.k=v").annotations;
        assert_eq!(
            (found[0].level, found[0].key.as_str(), found[0].value.as_str()),
            (AnnotationLevel::Manifest, "org.Title", "a=b")
        );
        assert_eq!((found[1].level, found[1].key.as_str()), (AnnotationLevel::Index, "k"));
    }

    #[test]
    fn errors_point() {
        insta::assert_snapshot!(error("type=oci,dst=x.tar"), @r"
        `dst` is not a key of an output: did you mean `dest`?
          --output type=oci,dst=x.tar
                            ^^^
        ");
        insta::assert_snapshot!(error("type=ocy,dest=x"), @r"
        `ocy` is not a type of output: use one of image, registry, oci, docker, local, tar, cacheonly
          --output type=ocy,dest=x
                   ^^^^^^^^
        ");
        insta::assert_snapshot!(error("dest=x"), @r"
        `type` is missing: one of image, registry, oci, docker, local, tar
          --output dest=x
                   ^^^^^^
        ");
        insta::assert_snapshot!(error("type=local"), @r"
        `type=local` needs `dest=DIRECTORY`
          --output type=local
                   ^^^^^^^^^^
        ");
        insta::assert_snapshot!(error("type=tar,push=true,dest=-"), @r"
        `push` is for images, and `type=tar` writes files
          --output type=tar,push=true,dest=-
                   ^^^^^^^^^^^^^^^^^^^^^^^^^
        ");
        insta::assert_snapshot!(error("type=oci,tar=maybe"), @r"
        `tar` is `true` or `false`, not `maybe`
          --output type=oci,tar=maybe
                            ^^^^^^^^^
        ");
        insta::assert_snapshot!(error("type=oci,\"dest=x"), @r#"
        this quote is never closed
          --output type=oci,"dest=x
                            ^^^^^^^
        "#);
        insta::assert_snapshot!(error("type=oci,compression=estargz,oci-mediatypes=false"), @r"
        `compression=estargz` is written with OCI's media types alone: leave `oci-mediatypes=false` out
          --output type=oci,compression=estargz,oci-mediatypes=false
                   ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        ");
        for text in [
            "",
            "type=local,dest=-",
            "type=oci,tar=false",
            "type=image,dest=x",
            "type=oci,push=true",
            "type=oci,x",
            "type=oci,compression=lz4",
            "type=oci,dest=",
        ] {
            error(text);
        }
    }
}
