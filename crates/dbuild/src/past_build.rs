//! A build that was, as a place to enter: the files of its steps are in the store, and what held
//! there is in its journal.

use dbuild_digest::SnapshotId;
use dbuild_events::{Event, MountInfo, NoEvents, RuntimeConfig, StageInfo, Stamped, StepInfo};
use dbuild_layer::{Stack, StackLayer};
use dbuild_oci::ImageConfig;
use dbuild_plan::HostEntry;
use dbuild_report::{Build, NoSuchStep, State, Step};
use dbuild_scheduler::{Canceller, image_files, snapshot_with_files};
use dbuild_store::{BuildSummary, Snapshot, Store};

use crate::build::resolve_images::image_named;
use crate::error::Error;
use crate::session::Session;

/// A build of the journal.
pub(crate) struct PastBuild {
    pub(crate) build: Build,
    events: Vec<Stamped>,
}

/// A step of it, with what holds there; or a stage, with what its image starts with.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) step: u32,
    pub(crate) stage: Option<u32>,
}

/// What a command that failed had written, and what it ran with.
pub(crate) struct Kept {
    pub(crate) step: u32,
    pub(crate) snapshot: SnapshotId,
    pub(crate) config: ImageConfig,
    pub(crate) mounts: Vec<MountInfo>,
    /// Of an older dbuild, which described mounts in words alone.
    pub(crate) only_words: Vec<String>,
    pub(crate) no_network: bool,
    pub(crate) hosts: Vec<HostEntry>,
    pub(crate) insecure: bool,
}

impl PastBuild {
    /// By its id, the beginning of its id, or nothing for the latest.
    pub(crate) fn read(session: &Session, id: Option<&str>) -> Result<Self, Error> {
        let (summary, build) = read_build(&session.store, id)?;
        let events = session.store.events(&summary.id).map_err(Error::failed)?;
        Ok(Self { build, events })
    }

    /// The place that a text names.
    pub(crate) fn find(&self, text: &str) -> Result<Place, Error> {
        if let Some(place) = self.stage(text) {
            return Ok(place);
        }
        let id = &self.build.id;
        let found = self.build.find(text).map_err(|error| {
            no_such_step(error).hint(format!(
                "`dbuild graph --build {id}` shows its steps; name one by its number (#7), its stage and place \
                 (builder 3), or its line (:12)"
            ))
        })?;
        match found.as_slice() {
            [one] => Ok(Place { step: one.id, stage: None }),
            several => {
                let names = several.iter().map(|step| format!("#{} {} {}", step.id, step.label, step.text));
                let names: Vec<String> = names.collect();
                let text = format!("`{text}` names {} steps: {}", several.len(), names.join("; "));
                Err(Error::failed(text).hint("name one by its number: dbuild shell '#7'"))
            }
        }
    }

    /// The place that a text names without looking into instructions, if it names one.
    pub(crate) fn named(&self, text: &str) -> Option<Place> {
        self.stage(text).or_else(|| match self.build.named(text).ok()?.as_slice() {
            [one] => Some(Place { step: one.id, stage: None }),
            _ => None,
        })
    }

    /// The stage of this name, if one platform alone has it. It stands on its last step, or on that
    /// of the stage that it begins with.
    fn stage(&self, name: &str) -> Option<Place> {
        let stages = &self.build.stages;
        let called = |name: &str| {
            let mut found = stages.iter().filter(|s| s.reached && s.name.eq_ignore_ascii_case(name.trim()));
            found.next().filter(|_| found.next().is_none())
        };
        let stage = called(name)?;
        let mut on = stage;
        for _ in stages {
            if let Some(last) = self.build.visible().filter(|step| step.stage == Some(on.id)).last() {
                return Some(Place { step: last.id, stage: Some(stage.id) });
            }
            on = called(&on.base)?;
        }
        None
    }

    /// The command that failed and is kept, if it is this step's.
    pub(crate) fn kept(&self, of: Option<u32>) -> Option<Kept> {
        let kept = self.events.iter().rev().find_map(|stamped| kept(&stamped.event))?;
        Some(kept).filter(|kept| of.is_none_or(|of| of == kept.step))
    }

    /// A step's file system. Where its base image was collected, it is brought again.
    pub(crate) fn files(&self, session: &Session, id: u32) -> Option<Stack> {
        let known = || stack_of(&session.store, &self.build, id);
        known().or_else(|| {
            let chain = self.build.chain(id);
            let base = chain.last()?.image.as_ref()?;
            let name = format!("{}@{}", base.reference, base.digest);
            let image = session.runtime.block_on(image_named(session, &name)).ok()?;
            let (_canceller, cancel) = Canceller::new();
            let blobs = std::sync::Arc::new(session.registry.clone());
            let events = std::sync::Arc::new(NoEvents);
            session.runtime.block_on(image_files(&session.store, blobs, events, image, cancel)).ok()?;
            known()
        })
    }

    /// What holds at a step: what was said there, or at the next one below it.
    pub(crate) fn setting(&self, id: u32) -> Option<&RuntimeConfig> {
        let steps = self.steps();
        self.build.chain(id).into_iter().find_map(|step| {
            let info = steps.iter().find(|info| info.id == step.id)?;
            info.setting.as_ref()
        })
    }

    pub(crate) fn setting_of_stage(&self, id: u32) -> Option<&RuntimeConfig> {
        let (stages, _) = self.announced()?;
        stages.iter().find(|stage| stage.id == id)?.setting.as_ref()
    }

    pub(crate) fn steps(&self) -> &[StepInfo] {
        self.announced().map(|(_, steps)| steps).unwrap_or_default()
    }

    fn announced(&self) -> Option<(&[StageInfo], &[StepInfo])> {
        self.events.iter().find_map(|stamped| match &stamped.event {
            Event::BuildStarted { stages, steps, .. } => Some((stages.as_slice(), steps.as_slice())),
            _ => None,
        })
    }

    pub(crate) fn no_result(&self, step: &Step) -> Error {
        let what = match (step.kind.as_str(), step.state) {
            ("context", _) => "is a directory of this machine: no shell can start in it".to_owned(),
            (_, State::Failed) => "failed, and left nothing to look at".to_owned(),
            (_, state) => format!("has no result: {}", state.word()),
        };
        let below = self.build.chain(step.id).into_iter().skip(1);
        let done = below.into_iter().find(|step| matches!(step.state, State::Cached | State::Done));
        let error = Error::failed(format!("#{} {} {} {what}", step.id, step.label, step.text));
        match done {
            Some(done) if step.kind != "context" => error.hint(format!(
                "the last step before it that was done: `dbuild shell --build {} '#{}'`",
                self.build.id, done.id
            )),
            _ => error.hint(format!("`dbuild graph --build {}` shows what was done", self.build.id)),
        }
    }

    pub(crate) fn gone(&self, step: &Step) -> Error {
        Error::failed(format!(
            "the result of #{} {} {} is no longer in the store",
            step.id, step.label, step.text
        ))
        .hint("build again, then open the shell: without --build it enters the latest build")
    }
}

fn kept(event: &Event) -> Option<Kept> {
    let Event::StepKept {
        step,
        snapshot,
        env,
        user,
        workdir,
        program,
        mounts,
        mounted,
        network,
        hosts,
        insecure,
    } = event
    else {
        return None;
    };
    let config = ImageConfig {
        env: env.clone(),
        user: user.clone(),
        working_dir: workdir.clone(),
        shell: Some(vec![program.clone()]),
        ..ImageConfig::default()
    };
    let host = |line: &String| {
        let (ip, host) = line.split_once(' ')?;
        Some(HostEntry { host: host.to_owned(), ip: ip.to_owned() })
    };
    Some(Kept {
        step: *step,
        snapshot: snapshot.clone(),
        config,
        mounts: mounted.clone(),
        only_words: if mounted.is_empty() { mounts.clone() } else { Vec::new() },
        no_network: network.as_deref() == Some("none"),
        hosts: hosts.iter().filter_map(host).collect(),
        insecure: *insecure,
    })
}

/// A build that the journal has, by its id, the beginning of its id, `latest`, or nothing for the
/// latest.
pub(crate) fn read_build(store: &Store, id: Option<&str>) -> Result<(BuildSummary, Build), Error> {
    let id = id.filter(|id| *id != "latest");
    let summary = store.build(id).map_err(|error| {
        let hint = match id {
            Some(_) => "`dbuild history` lists the builds",
            None => "build something first: `dbuild build .`",
        };
        Error::failed(error).hint(hint)
    })?;
    let events = store.events(&summary.id).map_err(Error::failed)?;
    let build = Build { id: summary.id.to_string(), started_ms: summary.started_ms, ..Build::of(&events) };
    Ok((summary, build))
}

/// A text that names no step, with what would.
pub(crate) fn no_such_step(error: NoSuchStep) -> Error {
    let stages = error.stages.join(", ");
    Error::failed(&error).hint(format!("name a step by its number, or by its stage ({stages})"))
}

/// A step's file system, from what the journal says of its layers.
pub(crate) fn stack_of(store: &Store, build: &Build, step: u32) -> Option<Stack> {
    let mut layers = Vec::new();
    for step in build.chain(step).into_iter().rev() {
        let of_image = step.image.iter().flat_map(|image| &image.layers);
        for layer in of_image {
            let snapshot = store.base_snapshot(&layer.chain)?;
            layers.push(written(store, snapshot, &layers)?);
        }
        if let Some(snapshot) = &step.snapshot {
            let snapshot = store.snapshot(snapshot)?;
            layers.push(written(store, snapshot, &layers)?);
        }
    }
    Some(Stack::new(layers))
}

fn written(store: &Store, snapshot: Snapshot, below: &[StackLayer]) -> Option<StackLayer> {
    snapshot_with_files(store, snapshot, &Stack::new(below.to_vec())).ok().map(|snapshot| snapshot.layer())
}
