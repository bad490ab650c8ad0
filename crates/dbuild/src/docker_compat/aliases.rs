//! Docker's names of commands, for scripts and hands that know them: `buildx build`, `image ls`.
//!
//! The words are replaced before the command line is parsed, so that each command has one
//! definition, one help and one list of flags.

use std::ffi::OsString;

use super::table::{self, Kind};

/// Flags that stand in front of a command and take the next word.
const WITH_VALUE: [&str; 11] = [
    "--store",
    "--config",
    "--log",
    "--context",
    "--host",
    "-H",
    "--log-level",
    "-l",
    "--tlscacert",
    "--tlscert",
    "--tlskey",
];

/// The command line with the name of the command as dbuild has it.
pub(crate) fn with_own_names(words: Vec<OsString>) -> Vec<OsString> {
    let Some(at) = first_word(&words) else { return words };
    let word = |at: usize| words.get(at).and_then(|word| word.to_str());
    if word(at) == Some("help") {
        return help(words, at);
    }
    let names = || table::entries().filter(|entry| entry.kind == Kind::Command && !entry.means.is_empty());
    // The longest name first: `image ls` before `image`.
    let found = (1..=3).rev().find_map(|count| {
        let given: Option<Vec<&str>> = (at..at + count).map(word).collect();
        let given = given?.join(" ");
        names().find(|entry| entry.word == given).map(|entry| (count, entry.means))
    });
    let Some((count, means)) = found else { return words };
    let mut own = words[..at].to_vec();
    own.extend(means.iter().map(OsString::from));
    own.extend_from_slice(&words[at + count..]);
    own
}

/// `help build` is `build --help`.
fn help(mut words: Vec<OsString>, at: usize) -> Vec<OsString> {
    words.remove(at);
    let mut own = with_own_names(words);
    own.push("--help".into());
    own
}

/// The place of the command's name.
fn first_word(words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    loop {
        let word = words.get(at)?.to_str()?;
        match word {
            "--" => return None,
            flag if WITH_VALUE.contains(&flag) => at += 2,
            flag if flag.starts_with('-') => at += 1,
            _ => return Some(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::with_own_names;

    #[test]
    fn names_are_replaced_where_the_command_stands() {
        for (given, expected) in [
            ("dbuild", "dbuild"),
            ("dbuild build -t buildx .", "dbuild build -t buildx ."),
            ("docker buildx build -t a .", "docker build -t a ."),
            ("docker buildx b .", "docker build ."),
            ("dbuild --store image image ls -q", "dbuild --store image images -q"),
            ("dbuild --log=debug builder prune -f", "dbuild --log=debug cache prune -f"),
            ("docker buildx history ls", "docker history"),
            ("docker image rm a", "docker rm a"),
            ("docker help", "docker --help"),
            ("docker help image ls", "docker images --help"),
            ("dbuild image from-host", "dbuild image from-host"),
            ("dbuild -- buildx build", "dbuild -- buildx build"),
            ("dbuild run app image ls", "dbuild run app image ls"),
        ] {
            let words = given.split(' ').map(OsString::from).collect();
            let own = with_own_names(words);
            let own: Vec<&str> = own.iter().map(|word| word.to_str().unwrap()).collect();
            assert_eq!(own.join(" "), expected, "{given}");
        }
    }
}
