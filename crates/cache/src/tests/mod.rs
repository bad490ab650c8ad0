mod explain;
mod fixture;
mod ingredients;
mod inputs;
