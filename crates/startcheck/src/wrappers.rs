//! Programs that start the program that the rest of their words names.

use std::collections::VecDeque;

use crate::analysis::{Analysis, Scope};

/// A program that starts the rest of its words.
pub(crate) struct Wrapper {
    pub(crate) name: &'static str,
    /// Options that take the next word.
    with_value: &'static [&'static str],
    /// Number of words before the program: a user, a duration.
    pub(crate) skips: usize,
}

const fn wrapper(name: &'static str, with_value: &'static [&'static str], skips: usize) -> Wrapper {
    Wrapper { name, with_value, skips }
}

pub(crate) const WRAPPERS: [Wrapper; 11] = [
    wrapper("tini", &["-p", "-e"], 0),
    wrapper("tini-static", &["-p", "-e"], 0),
    wrapper("docker-init", &["-p", "-e"], 0),
    wrapper("dumb-init", &["-r", "--rewrite"], 0),
    wrapper("catatonit", &["-P"], 0),
    wrapper("nohup", &[], 0),
    wrapper("setsid", &[], 0),
    wrapper("nice", &["-n", "--adjustment"], 0),
    wrapper("timeout", &["-s", "--signal", "-k", "--kill-after"], 1),
    wrapper("gosu", &[], 1),
    wrapper("su-exec", &[], 1),
];

impl Wrapper {
    /// The words after its options and a `--`.
    pub(crate) fn rest<'w>(&self, mut words: &'w [String]) -> &'w [String] {
        while let [word, after @ ..] = words
            && word.starts_with('-')
        {
            words = after;
            if word == "--" {
                break;
            }
            if self.with_value.contains(&word.as_str()) {
                words = words.get(1..).unwrap_or_default();
            }
        }
        words
    }
}

/// What `env` is to do.
pub(crate) struct Env {
    pub(crate) words: Vec<String>,
    /// The PATH that it sets.
    pub(crate) path: Option<String>,
    pub(crate) is_elsewhere: bool,
    pub(crate) is_empty: bool,
}

/// Reads the words of `env`; `None` for what only it can understand.
pub(crate) fn read_env(words: &[String]) -> Option<Env> {
    let mut env = Env { words: Vec::new(), path: None, is_elsewhere: false, is_empty: false };
    let mut rest: VecDeque<String> = words.to_vec().into();
    while let Some(word) = rest.pop_front() {
        let is_option = word.starts_with('-') && word != "--";
        if !is_option {
            if word == "--" {
                continue;
            }
            if let Some((name, value)) = word.split_once('=') {
                env.path = Some(value.to_owned()).filter(|_| name == "PATH").or(env.path);
                continue;
            }
            env.words = std::iter::once(word).chain(rest).collect();
            return Some(env);
        }
        let split = word.strip_prefix("--split-string=");
        let split = split.or_else(|| {
            let (flags, text) = word.split_once('S')?;
            flags.chars().all(|c| "-vi0".contains(c)).then_some(text)
        });
        if let Some(text) = split {
            let text = if text.is_empty() { rest.pop_front()? } else { text.to_owned() };
            if text.contains(['"', '\'', '\\', '$', '#']) {
                return None;
            }
            text.split_whitespace().rev().for_each(|word| rest.push_front(word.to_owned()));
            continue;
        }
        match word.as_str() {
            "-u" | "--unset" => {
                rest.pop_front();
            }
            "-C" | "--chdir" => {
                rest.pop_front();
                env.is_elsewhere = true;
            }
            "-" | "-i" | "--ignore-environment" => env.is_empty = true,
            other => env.is_elsewhere |= other.starts_with("-C") || other.starts_with("--chdir"),
        }
    }
    Some(env)
}

impl Analysis<'_> {
    /// `env`, as a command or in a shebang.
    pub(crate) fn run_env(&mut self, words: &[String], scope: &Scope) {
        let Env { words, path, is_elsewhere, is_empty } = match read_env(words) {
            Some(env) => env,
            None => return self.unknown("what `env` starts".to_owned()),
        };
        if is_elsewhere {
            return self.unknown("what `env` starts in another directory".to_owned());
        }
        let mut scope = scope.clone();
        // Without a PATH the C library has one of its own.
        scope.path = path.unwrap_or(if is_empty { "/bin:/usr/bin".to_owned() } else { scope.path });
        self.run(&words, &scope);
    }
}
