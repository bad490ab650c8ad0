//! Whom USER means, and what they may do.

use crate::image_files::{Files, Node, View};

/// A user as the kernel knows one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Who {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// From passwd; empty where it is not known.
    pub(crate) home: String,
}

/// What cannot be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoAccount {
    User(String),
    Group(String),
    /// The file's bytes are not at hand.
    Unread(&'static str),
}

impl Who {
    /// Whether one of the permission bits (4 read, 2 write, 1 execute or enter) is theirs. Root may execute what anybody may.
    pub(crate) fn may(&self, node: &Node, bit: u32) -> bool {
        if self.uid == 0 {
            return bit != 1 || node.is_dir() || node.mode & 0o111 != 0;
        }
        let shift = match node {
            _ if node.uid == self.uid => 6,
            _ if node.gid == self.gid || self.groups.contains(&node.gid) => 3,
            _ => 0,
        };
        node.mode >> shift & bit != 0
    }
}

/// Reads USER: empty, `user`, `user:group`, names or ids.
pub(crate) fn who(files: &dyn Files, words: &str) -> Result<Who, NoAccount> {
    let (name, group) = words.split_once(':').map_or((words, None), |(name, group)| (name, Some(group)));
    let name = if name.is_empty() { "0" } else { name };
    let view = View::new(files, Who::default());
    let passwd = lines(&view, "/etc/passwd")?;
    let number: Option<u32> = name.parse().ok();
    let field = |line: &[String], at: usize| line.get(at).and_then(|text| text.parse::<u32>().ok());
    let account = passwd
        .iter()
        .find(|line| line[0] == name)
        .or_else(|| passwd.iter().find(|line| number.is_some() && field(line, 2) == number));
    let mut who = match (account, number) {
        (Some(line), _) => Who {
            uid: field(line, 2).unwrap_or(0),
            gid: field(line, 3).unwrap_or(0),
            groups: Vec::new(),
            home: line.get(5).cloned().unwrap_or_default(),
        },
        (None, Some(uid)) => Who { uid, ..Who::default() },
        (None, None) => return Err(NoAccount::User(name.to_owned())),
    };
    let Some(group) = group.filter(|group| !group.is_empty()) else {
        let login = account.map(|line| line[0].clone()).unwrap_or_default();
        let groups = lines(&view, "/etc/group").unwrap_or_default();
        let member =
            |line: &&Vec<String>| line.get(3).is_some_and(|all| all.split(',').any(|one| one == login));
        who.groups = groups.iter().filter(member).filter_map(|line| field(line, 2)).collect();
        return Ok(who);
    };
    let groups = lines(&view, "/etc/group")?;
    let named = groups.iter().find(|line| line[0] == group).and_then(|line| field(line, 2));
    who.gid = named.or_else(|| group.parse().ok()).ok_or_else(|| NoAccount::Group(group.to_owned()))?;
    Ok(who)
}

fn lines(view: &View<'_>, path: &'static str) -> Result<Vec<Vec<String>>, NoAccount> {
    let Some(place) = view.file(path) else { return Ok(Vec::new()) };
    let bytes = view.read_at(&place.path, 0, 1 << 20).ok_or(NoAccount::Unread(path))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(|line| line.split(':').map(str::to_owned).collect()).collect())
}
