//! The order of work. In prose:
//!
//! 1. A step waits for its inputs; when the last of them is done it is ready.
//! 2. Of the ready steps the one with the longest known path to the end of the build is started
//!    first, as long as fewer than `jobs` are running.
//! 3. A step that is done makes its users ready. The first that fails cancels all that is running,
//!    and nothing is started after it. What was done stays done.
//!
//! This module does not know what a step does, what a cache is, or what a step gives: see
//! [`StepRunner`].

pub(crate) mod cancel;

use std::collections::BinaryHeap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use dbuild_plan::{Plan, StepId};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;

use crate::schedule::cancel::{Cancel, Canceller};

/// Something that executes one step whose inputs are done.
///
/// Caching, single flight and limits are runners around runners.
pub(crate) trait StepRunner: Send + Sync + 'static {
    /// What a step gives; handed to the steps that use it.
    type Output: Send + Sync + 'static;
    /// Why a step gives nothing.
    type Error: Send + 'static;

    /// Executes a step; `inputs` are in the order of [`dbuild_plan::Step::inputs`]. When `cancel`
    /// is heard it returns soon, with an error.
    fn run(
        &self,
        step: StepId,
        inputs: Vec<Arc<Self::Output>>,
        cancel: Cancel,
    ) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;
}

/// How a build ended when not all steps were done.
#[derive(Debug)]
pub(crate) enum Stop<E> {
    /// A step failed; the steps that were canceled because of it were reported to `on_cancel`.
    Failed(StepId, E),
    /// The user cancelled.
    Canceled,
}

/// How far a step is. Changes only in [`States::set`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StepState {
    /// Number of inputs that are not done.
    Waiting(usize),
    Ready,
    Running,
    Done,
    Failed,
    Canceled,
}

struct States {
    of: Vec<StepState>,
    /// Ready steps, by the length of their path to the end, then by their order in the Dockerfile.
    ready: BinaryHeap<(u64, std::cmp::Reverse<StepId>)>,
    running: usize,
    paths: Vec<u64>,
}

impl States {
    fn new(plan: &Plan, paths: Vec<u64>) -> Self {
        let of = plan.steps().map(|(_, step)| StepState::Waiting(step.inputs().len())).collect();
        let mut states = Self { of, ready: BinaryHeap::new(), running: 0, paths };
        for (id, _) in plan.steps() {
            if states.of[id.index()] == StepState::Waiting(0) {
                states.set(id, StepState::Ready);
            }
        }
        states
    }

    fn set(&mut self, id: StepId, new: StepState) {
        let old = std::mem::replace(&mut self.of[id.index()], new);
        if old == StepState::Running {
            self.running -= 1;
        }
        match new {
            StepState::Ready => self.ready.push((self.paths[id.index()], std::cmp::Reverse(id))),
            StepState::Running => self.running += 1,
            StepState::Waiting(_) | StepState::Done | StepState::Failed | StepState::Canceled => {}
        }
    }

    fn input_done(&mut self, user: StepId) {
        if let StepState::Waiting(missing) = self.of[user.index()] {
            self.set(user, if missing == 1 { StepState::Ready } else { StepState::Waiting(missing - 1) });
        }
    }

    fn take_ready(&mut self, jobs: NonZeroUsize) -> Option<StepId> {
        if self.running >= jobs.get() {
            return None;
        }
        let (_, std::cmp::Reverse(id)) = self.ready.pop()?;
        self.set(id, StepState::Running);
        Some(id)
    }

    /// Steps that were not finished, as all of them are canceled.
    fn cancel_rest(&mut self) -> Vec<StepId> {
        let rest: Vec<StepId> = (0..self.of.len())
            .filter(|index| !matches!(self.of[*index], StepState::Done | StepState::Failed))
            .map(|index| StepId(index as u32))
            .collect();
        for id in &rest {
            self.set(*id, StepState::Canceled);
        }
        rest
    }
}

/// Runs every step of the plan. `paths` is the length of the longest path from each step to the end
/// of the build ([`Plan::longest_paths`]). On success the outputs stand in the order of the step
/// ids.
pub(crate) async fn schedule<R: StepRunner>(
    plan: &Plan,
    runner: Arc<R>,
    paths: Vec<u64>,
    jobs: NonZeroUsize,
    mut cancel: Cancel,
    on_cancel: impl Fn(StepId),
) -> Result<Vec<Arc<R::Output>>, Stop<R::Error>> {
    // Steps hear this signal, which is given by the user's and by the first failure.
    let (stop, stopped) = Canceller::new();
    let mut states = States::new(plan, paths);
    let mut outputs: Vec<Option<Arc<R::Output>>> = vec![None; plan.len()];
    // Not tasks of their own: most steps of most builds are done as soon as they are looked up, and
    // waking a thread takes longer.
    let mut running = FuturesUnordered::new();
    let mut end = None;
    loop {
        while end.is_none()
            && let Some(id) = states.take_ready(jobs)
        {
            let inputs =
                plan.step(id).inputs().iter().filter_map(|input| outputs[input.index()].clone()).collect();
            let (runner, stopped) = (Arc::clone(&runner), stopped.clone());
            running.push(async move { (id, runner.run(id, inputs, stopped).await) });
        }
        let finished = tokio::select! {
            // First: a step that heard it, too, and stopped did not fail.
            biased;
            () = cancel.canceled(), if end.is_none() => {
                end = Some(Stop::Canceled);
                stop.cancel();
                continue;
            }
            finished = running.next() => finished,
        };
        match finished {
            None => break,
            Some((id, Ok(output))) => {
                states.set(id, StepState::Done);
                outputs[id.index()] = Some(Arc::new(output));
                plan.users(id).into_iter().for_each(|user| states.input_done(user));
            }
            // Once the build is being stopped, a step that says it failed was stopped.
            Some((id, Err(error))) if end.is_none() => {
                // Nor did one that heard the user before this loop did.
                end = Some(if cancel.is_canceled() {
                    Stop::Canceled
                } else {
                    states.set(id, StepState::Failed);
                    Stop::Failed(id, error)
                });
                stop.cancel();
            }
            Some((_, Err(_))) => {}
        }
    }
    if let Some(end) = end {
        states.cancel_rest().into_iter().for_each(on_cancel);
        return Err(end);
    }
    Ok(outputs.into_iter().flatten().collect())
}

/// How long a build takes if each step takes `cost`, in the same unit and by the same order as
/// [`schedule`].
pub(crate) fn makespan(plan: &Plan, cost: impl Fn(StepId) -> u64, jobs: NonZeroUsize) -> u64 {
    let mut states = States::new(plan, plan.longest_paths(&cost));
    let mut running: BinaryHeap<std::cmp::Reverse<(u64, StepId)>> = BinaryHeap::new();
    let mut now = 0;
    loop {
        while let Some(id) = states.take_ready(jobs) {
            running.push(std::cmp::Reverse((now + cost(id), id)));
        }
        let Some(std::cmp::Reverse((end, id))) = running.pop() else { return now };
        now = end;
        states.set(id, StepState::Done);
        plan.users(id).into_iter().for_each(|user| states.input_done(user));
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::{Arc, Mutex};

    use dbuild_oci::{ImageConfig, Platform};
    use dbuild_plan::{
        CopySource, CopyStep, Plan, PlanBuilder, Stage, StageId, Step, StepId, StepKind, Target, Unpack,
        WorkdirStep,
    };
    use tokio::sync::Barrier;

    use super::{StepRunner, Stop, schedule};
    use crate::schedule::cancel::{Cancel, Canceller};

    /// `lanes` chains of WORKDIR steps, of the given lengths, and one COPY that takes from all.
    fn plan(lanes: &[usize]) -> Plan {
        let mut builder = PlanBuilder::default();
        let stage = StageId(0);
        let mut add = |kind| builder.add_step(Step { stage, text: String::new(), kind });
        let mut sources = Vec::new();
        for lane in lanes {
            let mut last = add(StepKind::Scratch);
            for _ in 0..*lane {
                last = add(StepKind::Workdir(WorkdirStep {
                    parent: last,
                    path: "/w".to_owned(),
                    user: String::new(),
                }));
            }
            sources.push(CopySource::Path { from: last, path: "w".to_owned(), unpack: Unpack::Never });
        }
        let parent = add(StepKind::Scratch);
        let last = add(StepKind::Copy(CopyStep {
            parent,
            sources,
            dest: "/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
        }));
        builder.add_stage(Stage {
            name: "s".to_owned(),
            index: 0,
            base: "scratch".to_owned(),
            base_stage: None,
            platform: Platform::host(),
            first: Some(parent),
            last: Some(last),
            config: ImageConfig::default(),
            history: Vec::new(),
        });
        builder.add_target(Target { platform: Platform::host(), stage });
        builder.finish().unwrap().0
    }

    /// Does what a function says, and writes down the order.
    struct Runner<F> {
        started: Mutex<Vec<u32>>,
        work: F,
    }

    impl<F, W> StepRunner for Runner<F>
    where
        F: Fn(StepId, Cancel) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), &'static str>> + Send,
    {
        type Output = ();
        type Error = &'static str;

        fn run(
            &self,
            step: StepId,
            _: Vec<Arc<()>>,
            cancel: Cancel,
        ) -> impl Future<Output = Result<(), &'static str>> + Send {
            self.started.lock().unwrap().push(step.0);
            (self.work)(step, cancel)
        }
    }

    async fn check<F, W>(
        plan: &Plan,
        jobs: usize,
        cancel: Cancel,
        work: F,
    ) -> (Result<usize, Stop<&'static str>>, Vec<u32>, Vec<u32>)
    where
        F: Fn(StepId, Cancel) -> W + Send + Sync + 'static,
        W: Future<Output = Result<(), &'static str>> + Send + 'static,
    {
        let runner = Arc::new(Runner { started: Mutex::new(Vec::new()), work });
        let canceled = Mutex::new(Vec::new());
        let paths = plan.longest_paths(|_| 1);
        let jobs = NonZeroUsize::new(jobs).unwrap();
        let result = schedule(plan, Arc::clone(&runner), paths, jobs, cancel, |id| {
            canceled.lock().unwrap().push(id.0)
        })
        .await;
        let started = std::mem::take(&mut *runner.started.lock().unwrap());
        (result.map(|outputs| outputs.len()), started, canceled.into_inner().unwrap())
    }

    #[tokio::test]
    async fn the_longest_path_goes_first() {
        let (_guard, cancel) = Canceller::new();
        // Steps 0-1 are a short lane, 2-5 a long one.
        let (result, started, _) = check(&plan(&[1, 3]), 1, cancel, |_, _| async { Ok(()) }).await;
        assert_eq!(result.unwrap(), 8);
        assert_eq!(started, [2, 3, 0, 4, 1, 5, 6, 7]);
    }

    #[test]
    fn a_makespan_is_that_of_the_longest_path_or_of_the_work_that_must_queue() {
        let jobs = |count| NonZeroUsize::new(count).unwrap();
        // Lanes of 2 and 4 steps; the COPY and its parent follow.
        let plan = plan(&[1, 3]);
        assert_eq!(super::makespan(&plan, |_| 10, jobs(8)), 50);
        assert_eq!(super::makespan(&plan, |_| 10, jobs(1)), 80);
        assert_eq!(super::makespan(&plan, |_| 0, jobs(1)), 0);
    }

    #[tokio::test]
    async fn independent_steps_run_at_the_same_time_and_no_more_than_jobs() {
        let (_guard, cancel) = Canceller::new();
        // Each first step of eight lanes waits for the seven others: one after the other would
        // hang.
        let barrier = Arc::new(Barrier::new(8));
        let (result, ..) = check(&plan(&[1; 8]), 8, cancel, move |step, _| {
            let barrier = Arc::clone(&barrier);
            async move {
                if step.0 < 16 && step.0 % 2 == 1 {
                    barrier.wait().await;
                }
                Ok(())
            }
        })
        .await;
        assert_eq!(result.unwrap(), 18);
    }

    #[tokio::test]
    async fn the_first_failure_cancels_the_rest() {
        let (_guard, cancel) = Canceller::new();
        let (result, started, canceled) = check(&plan(&[1, 1]), 2, cancel, |step, mut cancel| async move {
            match step.0 {
                1 => Err("one"),
                3 => {
                    cancel.canceled().await;
                    Err("stopped")
                }
                _ => Ok(()),
            }
        })
        .await;
        assert!(matches!(result, Err(Stop::Failed(StepId(1), "one"))), "{result:?}");
        assert!(!started.contains(&5), "{started:?}");
        assert!(canceled.contains(&3) && canceled.contains(&5) && !canceled.contains(&1), "{canceled:?}");
    }

    #[tokio::test]
    async fn the_user_cancels() {
        let (canceller, cancel) = Canceller::new();
        let canceller = Arc::new(canceller);
        let (result, _, canceled) = check(&plan(&[1]), 2, cancel, move |step, mut cancel| {
            let canceller = Arc::clone(&canceller);
            async move {
                if step.0 == 1 {
                    canceller.cancel();
                    cancel.canceled().await;
                    return Err("stopped");
                }
                Ok(())
            }
        })
        .await;
        assert!(matches!(result, Err(Stop::Canceled)), "{result:?}");
        assert!(canceled.contains(&1) && canceled.contains(&3), "{canceled:?}");
    }
}
