//! A build that was, as a place to enter: the files of its steps are in the store, and what held there is in its journal.

use dbuild_digest::SnapshotId;
use dbuild_events::{Event, MountInfo, MountType, NoEvents, RuntimeConfig, StageInfo, Stamped, StepInfo};
use dbuild_layer::Stack;
use dbuild_oci::ImageConfig;
use dbuild_plan::{CacheSharing, HostEntry};
use dbuild_report::{Build, State, Step};
use dbuild_scheduler::{Canceller, ImageFiles, Mounted, Mounter, StepError, image_files};

use super::check_image::stack_of;
use super::journal::{no_such_step, read_build};
use super::run::{Besides, enter, find};
use super::shell::{command, container};
use crate::build::inputs;
use crate::cli::ShellArgs;
use crate::error::Error;
use crate::progress;
use crate::session::Session;

/// A build of the journal.
pub(super) struct Past {
    pub(super) build: Build,
    events: Vec<Stamped>,
}

/// A step of it, with what holds there; or a stage, with what its image starts with.
#[derive(Clone, Copy)]
pub(super) struct Place {
    step: u32,
    stage: Option<u32>,
}

/// What a command that failed had written, and what it ran with.
pub(super) struct Kept {
    step: u32,
    snapshot: SnapshotId,
    config: ImageConfig,
    mounts: Vec<MountInfo>,
    /// Of an older dbuild, which described mounts in words alone.
    only_words: Vec<String>,
    no_network: bool,
    hosts: Vec<HostEntry>,
    insecure: bool,
}

impl Past {
    /// By its id, the beginning of its id, or nothing for the latest.
    pub(super) fn read(session: &Session, id: Option<&str>) -> Result<Self, Error> {
        let (summary, build) = read_build(&session.store, id)?;
        let events = session.store.events(&summary.id).map_err(Error::failed)?;
        Ok(Self { build, events })
    }

    /// The place that a text names.
    pub(super) fn find(&self, text: &str) -> Result<Place, Error> {
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
    pub(super) fn named(&self, text: &str) -> Option<Place> {
        self.stage(text).or_else(|| match self.build.named(text).ok()?.as_slice() {
            [one] => Some(Place { step: one.id, stage: None }),
            _ => None,
        })
    }

    /// The stage of this name, if one platform alone has it. It stands on its last step, or on that of the stage that it
    /// begins with.
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
    pub(super) fn kept(&self, of: Option<u32>) -> Option<Kept> {
        let kept = self.events.iter().rev().find_map(|stamped| kept(&stamped.event))?;
        Some(kept).filter(|kept| of.is_none_or(|of| of == kept.step))
    }

    /// A shell in what a step or a stage gave; where it failed, in what it had written.
    pub(super) fn enter(&self, session: &Session, place: Place, args: &ShellArgs) -> Result<(), Error> {
        let id = place.step;
        let step =
            self.build.step(id).ok_or_else(|| Error::failed(format!("the build has no step #{id}")))?;
        if let Some(kept) = self.kept(Some(id)) {
            return self.enter_kept(session, &kept, args);
        }
        super::shell::nothing_to_give(args)?;
        let has_result = matches!(step.state, State::Cached | State::Done) || step.kind == "image";
        if !has_result || step.kind == "context" {
            return Err(self.no_result(step));
        }
        let stack = self.files(session, id).ok_or_else(|| self.gone(step))?;
        progress::say(&format!("{} {} (build {})", step.label, step.text, self.build.id));
        let of_stage = place.stage.and_then(|stage| self.setting_of_stage(stage));
        let setting = of_stage.or_else(|| self.setting(id));
        if setting.is_none() && self.steps().iter().all(|step| step.setting.is_none()) {
            progress::say("an older dbuild made this build: its variables, user and directory are not known");
        }
        let setting = setting.cloned().unwrap_or_default();
        let config = ImageConfig {
            env: setting.env,
            user: setting.user,
            working_dir: setting.workdir,
            shell: Some(setting.shell).filter(|words| !words.is_empty()),
            ..ImageConfig::default()
        };
        let files = ImageFiles::new(&session.store, stack).map_err(Error::failed)?;
        enter(session, files, &config, &container(args), Besides::default(), |config, files| {
            command(config, files, "the step", args)
        })
    }

    /// A shell in the files before the command, on them what it had written, and in them its mounts.
    pub(super) fn enter_kept(&self, session: &Session, kept: &Kept, args: &ShellArgs) -> Result<(), Error> {
        let store = &session.store;
        let gone = || {
            Error::failed("what the command had written was collected").hint("build again: it is kept anew")
        };
        let step = self.build.step(kept.step).ok_or_else(gone)?;
        let below = self.files(session, step.inputs.first().copied().ok_or_else(gone)?).ok_or_else(gone)?;
        let stack = below.with(store.snapshot(&kept.snapshot).ok_or_else(gone)?.layer());
        let files = ImageFiles::new(store, stack).map_err(Error::failed)?;
        progress::say(&format!("{} {}", step.label, step.text));
        let allowed = args.allow.iter().any(|word| word == "security.insecure");
        if kept.insecure && !allowed {
            progress::say(
                "it ran with --security=insecure, and this shell does not: `--allow security.insecure` lets it",
            );
        }
        let besides = Besides {
            mounted: self.mount(session, kept, args)?,
            hosts: kept.hosts.clone(),
            insecure: kept.insecure && allowed,
        };
        let mut container = container(args);
        if kept.no_network {
            container.network = "none".to_owned();
        }
        enter(session, files, &kept.config, &container, besides, |config, files| {
            command(config, files, "the stage", args)
        })
    }

    /// What can be mounted of what the command had; the rest is said, a line each.
    fn mount(&self, session: &Session, kept: &Kept, args: &ShellArgs) -> Result<Mounted, Error> {
        for words in &kept.only_words {
            progress::say(&format!("not mounted: {words}: an older dbuild did not keep what it was"));
        }
        let (secrets, ssh) = (inputs::secrets(&args.secret)?, inputs::agents(&args.ssh)?);
        let files = |from: u32| {
            let known = self.build.step(from).and_then(|_| self.files(session, from));
            known.ok_or_else(|| {
                StepError::Needs("its files are no longer in the store: build again".to_owned())
            })
        };
        let mounter = Mounter {
            store: &session.store,
            runtime: session.runtime.handle(),
            secrets: &secrets,
            ssh: &ssh,
            files: &files,
            begins_anew: &|_| false,
            waits: Some(&|info| {
                progress::say(&format!("waiting for {}: another command has it", info.words()));
            }),
        };
        let mounted = mounter.mount(&kept.mounts, &mut |info, error| {
            progress::say(&format!("not mounted: {}: {error}", info.words()));
            Ok(())
        });
        let locked =
            |info: &&MountInfo| matches!(info.kind, MountType::Cache { sharing: CacheSharing::Locked, .. });
        for info in kept.mounts.iter().filter(locked) {
            progress::say(&format!("{} is locked: builds that want it wait until you leave", info.words()));
        }
        mounted.map_err(Error::failed)
    }

    /// A step's file system. Where its base image was collected, it is brought again.
    fn files(&self, session: &Session, id: u32) -> Option<Stack> {
        let known = || stack_of(&session.store, &self.build, id);
        known().or_else(|| {
            let chain = self.build.chain(id);
            let base = chain.last()?.image.as_ref()?;
            let name = format!("{}@{}", base.reference, base.digest);
            let image = session.runtime.block_on(find(session, &name)).ok()?;
            let (_canceller, cancel) = Canceller::new();
            let blobs = std::sync::Arc::new(session.registry.clone());
            let events = std::sync::Arc::new(NoEvents);
            session.runtime.block_on(image_files(&session.store, blobs, events, image, cancel)).ok()?;
            known()
        })
    }

    /// What holds at a step: what was said there, or at the next one below it.
    fn setting(&self, id: u32) -> Option<&RuntimeConfig> {
        let steps = self.steps();
        self.build.chain(id).into_iter().find_map(|step| {
            let info = steps.iter().find(|info| info.id == step.id)?;
            info.setting.as_ref()
        })
    }

    fn setting_of_stage(&self, id: u32) -> Option<&RuntimeConfig> {
        let (stages, _) = self.announced()?;
        stages.iter().find(|stage| stage.id == id)?.setting.as_ref()
    }

    fn steps(&self) -> &[StepInfo] {
        self.announced().map(|(_, steps)| steps).unwrap_or_default()
    }

    fn announced(&self) -> Option<(&[StageInfo], &[StepInfo])> {
        self.events.iter().find_map(|stamped| match &stamped.event {
            Event::BuildStarted { stages, steps, .. } => Some((stages.as_slice(), steps.as_slice())),
            _ => None,
        })
    }

    fn no_result(&self, step: &Step) -> Error {
        let what = match (step.kind.as_str(), step.state) {
            ("context", _) => "is a directory of yours, and nothing to start a shell in".to_owned(),
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

    fn gone(&self, step: &Step) -> Error {
        Error::failed(format!(
            "the result of #{} {} {} is no longer in the store: it was collected",
            step.id, step.label, step.text
        ))
        .hint("build again, and then open the shell: the latest build is looked into where none is named")
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
