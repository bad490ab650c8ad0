mod bases;
mod forecast;
mod lineage;
mod plan_holds;
mod space;
mod unwritten;
