//! What Docker, buildx and BuildKit know and dbuild does not do: each such word is refused or
//! warned of by its name, from the rows of [`table`]. No word of theirs meets an error that speaks
//! of another one.

mod aliases;
mod table;

use clap::{Arg, ArgAction, ArgMatches, Command};
use dbuild_support::csv::csv_fields;
use table::{Entry, Kind, Verdict};

pub(crate) use self::aliases::with_own_names;
use crate::cli::{KeyValue, go_bool};
use crate::error::Error;

/// Where the words of a command that is not there are collected.
const WORDS: &str = "words";

/// The flags of a build that dbuild does not have itself, as they were given.
#[derive(Debug, Default)]
pub(crate) struct KnownFlags {
    given: Vec<(&'static Entry, Vec<String>)>,
}

impl clap::Args for KnownFlags {
    fn augment_args(command: Command) -> Command {
        flags_of("build").fold(command, |command, entry| command.arg(argument(entry)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for KnownFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { given: flags_of("build").filter_map(|entry| given(entry, matches)).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl KnownFlags {
    /// The warning for the user, or an error where the image would not be what was asked for.
    pub(crate) fn warnings(&self) -> Result<Vec<String>, Error> {
        let mut warnings = Vec::new();
        for (entry, values) in &self.given {
            for value in values.iter().filter(|_| entry.takes_value) {
                csv_fields(value)
                    .map_err(|error| Error::usage(format!("`{} {value}`: {error}", entry.word)))?;
            }
            if !values.iter().all(|value| is_harmless(entry, value)) {
                warnings.extend(judged(entry)?);
            }
        }
        Ok(warnings)
    }
}

/// The command line with the commands and flags of Docker that dbuild does not have, hidden.
pub(crate) fn with_known_words(command: Command) -> Command {
    let mut command = flags_of("").fold(command, |command, entry| command.arg(argument(entry)));
    for entry in table::entries().filter(|entry| entry.kind == Kind::Command) {
        let (first, second) = entry.word.split_once(' ').unwrap_or((entry.word, ""));
        let absent = entry.verdict != Verdict::Done;
        match command.find_subcommand(first).is_some() {
            // `image` is a command here, too, with other commands below it.
            true if first == "image" && absent && !second.is_empty() => {
                command = command.mut_subcommand(first, |below| below.subcommand(absent_command(second)));
            }
            false if absent => command = command.subcommand(absent_command(first)),
            _ => {}
        }
    }
    for name in ["run", "images", "rm", "inspect", "save", "load", "pull", "push", "history", "logs"] {
        command = command.mut_subcommand(name, |below| {
            flags_of(name).fold(below, |below, entry| below.arg(argument(entry)))
        });
    }
    command
}

/// The error that names a word of Docker's which dbuild does not have, if the command line holds
/// one; or the warning of a command that has nothing to do here.
pub(crate) fn check(matches: &ArgMatches) -> Result<Option<String>, Error> {
    refuse_flags("", matches)?;
    let Some((name, below)) = matches.subcommand() else { return Ok(None) };
    if let Some((second, _)) = below.subcommand().filter(|_| name == "image")
        && let Some(entry) = command_of(&[name, second])
    {
        return judged(entry);
    }
    if below.try_contains_id(WORDS).is_ok() {
        let words = below.get_many::<String>(WORDS).into_iter().flatten().map(String::as_str);
        let second = words.into_iter().find(|word| !word.starts_with('-'));
        let entry = second.and_then(|second| command_of(&[name, second])).or_else(|| command_of(&[name]));
        return entry.map_or(Ok(None), judged);
    }
    match name {
        "build" | "image" => Ok(None),
        name => refuse_flags(name, below).map(|()| None),
    }
}

/// What is to be said of the environment of a build.
pub(crate) fn variables() -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for entry in table::entries().filter(|entry| entry.kind == Kind::Variable) {
        let value = std::env::var(entry.word).unwrap_or_default();
        if !value.is_empty() && !is_harmless(entry, &value) {
            warnings.extend(judged(entry)?);
        }
    }
    Ok(warnings)
}

/// What is to be said of build arguments.
pub(crate) fn build_arguments(given: &[KeyValue]) -> Result<Vec<String>, Error> {
    // The frontend speaks of this one itself: it knows when another language is asked for.
    const SYNTAX: &str = "BUILDKIT_SYNTAX";
    let mut warnings = Vec::new();
    let rows = table::entries().filter(|entry| entry.kind == Kind::BuildArgument && entry.word != SYNTAX);
    for entry in rows {
        let arg = given.iter().rev().find(|arg| arg.key == entry.word);
        let value = arg.and_then(|arg| arg.value.clone().or_else(|| std::env::var(&arg.key).ok()));
        if value.is_some_and(|value| !is_harmless(entry, &value)) {
            warnings.extend(judged(entry)?);
        }
    }
    Ok(warnings)
}

/// What is to be said of the keys of `--output`. What is no list, or no key at all, is the
/// exporter's affair.
pub(crate) fn output_keys(text: &str) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for field in csv_fields(text).unwrap_or_default() {
        let Some((key, value)) = field.text.split_once('=') else { continue };
        let key = key.trim().to_ascii_lowercase();
        let entry = key_of("--output", &key).filter(|entry| !is_harmless(entry, value));
        warnings.extend(entry.map(judged).transpose()?.flatten());
    }
    Ok(warnings)
}

/// The error about a value of a flag that the others know, and dbuild does not.
pub(crate) fn refused_value(flag: &str, value: &str) -> Option<Error> {
    key_of(flag, value).and_then(|entry| judged(entry).err())
}

fn key_of(flag: &str, key: &str) -> Option<&'static Entry> {
    table::entries().find(|entry| entry.kind == Kind::Key && entry.owner == flag && entry.word == key)
}

fn command_of(words: &[&str]) -> Option<&'static Entry> {
    let name = words.join(" ");
    table::entries().find(|entry| entry.kind == Kind::Command && entry.word == name)
}

/// The flags of a command that dbuild does not have itself.
fn flags_of(owner: &str) -> impl Iterator<Item = &'static Entry> {
    let flags = table::entries().filter(|entry| entry.kind == Kind::Flag && entry.verdict != Verdict::Done);
    flags.filter(move |entry| entry.owner == owner)
}

fn argument(entry: &'static Entry) -> Arg {
    let name = entry.word.trim_start_matches('-');
    let argument = Arg::new(entry.word).long(name).hide(true).action(ArgAction::Append);
    let argument = entry.short.into_iter().fold(argument, |argument, short| argument.short(short));
    match entry.takes_value {
        true => argument.allow_hyphen_values(true).num_args(1),
        // As of Go's flags: `--flag` and `--flag=BOOL`, and what follows a blank is another word.
        false => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(|text: &str| go_bool(text).map(|is_set| is_set.to_string())),
    }
}

fn absent_command(name: &'static str) -> Command {
    let words = Arg::new(WORDS).num_args(0..).trailing_var_arg(true).allow_hyphen_values(true);
    Command::new(name).hide(true).disable_help_flag(true).arg(words)
}

fn given(entry: &'static Entry, matches: &ArgMatches) -> Option<(&'static Entry, Vec<String>)> {
    let values = matches.try_get_many::<String>(entry.word).ok().flatten()?;
    let values: Vec<String> = values.filter(|value| entry.takes_value || *value == "true").cloned().collect();
    (!values.is_empty()).then_some((entry, values))
}

fn refuse_flags(owner: &str, matches: &ArgMatches) -> Result<(), Error> {
    let given = flags_of(owner).find_map(|entry| given(entry, matches));
    given.map_or(Ok(()), |(entry, _)| judged(entry).map(drop))
}

/// Whether a value of a word asks for nothing. One element of a list is enough:
/// `type=sbom,disabled=true`.
fn is_harmless(entry: &Entry, value: &str) -> bool {
    let fields = csv_fields(value).unwrap_or_default();
    entry.harmless.contains(&value)
        || fields.iter().any(|field| !field.text.is_empty() && entry.harmless.contains(&field.text.as_str()))
}

/// The error of a word that is refused, or the warning of one that does nothing.
fn judged(entry: &Entry) -> Result<Option<String>, Error> {
    let text = format!("`{}` {}", entry.name(), entry.sentence);
    match entry.verdict {
        Verdict::Refused if entry.hint.is_empty() => Err(Error::usage(text)),
        Verdict::Refused => Err(Error::usage(text).hint(entry.hint)),
        Verdict::Warned => Ok(Some(text)),
        Verdict::Silent | Verdict::Done => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::table::{Kind, entries};

    #[test]
    fn the_frontend_knows_the_same_build_arguments() {
        let rows = entries().filter(|entry| entry.kind == Kind::BuildArgument);
        let rows: BTreeSet<&str> =
            rows.map(|entry| entry.word).filter(|word| word.starts_with("BUILDKIT_")).collect();
        assert_eq!(rows, BTreeSet::from(dbuild_frontend::BUILDKIT_ARGS));
    }

    #[test]
    fn no_word_stands_twice() {
        let mut seen = BTreeSet::new();
        for entry in entries() {
            assert!(seen.insert((entry.kind, entry.name())), "{}", entry.name());
        }
    }
}
