//! The helper process: one thread, a socket to dbuild as descriptor 0, and one child that becomes
//! the user's process.
//!
//! It stays in dbuild's own mount namespace. The child makes the container's file system in a
//! namespace of its own, so the kernel takes that down with the last process of the container,
//! before the child can be waited for; then the helper removes from the upper directory what was
//! made as mount points.

mod child_report;
mod container;
mod device;
mod mounts;
mod paths;
mod points;
mod privileges;
mod probe;
mod program;
mod rootfs;
mod staging;
mod standard;
mod supervisor;
mod tracer;

use std::io;

use rustix::fs::{Mode, OFlags};
use supervisor::Supervisor;

use crate::protocol::{HELPER_NAME, Reply, Request};
use crate::{sys, wire};

/// Must be the first thing in `main` of a program that calls [`crate::spawn`]: if this process is
/// such a helper, it does its work and never returns. Costs nothing otherwise.
pub fn dispatch_helper() {
    if std::env::args_os().next().is_some_and(|name| name == HELPER_NAME) {
        sys::exit_now(serve().map_or(1, |()| 0));
    }
}

fn serve() -> io::Result<()> {
    sys::block_signals()?;
    sys::close_from(3)?;
    // A session of its own: Ctrl-C in a terminal is dbuild's to handle.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/")?;
    let socket = sys::duplicate_stdio(0)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    sys::set_stdio(0, &null)?;

    let Some((request, mut fds)) = wire::receive::<Request>(&socket)? else {
        return Ok(());
    };
    match request {
        Request::Run { spec } => {
            for (number, fd) in (1..).zip(fds.drain(..fds.len().min(2))) {
                sys::set_stdio(number, &fd)?;
            }
            let stdin = fds.pop();
            let reply = match Supervisor::run(&socket, &spec, stdin) {
                Ok((exit, trace)) => Reply::Exited(exit, trace.map(Box::new)),
                Err(error) => Reply::Failed(error),
            };
            wire::send(&socket, &reply, &[])
        }
        Request::ProbeStore { dir } => {
            wire::send(&socket, &Reply::Probed(vec![probe::probe_store(&dir)]), &[])
        }
        Request::Probe => wire::send(&socket, &Reply::Probed(probe::probe()), &[]),
    }
}
