//! The plan itself, and the questions that others ask of its graph.

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::{Stage, StageId, Step, StepId, Target};

/// The DAG of one build. Holds only what its targets reach, but for [`Stage`]s that are not
/// reached, which are kept (with `last: None`) so that they can be shown as skipped.
#[derive(Clone, Debug)]
pub struct Plan {
    stages: Vec<Stage>,
    targets: Vec<Target>,
    /// Nodes are steps, in the order of their ids; edges go from input to user.
    graph: DiGraph<Step, ()>,
}

/// What a builder was given that is not a plan. It is a fault of the program that lowers, not of a
/// Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A step names an input that does not come before it.
    #[error("step {step:?} takes {input:?} as an input, which does not come before it")]
    InputNotBefore {
        /// The step.
        step: StepId,
        /// Its input.
        input: StepId,
    },
    /// A step or target names a stage that does not exist, or a target one that was not lowered.
    #[error("stage {0:?} does not exist or has no steps")]
    NoSuchStage(StageId),
}

/// Collects steps and stages, then makes a [`Plan`] of what the targets reach.
#[derive(Clone, Debug, Default)]
pub struct PlanBuilder {
    steps: Vec<Step>,
    stages: Vec<Stage>,
    targets: Vec<Target>,
}

impl PlanBuilder {
    /// Adds a step; its inputs must have been added before.
    pub fn add_step(&mut self, step: Step) -> StepId {
        self.steps.push(step);
        StepId(u32::try_from(self.steps.len() - 1).unwrap_or(u32::MAX))
    }

    /// A step that was added, to complete it (the `wanted` paths of a context, say).
    pub fn step_mut(&mut self, id: StepId) -> Option<&mut Step> {
        self.steps.get_mut(id.index())
    }

    /// Adds a stage; steps may name it before it is added.
    pub fn add_stage(&mut self, stage: Stage) -> StageId {
        self.stages.push(stage);
        StageId(u32::try_from(self.stages.len() - 1).unwrap_or(u32::MAX))
    }

    /// A stage that was added, to complete it.
    pub fn stage_mut(&mut self, id: StageId) -> Option<&mut Stage> {
        self.stages.get_mut(id.index())
    }

    /// Asks for a stage.
    pub fn add_target(&mut self, target: Target) {
        self.targets.push(target);
    }

    /// The plan of what the targets reach, and for each step that was added its id there (`None`:
    /// not reached). Ids are dense again and keep their order.
    pub fn finish(self) -> Result<(Plan, Vec<Option<StepId>>), PlanError> {
        let Self { steps, mut stages, targets } = self;
        let mut reached = vec![false; steps.len()];
        for target in &targets {
            let last = stages.get(target.stage.index()).and_then(|stage| stage.last);
            let last = last.ok_or(PlanError::NoSuchStage(target.stage))?;
            *reached.get_mut(last.index()).ok_or(PlanError::NoSuchStage(target.stage))? = true;
        }
        // Inputs come before their users, so one pass from the end finds all that is reached.
        for (index, step) in steps.iter().enumerate().rev() {
            let id = StepId(index as u32);
            if stages.get(step.stage.index()).is_none() {
                return Err(PlanError::NoSuchStage(step.stage));
            }
            for input in step.inputs() {
                if input >= id {
                    return Err(PlanError::InputNotBefore { step: id, input });
                }
                reached[input.index()] |= reached[index];
            }
        }
        let mut next = 0;
        let new_ids: Vec<Option<StepId>> = reached
            .iter()
            .map(|reached| {
                next += u32::from(*reached);
                reached.then(|| StepId(next - 1))
            })
            .collect();
        let renamed = |old: StepId| new_ids.get(old.index()).copied().flatten();
        for stage in &mut stages {
            stage.last = stage.last.and_then(renamed);
            stage.first = stage.first.and_then(renamed).filter(|_| stage.last.is_some());
        }
        let mut graph = DiGraph::with_capacity(next as usize, next as usize * 2);
        for (index, mut step) in steps.into_iter().enumerate() {
            if !reached[index] {
                continue;
            }
            // Inputs of a reached step are reached.
            step.for_each_id(|id| *id = renamed(*id).unwrap_or(*id));
            let inputs = step.inputs();
            let node = graph.add_node(step);
            for input in inputs {
                graph.add_edge(NodeIndex::new(input.index()), node, ());
            }
        }
        Ok((Plan { stages, targets, graph }, new_ids))
    }
}

impl Plan {
    /// The stages, in the order of the Dockerfile (per platform, where there are several).
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// One stage.
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.index()]
    }

    /// What the build is asked to give; several only for several platforms.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Whether there is no step at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One step.
    pub fn step(&self, id: StepId) -> &Step {
        &self.graph[NodeIndex::new(id.index())]
    }

    /// All steps, inputs before their users.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = (StepId, &Step)> {
        self.graph.node_indices().map(|node| (StepId(node.index() as u32), &self.graph[node]))
    }

    /// The steps that take this one as an input, in order, each once.
    pub fn users(&self, id: StepId) -> Vec<StepId> {
        let node = NodeIndex::new(id.index());
        let mut users: Vec<StepId> = self
            .graph
            .neighbors_directed(node, Direction::Outgoing)
            .map(|user| StepId(user.index() as u32))
            .collect();
        users.sort_unstable();
        users
    }

    /// The steps from the first of a file system (image, scratch) to this one, along parents.
    pub fn chain(&self, last: StepId) -> Vec<StepId> {
        let mut chain = vec![last];
        let mut at = last;
        while let Some(parent) = self.step(at).parent() {
            chain.push(parent);
            at = parent;
        }
        chain.reverse();
        chain
    }

    /// For each step the longest path from its start to the end of the build, in the unit of
    /// `cost`: the order in which ready steps should be taken is from the largest to the smallest.
    pub fn longest_paths(&self, cost: impl Fn(StepId) -> u64) -> Vec<u64> {
        let mut longest = vec![0_u64; self.len()];
        for index in (0..self.len()).rev() {
            let id = StepId(index as u32);
            let after = self.users(id).into_iter().map(|user| longest[user.index()]).max().unwrap_or(0);
            longest[index] = after.saturating_add(cost(id));
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, PlanBuilder, PlanError};
    use crate::{CopySource, CopyStep, Stage, StageId, Step, StepId, StepKind, Target, Unpack, WorkdirStep};
    use dbuild_oci::{ImageConfig, Platform};

    fn stage(name: &str, index: u32, first: u32, last: u32) -> Stage {
        Stage {
            name: name.to_owned(),
            index,
            base: "scratch".to_owned(),
            base_stage: None,
            platform: Platform::host(),
            first: Some(StepId(first)),
            last: Some(StepId(last)),
            config: ImageConfig::default(),
            history: Vec::new(),
        }
    }

    fn step(stage: u32, kind: StepKind) -> Step {
        Step { stage: StageId(stage), text: String::new(), kind }
    }

    fn workdir(stage: u32, parent: u32) -> Step {
        let path = "/w".to_owned();
        step(stage, StepKind::Workdir(WorkdirStep { parent: StepId(parent), path, user: String::new() }))
    }

    fn copy(stage: u32, parent: u32, from: u32) -> Step {
        let sources =
            vec![CopySource::Path { from: StepId(from), path: "a".to_owned(), unpack: Unpack::Never }];
        let copy = CopyStep {
            parent: StepId(parent),
            sources,
            dest: "/".to_owned(),
            chown: None,
            chmod: None,
            link: false,
            parents: false,
            exclude: Vec::new(),
        };
        step(stage, StepKind::Copy(copy))
    }

    /// Stage 0 is built and copied from; stage 1 is not needed; stage 2 is the target.
    fn three_stages() -> (Plan, Vec<Option<StepId>>) {
        let mut builder = PlanBuilder::default();
        for one in [
            step(0, StepKind::Scratch),
            workdir(0, 0),
            step(1, StepKind::Scratch),
            workdir(1, 2),
            step(2, StepKind::Scratch),
            copy(2, 4, 1),
        ] {
            builder.add_step(one);
        }
        for one in [stage("build", 0, 0, 1), stage("docs", 1, 2, 3), stage("app", 2, 4, 5)] {
            builder.add_stage(one);
        }
        builder.add_target(Target { platform: Platform::host(), stage: StageId(2) });
        builder.finish().unwrap()
    }

    #[test]
    fn what_the_target_does_not_reach_is_dropped() {
        let (plan, ids) = three_stages();
        assert_eq!(ids, [Some(0), Some(1), None, None, Some(2), Some(3)].map(|id| id.map(StepId)));
        assert_eq!(plan.len(), 4);
        assert_eq!(plan.stage(StageId(1)).last, None);
        assert_eq!(plan.stage(StageId(1)).first, None);
        assert_eq!(plan.stage(StageId(2)).last, Some(StepId(3)));
        assert_eq!(plan.step(StepId(3)).inputs(), [StepId(2), StepId(1)]);
    }

    #[test]
    fn the_graph_answers() {
        let (plan, _) = three_stages();
        assert_eq!(plan.users(StepId(1)), [StepId(3)]);
        assert_eq!(plan.chain(StepId(3)), [StepId(2), StepId(3)]);
        assert_eq!(plan.longest_paths(|id| u64::from(id.0) + 1), [7, 6, 7, 4]);
    }

    #[test]
    fn an_input_must_come_first() {
        let mut builder = PlanBuilder::default();
        builder.add_step(workdir(0, 1));
        builder.add_step(step(0, StepKind::Scratch));
        builder.add_stage(stage("a", 0, 0, 0));
        builder.add_target(Target { platform: Platform::host(), stage: StageId(0) });
        let error = builder.finish().map(drop);
        assert_eq!(error, Err(PlanError::InputNotBefore { step: StepId(0), input: StepId(1) }));
    }
}
