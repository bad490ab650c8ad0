mod explain;
mod ingredients;
