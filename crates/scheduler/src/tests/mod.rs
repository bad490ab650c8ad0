mod bases;
mod forecast;
mod lend;
mod lineage;
mod plan_holds;
mod space;
