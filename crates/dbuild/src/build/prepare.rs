//! What stands before a build and before a forecast of one: from the flags to the plan.

use dbuild_cache::Strategy;
use dbuild_events::{BuildId, Event, EventSink, RuntimeConfig, StageInfo, StepInfo};
use dbuild_frontend::{Diagnostics, Lowered, Source, lower, parse};
use dbuild_oci::ImageConfig;
use dbuild_plan::{Plan, Step, StepId, StepKind, shown_url};
use dbuild_scheduler::Cancel;
use dbuild_support::edit_distance::nearest;

use super::error_text::render_all;
use super::flags::pull_policy;
use super::inputs::Inputs;
use super::resolve_images::{Images, resolve};
use crate::cli::BuildArgs;
use crate::error::Error;
use crate::progress;
use crate::session::Session;

/// Reads the Dockerfile, finds the images that it names (of a registry's, manifests and configs
/// alone), and lowers it.
pub(crate) async fn prepare(
    session: &Session,
    flags: &BuildArgs,
    inputs: &Inputs,
    events: &dyn EventSink,
    mut cancel: Cancel,
) -> Result<(Images, Lowered), Error> {
    let Inputs { source, args, .. } = inputs;
    let color = progress::color();
    let bad = |errors: Diagnostics| render_all(&errors, source, color);
    let ast = parse(source).into_result().map_err(bad)?;
    let policy = pull_policy(flags.source.pull);
    let images = tokio::select! {
        images = resolve(session, &ast, args, policy, events) => images.map_err(bad)?,
        () = cancel.canceled() => return Err(Error::interrupted()),
    };
    let lowered = lower(&ast, args, &images.resolved).map_err(bad)?;
    unknown_stages(flags, &lowered.plan).for_each(|warning| events.emit(warning));
    Ok((images, lowered))
}

/// Warnings about names of `--no-cache-filter` that are no stage's: nothing would be done for them.
fn unknown_stages(flags: &BuildArgs, plan: &Plan) -> impl Iterator<Item = Event> {
    let known = |name: &&String| plan.stages().iter().any(|stage| stage.name.eq_ignore_ascii_case(name));
    let unknown = flags.no_cache_filter.iter().filter(move |name| !known(name));
    unknown.map(|name| {
        let names = plan.stages().iter().map(|stage| stage.name.as_str());
        let help = match nearest(&name.to_ascii_lowercase(), names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name a stage: FROM … AS NAME".to_owned(),
        };
        Event::warning(format!("`--no-cache-filter {name}`: there is no such stage: {help}"))
    })
}

/// The event that tells what is going to be built.
pub(crate) fn announce(build: BuildId, lowered: &Lowered, source: &Source, strategy: &dyn Strategy) -> Event {
    let plan = &lowered.plan;
    let several = plan.targets().len() > 1;
    let stages = plan.stages().iter().enumerate().map(|(id, stage)| StageInfo {
        id: id as u32,
        name: stage.name.clone(),
        index: stage.index,
        base: stage.base.clone(),
        reached: stage.last.is_some(),
        platform: several.then(|| stage.platform.to_string()),
        setting: stage.last.map(|_| setting_of_image(&stage.config)),
    });
    let steps = plan.steps().map(|(id, step)| StepInfo {
        id: id.0,
        stage: step.stage.0,
        text: step.text.clone(),
        line: lowered.source_of(id).map(|place| place.lines(source).0),
        last_line: lowered.source_of(id).map(|place| place.lines(source).1),
        inputs: step.inputs().iter().map(|input| input.0).collect(),
        kind: kind_name(&step.kind).to_owned(),
        setting: setting(lowered, id, step),
    });
    Event::BuildStarted {
        build,
        targets: target_names(plan),
        stages: stages.collect(),
        steps: steps.collect(),
        strategy: strategy.name().to_owned(),
    }
}

/// What holds at a step, where that is not what holds at its parent.
fn setting(lowered: &Lowered, id: StepId, step: &Step) -> Option<RuntimeConfig> {
    let setting = lowered.setting_of(id)?;
    if step.parent().and_then(|parent| lowered.setting_of(parent)) == Some(setting) {
        return None;
    }
    Some(RuntimeConfig {
        env: setting.env.iter().map(|(name, value)| format!("{name}={}", shown_url(value))).collect(),
        user: setting.user.clone(),
        workdir: setting.workdir.clone(),
        shell: setting.shell.clone(),
    })
}

fn setting_of_image(config: &ImageConfig) -> RuntimeConfig {
    RuntimeConfig {
        env: config.env.clone(),
        user: config.user.clone(),
        workdir: config.working_dir.clone(),
        shell: config.shell.clone().unwrap_or_default(),
    }
}

fn target_names(plan: &Plan) -> Vec<String> {
    plan.targets().iter().map(|target| plan.stage(target.stage).name.clone()).collect()
}

fn kind_name(kind: &StepKind) -> &'static str {
    match kind {
        StepKind::Image(_) => "image",
        StepKind::Scratch => "scratch",
        StepKind::Context(_) => "context",
        StepKind::Fetch(_) => "fetch",
        StepKind::Git(_) => "git",
        StepKind::Copy(_) => "copy",
        StepKind::Run(_) => "run",
        StepKind::Workdir(_) => "workdir",
    }
}
