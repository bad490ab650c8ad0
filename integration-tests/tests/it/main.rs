//! Everything in one test binary: it links once.

mod add_git;
mod add_url;
mod build;
mod cache;
mod check;
mod cli;
mod compare;
mod contexts;
mod damage;
mod errors;
mod export;
mod flags;
mod house;
mod interrupt;
mod journal;
mod lab;
mod lessons;
mod plan;
mod platforms;
mod report;
mod rootless;
mod sandbox;
mod shell;
mod terminal;
mod tutorials;
mod why;
