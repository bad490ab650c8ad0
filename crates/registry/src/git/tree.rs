//! A checkout after git: the directory that was asked for, modes, times.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

/// Moves what is in a directory of a checkout. A link on the way is an error: it could lead out.
pub(super) fn take_subdir(tree: &Path, subdir: &str, into: &Path) -> io::Result<()> {
    let mut dir = tree.to_owned();
    for part in Path::new(subdir).components() {
        let Component::Normal(name) = part else { return Err(io::ErrorKind::NotFound.into()) };
        dir.push(name);
        if !fs::symlink_metadata(&dir)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
    }
    for entry in fs::read_dir(&dir)? {
        let entry = entry?;
        fs::rename(entry.path(), into.join(entry.file_name()))?;
    }
    Ok(())
}

/// Gives everything the mode that it has under a umask of 022, whatever ours is, and the time, if
/// there is one. Without the repository's own `.git` those of submodules are removed: what they
/// point at is gone.
pub(super) fn normalize(root: &Path, keep_git: bool, time: Option<i64>) -> io::Result<()> {
    let entries: Vec<fs::DirEntry> = fs::read_dir(root)?.collect::<io::Result<_>>()?;
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_file() && !keep_git && entry.file_name() == ".git" {
            fs::remove_file(&path)?;
            continue;
        }
        if kind.is_dir() {
            normalize(&path, keep_git, time)?;
        }
        if !kind.is_symlink() {
            let owner = (entry.metadata()?.permissions().mode() >> 6) & 7;
            let others = owner & 5;
            fs::set_permissions(&path, Permissions::from_mode(owner << 6 | others << 3 | others))?;
        }
        if let Some(time) = time {
            let stamp = Timespec { tv_sec: time, tv_nsec: 0 };
            let times = Timestamps { last_access: stamp, last_modification: stamp };
            rustix::fs::utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::{normalize, take_subdir};

    #[test]
    fn modes_are_those_of_a_usual_umask() {
        let dir = tempfile::tempdir().unwrap();
        for (name, mode) in [("a", 0o600), ("b", 0o700), ("c", 0o666), ("d", 0o400)] {
            fs::write(dir.path().join(name), name).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::set_permissions(dir.path().join("sub"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(dir.path().join("sub/.git"), "gitdir: elsewhere").unwrap();
        symlink("nowhere", dir.path().join("sub/link")).unwrap();
        normalize(dir.path(), false, Some(1000)).unwrap();
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777;
        assert_eq!(["a", "b", "c", "d", "sub"].map(mode), [0o644, 0o755, 0o644, 0o444, 0o755]);
        assert!(!dir.path().join("sub/.git").exists());
        let time = |name: &str| fs::symlink_metadata(dir.path().join(name)).unwrap().mtime();
        assert_eq!(["a", "sub", "sub/link"].map(time), [1000; 3]);
    }

    #[test]
    fn a_subdirectory_is_not_reached_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, into) = (dir.path().join("tree"), dir.path().join("into"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&into).unwrap();
        fs::write(tree.join("a/b/f"), "f").unwrap();
        symlink("a", tree.join("link")).unwrap();
        for wrong in ["link/b", "a/missing", "a/b/f", "../tree/a"] {
            assert!(take_subdir(&tree, wrong, &into).is_err(), "{wrong}");
        }
        take_subdir(&tree, "a/b", &into).unwrap();
        assert_eq!(fs::read_to_string(into.join("f")).unwrap(), "f");
    }
}
