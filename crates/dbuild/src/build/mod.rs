//! A build, from the flags to what was written and said. The commands call this; it names none of
//! them.

pub(crate) mod dockerfile;
pub(crate) mod error_text;
mod export;
pub(crate) mod flags;
pub(crate) mod inputs;
pub(crate) mod outcome;
pub(crate) mod prepare;
pub(crate) mod remote_cache;
mod remote_context;
pub(crate) mod resolve_images;
pub(crate) mod start_check;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dbuild_cache::Strategy;
use dbuild_events::{BuildId, Collector, Event, EventSink, Fanout, Outcome};
use dbuild_exporter::OutputSpec;
use dbuild_frontend::{Diagnostic, Lowered, render};
use dbuild_plan::{Plan, StepKind};
use dbuild_registry::Remotes;
use dbuild_report::Summary;
use dbuild_sandbox::terminal::is_interactive;
use dbuild_scheduler::{
    Attempts, BuildError, Cancel, Canceller, LayerListener, Machine, RemoteResults, Request, UnwrittenPolicy,
    pinned_images,
};
use dbuild_store::{BuildInfo, Store};
use error_text::{render_step, shell_command};
use export::{ExportJob, ExportResult, export};
use flags::{cache_use, default_jobs, outputs, pack_options, takes_image, ulimit, warn_of_ignored};
use inputs::Inputs;
use outcome::{Done, collect, explain, finish, write_report};
use prepare::{announce, prepare};
use remote_cache::RemoteCaches;
use remote_cache::spec::CacheSpecs;
use resolve_images::Images;

use crate::cli::{BuildArgs, Global};
use crate::error::Error;
use crate::pipes;
use crate::progress::{self, View};
use crate::session::Session;
use crate::signals::cancel_on_signal;

/// Longest wait for an orderly end after a signal; the rest dies with the process.
const GRACE: Duration = Duration::from_millis(700);

/// Opens a shell where a command of a build failed; gives the error that is left to end with.
pub(crate) type AfterFailure = fn(&Session, &BuildId, &BuildArgs, Error) -> Error;

/// Builds, and prints what there is to say about it. With `--on-failure shell` on a terminal a
/// failure goes through `after_failure`.
pub(crate) fn run(global: &Global, flags: &BuildArgs, after_failure: AfterFailure) -> Result<(), Error> {
    check(flags)?;
    let session = Session::open(global)?;
    let (id, done) = run_in(&session, flags);
    let done = match id {
        Some(id) if flags.on_failure.is_some() && is_interactive() => {
            done.map_err(|error| after_failure(&session, &id, flags, error))
        }
        _ => done,
    };
    // Threads that are still copying must not hold up the end; what they write is below `tmp/`.
    session.runtime.shutdown_background();
    if let (Ok(()), Some(limits)) = (&done, &session.upkeep) {
        collect(&session.store, limits, flags);
    }
    done
}

/// A warning that is about no place, without the heading that views give it.
fn placeless(warning: &Diagnostic) -> String {
    let notes = warning.notes.iter().map(|note| format!("\n  = note: {note}"));
    let help = warning.help.iter().map(|help| format!("\n  = help: {help}"));
    std::iter::once(warning.message.clone()).chain(notes).chain(help).collect()
}

/// Refuses a build with a RUN where the store's file system cannot hold what it writes: before
/// anything is pulled.
fn can_run(store: &Store, plan: &Plan) -> Result<(), Error> {
    let has_run = plan.steps().any(|(_, step)| matches!(step.kind, StepKind::Run(_)));
    match dbuild_sandbox::unfit_for_overlay(store.root()).filter(|_| has_run) {
        Some(why) => Err(Error::failed(format!("no RUN can be built in this store: {why}"))
            .hint("name a directory on another file system with --store, such as a volume of the container")),
        None => Ok(()),
    }
}

/// What can be known to be wrong before the store is opened.
pub(crate) fn check(flags: &BuildArgs) -> Result<(), Error> {
    warn_of_ignored(flags)?;
    if flags.on_failure.is_some() && !is_interactive() {
        progress::say(
            "warning: `--on-failure shell` needs a terminal as standard input and output: no shell will be opened",
        );
    }
    export::check(flags, &outputs(flags)?)?;
    CacheSpecs::of_flags(flags)?.words().iter().for_each(|word| progress::say(word));
    dbuild_cache::strategy(&flags.strategy).map(drop).map_err(Error::usage)
}

/// Builds in a session that is open; gives the journal's name for the build, if it came so far.
pub(crate) fn run_in(session: &Session, flags: &BuildArgs) -> (Option<BuildId>, Result<(), Error>) {
    let prepared = || -> Result<Build<'_>, Error> {
        let outputs = outputs(flags)?;
        let strategy = dbuild_cache::strategy(&flags.strategy).map_err(Error::usage)?;
        let inputs = inputs::read(session, flags)?;
        let (color, view) = (progress::color(), progress::view(flags.progress, flags.quiet));
        let id = OnceLock::new();
        let caches = CacheSpecs::of_flags(flags)?;
        Ok(Build { session, flags, strategy, outputs, inputs, caches, view, color, id })
    };
    let build = match prepared() {
        Ok(build) => build,
        Err(error) => return (None, Err(error)),
    };
    let done = session.runtime.block_on(build.run());
    build.view.close();
    let id = build.id.get().cloned();
    let reported = match (&flags.report, &id) {
        (Some(file), Some(id)) => write_report(&session.store, id, file),
        _ => Ok(()),
    };
    // The build's own error goes before those of its report and explanation.
    let finished = done.and_then(|done| finish(flags, &done));
    let explained = match &id {
        Some(id) if flags.explain => explain(&session.store, id.as_str()),
        _ => Ok(()),
    };
    #[cfg(feature = "otel")]
    if let Some(id) = &id {
        crate::telemetry::export(session, id);
    }
    (id, finished.and(reported).and(explained))
}

/// One build, from the flags to the written image.
struct Build<'a> {
    session: &'a Session,
    flags: &'a BuildArgs,
    strategy: &'static dyn Strategy,
    outputs: Vec<OutputSpec>,
    inputs: Inputs,
    caches: CacheSpecs,
    view: Arc<dyn View>,
    color: bool,
    /// The journal's name for it, once it has one.
    id: OnceLock<BuildId>,
}

impl Build<'_> {
    async fn run(&self) -> Result<Done, Error> {
        let began = Instant::now();
        let (canceller, cancel) = Canceller::new();
        let signals = tokio::spawn(cancel_on_signal(canceller));
        // Nothing that this build uses is collected before its end.
        let lease = self.session.store.lease().map_err(Error::failed)?;
        let (images, lowered) =
            prepare(self.session, self.flags, &self.inputs, &AsSink(Arc::clone(&self.view)), cancel.clone())
                .await?;

        can_run(&self.session.store, &lowered.plan)?;
        let build = self.session.store.begin_build(&self.info()).map_err(Error::failed)?;
        let _ = self.id.set(build.clone());
        let journal = Arc::new(self.session.store.journal(&build).map_err(Error::failed)?);
        let kept = Arc::new(Collector::default());
        let sinks: Vec<Arc<dyn EventSink>> = vec![
            Arc::new(AsSink(Arc::clone(&self.view))),
            Arc::clone(&journal) as _,
            Arc::new(SummaryOnly(Arc::clone(&kept))),
        ];
        let events: Arc<dyn EventSink> = Arc::new(Fanout::new(sinks));
        let source = &self.inputs.source;
        events.emit(announce(build, &lowered, source, self.strategy));
        events.emit(Event::DockerfileRead { name: source.name.clone(), text: source.text.clone() });
        pinned_images(&lowered.plan).into_iter().for_each(|event| events.emit(event));
        for warning in &lowered.warnings {
            let (rule, line) = (warning.rule.map(str::to_owned), warning.line(source));
            let text = match progress::brings_heading(&rule, line) {
                true => render(warning, source, self.color),
                false => placeless(warning),
            };
            events.emit(Event::Warning { text, rule, line });
        }
        let caches = RemoteCaches::open(&self.caches, self.session, &events)?;
        let canceled = cancel.clone();
        let result = self.execute(&lowered, &images, &events, caches.clone(), cancel).await;
        if let Some(caches) = &caches {
            caches.finish(canceled).await;
        }
        signals.abort();
        let outcome = match &result {
            Ok(Ok(_)) => Outcome::Done,
            Ok(Err(_)) | Err(BuildError::Step(..)) => Outcome::Failed,
            Err(BuildError::Canceled) => Outcome::Canceled,
        };
        let duration_ms = began.elapsed().as_millis() as u64;
        events.emit(Event::BuildFinished { outcome, duration_ms });
        journal.flush();
        drop(lease);
        match result {
            Ok(exported) => {
                let exported = exported?;
                // A crash of the machine from here on costs nothing; one before costs what this
                // build made.
                if let Err(error) = self.session.store.make_durable() {
                    events.emit(Event::warning(error.to_string()));
                }
                Ok(Done { summary: Summary::of(&kept.events()), id: exported.id })
            }
            Err(BuildError::Step(id, error)) => {
                // Where the shell opens at once, how to open it need not be said.
                let opens = self.flags.on_failure.is_some() && is_interactive();
                let step = lowered.plan.step(id);
                let shell = (!opens).then(|| shell_command(self.session, self.flags, step));
                let source = &self.inputs.source;
                Err(render_step(id, &error, &lowered, source, self.color, shell.as_deref()))
            }
            Err(BuildError::Canceled) => Err(Error::interrupted()),
        }
    }

    /// Runs the steps and writes the outputs. After a signal it ends soon, whatever still runs.
    async fn execute(
        &self,
        lowered: &Lowered,
        images: &Images,
        events: &Arc<dyn EventSink>,
        caches: Option<Arc<RemoteCaches>>,
        mut cancel: Cancel,
    ) -> Result<Result<ExportResult, Error>, BuildError> {
        let plan = Arc::new(lowered.plan.clone());
        let mut early = export::begin(self.session, &plan, &self.outputs);
        let layers = early.as_ref().map(|(_, early)| Arc::new(early.listener()) as LayerListener);
        let mut request = self.request(Arc::clone(&plan), layers, Arc::clone(events), cancel.clone());
        request.remote_results = caches.map(|caches| caches as Arc<dyn RemoteResults>);
        let mut attempts = Attempts::new(request);
        let building = async {
            let (built, exported) = loop {
                let built = attempts.run().await?;
                // What the steps gave is synced while the outputs are written, and the rest at the
                // end.
                let store = self.session.store.clone();
                let syncing = tokio::task::spawn_blocking(move || store.make_durable());
                let Self { session, flags, .. } = self;
                let sink = Arc::clone(events);
                let waiting =
                    pipes::waiting_and(move |text| sink.emit(Event::Note { text: text.to_owned() }));
                let job = ExportJob {
                    session,
                    flags,
                    plan: &plan,
                    images,
                    built: &built,
                    epoch: self.inputs.epoch,
                    waiting,
                };
                let exported = export(job, &self.outputs, early.take(), events).await;
                // If it failed, it is tried again at the end, and reported.
                let _ = syncing.await;
                let damage = exported.as_ref().err().and_then(Error::damage);
                if !damage.is_some_and(|damage| attempts.forget_damaged(damage)) {
                    break (built, exported);
                }
            };
            if self.outputs.iter().any(takes_image) && exported.is_ok() {
                tokio::task::block_in_place(|| start_check::tell(&self.session.store, &plan, &built, events));
            }
            Ok(exported)
        };
        tokio::select! {
            result = building => result,
            () = async { cancel.canceled().await; tokio::time::sleep(GRACE).await } => Err(BuildError::Canceled),
        }
    }

    fn request(
        &self,
        plan: Arc<Plan>,
        layers: Option<LayerListener>,
        events: Arc<dyn EventSink>,
        cancel: Cancel,
    ) -> Request {
        let Self { session, flags, inputs, .. } = self;
        Request {
            plan,
            store: session.store.clone(),
            blobs: Arc::new(session.registry.clone()),
            remotes: Arc::new(Remotes::default()),
            remote_results: None,
            events,
            contexts: inputs.contexts.clone(),
            strategy: self.strategy,
            traced_network: self.flags.traced_network.into(),
            cache: cache_use(flags),
            jobs: flags.jobs.unwrap_or_else(default_jobs),
            pack: pack_options(&self.outputs, inputs.epoch),
            layers,
            // Outputs of files read them from the store.
            unwritten: (!self.outputs.iter().any(OutputSpec::is_files)).then(UnwrittenPolicy::default),
            repack_bases: self.outputs.iter().any(|output| output.force_compression),
            secrets: inputs.secrets.clone(),
            ssh: inputs.ssh.clone(),
            machine: Machine {
                resolv_conf: std::fs::read("/etc/resolv.conf").unwrap_or_default(),
                allow_insecure: flags.allow.iter().any(|word| word == "security.insecure"),
                shm_size: flags.shm_size.map(|size| size.0),
                ulimits: flags.ulimit.iter().map(ulimit).collect(),
            },
            cancel,
        }
    }

    fn info(&self) -> BuildInfo {
        BuildInfo {
            dockerfile: self.inputs.source.name.clone(),
            context: self.flags.context.display().to_string(),
            target: self.flags.source.target().unwrap_or_default().to_owned(),
            strategy: self.strategy.name().to_owned(),
            names: self.flags.tag.clone(),
        }
    }
}

/// A view as a plain sink.
struct AsSink(Arc<dyn View>);

impl EventSink for AsSink {
    fn emit(&self, event: Event) {
        self.0.emit(event);
    }
}

/// Keeps what the summary needs, and none of the output.
struct SummaryOnly(Arc<Collector>);

impl EventSink for SummaryOnly {
    fn emit(&self, event: Event) {
        if !matches!(event, Event::StepLog { .. } | Event::StepProgress { .. }) {
            self.0.emit(event);
        }
    }
}
