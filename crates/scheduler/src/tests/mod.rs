mod forecast;
mod plan_holds;
