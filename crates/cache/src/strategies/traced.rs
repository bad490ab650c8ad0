//! `traced`: a RUN by what it read. Opt-in.

use dbuild_plan::Step;

use super::output::OutputStrategy;
use super::{add_output, add_selected, sources};
use crate::words::words;
use crate::{Inputs, Sink, Strategy, UnknownInput};

/// Keys as `output` has them, and for a RUN whose key is not known a second question: whether what
/// an earlier run of the same words read is the same on the new parent.
///
/// In *Build Systems à la Carte*: constructive traces with dependencies that are discovered while
/// the step runs. The answers of the parent are kept with the result and compared one by one.
#[derive(Debug)]
pub(crate) struct TracedStrategy;

impl Strategy for TracedStrategy {
    fn name(&self) -> &'static str {
        "traced"
    }

    fn version(&self) -> u32 {
        1
    }

    fn ingredients(&self, step: &Step, inputs: &dyn Inputs, sink: &mut dyn Sink) -> Result<(), UnknownInput> {
        OutputStrategy.ingredients(step, inputs, sink)
    }

    fn is_traced(&self) -> bool {
        true
    }
}

/// All that identifies a step but its parent: its own words, and what it takes from elsewhere.
pub(crate) fn without_parent(
    step: &Step,
    inputs: &dyn Inputs,
    sink: &mut dyn Sink,
) -> Result<(), UnknownInput> {
    words(step, sink);
    for source in sources(step) {
        if source.whole && !inputs.is_external(source.from) {
            add_output(crate::IngredientKind::Input, "stage", source.from, inputs, sink)?;
        } else {
            add_selected(&source, inputs, sink)?;
        }
    }
    Ok(())
}
