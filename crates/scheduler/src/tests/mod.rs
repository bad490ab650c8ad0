mod bases;
mod forecast;
mod plan_holds;
