//! *Did you mean …?*: the known word that is nearest to a written one.

/// The number of letters that must be inserted, removed or changed to get from one word to the
/// other.
pub fn distance(left: &str, right: &str) -> usize {
    strsim::levenshtein(left, right)
}

/// The option that is nearest to a word, if it is near enough to be a slip of the finger.
///
/// An option that equals the word gives `None`: then the fault is another.
pub fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const TOO_FAR: usize = 3;
    let letters = word.chars().count();
    let mut best: Option<(&str, usize)> = None;
    for option in options {
        let length = option.chars().count();
        // Lengths alone tell that a long text is far, without comparing it.
        if letters.abs_diff(length) >= TOO_FAR {
            continue;
        }
        let distance = distance(word, option);
        if distance == 0 {
            return None;
        }
        // Every option is near to a word of two letters.
        let near = distance < TOO_FAR && distance < length;
        if near && best.is_none_or(|(_, least)| distance < least) {
            best = Some((option, distance));
        }
    }
    best.map(|(option, _)| option)
}

/// The name that is nearest to a mistyped file name, regardless of case. A third of the letters may
/// differ, but never all of them.
pub fn nearest_name(name: &str, others: impl IntoIterator<Item = String>) -> Option<String> {
    let name = name.to_lowercase();
    let letters = name.chars().count();
    let allowed = (letters / 3).max(1).min(letters.saturating_sub(1));
    others
        .into_iter()
        .map(|other| (distance(&name, &other.to_lowercase()), other))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .filter(|(distance, _)| *distance > 0)
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::{nearest, nearest_name};

    #[test]
    fn near_words_are_found() {
        let options = ["RUN", "COPY", "ENTRYPOINT", "ENV"];
        for (word, expected) in [
            ("RNU", Some("RUN")),
            ("CPOY", Some("COPY")),
            ("ENTRYPONT", Some("ENTRYPOINT")),
            ("RUN", None),
            ("XYZZY", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, options), expected, "{word}");
        }
    }

    #[test]
    fn near_file_names_are_found() {
        let names = || ["package.json", "README.md", "src"].map(str::to_owned);
        assert_eq!(nearest_name("pakage.json", names()).as_deref(), Some("package.json"));
        assert_eq!(nearest_name("SCR", names()).as_deref(), None);
        assert_eq!(nearest_name("readme.txt", names()).as_deref(), Some("README.md"));
        assert_eq!(nearest_name("src", names()), None, "the name itself is no advice");
        assert_eq!(nearest_name("x", names()), None);
    }
}
