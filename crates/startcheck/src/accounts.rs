//! The user that USER names, looked up in the image's own files.

use crate::image_files::Files;
use crate::user::User;
use crate::view::View;

/// What cannot be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccountError {
    User(String),
    Group(String),
    /// The file's content is not available.
    Unread(&'static str),
}

/// Reads USER: empty, `user`, `user:group`, names or ids.
pub(crate) fn user_of(files: &dyn Files, words: &str) -> Result<User, AccountError> {
    let (name, group) = words.split_once(':').map_or((words, None), |(name, group)| (name, Some(group)));
    let name = if name.is_empty() { "0" } else { name };
    let view = View::new(files, User::default());
    let passwd = lines(&view, "/etc/passwd")?;
    let number: Option<u32> = name.parse().ok();
    let field = |line: &[String], at: usize| line.get(at).and_then(|text| text.parse::<u32>().ok());
    let account = passwd
        .iter()
        .find(|line| line[0] == name)
        .or_else(|| passwd.iter().find(|line| number.is_some() && field(line, 2) == number));
    let mut user = match (account, number) {
        (Some(line), _) => User {
            uid: field(line, 2).unwrap_or(0),
            gid: field(line, 3).unwrap_or(0),
            groups: Vec::new(),
            home: line.get(5).cloned().unwrap_or_default(),
        },
        (None, Some(uid)) => User { uid, ..User::default() },
        (None, None) => return Err(AccountError::User(name.to_owned())),
    };
    let Some(group) = group.filter(|group| !group.is_empty()) else {
        let login = account.map(|line| line[0].clone()).unwrap_or_default();
        let groups = lines(&view, "/etc/group").unwrap_or_default();
        let member =
            |line: &&Vec<String>| line.get(3).is_some_and(|all| all.split(',').any(|one| one == login));
        user.groups = groups.iter().filter(member).filter_map(|line| field(line, 2)).collect();
        return Ok(user);
    };
    let groups = lines(&view, "/etc/group")?;
    let named = groups.iter().find(|line| line[0] == group).and_then(|line| field(line, 2));
    user.gid = named.or_else(|| group.parse().ok()).ok_or_else(|| AccountError::Group(group.to_owned()))?;
    Ok(user)
}

fn lines(view: &View<'_>, path: &'static str) -> Result<Vec<Vec<String>>, AccountError> {
    let Some(place) = view.file(path) else { return Ok(Vec::new()) };
    let bytes = view.read_at(&place.path, 0, 1 << 20).ok_or(AccountError::Unread(path))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(|line| line.split(':').map(str::to_owned).collect()).collect())
}
