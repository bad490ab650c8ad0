//! From the mounts of a plan to their description, from which `mounts.rs` mounts them.

use dbuild_digest::{Framed, SnapshotId, StepKey};
use dbuild_events::{MountInfo, MountType};
use dbuild_layer::{LayerFiles, SelectOptions, Stack, select};
use dbuild_plan::{Mount, MountKind, RunStep, StepId};

use crate::cache::step_inputs::StepInputs;
use crate::error::StepError;
use crate::layers::flatten::merged_layer;
use crate::steps::run::mounts::{no_agent, no_secret};
use crate::steps::step_context::StepContext;

/// The mounts of a command, by target, as the key has them: a mount inside another one comes after
/// it, however they are written. What is optional and not given is not among them.
pub(crate) fn describe_mounts(
    context: &StepContext,
    run: &RunStep,
    inputs: &StepInputs<'_>,
) -> Result<Vec<MountInfo>, StepError> {
    let mut mounts: Vec<&Mount> = run.mounts.iter().collect();
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    let mut described = Vec::with_capacity(mounts.len() + 1);
    for Mount { target, kind } in mounts {
        let kind = describe_mount(context, kind, inputs)?;
        described.extend(kind.map(|kind| MountInfo { target: target.clone(), kind }));
    }
    if let Some(script) = &run.script {
        let kind = MountType::Script { content: script.content.clone() };
        described.push(MountInfo { target: script.path.clone(), kind });
    }
    Ok(described)
}

fn describe_mount(
    context: &StepContext,
    kind: &MountKind,
    inputs: &StepInputs<'_>,
) -> Result<Option<MountType>, StepError> {
    let described = match kind.clone() {
        MountKind::Bind { from, source, writable } => {
            let snapshot = merged_context(context, from, inputs)?;
            MountType::Bind { from: from.0, source, writable, snapshot }
        }
        MountKind::Cache { id, sharing, from, source, readonly, mode, uid, gid } => {
            let name = cache_name(kind, inputs)?;
            let from = from.map(|from| from.0);
            MountType::Cache { id, name, sharing, from, source, readonly, mode, uid, gid }
        }
        MountKind::Tmpfs { size } => MountType::Tmpfs { size },
        MountKind::Secret { id, env, required, mode, uid, gid } => {
            match (context.request.secrets.contains_key(&id), required) {
                (true, _) => MountType::Secret { id, env, mode, uid, gid },
                (false, true) => return Err(no_secret(&id)),
                (false, false) => return Ok(None),
            }
        }
        MountKind::Ssh { id, required, mode, uid, gid } => {
            match (context.request.ssh.contains_key(&id), required) {
                (true, _) => MountType::Ssh { id, mode, uid, gid },
                (false, true) => return Err(no_agent(&id)),
                (false, false) => return Ok(None),
            }
        }
    };
    Ok(Some(described))
}

/// The files of a context cannot be mounted where they are: what is ignored must not be seen. What
/// is left is copied, once. `None`: it is no context.
fn merged_context(
    context: &StepContext,
    from: StepId,
    inputs: &StepInputs<'_>,
) -> Result<Option<SnapshotId>, StepError> {
    let stack = inputs.stack_of(from)?;
    if !stack.layers().iter().any(|layer| matches!(layer.files, LayerFiles::Live(_))) {
        return Ok(None);
    }
    let output = inputs.output_of(from)?;
    let mut framed = Framed::new("mounted-context", 1);
    framed.bytes(output.as_bytes());
    let key = StepKey::from_bytes(framed.finish());
    let text = "context for RUN --mount=type=bind";
    Ok(Some(merged_layer(context.store(), key, text, &stack)?.id))
}

/// What a cache directory is known by: one that begins with files of another place, or with another
/// owner or mode, is another one, as in BuildKit.
fn cache_name(kind: &MountKind, inputs: &StepInputs<'_>) -> Result<String, StepError> {
    let MountKind::Cache { id, from, source, mode, uid, gid, .. } = kind else {
        return Err(StepError::Internal("a mount without a cache was asked for its cache"));
    };
    Ok(match from {
        Some(from) => {
            let stack = inputs.stack_of(*from)?;
            match stack.layers().iter().any(|layer| matches!(layer.files, LayerFiles::Live(_))) {
                // What is known of a context depends on what the other steps select from it.
                true => format!("{id} from {}", selected_digest(&stack, source)?),
                false => format!("{id} from {}:{source}", inputs.output_of(*from)?.hex()),
            }
        }
        None if (*mode, *uid, *gid) == (0o755, 0, 0) => id.to_owned(),
        None => format!("{id} as {mode:04o} {uid}:{gid}"),
    })
}

/// A digest of what a mount's source shows of a context.
fn selected_digest(stack: &Stack, source: &str) -> Result<String, StepError> {
    let options = SelectOptions { literal: true, ..SelectOptions::default() };
    let selection = select(stack, source, &options).map_err(|error| StepError::Copy { error, from: None })?;
    let mut framed = Framed::new("selected-of-context", 1);
    for item in selection.items() {
        framed.str(&item.path).str(item.kind).str(&item.rest);
        framed.u64(item.mode.into()).u64(item.uid.into()).u64(item.gid.into());
    }
    Ok(StepKey::from_bytes(framed.finish()).hex())
}
