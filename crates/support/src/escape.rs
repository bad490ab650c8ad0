//! Text of strangers, made safe for where it is shown.

/// Text in one line of at most 200 characters, without control characters.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_page_becomes_a_line() {
        assert_eq!(one_line(" <html>\n\t<p>no\u{1b}[31m</p> "), "<html> <p>no[31m</p>");
        assert_eq!(one_line(&"x".repeat(1000)).len(), 200);
    }
}
