//! Texts that are nearly like those of a corpus.

/// Numbers that are the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    fn token(&mut self) -> &'static str {
        TOKENS[self.below(TOKENS.len())]
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// What means something in a Dockerfile, and what nobody expects there.
const TOKENS: &[&str] = &[
    "\n",
    "\\\n",
    "\r\n",
    " ",
    "\t",
    "#",
    "# check=skip=all\n",
    "# escape=`\n",
    "FROM ",
    "FROM scratch AS a\n",
    "ONBUILD ",
    "RUN ",
    "COPY ",
    "ADD ",
    "ENV ",
    "ARG ",
    "LABEL ",
    "CMD ",
    "HEALTHCHECK ",
    "EXPOSE ",
    "--from=",
    "--mount=type=",
    "cache,",
    "target=/",
    "--chmod=",
    "--chown=",
    "--link",
    "--parents",
    "--exclude=",
    "--platform=",
    "--interval=",
    "<<EOF",
    "<<-'E'",
    "EOF\n",
    "E\n",
    "$",
    "${",
    "}",
    "${A",
    ":-",
    ":+",
    ":?",
    "##",
    "%%",
    "//",
    "/#",
    "[",
    "]",
    "[\"",
    "\",\"",
    "\"]",
    "'",
    "\"",
    "\\",
    "`",
    "=",
    ",",
    ":",
    "@",
    "@sha256:",
    "/",
    "..",
    "/./",
    "*",
    "**",
    "?",
    "!",
    "[a-",
    "0",
    "-1",
    "65536",
    "1-65535",
    "9999999999",
    "\u{0}",
    "\u{feff}",
    "\u{a0}",
    "\u{2028}",
    "é",
    "𝔻",
    "\u{7f}",
    "https://x/y.git#a:b",
    "git@h:x.git",
    "scratch",
    "context",
];

/// One of the corpus, changed in some places.
pub(crate) fn mutated(rng: &mut Rng, corpus: &[(String, String)]) -> String {
    let mut text = rng.pick(corpus).1.clone();
    for _ in 0..=rng.below(8) {
        text = once(rng, text, corpus);
        // What grows without end is another test's matter.
        if text.len() > 20_000 {
            text.truncate(place(rng, &text[..floor(&text, 20_000)]));
        }
    }
    text
}

fn once(rng: &mut Rng, mut text: String, corpus: &[(String, String)]) -> String {
    let at = place(rng, &text);
    match rng.below(8) {
        0 => text.insert_str(at, rng.token()),
        1 => {
            let end = (at + rng.below(12)).min(text.len());
            text.replace_range(at..floor(&text, end).max(at), rng.token());
        }
        2 => text.truncate(at),
        3 => {
            let other = &rng.pick(corpus).1;
            let from = place(rng, other);
            text.truncate(at);
            text.push_str(&other[from..]);
        }
        4 => {
            let token = rng.token();
            text.insert_str(at, &token.repeat(1 + rng.below(40)));
        }
        _ => return lines(rng, &text, corpus),
    }
    text
}

/// Lines are left out, doubled, moved, or taken from elsewhere.
fn lines(rng: &mut Rng, text: &str, corpus: &[(String, String)]) -> String {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.is_empty() {
        return text.to_owned();
    }
    let (one, other) = (rng.below(lines.len()), rng.below(lines.len()));
    let foreign: Vec<&str> = rng.pick(corpus).1.split_inclusive('\n').collect();
    match rng.below(4) {
        0 => drop(lines.remove(one)),
        1 => lines.insert(other, lines[one]),
        2 => lines.swap(one, other),
        _ if !foreign.is_empty() => lines.insert(other, foreign[rng.below(foreign.len())]),
        _ => {}
    }
    lines.concat()
}

fn place(rng: &mut Rng, text: &str) -> usize {
    floor(text, rng.below(text.len() + 1))
}

fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// The text without what is not needed for `fails` to hold: halves, then smaller and smaller parts.
pub(crate) fn shrunk(text: &str, fails: impl Fn(&str) -> bool) -> String {
    let mut best: Vec<char> = text.chars().collect();
    let mut size = best.len().div_ceil(2);
    while size > 0 {
        let before = best.len();
        let mut at = 0;
        while at < best.len() {
            let end = (at + size).min(best.len());
            let without: Vec<char> = best[..at].iter().chain(&best[end..]).copied().collect();
            if fails(&without.iter().collect::<String>()) {
                best = without;
            } else {
                at = end;
            }
        }
        // Once more with single characters, as long as some of them could go.
        size = if size == 1 && best.len() < before { 1 } else { size / 2 };
    }
    best.into_iter().collect()
}
