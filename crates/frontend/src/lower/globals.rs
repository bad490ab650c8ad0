//! What is known before the first FROM: ARG there, and the arguments that every build has.

use std::collections::{BTreeMap, BTreeSet};

use dbuild_oci::Platform;

use super::capture::OutlineArg;
use super::env::Env;
use crate::ast::Dockerfile;
use crate::diagnostics::Diagnostic;
use crate::expand::{ExpandError, Expansion, Lexer, Variables};
use crate::request::BuildArgs;
use crate::source::Word;

/// Turns the error of an expansion into one that points.
pub(crate) fn expand(lexer: Lexer, word: &Word, variables: &dyn Variables) -> Result<Expansion, Diagnostic> {
    lexer.expand(&word.text, variables).map_err(|error| diagnose(error, word))
}

pub(crate) fn diagnose(error: ExpandError, word: &Word) -> Diagnostic {
    let ExpandError { message, help, range } = error;
    Diagnostic::error(word.part(range), message).maybe_help(help.map(str::to_owned))
}

/// The arguments that FROM can use.
pub(crate) fn globals(ast: &Dockerfile, args: &BuildArgs, target: &Platform) -> Result<Env, Diagnostic> {
    declared(ast, predefined(ast, args, target), |name| args.args.get(name).map(String::as_str))
}

/// The same as if nobody had given an argument on the command line.
pub(crate) fn default_globals(
    ast: &Dockerfile,
    args: &BuildArgs,
    target: &Platform,
) -> Result<Env, Diagnostic> {
    declared(ast, predefined(ast, args, target), |_| None)
}

fn declared<'a>(
    ast: &Dockerfile,
    mut env: Env,
    given: impl Fn(&str) -> Option<&'a str>,
) -> Result<Env, Diagnostic> {
    let lexer = Lexer::new(ast.escape());
    for (_, definitions) in ast.global_args() {
        for definition in definitions {
            let name = &definition.name.text;
            let value = match (given(name), &definition.value) {
                (Some(value), _) => value.to_owned(),
                (None, Some(value)) => expand(lexer, value, &env)?.text,
                (None, None) => continue,
            };
            env.set(name, &value);
        }
    }
    Ok(env)
}

/// The arguments before the first FROM that are used, by name or through another one. The last of
/// one name counts, and what an earlier one used is used by it.
pub(crate) fn used(
    ast: &Dockerfile,
    args: &BuildArgs,
    globals: &Env,
    names: BTreeSet<String>,
) -> Vec<OutlineArg> {
    let mut needs: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut last = BTreeMap::new();
    let lexer = Lexer::new(ast.escape());
    for (instruction, definitions) in ast.global_args() {
        for definition in definitions {
            let name = definition.name.text.as_str();
            let default = definition.value.as_ref().filter(|_| !args.args.contains_key(name));
            let uses =
                default.and_then(|value| lexer.expand(&value.text, globals).ok()).unwrap_or_default().used;
            let mut uses: BTreeSet<String> = uses.into_iter().map(|used| used.name).collect();
            if uses.remove(name) {
                uses.extend(needs.get(name).cloned().unwrap_or_default());
            }
            needs.insert(name, uses);
            last.insert(name, (instruction, definition));
        }
    }
    let mut queue: Vec<String> = names.into_iter().collect();
    let mut seen = BTreeSet::new();
    while let Some(name) = queue.pop() {
        if seen.insert(name.clone()) {
            queue.extend(needs.get(name.as_str()).into_iter().flatten().cloned());
        }
    }
    let used = last.into_iter().filter(|(name, _)| seen.contains(*name));
    used.map(|(name, (instruction, definition))| {
        OutlineArg::of(instruction, definition, globals.get(name).map(str::to_owned))
    })
    .collect()
}

/// The platform arguments. A build argument of the same name overrides them.
fn predefined(ast: &Dockerfile, args: &BuildArgs, target: &Platform) -> Env {
    let last_stage = || ast.stages().last().and_then(|stage| stage.name());
    let stage = args.target.clone().or_else(last_stage).filter(|stage| !stage.is_empty());
    let build = &args.build_platform;
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    let mut env = Env::default();
    for (name, value) in [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", variant(build)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("TARGETSTAGE", stage.unwrap_or_else(|| "default".to_owned())),
    ] {
        env.set(name, args.args.get(name).unwrap_or(&value));
    }
    env
}
