//! Users and groups of an image: `/etc/passwd` and `/etc/group`, read in the image's own tree.

use crate::{LayerError, Stack};

/// passwd and group files of more bytes are not read.
const LIMIT: u64 = 16 << 20;

/// The user that runs a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, sorted, with the primary one; no other where the group was named with
    /// the user.
    pub groups: Vec<u32>,
    /// The home directory, `/` if none is known.
    pub home: String,
}

/// A user or group that cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A name that the image's file does not have.
    #[error("no {what} `{name}` in the image's {file}; use a number, or make the {what} in a RUN before")]
    Unknown {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
    },
    /// A name where there is no file to look it up in.
    #[error(
        "the {what} `{name}` cannot be looked up: with --link, and at the start of a stage from scratch, there is no file system yet; use a number"
    )]
    NoFiles {
        /// `user` or `group`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The files could not be read.
    #[error("{0}")]
    Layer(#[from] LayerError),
}

struct Account {
    uid: u32,
    gid: u32,
    home: String,
    name: String,
}

/// The user that a `USER` instruction means: empty, `user`, `user:group`, ids or names.
///
/// A known user has the groups and the home of the image's files; an unknown id has gid 0 and home
/// `/`. With a group there are no other groups than this. A number is never looked up as a name.
pub fn user(stack: &Stack, words: &str) -> Result<User, UserError> {
    let (name, group) = split(words);
    let name = if name.is_empty() { "0" } else { name };
    let accounts = accounts(stack)?;
    let account = match number(name) {
        Some(uid) => accounts.iter().find(|account| account.uid == uid),
        None => accounts.iter().find(|account| account.name == name),
    };
    let (uid, gid) = match (account, number(name)) {
        (Some(account), _) => (account.uid, account.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => {
            return Err(UserError::Unknown { what: "user", name: name.to_owned(), file: "/etc/passwd" });
        }
    };
    let home = account.map(|account| account.home.as_str()).filter(|home| !home.is_empty()).unwrap_or("/");
    let home = home.to_owned();
    if let Some(group) = group {
        let gid = match group_id(stack, group)? {
            Some(gid) => gid,
            None => {
                let name = group.to_owned();
                return Err(UserError::Unknown { what: "group", name, file: "/etc/group" });
            }
        };
        return Ok(User { uid, gid, groups: vec![gid], home });
    }
    let mut groups = match account {
        Some(account) => memberships(stack, &account.name, gid)?,
        None => Vec::new(),
    };
    // A file that its group may not read must not become readable by leaving that group out
    // (CVE-2023-25173).
    if let Err(place) = groups.binary_search(&gid) {
        groups.insert(place, gid);
    }
    Ok(User { uid, gid, groups, home })
}

/// The owner that `--chown` means. A user whom the image does not know is 0, as in BuildKit, and so
/// is an id of 2³¹ or more. A user without a group: a bare id is its own group, a name brings its
/// primary group; that is also the group where the one that was named is not known.
///
/// Where there is no file system to look a name up in, every name but `root` is an error: without a
/// stack (with `--link`), and on a scratch to which nothing was added yet.
pub fn owner(stack: Option<&Stack>, words: &str) -> Result<(u32, u32), UserError> {
    let (name, group) = words.split_once(':').map_or((words, None), |(user, group)| (user, Some(group)));
    let stack = stack.filter(|stack| !stack.layers().is_empty());
    let no_files = |what, name: &str| UserError::NoFiles { what, name: name.to_owned() };
    let (uid, primary) = match (owner_id(name), stack) {
        (Some(uid), _) => (uid, uid),
        (None, None) => return Err(no_files("user", name)),
        (None, Some(stack)) => accounts(stack)?
            .iter()
            .find(|account| account.name == name)
            .map_or((0, 0), |account| (account.uid, account.gid)),
    };
    let gid = match group.map(|group| (owner_id(group), group)) {
        None => primary,
        Some((Some(gid), _)) => gid,
        Some((None, group)) => {
            let stack = stack.ok_or_else(|| no_files("group", group))?;
            named_group(stack, group)?.unwrap_or(primary)
        }
    };
    Ok((uid, gid))
}

/// What needs no file: an id, `root`, and nothing at all, which is 0.
fn owner_id(word: &str) -> Option<u32> {
    match word {
        "" | "root" => Some(0),
        _ => number(word),
    }
}

fn split(words: &str) -> (&str, Option<&str>) {
    match words.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (words, None),
    }
}

/// An id: decimal and below 2³¹. A plus sign may stand before it.
fn number(word: &str) -> Option<u32> {
    word.parse().ok().filter(|id| *id < 1 << 31)
}

fn accounts(stack: &Stack) -> Result<Vec<Account>, UserError> {
    let parse = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        // What is no number counts as 0, in these files.
        let uid = number(fields.nth(1)?).unwrap_or(0);
        let gid = number(fields.next()?).unwrap_or(0);
        Some(Account { uid, gid, home: fields.nth(1).unwrap_or_default().to_owned(), name })
    };
    Ok(lines(stack, "etc/passwd")?.iter().filter_map(|line| parse(line)).collect())
}

fn group_id(stack: &Stack, group: &str) -> Result<Option<u32>, UserError> {
    match number(group) {
        Some(gid) => Ok(Some(gid)),
        None => named_group(stack, group),
    }
}

fn named_group(stack: &Stack, group: &str) -> Result<Option<u32>, UserError> {
    let parse = |line: &String| {
        let mut fields = line.split(':');
        let same = fields.next()? == group;
        number(fields.nth(1)?).filter(|_| same)
    };
    Ok(lines(stack, "etc/group")?.iter().find_map(parse))
}

fn memberships(stack: &Stack, user: &str, primary: u32) -> Result<Vec<u32>, UserError> {
    let parse = |line: &String| {
        let mut fields = line.split(':').skip(2);
        let gid = number(fields.next()?)?;
        fields.next()?.split(',').any(|member| member == user).then_some(gid)
    };
    let mut groups: Vec<u32> = lines(stack, "etc/group")?.iter().filter_map(parse).collect();
    groups.retain(|gid| *gid != primary);
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

fn lines(stack: &Stack, path: &str) -> Result<Vec<String>, UserError> {
    let bytes = stack.read_file(path, LIMIT)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let kept = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(kept.map(str::to_owned).collect())
}

#[cfg(test)]
#[path = "tests/users.rs"]
mod tests;
