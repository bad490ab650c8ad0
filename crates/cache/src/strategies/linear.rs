//! `linear`: Docker's classic cache.

use dbuild_plan::{Step, StepKind};

use super::{add_key, add_selected, sources};
use crate::words::words;
use crate::{IngredientKind, Inputs, Sink, Strategy, UnknownInput};

/// A step is its parent's key and its own words; content counts only where it comes from outside
/// (context, URL, git).
///
/// In *Build Systems à la Carte*: a constructive trace that is *deep*, keyed on the terminal
/// inputs. Everything below a changed step runs again, whatever the step gave (no early cut-off).
/// Another stage is its last step's key, so a `COPY --from` runs again when anything in that stage
/// changed. `COPY --link` has no meaning here.
#[derive(Debug)]
pub(crate) struct LinearStrategy;

impl Strategy for LinearStrategy {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn version(&self) -> u32 {
        1
    }

    fn ingredients(&self, step: &Step, inputs: &dyn Inputs, sink: &mut dyn Sink) -> Result<(), UnknownInput> {
        words(step, sink);
        if let StepKind::Image(image) = &step.kind {
            sink.add(IngredientKind::Base, "", &image.image.digest.to_string());
        }
        if let Some(parent) = step.parent() {
            add_key(IngredientKind::Parent, "", parent, inputs, sink)?;
        }
        for source in sources(step) {
            if inputs.is_external(source.from) {
                add_selected(&source, inputs, sink)?;
            } else {
                add_key(IngredientKind::Input, "stage", source.from, inputs, sink)?;
            }
        }
        Ok(())
    }
}
