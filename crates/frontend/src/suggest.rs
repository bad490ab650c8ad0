//! Did you mean …?

/// The option that is nearest to a word, if it is near enough to be a slip of the finger. An option that equals the
/// word gives nothing: then the fault is another.
pub fn nearest<'a>(word: &str, options: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const TOO_FAR: usize = 3;
    let mut best: Option<(&str, usize)> = None;
    for option in options {
        let distance = distance(word, option);
        if distance == 0 {
            return None;
        }
        // Of a word of two letters everything is near.
        let near = distance < TOO_FAR && distance < option.chars().count();
        if near && best.is_none_or(|(_, least)| distance < least) {
            best = Some((option, distance));
        }
    }
    best.map(|(option, _)| option)
}

/// Levenshtein's distance, or a large number where lengths alone tell that it is large.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    if left.len().abs_diff(right.len()) > 2 {
        return usize::MAX;
    }
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (row, a) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, b) in right.iter().enumerate() {
            let substituted = previous[column] + usize::from(a != b);
            current.push(substituted.min(previous[column + 1] + 1).min(current[column] + 1));
        }
        previous = current;
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

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
}
