//! Ingredients, keys, strategies, explanations and eviction policies; pure.
