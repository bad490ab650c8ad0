//! What `--cache-from` and `--cache-to` say, in BuildKit's words.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dbuild_layer::{Compression, PackOptions};
use dbuild_remote_cache::{CacheOptions, Location, PublicKey, S3Location, SigningKey};
use dbuild_support::csv::csv_fields;

use crate::cli::{BuildArgs, ByteSize, go_bool};
use crate::error::Error;

/// How long the end of a build waits for an export that says nothing else.
const WAIT: Duration = Duration::from_secs(60);

/// All caches of a build.
#[derive(Debug, Default)]
pub(crate) struct CacheSpecs {
    pub(crate) from: Vec<CacheSpec>,
    pub(crate) to: Vec<CacheSpec>,
    /// What is said about them: what has no effect here, and why.
    words: Vec<String>,
}

/// One cache.
#[derive(Clone, Debug)]
pub(crate) struct CacheSpec {
    pub(crate) location: Location,
    pub(crate) options: CacheOptions,
    pub(crate) mode: Mode,
    /// How layers are packed that no image has; those of the image are taken as they are.
    pub(crate) pack: PackOptions,
    /// How long the end of a build waits for the export.
    pub(crate) wait: Duration,
}

/// Which results are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Those that are dearer to make than to move.
    Worth,
    /// Those whose layers the image has.
    Min,
    /// All.
    Max,
}

/// Which flag a spec is the value of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    From,
    To,
}

impl Direction {
    const fn flag(self) -> &'static str {
        match self {
            Self::From => "--cache-from",
            Self::To => "--cache-to",
        }
    }
}

/// Keys that BuildKit has and that ask for nothing here, with the reason.
const NEEDLESS: &[(&str, &str)] = &[
    ("image-manifest", "a cache of dbuild is made of OCI artifacts in any case"),
    ("oci-mediatypes", "a cache of dbuild has OCI media types in any case"),
    ("ignore-error", "no trouble of a cache is an error of the build"),
    ("force-compression", "layers of the image are taken as they are"),
    ("blobs_prefix", "the parts of a cache have their own folders below `prefix`"),
    ("manifests_prefix", "the parts of a cache have their own folders below `prefix`"),
    ("touch_refresh", "a use is noted when a result is used"),
    ("upload_parallelism", "results are sent side by side in any case"),
];
/// Keys of which nothing needs to be said: what they ask for is the case.
const QUIET: [&str; 3] = ["image-manifest", "oci-mediatypes", "ignore-error"];

impl CacheSpecs {
    /// What the flags of a build say. An empty value, of a variable that is not set, is none.
    pub(crate) fn of_flags(flags: &BuildArgs) -> Result<Self, Error> {
        let mut specs = Self::default();
        for text in flags.cache_from.iter().filter(|text| !text.is_empty()) {
            let read = read(Direction::From, text, &mut specs.words)?;
            specs.from.extend(read);
        }
        for text in flags.cache_to.iter().filter(|text| !text.is_empty()) {
            let read = read(Direction::To, text, &mut specs.words)?;
            specs.to.extend(read);
        }
        Ok(specs)
    }

    /// One export, and nothing else.
    pub(crate) fn export(spec: CacheSpec) -> Self {
        Self { to: vec![spec], ..Self::default() }
    }

    /// What is to be said about them, a line each.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }
}

/// Reads one value; a list without keys names several caches of registries.
pub(crate) fn read(
    direction: Direction,
    text: &str,
    words: &mut Vec<String>,
) -> Result<Vec<CacheSpec>, Error> {
    let flag = direction.flag();
    let usage = |problem: String| Error::usage(format!("`{flag} {}`: {problem}", shown(text)));
    let fields = csv_fields(text).map_err(|error| usage(error.to_string()))?;
    if fields.iter().all(|field| !field.text.contains('=')) {
        let one = |reference: &str| {
            let mut values = Values::default();
            values.0.insert("ref".to_owned(), reference.to_owned());
            values.cache("registry", direction, flag)
        };
        return fields.iter().map(|field| one(&field.text).map_err(usage)).collect();
    }
    let mut values = Values::default();
    for field in &fields {
        let (key, value) =
            field.text.split_once('=').ok_or_else(|| usage(format!("`{}` is no KEY=VALUE", field.text)))?;
        values.0.insert(key.to_ascii_lowercase(), value.to_owned());
    }
    let kind = values.take("type").ok_or_else(|| usage("it has no `type=`".to_owned()))?;
    if ["gha", "azblob", "inline"].contains(&kind.as_str()) {
        words.push(format!(
            "warning: `{flag} type={kind}` has no effect: this kind of cache is not supported; use type=registry, local or s3"
        ));
        return Ok(Vec::new());
    }
    for (key, why) in NEEDLESS {
        if values.take(key).is_some() && !QUIET.contains(key) {
            words.push(format!("note: `{key}` of `{flag}` has no effect: {why}"));
        }
    }
    values.cache(&kind, direction, flag).map(|spec| vec![spec]).map_err(usage)
}

/// A value as it may be shown: without what proves who somebody is.
fn shown(text: &str) -> String {
    let secret = |field: &str| {
        ["secret_access_key=", "session_token=", "access_key_id="]
            .iter()
            .find(|key| field.to_ascii_lowercase().starts_with(*key))
            .map(|key| format!("{key}…"))
    };
    text.split(',')
        .map(|field| secret(field).unwrap_or_else(|| field.to_owned()))
        .collect::<Vec<_>>()
        .join(",")
}

#[derive(Default)]
struct Values(BTreeMap<String, String>);

impl Values {
    fn take(&mut self, key: &str) -> Option<String> {
        self.0.remove(key)
    }

    fn required(&mut self, key: &str) -> Result<String, String> {
        self.take(key).filter(|value| !value.is_empty()).ok_or_else(|| format!("it needs `{key}=`"))
    }

    fn cache(mut self, kind: &str, direction: Direction, flag: &str) -> Result<CacheSpec, String> {
        let location = self.location(kind, direction)?;
        let mut options = CacheOptions::default();
        let mut spec_pack = PackOptions { compression: Compression::Gzip, level: None, clamp_mtime: None };
        let (mut mode, mut wait) = (Mode::Worth, WAIT);
        match direction {
            Direction::From => {
                if let Some(files) = self.take("trust") {
                    options.trust = trusted(&files)?;
                }
            }
            Direction::To => {
                mode = match self.take("mode").as_deref() {
                    None | Some("worth") => Mode::Worth,
                    Some("min") => Mode::Min,
                    Some("max") => Mode::Max,
                    Some(other) => return Err(format!("`mode={other}`: expected min, max or worth")),
                };
                if let Some(name) = self.take("compression") {
                    spec_pack.compression = compression(&name)?;
                }
                if let Some(level) = self.take("compression-level") {
                    let number = level.parse();
                    spec_pack.level =
                        Some(number.map_err(|_| format!("`compression-level={level}` is no number"))?);
                }
                if let Some(file) = self.take("sign-key") {
                    options.sign = Some(signing_key(&file)?);
                }
                if let Some(size) = self.take("max-size") {
                    let parsed: Result<ByteSize, String> = size.parse();
                    options.max_size =
                        Some(parsed.map_err(|problem| format!("`max-size={size}`: {problem}"))?.0);
                }
            }
        }
        if let Some(text) = self.take("timeout") {
            let limit = seconds(&text)?;
            match direction {
                Direction::From => options.timeout = limit,
                Direction::To => wait = limit,
            }
        }
        match self.0.keys().next() {
            Some(key) => Err(format!("`{key}` is no key of `{flag} type={kind}`")),
            None => Ok(CacheSpec { location, options, mode, pack: spec_pack, wait }),
        }
    }

    fn bucket(&mut self) -> Result<S3Location, String> {
        let endpoint_url = self.take("endpoint_url");
        let use_path_style = match self.take("use_path_style") {
            Some(value) => go_bool(&value).map_err(|error| format!("`use_path_style`: {error}"))?,
            None => false,
        };
        Ok(S3Location {
            bucket: self.required("bucket")?,
            region: self.take("region"),
            // An address has no subdomain that could be the bucket.
            use_path_style: use_path_style || endpoint_url.as_deref().is_some_and(is_of_address),
            endpoint_url,
            prefix: self.take("prefix").unwrap_or_default(),
            name: self.take("name").unwrap_or_else(|| "dbuild".to_owned()),
            access_key_id: self.take("access_key_id"),
            secret_access_key: self.take("secret_access_key"),
            session_token: self.take("session_token"),
        })
    }

    fn location(&mut self, kind: &str, direction: Direction) -> Result<Location, String> {
        match kind {
            "registry" => Ok(Location::Registry { reference: self.required("ref")? }),
            "local" => {
                let key = if direction == Direction::From { "src" } else { "dest" };
                let path = PathBuf::from(self.required(key)?);
                let path = std::path::absolute(&path).map_err(|error| format!("`{key}`: {error}"))?;
                let tag = self.take("tag").unwrap_or_else(|| "latest".to_owned());
                Ok(Location::Directory { path, tag })
            }
            "s3" => self.bucket().map(Location::S3),
            other => Err(format!("`type={other}`: expected registry, local or s3")),
        }
    }
}

/// Whether a URL's host is an IP address.
fn is_of_address(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    host.starts_with('[')
        || host.split(':').next().is_some_and(|host| host.parse::<std::net::Ipv4Addr>().is_ok())
}

fn compression(name: &str) -> Result<Compression, String> {
    Ok(match name {
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        "estargz" => Compression::Estargz,
        "uncompressed" => Compression::Uncompressed,
        other => {
            return Err(format!("`compression={other}`: expected gzip, zstd, estargz or uncompressed"));
        }
    })
}

/// `30`, `30s` or `2m`.
fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u64 =
        number.parse().map_err(|_| format!("`timeout={text}`: expected seconds, such as 30s"))?;
    Ok(Duration::from_secs(number.saturating_mul(unit)))
}

fn signing_key(file: &str) -> Result<SigningKey, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("`sign-key={file}`: {error}"))?;
    SigningKey::parse(&text).map_err(|error| format!("`sign-key={file}`: {error}"))
}

/// The public keys in files, whose names are separated by colons.
fn trusted(files: &str) -> Result<Vec<PublicKey>, String> {
    let mut keys = Vec::new();
    for file in files.split(':') {
        let text = std::fs::read_to_string(file).map_err(|error| format!("`trust={file}`: {error}"))?;
        keys.extend(PublicKey::parse_all(&text).map_err(|error| format!("`trust={file}`: {error}"))?);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::{Direction, Mode, read};

    fn problem(direction: Direction, text: &str) -> String {
        match read(direction, text, &mut Vec::new()) {
            Ok(_) => panic!("{text} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_plain_list_names_registries() {
        let specs = read(Direction::From, "a/b:c,localhost:5000/x", &mut Vec::new()).unwrap();
        let shown: Vec<String> = specs.iter().map(|spec| spec.location.to_string()).collect();
        assert_eq!(shown, ["a/b:c", "localhost:5000/x"]);
    }

    #[test]
    fn what_is_not_needed_is_said() {
        let mut words = Vec::new();
        let text = "type=registry,ref=a,mode=max,image-manifest=true,upload_parallelism=8";
        let specs = read(Direction::To, text, &mut words).unwrap();
        assert_eq!(specs[0].mode, Mode::Max);
        assert_eq!(
            words,
            [
                "note: `upload_parallelism` of `--cache-to` has no effect: results are sent side by side in any case"
            ]
        );
    }

    #[test]
    fn errors_name_the_key_and_no_secret() {
        let text = "type=s3,bucket=b,secret_access_key=geheim,nme=x";
        assert_eq!(
            problem(Direction::To, text),
            "error: `--cache-to type=s3,bucket=b,secret_access_key=…,nme=x`: `nme` is no key of `--cache-to type=s3`"
        );
        assert_eq!(
            problem(Direction::From, "type=local"),
            "error: `--cache-from type=local`: it needs `src=`"
        );
        assert_eq!(
            problem(Direction::To, "type=registry,ref=a,mode=all"),
            "error: `--cache-to type=registry,ref=a,mode=all`: `mode=all`: expected min, max or worth"
        );
    }
}
