//! The imports that a file of Python makes whatever happens: those at its margin.

use std::collections::HashSet;
use std::sync::LazyLock;

/// One import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    /// Dots before the module: 0 is absolute.
    pub(super) level: usize,
    /// The module, may be empty after dots.
    pub(super) module: String,
    /// What `from` takes out of it: attributes, or modules below it.
    pub(super) names: Vec<String>,
}

/// Reads them. What stands in strings, or deeper than the margin (in `try`, `if`, functions), is none.
pub(super) fn imports(text: &str) -> Vec<Import> {
    let mut all = Vec::new();
    let mut string: Option<&str> = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(quotes) = string {
            if line.matches(quotes).count() % 2 == 1 {
                string = None;
            }
            continue;
        }
        if line.starts_with("import ") || line.starts_with("from ") {
            let mut statement = uncommented(line).to_owned();
            while statement.ends_with('\\') || statement.contains('(') && !statement.contains(')') {
                let Some(next) = lines.next() else { break };
                statement.truncate(statement.trim_end_matches('\\').len());
                statement.push(' ');
                statement.push_str(uncommented(next).trim());
            }
            statement.split(';').for_each(|part| read(part.trim(), &mut all));
            continue;
        }
        string = opened(line);
    }
    all
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

fn uncommented(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim_end()
}

/// The quotes of a long string that begins on a line and does not end on it.
fn opened(line: &str) -> Option<&'static str> {
    let mut rest = line;
    loop {
        let next =
            ["\"\"\"", "'''"].into_iter().filter_map(|quotes| Some((rest.find(quotes)?, quotes))).min()?;
        let (at, quotes) = next;
        if rest[..at].contains('#') {
            return None;
        }
        let inside = &rest[at + 3..];
        match inside.find(quotes) {
            None => return Some(quotes),
            Some(end) => rest = &inside[end + 3..],
        }
    }
}

/// Modules that come with every Python since 3.7.
pub(super) fn is_standard(module: &str) -> bool {
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
    zoneinfo";

#[cfg(test)]
mod tests {
    use super::imports;

    #[test]
    fn only_what_is_always_imported() {
        let text = "\"\"\"Doc.\nimport in_doc\n\"\"\"\nimport a, b.c as d  # import e\nfrom .f import (\n    g,\n    h as i,\n)\n\
                    from . import j; import k\nfrom l.m import n \\\n    , o\ntry:\n    import p\nexcept ImportError:\n    pass\n\
                    x = '''\nimport q\n'''\nimport r\nfrom __future__ import s\nimportant = 1\n";
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
