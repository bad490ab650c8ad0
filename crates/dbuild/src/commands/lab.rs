//! `dbuild lab`.

use std::collections::BTreeMap;
use std::sync::Arc;

use dbuild_cache::{Policy, Strategy, policies, policy, strategies, strategy};
use dbuild_digest::BlobDigest;
use dbuild_events::NoEvents;
use dbuild_frontend::{BuildArgs, ImageRequest};
use dbuild_lab::{Costs, Execute, FindBase, LabError, Mode, Options, Replay, Repository, Stopped, replay};
use dbuild_oci::{DEFAULT_PATH, ImageConfig};
use dbuild_plan::{BaseImage, LayerDescriptor, Plan};
use dbuild_registry::{PullPolicy, Remotes};
use dbuild_scheduler::{BuildError, CacheUse, Cancel, Canceller, ContextDir, Machine, Request};
use dbuild_store::Store;

use super::{print, print_json};
use crate::build::flags::default_jobs;
use crate::build::resolve_images;
use crate::cli::{Global, ReplayArgs};
use crate::error::Error;
use crate::progress;
use crate::session::Session;
use crate::signals::cancel_on_signal;

/// `dbuild lab replay`.
pub(crate) fn run(global: &Global, args: &ReplayArgs) -> Result<(), Error> {
    let options = options(args)?;
    let costs = args.cost.as_deref().map(Costs::read).transpose().map_err(|error| explained(&error, args))?;
    let session = Session::open(global)?;
    let repository = Repository::open(&args.repo).map_err(|error| explained(&error, args))?;
    let replayed = match args.simulate {
        true => {
            let costs = costs.unwrap_or_default().with_store(&session.store);
            let mut bases = Simulated { session: &session };
            replay(&repository, &options, &mut bases, Mode::Simulate(&costs))
        }
        false => {
            let (canceller, cancel) = Canceller::new();
            let signals = session.runtime.spawn(cancel_on_signal(canceller));
            let mut builds = Builds { session: &session, cancel, done: 0 };
            let replayed = replay(
                &repository,
                &options,
                &mut BaseFinder { session: &session },
                Mode::Execute(&mut builds),
            );
            signals.abort();
            replayed
        }
    };
    let replayed = replayed.map_err(|error| explained(&error, args));
    session.runtime.shutdown_background();
    show(&replayed?, args)
}

fn show(replayed: &Replay, args: &ReplayArgs) -> Result<(), Error> {
    if let Some(path) = &args.output {
        let text = match path.extension().is_some_and(|extension| extension == "svg") {
            true => dbuild_lab::svg(replayed),
            false => dbuild_lab::html(replayed),
        };
        crate::pipes::write_result(path, text.as_bytes()).map_err(Error::of_export)?;
        progress::say(&format!("written: {}", path.display()));
    }
    if args.json {
        return print_json(replayed);
    }
    print(replayed.to_string().trim_end())
}

fn options(args: &ReplayArgs) -> Result<Options, Error> {
    let mut strategies_asked: Vec<&'static dyn Strategy> = Vec::new();
    for name in &args.strategy {
        match name.as_str() {
            "all" => strategies_asked.extend(strategies()),
            name => {
                let strategy = strategy(name).map_err(Error::usage)?;
                if strategy.is_traced() {
                    return Err(Error::usage(format!(
                        "`--strategy {name}`: what a command reads is known only when it runs, and a replay \
                         looks up what was recorded under inputs alone"
                    ))
                    .hint(format!("build with `dbuild build --strategy {name}` and see `dbuild why`")));
                }
                strategies_asked.push(strategy);
            }
        }
    }
    let mut policies_asked: Vec<&'static dyn Policy> = Vec::new();
    for name in &args.policy {
        match name.as_str() {
            "all" => policies_asked.extend(policies()),
            name => policies_asked.push(policy(name).map_err(Error::usage)?),
        }
    }
    once(&mut strategies_asked, |strategy| strategy.name());
    once(&mut policies_asked, |policy| policy.name());
    let mut sizes: Vec<u64> = args.size.iter().map(|size| size.0).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.first() == Some(&0) {
        return Err(
            Error::usage("`--size 0`: a cache of no bytes keeps nothing").hint("name a size such as 500MB")
        );
    }
    let mut build_args = BTreeMap::new();
    for arg in &args.build_arg {
        let value = arg.value.clone().or_else(|| std::env::var(&arg.key).ok());
        build_args.extend(value.map(|value| (arg.key.clone(), value)));
    }
    let frontend = BuildArgs { args: build_args, target: args.target.clone(), ..BuildArgs::default() };
    Ok(Options {
        from: args.from.clone(),
        to: args.to.clone(),
        file: args.file.clone(),
        args: frontend,
        strategies: strategies_asked,
        policies: policies_asked,
        sizes,
    })
}

/// Each name once, in the order in which it was asked for.
fn once<T: Copy>(asked: &mut Vec<T>, name: impl Fn(T) -> &'static str) {
    let mut met: Vec<&str> = Vec::new();
    asked.retain(|one| {
        let is_new = !met.contains(&name(*one));
        met.push(name(*one));
        is_new
    });
}

/// The error with what to try.
fn explained(error: &LabError, args: &ReplayArgs) -> Error {
    let failed = Error::failed(error);
    let deepen = "its history is cut: `git fetch --unshallow` gets the rest";
    match error {
        LabError::NotARepository { .. } => failed.hint("name a directory that git has a history of"),
        LabError::NoSuchRevision { shallow: true, .. } | LabError::NotBefore { shallow: true, .. } => {
            failed.hint(deepen)
        }
        LabError::NoSuchRevision { .. } => failed.hint("`git log --oneline` lists the commits"),
        LabError::NotBefore { .. } => {
            failed.hint("a replay follows first parents: `git log --first-parent` lists them")
        }
        LabError::NoDockerfile { .. } if args.file.is_none() => failed.hint("name it with `-f FILE`"),
        LabError::NoDockerfile { .. } => failed.hint("the path of `-f` is relative to REPO"),
        LabError::NothingReplayed { .. } => failed.hint("`--json` lists why each commit is skipped"),
        LabError::NoGit(_) => failed.hint("install git"),
        LabError::MissingObject(_) => {
            failed.hint("a partial clone lacks files: `git fetch --refetch --filter=blob:limit=1t` gets them")
        }
        LabError::Costs { .. } | LabError::ReadCosts { .. } => Error::usage(error),
        LabError::Interrupted => Error::interrupted(),
        LabError::Git { .. } | LabError::Checkout { .. } => failed,
    }
}

/// Base images as a build finds them.
struct BaseFinder<'a> {
    session: &'a Session,
}

impl FindBase for BaseFinder<'_> {
    fn find(&mut self, request: &ImageRequest) -> Result<BaseImage, String> {
        find(self.session, request, PullPolicy::CheckTag)
    }
}

fn find(session: &Session, request: &ImageRequest, policy: PullPolicy) -> Result<BaseImage, String> {
    let found =
        session.runtime.block_on(resolve_images::find(&session.store, &session.registry, request, policy));
    found.map(|(_, base)| base).map_err(|error| error.message)
}

/// Base images of a simulation: from the store where it knows the reference, else made up from the
/// reference alone.
struct Simulated<'a> {
    session: &'a Session,
}

impl FindBase for Simulated<'_> {
    fn find(&mut self, request: &ImageRequest) -> Result<BaseImage, String> {
        let known = self.session.store.reference(&request.reference, &request.platform.to_string());
        let found = match known {
            Ok(Some(_)) => find(self.session, request, PullPolicy::PreferCached).ok(),
            _ => None,
        };
        Ok(found.unwrap_or_else(|| made_up(request)))
    }
}

/// An image that is another one for every reference, and always the same for one.
fn made_up(request: &ImageRequest) -> BaseImage {
    let digest =
        |what: &str| BlobDigest::of(format!("{what} {} {}", request.reference, request.platform).as_bytes());
    let mut config = ImageConfig::default();
    config.set_env("PATH", DEFAULT_PATH);
    let layer = LayerDescriptor {
        digest: digest("layer"),
        size: 0,
        media_type: String::new(),
        diff_id: digest("diff"),
    };
    BaseImage {
        reference: request.reference.clone(),
        digest: digest("manifest"),
        platform: request.platform.clone(),
        config,
        history: Vec::new(),
        layers: vec![layer],
    }
}

/// Builds each commit into the session's store.
struct Builds<'a> {
    session: &'a Session,
    cancel: Cancel,
    done: usize,
}

impl Execute for Builds<'_> {
    fn store(&self) -> &Store {
        &self.session.store
    }

    fn build(
        &mut self,
        plan: Arc<Plan>,
        contexts: BTreeMap<Option<String>, ContextDir>,
    ) -> Result<(), Stopped> {
        self.done += 1;
        progress::say(&format!("building commit {}", self.done));
        let request = Request {
            plan: Arc::clone(&plan),
            store: self.session.store.clone(),
            blobs: Arc::new(self.session.registry.clone()),
            remotes: Arc::new(Remotes::default()),
            remote_results: None,
            events: Arc::new(NoEvents),
            contexts,
            strategy: strategy(dbuild_cache::DEFAULT_STRATEGY)
                .map_err(|error| Stopped::Failed(error.to_string()))?,
            traced_network: dbuild_scheduler::TracedNetwork::default(),
            cache: CacheUse::All,
            jobs: default_jobs(),
            pack: None,
            layers: None,
            unwritten: None,
            repack_bases: false,
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            machine: Machine {
                resolv_conf: std::fs::read("/etc/resolv.conf").unwrap_or_default(),
                ..Machine::default()
            },
            cancel: self.cancel.clone(),
        };
        match self.session.runtime.block_on(dbuild_scheduler::build(request)) {
            Ok(_) => Ok(()),
            Err(BuildError::Canceled) => Err(Stopped::Interrupted),
            Err(BuildError::Step(id, error)) => {
                Err(Stopped::Failed(format!("{}: {error}", plan.step(id).text)))
            }
        }
    }
}
