mod example;
mod explain;
mod fixture;
mod ingredients;
mod inputs;
