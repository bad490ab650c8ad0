//! Users and groups of an image: `/etc/passwd` and `/etc/group`, read in the image's own tree.

use crate::{LayerError, Stack};

/// passwd and group files of more bytes are not read.
const LIMIT: u64 = 16 << 20;

/// Who runs a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups, sorted, with the primary one; none where the group was named with the user.
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
/// A known user has the groups and the home of the image's files; an unknown id has gid 0 and home `/`. With a
/// group there are no supplementary groups.
pub fn user(stack: &Stack, words: &str) -> Result<User, UserError> {
    let (name, group) = split(words);
    let name = if name.is_empty() { "0" } else { name };
    let accounts = accounts(stack)?;
    let account = match number(name) {
        // An entry that is named like a number wins, as in every other tool.
        Some(uid) => accounts
            .iter()
            .find(|account| account.name == name)
            .or_else(|| accounts.iter().find(|account| account.uid == uid)),
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
        return Ok(User { uid, gid, groups: Vec::new(), home });
    }
    let mut groups = match account {
        Some(account) => memberships(stack, &account.name, gid)?,
        None => Vec::new(),
    };
    // A file that its group may not read must not become readable by leaving that group out (CVE-2023-25173).
    if let Err(place) = groups.binary_search(&gid) {
        groups.insert(place, gid);
    }
    Ok(User { uid, gid, groups, home })
}

/// The owner that `--chown` means. A name that the image does not know is 0, as in BuildKit, and so is an id of 2³¹
/// or more. A user without a group: a bare id is its own group, a name brings its primary group.
/// Without a stack (with `--link`) every name is an error.
pub fn owner(stack: Option<&Stack>, words: &str) -> Result<(u32, u32), UserError> {
    let (name, group) = split(words);
    let unknown = |what, name: &str, file| UserError::Unknown { what, name: name.to_owned(), file };
    let (uid, primary) = match (number(name), stack) {
        (Some(uid), _) => (uid, uid),
        (None, None) => return Err(unknown("user", name, "/etc/passwd (with --link there is none)")),
        (None, Some(stack)) => accounts(stack)?
            .iter()
            .find(|account| account.name == name)
            .map_or((0, 0), |account| (account.uid, account.gid)),
    };
    let gid = match (group, stack) {
        (None, _) => primary,
        (Some(group), stack) => match (number(group), stack) {
            (Some(gid), _) => gid,
            (None, None) => return Err(unknown("group", group, "/etc/group (with --link there is none)")),
            (None, Some(stack)) => group_id(stack, group)?.unwrap_or(0),
        },
    };
    Ok((uid, gid))
}

fn split(words: &str) -> (&str, Option<&str>) {
    match words.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (words, None),
    }
}

/// An id: decimal and below 2³¹.
fn number(word: &str) -> Option<u32> {
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| word.parse().ok()).flatten().filter(|id| *id < 1 << 31)
}

fn accounts(stack: &Stack) -> Result<Vec<Account>, UserError> {
    let parse = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = number(fields.nth(1)?)?;
        let gid = number(fields.next()?)?;
        Some(Account { uid, gid, home: fields.nth(1).unwrap_or_default().to_owned(), name })
    };
    Ok(lines(stack, "etc/passwd")?.iter().filter_map(|line| parse(line)).collect())
}

fn group_id(stack: &Stack, group: &str) -> Result<Option<u32>, UserError> {
    let parse = |line: &String| {
        let mut fields = line.split(':');
        let same = fields.next()? == group;
        number(fields.nth(1)?).filter(|_| same)
    };
    Ok(lines(stack, "etc/group")?.iter().find_map(parse).or_else(|| number(group)))
}

fn memberships(stack: &Stack, user: &str, primary: u32) -> Result<Vec<u32>, UserError> {
    let parse = |line: &String| {
        let mut fields = line.split(':').skip(2);
        let gid = number(fields.next()?)?;
        fields.next()?.split(',').any(|member| member.trim() == user).then_some(gid)
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
