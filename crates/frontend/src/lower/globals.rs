//! What is known before the first FROM: ARG there, and the arguments that every build has.

use dbuild_plan::Platform;

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
