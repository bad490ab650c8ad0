//! From ingredients to keys, and from layers to output digests.

use dbuild_digest::{Framed, StepKey, TreeDigest};
use dbuild_plan::{BaseImage, Step, StepKind};

use crate::ingredient::HashAndList;
use crate::words::words;
use crate::{Ingredient, IngredientKind, Inputs, Sink, Strategy, Unknown, depends_on_parent};

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

/// A step's key as those know it who stand on it or take from it. Where its own key leaves out what is below (`COPY --link`), that
/// is added: a step after it sees both. `parent` is the same of its parent; `None`: not known yet.
pub fn standing_key(step: &Step, own: StepKey, parent: Option<StepKey>) -> Option<StepKey> {
    match &step.kind {
        StepKind::Copy(copy) if !depends_on_parent(copy) => {
            let mut framed = Framed::new("standing-key", 1);
            framed.bytes(own.as_bytes()).bytes(parent?.as_bytes());
            Some(StepKey::from_bytes(framed.finish()))
        }
        _ => Some(own),
    }
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
