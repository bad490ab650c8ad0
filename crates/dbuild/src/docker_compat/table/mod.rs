//! What Docker, buildx and BuildKit know, and what dbuild makes of it: plain data, one row for each
//! word.
//!
//! The command line refuses and warns from these rows (`docker_compat.rs`), the lists of
//! `docs/reference/compatibility.md` are written from them, and
//! `integration-tests/tests/it/docker_compat.rs`, which includes this very module, tries each of
//! them with the program. So the module knows nothing but the standard library.

mod commands;
mod flags;
mod flags_of_run;
mod variables;
mod words;

/// What kind of word it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A command, or two words of one: `buildx bake`.
    Command,
    /// A flag of the command [`Entry::owner`]; without an owner, of every command.
    Flag,
    /// A key or value of the flag [`Entry::owner`].
    Key,
    /// A build argument that nobody declares.
    BuildArgument,
    /// A variable of the environment.
    Variable,
    /// An instruction or an option of a Dockerfile.
    Dockerfile,
}

/// What dbuild makes of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It is an error.
    Refused,
    /// It is said that it does nothing, and the command goes on.
    Warned,
    /// Nothing is said, since nothing is lost.
    Silent,
    /// It has its effect.
    Done,
}

/// One word.
#[allow(dead_code, reason = "some of it is read by the program alone, some by its tests alone")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// The command of a flag, or the flag of a key.
    pub(crate) owner: &'static str,
    /// The word, as users write it.
    pub(crate) word: &'static str,
    /// A flag's other form: one letter.
    pub(crate) short: Option<char>,
    /// Which of Docker, buildx and BuildKit know it.
    pub(crate) known_to: &'static str,
    pub(crate) verdict: Verdict,
    /// Completes a sentence that begins with the word: the warning or error. For what is done or
    /// silent, the text of the document.
    pub(crate) sentence: &'static str,
    /// What to use instead.
    pub(crate) hint: &'static str,
    /// A flag that dbuild does not have itself takes a value.
    pub(crate) takes_value: bool,
    /// Values that ask for nothing, and need no word.
    pub(crate) harmless: &'static [&'static str],
    /// How the test gives it: words of the command line, or the value of a variable or a build
    /// argument.
    pub(crate) example: &'static [&'static str],
    /// The same of what a Dockerfile says: a Dockerfile.
    pub(crate) text: &'static str,
    /// The command that stands for it, in dbuild's words.
    pub(crate) means: &'static [&'static str],
    /// The test that shows it done: `file.rs: name`, or a case of `fixtures/cases`.
    pub(crate) proof: &'static str,
}

const DOCKER: &str = "Docker";
const BUILDX: &str = "buildx";
const BUILDKIT: &str = "BuildKit";
/// Flags that `docker build` and `docker buildx build` share.
const BOTH: &str = "Docker, buildx";

/// All rows, in the order of the document.
pub(crate) fn entries() -> impl Iterator<Item = &'static Entry> {
    [
        commands::COMMANDS,
        flags::FLAGS,
        flags::FLAGS_OF_OTHERS,
        flags_of_run::FLAGS_OF_RUN,
        words::KEYS,
        words::BUILD_ARGUMENTS,
        variables::VARIABLES,
        words::DOCKERFILE,
    ]
    .into_iter()
    .flatten()
}

impl Entry {
    const fn new(kind: Kind, verdict: Verdict, known_to: &'static str, word: &'static str) -> Self {
        Self {
            kind,
            owner: "",
            word,
            short: None,
            known_to,
            verdict,
            sentence: "",
            hint: "",
            takes_value: false,
            harmless: &[],
            example: &[],
            text: "",
            means: &[],
            proof: "",
        }
    }

    const fn of(self, owner: &'static str) -> Self {
        Self { owner, ..self }
    }

    const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn says(self, sentence: &'static str) -> Self {
        Self { sentence, ..self }
    }

    const fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }

    const fn value(self) -> Self {
        Self { takes_value: true, ..self }
    }

    const fn unless(self, harmless: &'static [&'static str]) -> Self {
        Self { harmless, ..self }
    }

    const fn example(self, example: &'static [&'static str]) -> Self {
        Self { example, ..self }
    }

    const fn proof(self, proof: &'static str) -> Self {
        Self { proof, ..self }
    }

    /// The word with what it belongs to: `run --detach`, `--output push`, `TZ`.
    pub(crate) fn name(&self) -> String {
        match (self.kind, self.owner) {
            (Kind::Flag, "" | "build") | (_, "") => self.word.to_owned(),
            (_, owner) => format!("{owner} {}", self.word),
        }
    }
}
