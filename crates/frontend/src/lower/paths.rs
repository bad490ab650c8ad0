//! Paths of Dockerfiles: pure text, as BuildKit's frontend treats them.

/// Lexically clean, as Go's `path.Clean`: no doubled slashes, `.` or `..` that can be resolved;
/// never empty.
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let body = parts.join("/");
    match (rooted, body.is_empty()) {
        (true, _) => format!("/{body}"),
        (false, true) => ".".to_owned(),
        (false, false) => body,
    }
}

/// The new working directory: an absolute one as written, a relative one joined to the present one.
pub(crate) fn workdir(present: &str, new: &str) -> String {
    let present = absolute(present);
    if new.is_empty() {
        present
    } else if new.starts_with('/') {
        new.to_owned()
    } else {
        clean(&format!("{present}/{new}"))
    }
}

/// A destination of COPY: absolute, and clean before any symlink is looked at; a trailing slash or
/// `/.` says that it is a directory.
pub(crate) fn destination(workdir: &str, dest: &str) -> String {
    let dest = if matches!(dest, "" | ".") { "./" } else { dest };
    let joined = match dest.starts_with('/') {
        true => clean(dest),
        false => clean(&format!("{}/{dest}", absolute(workdir))),
    };
    if dest.ends_with('/') && !joined.ends_with('/') {
        format!("{joined}/")
    } else if dest.ends_with("/.") {
        let slash = if joined == "/" { "" } else { "/" };
        format!("{joined}{slash}.")
    } else {
        joined
    }
}

/// A source of COPY, relative to the root of what is copied from and clean; empty is the root.
pub(crate) fn source(path: &str) -> String {
    clean(&format!("/{path}")).trim_start_matches('/').to_owned()
}

/// A source of `COPY --parents`: the pivot `/./` stays.
pub(crate) fn source_with_pivot(path: &str) -> String {
    match path.split_once("/./") {
        Some((before, after)) => format!("{}/./{}", source(before), source(after)),
        None => source(path),
    }
}

/// The directory that a command starts in: the text of WORKDIR is kept, and entered clean.
pub(crate) fn entered(workdir: &str) -> String {
    clean(&absolute(workdir))
}

/// An absolute path from one that may be relative to a directory.
pub(crate) fn under(directory: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("{}/{path}", absolute(directory))) }
}

/// The last component.
pub(crate) fn base_name(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("/")
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { clean(&format!("/{path}")) }
}

#[cfg(test)]
mod tests {
    use super::{base_name, clean, destination, source, source_with_pivot, workdir};

    #[test]
    fn paths_are_cleaned() {
        for (path, expected) in [
            ("", "."),
            ("/", "/"),
            ("a//b/./c/..", "a/b"),
            ("/../a", "/a"),
            ("../a", "../a"),
            ("a/..", "."),
            ("/a/", "/a"),
        ] {
            assert_eq!(clean(path), expected, "{path}");
        }
    }

    #[test]
    fn working_directories_are_joined() {
        for (present, new, expected) in [
            ("", "a", "/a"),
            ("/a", "b/../c", "/a/c"),
            ("/a", "/b//x/../y/", "/b//x/../y/"),
            ("/a", "", "/a"),
            ("", "", "/"),
            ("/a", "..", "/"),
        ] {
            assert_eq!(workdir(present, new), expected, "{present} {new}");
        }
    }

    #[test]
    fn destinations_keep_their_slash() {
        for (dir, dest, expected) in [
            ("/", ".", "/"),
            ("/app", ".", "/app/"),
            ("/app", "", "/app/"),
            ("/app", "./", "/app/"),
            ("/app", "x", "/app/x"),
            ("/app", "x/", "/app/x/"),
            ("/app", "x/.", "/app/x/."),
            ("/app", "../x", "/x"),
            ("/app", "/y//z/", "/y/z/"),
            ("/app", "/link/../g", "/g"),
            ("/app", "/a/../", "/"),
            ("/app", "/a/./.", "/a/."),
            ("/app", "/..", "/"),
        ] {
            assert_eq!(destination(dir, dest), expected, "{dir} {dest}");
        }
    }

    #[test]
    fn sources_stay_inside() {
        for (path, expected) in [("./a", "a"), ("../../a", "a"), ("/a/b/", "a/b"), (".", ""), ("a/*", "a/*")]
        {
            assert_eq!(source(path), expected, "{path}");
        }
        assert_eq!(source_with_pivot("./x/y/./z/w.txt"), "x/y/./z/w.txt");
        for (workdir, expected) in [("", "/"), ("/srv/app/../data/", "/srv/data"), ("a//b", "/a/b")] {
            assert_eq!(super::entered(workdir), expected, "{workdir}");
        }
        assert_eq!(base_name("/a/b/"), "b");
        assert_eq!(base_name("/"), "/");
    }
}
