//! The flags of the commands that show images, log in, and print the version.

use std::str::FromStr;

use clap::Args;

use super::go_bool;

/// `dbuild images`.
#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Only images of this repository, or of this name and tag; `*` stands for any characters
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub(crate) name: Option<String>,
    /// Print ids alone
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Print each image as this template has it, such as '{{.Repository}}:{{.Tag}}'; or json
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    pub(crate) format: Option<String>,
    /// Only images for which this holds: reference=NAME, label=KEY[=VALUE], before=IMAGE,
    /// since=IMAGE, dangling=BOOL
    #[arg(long, short = 'f', value_name = "KEY=VALUE")]
    pub(crate) filter: Vec<ImageFilter>,
    /// Print digests and ids whole
    #[arg(long)]
    pub(crate) no_trunc: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What `images --filter` asks for.
#[derive(Debug, Clone)]
pub(crate) enum ImageFilter {
    /// A name with `*`.
    Reference(String),
    /// A label, and its value.
    Label(String, Option<String>),
    /// Made before this image.
    Before(String),
    /// Made after this image.
    Since(String),
    /// Whether it has no name.
    Dangling(bool),
}

impl FromStr for ImageFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const KNOWN: &str = "reference, label, before, since and dangling are known";
        let (key, value) = text.split_once('=').ok_or_else(|| format!("expected KEY=VALUE; {KNOWN}"))?;
        match key {
            "reference" => Ok(Self::Reference(value.to_owned())),
            "label" => Ok(match value.split_once('=') {
                Some((label, value)) => Self::Label(label.to_owned(), Some(value.to_owned())),
                None => Self::Label(value.to_owned(), None),
            }),
            "before" => Ok(Self::Before(value.to_owned())),
            "since" => Ok(Self::Since(value.to_owned())),
            "dangling" => go_bool(value).map(Self::Dangling),
            other => Err(format!("there is no filter `{other}`; {KNOWN}")),
        }
    }
}

/// `dbuild inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Names or the first digits of digests
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Print each image as this template has it, such as '{{.Id}}' or '{{json .Config}}'
    #[arg(long, short = 'f', value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
    /// Only `image`: dbuild has nothing else to inspect
    #[arg(long = "type", value_name = "TYPE", hide = true)]
    pub(crate) kind: Option<String>,
}

/// `dbuild login`.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// The registry [default: docker.io]
    pub(crate) server: Option<String>,
    /// The user; asked for where it is not given
    #[arg(long, short = 'u', value_name = "USER")]
    pub(crate) username: Option<String>,
    /// The password; asked for where it is not given
    #[arg(long, short = 'p', value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,
}

/// `dbuild version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print it as this template has it, such as '{{.Client.Version}}'; or json
    #[arg(long, short = 'f', value_name = "TEMPLATE")]
    pub(crate) format: Option<String>,
}
