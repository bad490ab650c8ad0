//! The imports that a file of Python makes whatever happens: those at its margin.

use std::collections::HashSet;
use std::sync::LazyLock;

/// One import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// Dots before the module: 0 is absolute.
    pub(crate) level: usize,
    /// The module, may be empty after dots.
    pub(crate) module: String,
    /// What `from` takes out of it: attributes, or modules below it.
    pub(crate) names: Vec<String>,
}

/// Words of a file that can change where modules are found.
const CHANGES: [&str; 11] = [
    "sys.path",
    "sys.modules",
    "meta_path",
    "path_hooks",
    "addsitedir",
    "importlib",
    "__import__",
    "exec(",
    "zipimport",
    "pkgutil",
    "execfile",
];
/// How a statement begins after which nothing is certain any more.
const ENDS: [&str; 8] =
    ["sys.exit(", "exit(", "quit(", "os._exit(", "os.exec", "raise", "os.kill(", "sys.stdout.close("];

/// Whether a file can change where modules are found.
pub(crate) fn changes_search(text: &str) -> bool {
    CHANGES.iter().any(|word| text.contains(word))
}

/// Whether a statement at the margin does it.
pub(crate) fn is_moving(line: &str) -> bool {
    let moves = ["sys.path.", "sys.path[", "sys.path =", "sys.path+", "sys.path +", "site.addsitedir"];
    line.contains("meta_path")
        || line.contains("path_hooks")
        || moves.iter().any(|start| line.starts_with(start))
}

/// Reads them. What is in strings, or deeper than the margin (in `try`, `if`, functions), is none;
/// nor is what comes after the program has ended.
pub(crate) fn imports(text: &str) -> Vec<Import> {
    let mut all = Vec::new();
    for line in margin(text) {
        if ENDS.iter().any(|end| line.starts_with(end)) {
            break;
        }
        if line.starts_with("import ") || line.starts_with("from ") {
            line.split(';').for_each(|part| read(part.trim(), &mut all));
        }
    }
    all
}

/// The statements at the margin, each on a line, without comments and without what is in strings.
pub(crate) fn margin(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut line = String::new();
    let mut depth = 0_usize;
    let mut rest = text.trim_start_matches('\u{feff}');
    while let Some(c) = rest.chars().next() {
        let mut used = c.len_utf8();
        match c {
            '#' => used = rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => {
                used = string_length(rest);
                line.push_str("\"\"");
            }
            '\\' if rest[1..].starts_with(['\n', '\r']) => {
                used = rest.find('\n').map_or(rest.len(), |end| end + 1);
                line.push(' ');
            }
            '\n' if depth == 0 => {
                if line.starts_with(|c: char| !c.is_whitespace()) {
                    all.push(line.trim_end().to_owned());
                }
                line.clear();
            }
            '\n' | '\r' => line.push(' '),
            _ => {
                match c {
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                line.push(c);
            }
        }
        rest = &rest[used..];
    }
    if line.starts_with(|c: char| !c.is_whitespace()) {
        all.push(line.trim_end().to_owned());
    }
    all
}

/// The length of the string that a text begins with; one that is never closed goes to the end of
/// its line, or of the text.
fn string_length(text: &str) -> usize {
    let quote = &text[..1];
    let long = [quote, quote, quote].concat();
    let is_long = text.starts_with(&long);
    let close = if is_long { long.as_str() } else { quote };
    let mut at = close.len();
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(close) {
            return at + close.len();
        }
        let c = rest.chars().next().unwrap_or_default();
        if c == '\n' && !is_long {
            return at;
        }
        at += c.len_utf8();
        if c == '\\' {
            at += text[at..].chars().next().map_or(0, char::len_utf8);
        }
    }
    text.len()
}

fn read(statement: &str, all: &mut Vec<Import>) {
    let first = |text: &str| text.split_whitespace().next().unwrap_or_default().to_owned();
    if let Some(modules) = statement.strip_prefix("import ") {
        let modules = modules.split(',').map(first).filter(|module| is_module(module));
        all.extend(modules.map(|module| Import { level: 0, module, names: Vec::new() }));
    } else if let Some((module, names)) =
        statement.strip_prefix("from ").and_then(|rest| rest.split_once(" import"))
    {
        let dotted = module.trim();
        let module = dotted.trim_start_matches('.');
        let names = names.trim().trim_matches(['(', ')']);
        let names = names.split(',').map(first).filter(|name| is_module(name)).collect();
        if module.is_empty() || is_module(module) {
            all.push(Import { level: dotted.len() - module.len(), module: module.to_owned(), names });
        }
    }
}

fn is_module(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
}

/// Modules that come with every Python since 3.7.
pub(crate) fn is_standard(module: &str) -> bool {
    static NAMES: LazyLock<HashSet<&str>> = LazyLock::new(|| STANDARD.split_ascii_whitespace().collect());
    module.starts_with('_') || NAMES.contains(module)
}

const STANDARD: &str = "\
    __future__ __main__ _collections_abc _thread abc aifc antigravity argparse array ast asynchat \
    asyncio asyncore atexit audioop base64 bdb binascii binhex bisect builtins bz2 cProfile calendar cgi \
    cgitb chunk cmath cmd code codecs codeop collections colorsys compileall concurrent configparser \
    contextlib contextvars copy copyreg crypt csv ctypes curses dataclasses datetime dbm decimal difflib \
    dis distutils doctest dummy_threading email encodings ensurepip enum errno faulthandler fcntl \
    filecmp fileinput fnmatch formatter fractions ftplib functools gc genericpath getopt getpass gettext \
    glob graphlib grp gzip hashlib heapq hmac html http idlelib imaplib imghdr imp importlib inspect io \
    ipaddress itertools json keyword lib2to3 linecache locale logging lzma macpath mailbox mailcap \
    marshal math mimetypes mmap modulefinder msilib msvcrt multiprocessing netrc nis nntplib nt ntpath \
    nturl2path numbers opcode operator optparse os ossaudiodev parser pathlib pdb pickle pickletools \
    pipes pkgutil platform plistlib poplib posix posixpath pprint profile pstats pty pwd py_compile \
    pyclbr pydoc pydoc_data pyexpat queue quopri random re readline reprlib resource rlcompleter runpy \
    sched secrets select selectors shelve shlex shutil signal site smtpd smtplib sndhdr socket \
    socketserver spwd sqlite3 sre_compile sre_constants sre_parse ssl stat statistics string stringprep \
    struct subprocess sunau symbol symtable sys sysconfig syslog tabnanny tarfile telnetlib tempfile \
    termios textwrap this threading time timeit tkinter token tokenize tomllib trace traceback \
    tracemalloc tty turtle turtledemo types typing unicodedata unittest urllib uu uuid venv warnings \
    wave weakref webbrowser winreg winsound wsgiref xdrlib xml xmlrpc zipapp zipfile zipimport zlib \
    xxlimited xxlimited_35 xxsubtype zoneinfo";

#[cfg(test)]
mod tests {
    use super::imports;

    #[test]
    fn only_what_is_always_imported() {
        let text = "\"\"\"Doc.\nimport in_doc\n\"\"\"\nimport a, b.c as d  # import e\nfrom .f import (\n    g,\n    h as i,\n)\n\
                    from . import j; import k\nfrom l.m import n \\\n    , o\ntry:\n    import p\nexcept ImportError:\n    pass\n\
                    x = '''\nimport q\n'''; y = \"#'\"\nimport r\nfrom __future__ import s\nimportant = 1\n";
        let shown: Vec<String> = imports(text)
            .into_iter()
            .map(|import| format!("{}{}:{}", ".".repeat(import.level), import.module, import.names.join("+")))
            .collect();
        assert_eq!(shown.join(" "), "a: b.c: .f:g+h .:j k: l.m:n+o r: __future__:s");
    }

    #[test]
    fn no_text_is_too_odd() {
        for text in
            ["import", "from ", "from x import (", "import \\", "'''", "from .... import *", "import a..b;;"]
        {
            imports(text);
        }
    }
}
