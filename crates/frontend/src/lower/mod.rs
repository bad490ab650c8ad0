//! From AST to plan.

mod capture;
mod config;
mod copy;
mod env;
mod epoch;
mod expose;
mod from_checks;
mod git;
mod globals;
mod graph;
mod paths;
mod run;
mod shared;
mod signal;
mod stage;
mod windows;

pub use capture::{OutlineArg, OutlineMount};
pub use epoch::{EpochSource, source_date_epoch};
pub use git::{fetched_context, git_context, percent_decoded};

use std::collections::BTreeSet;

use capture::Capture;
use dbuild_oci::{ImageConfig, Platform, Reference};
use dbuild_plan::{Stage, StageId, Target};
use dbuild_support::edit_distance;
use graph::{Graph, Node};
use shared::Shared;
use stage::{Finished, StageLowering};

use crate::ast::Dockerfile;
use crate::buildkit_args::BUILDKIT_ARGS;
use crate::checks::{Lint, statics};
use crate::diagnostics::{Diagnostic, Diagnostics, Severity};
use crate::request::{BuildArgs, Findings, ImageRequest, Lowered, Resolved};

/// The images that must still be found before [`lower`] can be called. Ask again with the answers
/// until there is nothing more: the ONBUILD of a base can name others. Only what the target reaches
/// is asked for.
pub fn needed(
    ast: &Dockerfile,
    args: &BuildArgs,
    resolved: &Resolved,
) -> Result<Vec<ImageRequest>, Diagnostics> {
    let mut found: Vec<ImageRequest> = Vec::new();
    for platform in platforms(args) {
        let graph = Graph::new(ast, args, &platform, resolved)?;
        for request in graph.images() {
            let same =
                |old: &ImageRequest| old.reference == request.reference && old.platform == request.platform;
            if resolved.get(&request.reference, &request.platform).is_none() && !found.iter().any(same) {
                found.push(request);
            }
        }
    }
    Ok(found)
}

/// Makes the plan: words are expanded, sources found, and what the target does not reach is
/// dropped.
pub fn lower(ast: &Dockerfile, args: &BuildArgs, resolved: &Resolved) -> Result<Lowered, Diagnostics> {
    let mut shared = Shared::new(Lint::of(ast, args)?);
    statics::run(ast, &mut shared.lint);
    lower_platforms(ast, args, resolved, &mut shared)?;
    let unused = unused_args(args, &shared.declared);
    let (plan, sources, lint) = shared.finish().map_err(|error| Diagnostic::placeless(error.to_string()))?;
    let mut warnings = lint.finish();
    if warnings.iter().any(|warning| warning.severity == Severity::Error) {
        return Err(Diagnostics(warnings));
    }
    warnings.extend(foreign_syntax(ast, args));
    warnings.extend(unused);
    let (sources, settings) = sources.into_iter().unzip();
    Ok(Lowered { plan, sources, settings, warnings })
}

/// What can be said of a Dockerfile without building it. `all_stages` of `args` counts here as
/// everywhere.
pub fn examine(ast: &Dockerfile, args: &BuildArgs, resolved: &Resolved) -> Findings {
    let lint = match Lint::of(ast, args) {
        Ok(lint) => lint,
        Err(error) => return Findings { warnings: Vec::new(), errors: vec![error] },
    };
    let mut shared = Shared::new(lint);
    statics::run(ast, &mut shared.lint);
    let errors =
        lower_platforms(ast, args, resolved, &mut shared).err().map_or_else(Vec::new, |errors| errors.0);
    let unused = if errors.is_empty() { unused_args(args, &shared.declared) } else { Vec::new() };
    let mut warnings = shared.lint.finish();
    warnings.extend(foreign_syntax(ast, args));
    warnings.extend(unused);
    Findings { warnings, errors }
}

/// What stages take, as it is seen while the first platform is lowered.
pub(crate) fn capture(
    ast: &Dockerfile,
    args: &BuildArgs,
    resolved: &Resolved,
) -> Result<Capture, Diagnostics> {
    let mut shared = Shared::new(Lint::default());
    let Some(platform) = platforms(args).into_iter().next() else {
        return Ok(Capture::default());
    };
    let graph = Graph::new(ast, args, &platform, resolved)?;
    lower_platform(&graph, args, resolved, &mut shared, 0)?;
    let mut capture = shared.parameters;
    let mut names = std::mem::take(&mut capture.asked);
    for node in graph.nodes.iter().filter(|node| graph.reached[node.view.index] && !node.replaced) {
        let words = [Some(&node.image_expansion), node.platform_expansion.as_ref()];
        names.extend(words.into_iter().flatten().flat_map(|words| &words.used).map(|used| used.name.clone()));
    }
    capture.target = graph.target;
    capture.global_args = globals::used(ast, args, &graph.globals, names);
    Ok(capture)
}

/// Lowers for each platform in turn.
fn lower_platforms(
    ast: &Dockerfile,
    args: &BuildArgs,
    resolved: &Resolved,
    shared: &mut Shared,
) -> Result<(), Diagnostics> {
    let mut next_stage = 0;
    for platform in platforms(args) {
        from_checks::defaults(ast, args, &platform, &mut shared.lint);
        let graph = Graph::new(ast, args, &platform, resolved)?;
        from_checks::run(ast, &graph, &mut shared.lint);
        shared.declared.extend(graph.declared());
        lower_platform(&graph, args, resolved, shared, next_stage)?;
        next_stage += graph.nodes.len();
    }
    Ok(())
}

fn platforms(args: &BuildArgs) -> Vec<Platform> {
    let mut platforms: Vec<Platform> = Vec::new();
    for platform in &args.platforms {
        if !platforms.contains(platform) {
            platforms.push(platform.clone());
        }
    }
    if platforms.is_empty() {
        platforms.push(args.build_platform.clone());
    }
    platforms
}

fn stage_id(first: usize, index: usize) -> StageId {
    StageId(u32::try_from(first + index).unwrap_or(u32::MAX))
}

fn lower_platform(
    graph: &Graph<'_>,
    args: &BuildArgs,
    resolved: &Resolved,
    shared: &mut Shared,
    first_stage: usize,
) -> Result<(), Diagnostics> {
    let mut done: Vec<Option<Finished>> = Vec::with_capacity(graph.nodes.len());
    let mut errors = Vec::new();
    for node in &graph.nodes {
        let index = node.view.index;
        let id = stage_id(first_stage, index);
        let finished = if graph.reached[index] && errors.is_empty() {
            let lowering = StageLowering::new(graph, args, resolved, shared, &done, node, id);
            lowering
                .and_then(|lowering| lowering.run(index == graph.target))
                .map_err(|error| errors.push(error))
                .ok()
        } else {
            None
        };
        shared.builder.add_stage(plan_stage(node, first_stage, finished.as_ref()));
        done.push(finished);
    }
    if !errors.is_empty() {
        return Err(Diagnostics(errors));
    }
    let stage = stage_id(first_stage, graph.target);
    shared.builder.add_target(Target { platform: label(graph, args, resolved), stage });
    Ok(())
}

/// The platform that the image says it is for: the one that was asked for, whatever its last stage
/// is built on. Where none was, an image keeps the label of its base.
fn label(graph: &Graph<'_>, args: &BuildArgs, resolved: &Resolved) -> Platform {
    let mut node = &graph.nodes[graph.target];
    while let graph::Origin::Stage(base) = node.base {
        node = &graph.nodes[base];
    }
    let of_base = match &node.base {
        graph::Origin::Image(request) => resolved.get(&request.reference, &request.platform),
        _ => None,
    };
    let asked = graph.target_platform.clone();
    let Some(of_base) = of_base.map(|image| image.platform.clone()) else { return asked };
    if args.platforms.is_empty() {
        return of_base;
    }
    let is_same = (&of_base.os, &of_base.architecture) == (&asked.os, &asked.architecture);
    let variant = asked.variant.clone().or(of_base.variant.filter(|_| is_same));
    Platform { variant, ..asked }
}

fn plan_stage(node: &Node<'_>, first_stage: usize, finished: Option<&Finished>) -> Stage {
    let base_stage = match node.base {
        graph::Origin::Stage(base) => Some(stage_id(first_stage, base)),
        _ => None,
    };
    Stage {
        name: node.label(),
        index: u32::try_from(node.view.index).unwrap_or(u32::MAX),
        base: node.base_text.clone(),
        base_stage,
        platform: node.platform.clone(),
        first: finished.map(|finished| finished.first),
        last: finished.map(|finished| finished.last),
        config: finished.map_or_else(ImageConfig::default, |finished| finished.config.clone()),
        history: finished.map_or_else(Vec::new, |finished| finished.history.clone()),
    }
}

/// dbuild is its own frontend: a `syntax` that asks for another language is said, not obeyed.
fn foreign_syntax(ast: &Dockerfile, args: &BuildArgs) -> Option<Diagnostic> {
    const ARG: &str = "BUILDKIT_SYNTAX";
    let directive = ast.directive("syntax");
    let by_argument = args.frontend();
    let asked = by_argument.or(directive.map(|directive| directive.value.text.trim()))?;
    let name = asked.split(' ').next().unwrap_or_default();
    let is_built_in = by_argument.is_some() && name == "dockerfile.v0";
    let known = is_built_in
        || name.parse::<Reference>().is_ok_and(|reference| {
            matches!(reference.repository(), "docker/dockerfile" | "docker/dockerfile-upstream")
                && reference.registry() == "docker.io"
        });
    if known {
        return None;
    }
    let shown: String = name.chars().take(100).collect();
    let message = format!("the frontend `{shown}` is not used");
    let warning = match directive.filter(|_| by_argument.is_none()) {
        Some(directive) => {
            let remove =
                "dbuild reads the file as a Dockerfile of BuildKit; remove the line if that is what it is";
            Diagnostic::error(directive.value.span, message).help(remove)
        }
        None => Diagnostic::placeless(message)
            .note(format!("the build argument `{ARG}` asks for it"))
            .help("dbuild reads the file as a Dockerfile of BuildKit"),
    };
    Some(Diagnostic { severity: Severity::Warning, ..warning })
}

/// Build arguments that no ARG declares, and that nothing else reads.
fn unused_args(args: &BuildArgs, declared: &BTreeSet<String>) -> Vec<Diagnostic> {
    const PROXIES: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];
    let is_known = |name: &str| {
        declared.contains(name)
            || BUILDKIT_ARGS.contains(&name)
            || name == "SOURCE_DATE_EPOCH"
            || PROXIES.iter().any(|proxy| name.eq_ignore_ascii_case(proxy))
    };
    let unused = args.args.keys().filter(|name| !is_known(name));
    let warn = |name: &String| {
        let known = declared.iter().map(String::as_str).chain(BUILDKIT_ARGS);
        let near = edit_distance::nearest(name, known);
        let help = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it with `ARG {name}` in the stage that uses it"),
        };
        let warning =
            Diagnostic::placeless(format!("the build argument `{name}` is not used: no ARG declares it"));
        Diagnostic { severity: Severity::Warning, ..warning.help(help) }
    };
    unused.map(warn).collect()
}
