//! Measures the time from the start of `/bin/true` on an overlay to its end.
//!
//! `cargo run --release -p dbuild-sandbox --example spawn_time -- [RUNS] [none]`; needs
//! busybox-static. With `none` each process has a network namespace of its own. As an ordinary user
//! it measures rootless.

use std::error::Error;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;
use std::{env, fs};

use dbuild_sandbox::{Network, Rootfs, Spec, spawn};

fn main() -> Result<(), Box<dyn Error>> {
    dbuild_sandbox::dispatch_helper();
    let identity = dbuild_sandbox::rootless::enter()?;
    let runs: usize = env::args().nth(1).map_or(Ok(200), |runs| runs.parse())?;
    let network = match env::args().nth(2).as_deref() {
        Some("none") => Network::None,
        _ => Network::Host,
    };

    let dir = env::temp_dir().join(format!("dbuild-spawn-time-{}", std::process::id()));
    for name in ["bin", "dev", "proc", "sys", "etc"] {
        fs::create_dir_all(dir.join("lower").join(name))?;
    }
    for name in ["hosts", "resolv.conf"] {
        fs::write(dir.join("lower/etc").join(name), "")?;
    }
    fs::copy("/usr/bin/busybox", dir.join("lower/bin/true"))?;
    let result = measure(&dir, runs, network);
    fs::remove_dir_all(&dir)?;

    let mut times = result?;
    times.sort_unstable();
    let middle = times[times.len() / 2];
    let (best, slow) = (times[0], times[times.len() * 9 / 10]);
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{identity:?}, {network:?}: median {middle:?}, best {best:?}, 90 % below {slow:?} ({runs} runs)"
    )?;
    Ok(())
}

fn measure(dir: &Path, runs: usize, network: Network) -> Result<Vec<std::time::Duration>, Box<dyn Error>> {
    let mut times = Vec::new();
    for run in 0..runs {
        let (upper, work) = (dir.join(format!("upper{run}")), dir.join(format!("work{run}")));
        fs::create_dir(&upper)?;
        fs::create_dir(&work)?;
        let rootfs = Rootfs::Overlay { lower: vec![dir.join("lower")], upper, work };
        let mut spec = Spec::new(rootfs, vec!["/bin/true".to_owned()]);
        spec.network = network;
        spec.hosts = Some(b"127.0.0.1 localhost\n".to_vec());
        spec.resolv_conf = Some(Vec::new());
        let start = Instant::now();
        let exit = spawn(&spec)?.wait()?;
        times.push(start.elapsed());
        if !exit.status.success() {
            return Err(format!("{exit:?}").into());
        }
    }
    Ok(times)
}
