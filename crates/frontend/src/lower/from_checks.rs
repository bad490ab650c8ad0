//! Checks of FROM that need to know the arguments of the build.

use std::collections::BTreeSet;

use dbuild_oci::{Platform, Reference};
use dbuild_support::edit_distance;

use super::globals;
use super::graph::Graph;
use crate::ast::Dockerfile;
use crate::checks::{Lint, rules};
use crate::diagnostics::Diagnostic;
use crate::expand::{Expansion, Lexer, Variables};
use crate::request::BuildArgs;
use crate::source::Word;

/// Finds base images that have no name unless `--build-arg` gives them one. It needs no graph: what
/// it finds is often why there is none.
pub(crate) fn defaults(ast: &Dockerfile, args: &BuildArgs, platform: &Platform, lint: &mut Lint) {
    let Ok(defaults) = globals::default_globals(ast, args, platform) else { return };
    for view in ast.stages() {
        let image = &view.from.image;
        if let Ok(expansion) = Lexer::new(ast.escape()).expand(&image.text, &defaults)
            && expansion.text.parse::<Reference>().is_err()
        {
            let shown: String = image.text.chars().take(100).collect();
            let message = format!("without `--build-arg`, `{shown}` is not the name of an image");
            let comments = &view.opening.comments;
            lint.report(&rules::INVALID_DEFAULT_ARG_IN_FROM, comments, image.span, message);
        }
    }
}

pub(crate) fn run(ast: &Dockerfile, graph: &Graph<'_>, lint: &mut Lint) {
    let declared = ast.global_args().flat_map(|(_, definitions)| definitions);
    let mut known: BTreeSet<&str> = declared.map(|definition| definition.name.text.as_str()).collect();
    known.extend(graph.globals.names());
    for node in &graph.nodes {
        let comments = &node.view.opening.comments;
        let image = &node.view.from.image;
        undeclared(image, &node.image_expansion, &known, |finding| {
            lint.add(&rules::UNDEFINED_ARG_IN_FROM, comments, finding);
        });
        let (Some(word), Some(expansion)) = (&node.view.from.platform, &node.platform_expansion) else {
            continue;
        };
        undeclared(word, expansion, &known, |finding| {
            lint.add(&rules::UNDEFINED_ARG_IN_FROM, comments, finding);
        });
        let set: BTreeSet<&str> = expansion.used.iter().filter(|u| u.set).map(|u| u.name.as_str()).collect();
        let all_set = expansion.used.iter().all(|used| used.set);
        let is_target = graph.globals.get("TARGETPLATFORM") == Some(&expansion.text);
        if all_set && is_target && set.len() == 1 && set.contains("TARGETPLATFORM") {
            let message = format!("`--platform={}` is what FROM does anyway", word.text);
            lint.report(&rules::REDUNDANT_TARGET_PLATFORM, comments, word.span, message);
        }
        let name = node.name.as_deref().unwrap_or_default();
        if expansion.used.is_empty() && !names_platform(name, &expansion.text) {
            let message = format!("the platform `{}` is written as a constant", expansion.text);
            lint.report(&rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED, comments, word.span, message);
        }
    }
}

/// Whether a stage's name tells for which platform it is.
fn names_platform(name: &str, platform: &str) -> bool {
    platform
        .parse::<dbuild_oci::Platform>()
        .is_ok_and(|p| name.contains(&p.os) || name.contains(&p.architecture))
}

fn undeclared(
    word: &Word,
    expansion: &Expansion,
    known: &BTreeSet<&str>,
    mut report: impl FnMut(Diagnostic),
) {
    let mut reported = BTreeSet::new();
    let unset = expansion.used.iter().filter(|used| !used.set && !known.contains(used.name.as_str()));
    for used in unset.filter(|used| reported.insert(used.name.as_str())) {
        let message = format!("`{}` is not declared before the first FROM", used.name);
        let finding =
            Diagnostic::check(rules::UNDEFINED_ARG_IN_FROM.name, word.part(used.range.clone()), message);
        let near = edit_distance::nearest(&used.name, known.iter().copied());
        report(finding.maybe_help(near.map(|near| format!("did you mean `{near}`?"))));
    }
}
