//! Text of strangers, made safe for where it is shown.

/// Text in one line of at most 200 characters, without control characters.
pub fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().filter(|c| !c.is_control()).take(200).collect()
}

/// Text as HTML and XML have it, in content and in attributes. A control character other than a
/// line end or a tab becomes U+FFFD, since XML has no way to write it.
pub fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{html, one_line};

    #[test]
    fn markup_becomes_text() {
        assert_eq!(html("<a href='x'>&\"\u{1b}\n"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;\u{fffd}\n");
    }

    #[test]
    fn a_page_becomes_a_line() {
        assert_eq!(one_line(" <html>\n\t<p>no\u{1b}[31m</p> "), "<html> <p>no[31m</p>");
        assert_eq!(one_line(&"x".repeat(1000)).len(), 200);
    }
}
