//! Limits by control groups, where this machine lets us make some: one group per running step.

use std::fs;
use std::path::{Path, PathBuf};

use crate::spec::Limits;
use crate::sys;

const PREFIX: &str = "dbuild-";

/// The groups of one step: one directory in each hierarchy that is used. Dropping removes them.
#[derive(Debug)]
pub(crate) struct StepCgroup {
    directories: Vec<PathBuf>,
}

impl StepCgroup {
    /// Makes groups for the limits that need them. A limit that cannot be made is reported in
    /// `notes`.
    pub(crate) fn for_limits(limits: &Limits, notes: &mut Vec<String>) -> Option<StepCgroup> {
        let mut group = StepCgroup { directories: Vec::new() };
        // Where process ids can be limited per namespace, that is simpler.
        let pids = limits.pids.filter(|_| !sys::pid_limit_is_per_namespace());
        let wanted = [
            ("memory", limits.memory, "memory.max", "memory.limit_in_bytes"),
            ("pids", pids.map(u64::from), "pids.max", "pids.max"),
        ];
        for (controller, limit, unified, classic) in wanted {
            let Some(limit) = limit else { continue };
            if let Err(error) = group.limit(controller, limit, unified, classic) {
                notes.push(format!("the {controller} limit is not enforced: {error}"));
            }
        }
        (!group.directories.is_empty()).then_some(group)
    }

    /// Moves the calling process into the groups.
    pub(crate) fn join(&self) {
        for directory in &self.directories {
            // A group that was made can be joined; if not, the step runs without its limit.
            let _ = fs::write(directory.join("cgroup.procs"), "0");
        }
    }

    /// Whether the kernel killed something for want of memory.
    pub(crate) fn ran_out_of_memory(&self) -> bool {
        self.directories.iter().any(|directory| {
            ["memory.events", "memory.oom_control"].iter().any(|file| {
                fs::read_to_string(directory.join(file)).is_ok_and(|text| {
                    text.lines()
                        .any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
                })
            })
        })
    }

    fn limit(&mut self, controller: &str, limit: u64, unified: &str, classic: &str) -> Result<(), String> {
        let (parent, file) = match own_group(controller)? {
            Group::Classic(path) => (path, classic),
            Group::Unified(path) => (path, unified),
        };
        sweep(&parent);
        let directory = parent.join(format!("{PREFIX}{}", std::process::id()));
        if !self.directories.contains(&directory) {
            fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
            self.directories.push(directory.clone());
        }
        if !directory.join(file).exists() && file == unified {
            // Works where dbuild's own group has no processes of its own: the root, or a delegated
            // slice.
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        fs::write(directory.join(file), limit.to_string())
            .map_err(|error| format!("{}: {error}", directory.join(file).display()))
    }
}

impl Drop for StepCgroup {
    fn drop(&mut self) {
        for directory in &self.directories {
            // Its processes are gone. If removal fails all the same, the next step sweeps.
            let _ = fs::remove_dir(directory);
        }
    }
}

enum Group {
    /// In a hierarchy of version 1.
    Classic(PathBuf),
    /// In the hierarchy of version 2.
    Unified(PathBuf),
}

/// The directory of the group that this process is in, in the hierarchy that has the controller.
fn own_group(controller: &str) -> Result<Group, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    locate(controller, &read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
}

fn locate(controller: &str, groups: &str, mounts: &str) -> Result<Group, String> {
    let mut unified = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if names.split(',').any(|name| name == controller) {
            return mounted(mounts, "cgroup", Some(controller), path)
                .map(Group::Classic)
                .ok_or_else(|| format!("the {controller} hierarchy is not mounted"));
        }
        if number == "0" {
            unified = Some(path);
        }
    }
    let path = unified.ok_or_else(|| format!("this kernel has no {controller} controller"))?;
    let directory = mounted(mounts, "cgroup2", None, path).ok_or("no control groups are mounted")?;
    let controllers = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
    if controllers.split_whitespace().any(|name| name == controller) {
        Ok(Group::Unified(directory))
    } else {
        Err(format!("the {controller} controller is not given to {}", directory.display()))
    }
}

fn mounted(mounts: &str, kind: &str, controller: Option<&str>, group: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        if after.next() != Some(kind) {
            return None;
        }
        let options = after.nth(1)?;
        if controller.is_some_and(|controller| !options.split(',').any(|option| option == controller)) {
            return None;
        }
        let mut before = before.split(' ').skip(3);
        let (root, place) = (before.next()?, before.next()?);
        let below = Path::new(group).strip_prefix(root).ok()?;
        Some(Path::new(place).join(below))
    })
}

/// Removes the groups of helpers that were killed.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Group, locate};

    const MOUNTS: &str = "\
23 27 0:22 / /sys rw - sysfs sysfs rw
34 31 0:31 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_hierarchies_are_found() {
        let groups = "4:memory:/a/b\n0::/\n";
        match locate("memory", groups, MOUNTS) {
            Ok(Group::Classic(path)) => assert_eq!(path.to_str(), Some("/sys/fs/cgroup/memory/a/b")),
            _ => panic!("not found"),
        }
        assert!(locate("pids", "0::/nowhere\n", MOUNTS).is_err());
        assert!(locate("pids", "", "").is_err());
    }
}
