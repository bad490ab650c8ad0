//! The named inputs of a key.

use std::fmt;

use dbuild_digest::Framed;
use serde::{Deserialize, Serialize};

/// One named input of a key, in a form that can be kept and shown.
///
/// Values of secrets are never ingredients; their ids and targets are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingredient {
    /// What it is.
    #[serde(rename = "k")]
    pub kind: IngredientKind,
    /// Which one of its kind: the variable, the path, the mount's target. Empty where there is only
    /// one.
    #[serde(rename = "n", default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is worth: a text, a digest, or a line such as [`crate::SelectedPath`] writes.
    #[serde(rename = "v", default, skip_serializing_if = "String::is_empty")]
    pub value: String,
}

/// The closed list of what a key can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IngredientKind {
    /// The kind of step.
    Instruction,
    /// The program and its arguments, as a JSON array.
    Command,
    /// A script that is mounted as a file; the name is its path.
    Script,
    /// A variable of the environment that came from ARG.
    Argument,
    /// Any other variable of the environment.
    Variable,
    /// The user that the step runs as.
    User,
    /// The directory that the step runs in, or makes.
    Workdir,
    /// What the command can reach.
    Network,
    /// What the command may do.
    Security,
    /// A line for `/etc/hosts`.
    Host,
    /// A mount without its contents; the name is its target.
    Mount,
    /// A secret or an ssh socket: its id and place, never its value.
    Secret,
    /// A source as it is written in the instruction.
    Source,
    /// Where a COPY goes.
    Destination,
    /// `--chown`.
    Owner,
    /// `--chmod`.
    Mode,
    /// A flag of the instruction; the name is the flag.
    Flag,
    /// A file whose bytes stand in the Dockerfile; the value is their digest.
    Inline,
    /// A URL or a git remote, without what it holds.
    Remote,
    /// What the remote must give: a checksum or a commit.
    Checksum,
    /// The context that a step reads; the name is the context's.
    Context,
    /// The file system below: a key or a tree digest, as the strategy decides.
    Parent,
    /// A base image: its digest, or the digest of its layers.
    Base,
    /// Another step's output as a whole; the name says which.
    Input,
    /// One path that was selected from a source; the value is [`crate::SelectedPath::digest`].
    Path,
    /// A path that a command read; never hashed, since it is known only afterwards.
    Read,
    /// The version of how dbuild carries out steps of this kind: see [`crate::execution_version`].
    Execution,
}

impl IngredientKind {
    /// The tag under which a kind is hashed. ARG and ENV share one: a command cannot tell them
    /// apart. The numbers are a format; a new kind takes a new number.
    const fn tag(self) -> u64 {
        match self {
            Self::Instruction => 1,
            Self::Command => 2,
            Self::Script => 3,
            Self::Argument | Self::Variable => 4,
            Self::User => 5,
            Self::Workdir => 6,
            Self::Network => 7,
            Self::Security => 8,
            Self::Host => 9,
            Self::Mount => 10,
            Self::Secret => 11,
            Self::Source => 12,
            Self::Destination => 13,
            Self::Owner => 14,
            Self::Mode => 15,
            Self::Flag => 16,
            Self::Inline => 17,
            Self::Remote => 18,
            Self::Checksum => 19,
            Self::Context => 20,
            Self::Parent => 21,
            Self::Base => 22,
            Self::Input => 23,
            Self::Path => 24,
            Self::Execution => 25,
            Self::Read => 26,
        }
    }
}

impl fmt::Display for IngredientKind {
    /// The words that people know it by.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instruction => "the instruction",
            Self::Command => "the command",
            Self::Script => "script",
            Self::Argument => "ARG",
            Self::Variable => "ENV",
            Self::User => "the user",
            Self::Workdir => "the working directory",
            Self::Network => "--network",
            Self::Security => "--security",
            Self::Host => "--add-host",
            Self::Mount => "mount",
            Self::Secret => "secret",
            Self::Source => "source",
            Self::Destination => "the destination",
            Self::Owner => "--chown",
            Self::Mode => "--chmod",
            Self::Flag => "the flag",
            Self::Inline => "here-document",
            Self::Remote => "the remote",
            Self::Checksum => "--checksum",
            Self::Context => "the context",
            Self::Parent => "the parent",
            Self::Base => "the base's digest",
            Self::Input => "input",
            Self::Path => "path",
            Self::Read => "what it read:",
            Self::Execution => "how this dbuild carries it out: version",
        })
    }
}

/// Takes the ingredients of one step, in the order of the walk. The order is part of the key.
pub trait Sink {
    /// Takes one.
    fn add(&mut self, kind: IngredientKind, name: &str, value: &str);
}

/// A list of ingredients that can be walked as often as it is needed, each time the same. It need
/// not be in memory: a context has hundreds of thousands, and what is made of a step's inputs can
/// be made of them again.
pub trait IngredientList {
    /// Gives all of them, in order.
    fn walk(&self, sink: &mut dyn Sink);
}

impl fmt::Debug for dyn IngredientList + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IngredientList")
    }
}

impl IngredientList for [Ingredient] {
    fn walk(&self, sink: &mut dyn Sink) {
        self.iter().for_each(|one| sink.add(one.kind, &one.name, &one.value));
    }
}

impl<const N: usize> IngredientList for [Ingredient; N] {
    fn walk(&self, sink: &mut dyn Sink) {
        self.as_slice().walk(sink);
    }
}

impl IngredientList for Vec<Ingredient> {
    fn walk(&self, sink: &mut dyn Sink) {
        self.as_slice().walk(sink);
    }
}

impl<L: IngredientList + ?Sized> IngredientList for &L {
    fn walk(&self, sink: &mut dyn Sink) {
        (**self).walk(sink);
    }
}

impl Sink for Vec<Ingredient> {
    fn add(&mut self, kind: IngredientKind, name: &str, value: &str) {
        self.push(Ingredient { kind, name: name.to_owned(), value: value.to_owned() });
    }
}

/// What becomes a key: hashes what the walk names, and passes it on to who keeps it, if somebody
/// does.
pub(crate) struct HashingSink<'a> {
    hasher: Framed,
    count: u64,
    kept: Option<&'a mut Vec<Ingredient>>,
}

impl<'a> HashingSink<'a> {
    pub(crate) fn new(domain: &'static str, version: u32, kept: Option<&'a mut Vec<Ingredient>>) -> Self {
        Self { hasher: Framed::new(domain, version), count: 0, kept }
    }

    /// Hashes something that every list of the kind shares, and that is not listed.
    pub(crate) fn head(mut self, name: &str, version: u32) -> Self {
        self.hasher.str(name).u64(u64::from(version));
        self
    }

    pub(crate) fn finish(mut self) -> [u8; 32] {
        self.hasher.u64(self.count);
        self.hasher.finish()
    }
}

impl Sink for HashingSink<'_> {
    fn add(&mut self, kind: IngredientKind, name: &str, value: &str) {
        self.hasher.u64(kind.tag()).str(name).str(value);
        self.count += 1;
        if let Some(kept) = &mut self.kept {
            kept.add(kind, name, value);
        }
    }
}
