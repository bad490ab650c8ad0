//! Tests of the whole crate: text in, rendered errors or a plan out.

mod checking;
mod errors;
mod lowering;
mod outlines;
mod papers;
mod printing;
mod rules;
mod spoken;
mod stages;

use std::fmt::Write as _;

use dbuild_digest::BlobDigest;
use dbuild_oci::{HistoryEntry, ImageConfig};
use dbuild_plan::{
    BaseImage, CopySource, CopyStep, LayerDescriptor, MountKind, Plan, StepId, StepKind, Unpack,
};

use crate::{BuildArgs, Diagnostics, ImageRequest, Lowered, Resolved, Source, lower, needed, parse, render};

/// The base images that tests know, by familiar name: what the config has besides PATH.
fn base_image(request: &ImageRequest) -> BaseImage {
    let mut config = ImageConfig { env: vec!["PATH=/bin".to_owned()], ..ImageConfig::default() };
    match request.reference.as_str() {
        "docker.io/library/python:3" => {
            config.env.push("LANG=C.UTF-8".to_owned());
            config.cmd = Some(vec!["python3".to_owned()]);
            config.user = "app".to_owned();
            config.working_dir = "/srv".to_owned();
        }
        "docker.io/library/trigger:latest" => {
            config.on_build = vec!["COPY . /src".to_owned(), "RUN make -C /src".to_owned()];
        }
        "docker.io/library/chain:latest" => {
            config.on_build = vec!["COPY --from=hidden /a /a".to_owned()];
        }
        "docker.io/library/badtrigger:latest" => config.on_build = vec!["RUM x".to_owned()],
        "docker.io/library/nopath:latest" => config.env.clear(),
        _ => {}
    }
    let digest = BlobDigest::of(request.reference.as_bytes());
    BaseImage {
        reference: request.reference.clone(),
        digest,
        platform: request.platform.clone(),
        config,
        history: vec![HistoryEntry { created_by: Some("base".to_owned()), ..HistoryEntry::default() }],
        layers: vec![LayerDescriptor {
            digest,
            size: 1,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
            diff_id: digest,
        }],
    }
}

/// Arguments on a machine that is always the same.
fn args() -> BuildArgs {
    let build_platform = "linux/amd64".parse().unwrap();
    BuildArgs { build_platform, ..BuildArgs::default() }
}

fn with_args(pairs: &[(&str, &str)]) -> BuildArgs {
    let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    BuildArgs { args: pairs.collect(), ..args() }
}

fn targeting(target: &str) -> BuildArgs {
    BuildArgs { target: Some(target.to_owned()), ..args() }
}

/// Parses, finds every image that is asked for, and lowers.
fn build(text: &str, args: &BuildArgs) -> Result<(Lowered, Vec<String>), Diagnostics> {
    let ast = parse(&Source::new("Dockerfile", text)).into_result()?;
    let mut resolved = Resolved::default();
    let mut asked = Vec::new();
    loop {
        let requests = needed(&ast, args, &resolved)?;
        if requests.is_empty() {
            return Ok((lower(&ast, args, &resolved)?, asked));
        }
        for request in requests {
            asked.push(format!("{} {}", request.reference, request.platform));
            resolved.insert(&request, base_image(&request));
        }
    }
}

fn built(text: &str, args: &BuildArgs) -> Lowered {
    match build(text, args) {
        Ok((lowered, _)) => lowered,
        Err(errors) => panic!("{}", show(text, &errors)),
    }
}

fn show(text: &str, errors: &Diagnostics) -> String {
    let source = Source::new("Dockerfile", text);
    let all: Vec<String> = errors.0.iter().map(|error| render(error, &source, false)).collect();
    all.join("\n\n")
}

/// What a Dockerfile that cannot be built says.
fn errors(text: &str, args: &BuildArgs) -> String {
    match build(text, args) {
        Ok(_) => panic!("there is no error in {text}"),
        Err(errors) => show(text, &errors),
    }
}

/// The config of the target.
fn config(text: &str) -> ImageConfig {
    let lowered = built(text, &args());
    let target = lowered.plan.targets()[0].stage;
    lowered.plan.stage(target).config.clone()
}

/// The history of the target: `-` before what makes no layer.
fn history(text: &str, args: &BuildArgs) -> String {
    let lowered = built(text, args);
    let target = lowered.plan.targets()[0].stage;
    let lines = lowered.plan.stage(target).history.iter().map(|entry| {
        let mark = if entry.empty_layer { "- " } else { "+ " };
        format!("{mark}{}", entry.created_by.as_deref().unwrap_or("?"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The steps of a plan in a form that is easy to review.
fn steps(plan: &Plan) -> String {
    let mut out = String::new();
    for stage in plan.stages() {
        let place = |id: Option<StepId>| id.map_or("-".to_owned(), |id| id.0.to_string());
        let (first, last) = (place(stage.first), place(stage.last));
        writeln!(out, "stage {} {} from {} ({first}..{last})", stage.index, stage.name, stage.base).unwrap();
    }
    for (id, step) in plan.steps() {
        writeln!(out, "{} [{}] {}", id.0, step.stage.0, step.text).unwrap();
        let line = match &step.kind {
            StepKind::Image(image) => format!("image {} {}", image.image.reference, image.image.platform),
            StepKind::Scratch => "scratch".to_owned(),
            StepKind::Context(context) => format!("context {:?} wanted {:?}", context.name, context.wanted),
            StepKind::Fetch(fetch) => format!("{fetch:?}"),
            StepKind::Git(git) => format!("{git:?}"),
            StepKind::Workdir(dir) => format!("workdir on {} {} user {:?}", dir.parent.0, dir.path, dir.user),
            StepKind::Run(run) => {
                let mounts: Vec<String> = run.mounts.iter().map(|m| format!("\n     {}", mount(m))).collect();
                format!(
                    "run on {} {:?} in {} user {:?} net {:?} {:?}\n     env {:?} args {:?}{}",
                    run.parent.0,
                    run.argv,
                    run.workdir,
                    run.user,
                    run.network,
                    run.security,
                    run.env,
                    run.args,
                    mounts.concat()
                )
            }
            StepKind::Copy(copy) => {
                let sources: Vec<String> = copy.sources.iter().map(source).collect();
                format!(
                    "copy on {} {} to {} chown {:?} chmod {:?} link {} parents {} exclude {:?} unpack {:?}",
                    copy.parent.0,
                    sources.join(" "),
                    copy.dest,
                    copy.chown,
                    copy.chmod,
                    copy.link,
                    copy.parents,
                    copy.exclude,
                    unpack_flag(copy)
                )
            }
        };
        writeln!(out, "   {line}").unwrap();
    }
    out
}

/// The unpacking of all sources as the flag that would say it.
fn unpack_flag(copy: &CopyStep) -> Option<bool> {
    let unpacks = copy.sources.iter().filter_map(|source| match source {
        CopySource::Path { unpack, .. } => Some(*unpack),
        CopySource::Inline(_) => None,
    });
    match unpacks.into_iter().find(|unpack| unpack.is_wanted()) {
        None | Some(Unpack::Never) => Some(false),
        Some(Unpack::ByDefault) => None,
        Some(Unpack::Always) => Some(true),
    }
}

fn source(source: &CopySource) -> String {
    match source {
        CopySource::Path { from, path, unpack: _ } => format!("{}:{path:?}", from.0),
        CopySource::Inline(file) => format!("<<{} {:?}", file.name, file.content),
    }
}

fn mount(mount: &dbuild_plan::Mount) -> String {
    match &mount.kind {
        MountKind::Bind { from, source, writable } => {
            format!("{} bind {}:{source} writable {writable}", mount.target, from.0)
        }
        other => format!("{} {other:?}", mount.target),
    }
}
