//! From ingredients to keys, and from layers to output digests.

use dbuild_digest::{Framed, StepKey, TreeDigest};
use dbuild_plan::{BaseImage, Step, StepKind};

use crate::ingredient::HashAndList;
use crate::words::words;
use crate::{Ingredient, IngredientKind, Inputs, Sink, Strategy, Unknown};

/// The key of a step under a strategy, and the ingredients that it was made of. One walk feeds both.
///
/// The name and the version of the strategy are hashed first, so strategies never share a key.
pub fn key_of(
    strategy: &dyn Strategy,
    step: &Step,
    inputs: &dyn Inputs,
) -> Result<(StepKey, Vec<Ingredient>), Unknown> {
    let mut sinks = HashAndList::new("step-key", 1).head(strategy.name(), strategy.version());
    strategy.ingredients(step, inputs, &mut sinks)?;
    let (digest, list) = sinks.finish();
    Ok((StepKey::from_bytes(digest), list))
}

/// The step's own words without its inputs, as a digest. It scopes "first result wins" and the durations that are
/// expected; it is no cache key. Of an image it is the reference, so that a new digest keeps the pull's history.
pub fn definition(step: &Step) -> StepKey {
    let mut sinks = HashAndList::new("step-definition", 1);
    words(step, &mut sinks);
    if let StepKind::Image(image) = &step.kind {
        sinks.add(IngredientKind::Base, "", &image.image.reference);
    }
    StepKey::from_bytes(sinks.finish().0)
}

/// What `FROM scratch` contains.
pub fn scratch_output() -> TreeDigest {
    TreeDigest::from_bytes(Framed::new("base-output", 1).u64(0).finish())
}

/// What an image contains: the chain of its layers' diff_ids. Names, tags, registries and compression play no part.
pub fn base_output(image: &BaseImage) -> TreeDigest {
    let mut framed = Framed::new("base-output", 1);
    framed.u64(image.layers.len() as u64);
    for layer in &image.layers {
        framed.bytes(layer.diff_id.as_bytes());
    }
    TreeDigest::from_bytes(framed.finish())
}

/// What a step contains: its parent's output with one more layer. A layer without entries changes nothing, so the
/// output is the parent's.
pub fn output_after(parent: TreeDigest, layer: TreeDigest, layer_is_empty: bool) -> TreeDigest {
    if layer_is_empty {
        return parent;
    }
    let mut framed = Framed::new("chain-output", 1);
    framed.bytes(parent.as_bytes()).bytes(layer.as_bytes());
    TreeDigest::from_bytes(framed.finish())
}
