//! `--chmod`: octal or as chmod(1) takes it.

use crate::CopyError;

/// A parsed `--chmod`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModeChange {
    /// All bits.
    Octal(u32),
    /// One change after the other.
    Symbolic(Vec<Change>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The bits of those it is about.
    who: u32,
    operation: u8,
    permissions: Permissions,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Permissions {
    /// Bits, and whether `X` is among them.
    Bits { bits: u32, execute_if: bool },
    /// What user, group or others have: how far to shift it down.
    CopyOf(u32),
}

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const EXECUTE: u32 = 0o111;

impl ModeChange {
    /// Parses `0755` or `u=rwx,go+rX`.
    pub(crate) fn parse(text: &str) -> Result<Self, CopyError> {
        let fault = || CopyError::Mode(text.chars().take(80).collect());
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            return match u32::from_str_radix(text, 8) {
                Ok(bits) if bits <= 0o7777 => Ok(Self::Octal(bits)),
                _ => Err(fault()),
            };
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            clause_changes(clause.as_bytes(), &mut changes).ok_or_else(fault)?;
        }
        Ok(Self::Symbolic(changes))
    }

    /// The mode that a file or directory gets.
    pub(crate) fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Octal(bits) => *bits,
            Self::Symbolic(changes) => {
                changes.iter().fold(mode, |now, change| change.apply(now, mode, is_dir))
            }
        }
    }

    /// The mode of directories that are made on the way to the destination.
    pub(crate) fn of_made_dirs(&self) -> u32 {
        match self {
            Self::Octal(bits) => bits & 0o777,
            Self::Symbolic(_) => 0o755,
        }
    }
}

fn clause_changes(clause: &[u8], changes: &mut Vec<Change>) -> Option<()> {
    let whos = clause.iter().take_while(|byte| b"ugoa".contains(byte)).count();
    let mut who = clause[..whos].iter().fold(0, |who, byte| {
        who | match byte {
            b'u' => SETUID | 0o700,
            b'g' => SETGID | 0o070,
            b'o' => 0o007,
            _ => SETUID | SETGID | STICKY | 0o777,
        }
    });
    if whos == 0 {
        who = SETUID | SETGID | STICKY | 0o777;
    }
    let mut rest = &clause[whos..];
    if rest.is_empty() {
        return None;
    }
    while let [operation @ (b'+' | b'-' | b'='), after @ ..] = rest {
        let length = after.iter().take_while(|byte| !b"+-=".contains(byte)).count();
        let (words, after) = after.split_at(length);
        changes.push(Change { who, operation: *operation, permissions: permissions(words, who)? });
        rest = after;
    }
    rest.is_empty().then_some(())
}

fn permissions(words: &[u8], who: u32) -> Option<Permissions> {
    if let [copy @ (b'u' | b'g' | b'o')] = words {
        return Some(Permissions::CopyOf(match copy {
            b'u' => 6,
            b'g' => 3,
            _ => 0,
        }));
    }
    let (mut bits, mut execute_if) = (0, false);
    for word in words {
        match word {
            b'r' => bits |= 0o444,
            b'w' => bits |= 0o222,
            b'x' => bits |= EXECUTE,
            b'X' => execute_if = true,
            b's' => bits |= SETUID | SETGID,
            // The sticky bit is nobody's in particular; `o+t` alone says nothing.
            b't' if who & 0o770 != 0 => bits |= STICKY,
            b't' => {}
            _ => return None,
        }
    }
    Some(Permissions::Bits { bits, execute_if })
}

impl Change {
    fn apply(&self, now: u32, original: u32, is_dir: bool) -> u32 {
        let wanted = match self.permissions {
            Permissions::Bits { bits, execute_if } => {
                let execute = execute_if && (is_dir || original & EXECUTE != 0);
                let bits = if execute { bits | EXECUTE } else { bits };
                bits & (self.who | STICKY)
            }
            Permissions::CopyOf(shift) => {
                let three = now >> shift & 7;
                (three | three << 3 | three << 6) & self.who
            }
        };
        match self.operation {
            b'+' => now | wanted,
            b'-' => now & !wanted,
            _ => now & !(self.who & !STICKY) | wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ModeChange;

    fn check(text: &str, mode: u32, is_dir: bool, expected: u32) {
        let changed = ModeChange::parse(text).unwrap().apply(mode, is_dir);
        assert_eq!(changed, expected, "{text} on {mode:o}: {changed:o}, not {expected:o}");
    }

    #[test]
    fn octal_replaces_everything() {
        check("755", 0o4644, false, 0o755);
        check("04711", 0o644, false, 0o4711);
        check("0", 0o777, true, 0);
    }

    #[test]
    fn symbolic_changes_what_it_names() {
        for (text, mode, is_dir, expected) in [
            ("u+x", 0o644, false, 0o744),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("go=", 0o755, false, 0o700),
            ("u=rwx,go=rx", 0o600, false, 0o755),
            ("g=u", 0o740, false, 0o770),
            ("o=g-w", 0o760, false, 0o764),
            ("a+X", 0o644, false, 0o644),
            ("a+X", 0o744, false, 0o755),
            ("a+X", 0o644, true, 0o755),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, false, 0o2755),
            ("+t", 0o755, true, 0o1755),
            ("u=rw", 0o4755, false, 0o655),
            ("u+r+w-x", 0o100, false, 0o600),
        ] {
            check(text, mode, is_dir, expected);
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in ["", "0888", "10000", "u", "u+q", "x+r", "u+r,", "0755x", "+x g"] {
            assert!(ModeChange::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn made_directories_take_the_plain_bits_of_octal_modes_only() {
        assert_eq!(ModeChange::parse("1700").unwrap().of_made_dirs(), 0o700);
        assert_eq!(ModeChange::parse("go=").unwrap().of_made_dirs(), 0o755);
    }
}
