use super::{Lexer, NoVariables, Variables};

struct Fixed;

impl Variables for Fixed {
    fn get(&self, name: &str) -> Option<&str> {
        Some(match name {
            "HOME" => "/home",
            "SHELL" => "bash",
            "EMPTY" => "",
            "KO" => "한국어",
            "FILE" => "a.tar.gz",
            "PATHS" => "/usr/local/bin",
            "DOLLAR" => "<$0$1$$>",
            "LINES" => "a1\na2",
            _ => return None,
        })
    }
}

fn check(text: &str, expected: &str) {
    let found = Lexer::new('\\').expand(text, &Fixed);
    assert_eq!(found.map(|e| e.text).map_err(|e| e.message), Ok(expected.to_owned()), "{text}");
}

fn fails(text: &str, word: &str) {
    let found = Lexer::new('\\').expand(text, &Fixed);
    let error = found.map(|e| e.text).expect_err(text);
    assert!(error.message.contains(word), "{text}: {}", error.message);
    assert!(text.get(error.range.clone()).is_some_and(|part| !part.is_empty()), "{text}: {error:?}");
}

#[test]
fn quotes_and_escapes() {
    check("hello", "hello");
    check("he'll'o", "hello");
    check("he\\'llo", "he'llo");
    check("abc\\tdef", "abctdef");
    check("\"abc\\tdef\"", "abc\\tdef");
    check("\"abc\\\\tdef\"", "abc\\tdef");
    check("'abc\\tdef'", "abc\\tdef");
    check("hello\\", "hello");
    check("hello\\\\", "hello\\");
    check("\"hel'lo\"", "hel'lo");
    check("'hello\\'", "hello\\");
    check("\"''\"", "''");
    check("'\"x\"'", "\"x\"");
    check("\"a\\\"b\"", "a\"b");
    check("안'녕'하\\'세", "안녕하'세");
    fails("he'llo", "single quote");
    fails("he\\\\'llo", "single quote");
    fails("\"hello", "double quote");
    fails("\"hello\\\"", "double quote");
}

#[test]
fn plain_variables() {
    check("$.", "$.");
    check("a$", "a$");
    check("he$1x", "hex");
    check("he$HOME", "he/home");
    check("he$home.", "he.");
    check("he\\$HOME", "he$HOME");
    check("he\\\\$HOME", "he\\/home");
    check("\"he\\$HOME\"", "he$HOME");
    check("\"he\\\\$HOME\"", "he\\/home");
    check("\\${}", "${}");
    check("he${HOME}xx", "he/homexx");
    check("'he${HOME}'", "he${HOME}");
    check("\"he'$HOME'\"", "he'/home'");
    check("$KO-안", "한국어-안");
    check("$HOME_X$HOME", "/home");
    check("${SHELL}}", "bash}");
    for text in ["${}", "x${}y", "${:}", "${:-b}", "${{a}", "${.}", "${HOME", "${HOME:=0}", "${X:Y}", "${"] {
        assert!(Lexer::new('\\').expand(text, &Fixed).is_err(), "{text}");
    }
}

#[test]
fn positions_and_special_parameters_are_never_set() {
    for name in ["1", "999", "001", "@", "*", "#", "?", "-", "$", "!", "0"] {
        check(&format!("${name}aaa"), "aaa");
        check(&format!("${{{name}}}aaa"), "aaa");
        check(&format!("${{{name}:-b}}a"), "ba");
        check(&format!("${{{name}:+b}}a"), "a");
    }
    check("$@@@", "@@");
}

#[test]
fn defaults_and_alternatives() {
    check("${X:-000}", "000");
    check("${HOME:-000}", "/home");
    check("${EMPTY:-x}", "x");
    check("${EMPTY-x}", "");
    check("${X-x}", "x");
    check("${X:-$HOME}", "/home");
    check("${X:-${Y:-${Z:-deep}}}", "deep");
    check("${X:+000}", "");
    check("${HOME:+000}", "000");
    check("${EMPTY:+x}", "");
    check("${EMPTY+x}", "x");
    check("${HOME:+${HOME}:}x", "/home:x");
    check("${X:-\\$HOME:}", "$HOME:");
    check("${X:-\\${HOME}z}", "${HOMEz}");
    check("${X:-a {b}", "a {b");
    check("\"${X:-a b}\"", "a b");
    fails("${X:-b ${foo}", "`}`");
    fails("${X:-b", "`}`");
}

#[test]
fn required_variables() {
    check("${HOME?}", "/home");
    check("${HOME:?no}", "/home");
    check("${EMPTY?}", "");
    fails("${EMPTY:?}", "EMPTY: it must not be empty");
    fails("${X?}", "X: it must be set");
    fails("a${X:?tell me}b", "X: tell me");
}

#[test]
fn prefixes_and_suffixes() {
    check("${FILE%.*}", "a.tar");
    check("${FILE%%.*}", "a");
    check("${FILE#*.}", "tar.gz");
    check("${FILE##*.}", "gz");
    check("${FILE%.gz}", "a.tar");
    check("${FILE%x}", "a.tar.gz");
    check("${FILE#?.}", "tar.gz");
    check("${PATHS##*/}", "bin");
    check("${PATHS%/*}", "/usr/local");
    check("${PATHS%%/*}", "");
    check("${PATHS#/}", "usr/local/bin");
    check("${X#a}", "");
    check("${KO#한}", "국어");
    fails("${FILE#\\a}", "escape");
    fails("${X#\\a}", "escape");
    fails("${FILE:#a}", "operator");
}

#[test]
fn replacements() {
    check("${PATHS/\\//-}", "-usr/local/bin");
    check("${PATHS//\\//-}", "-usr-local-bin");
    check("${FILE/.*/!}", "a!");
    check("${FILE/./$HOME}", "a/hometar.gz");
    check("${FILE//./}", "atargz");
    check("${FILE/nothing/x}", "a.tar.gz");
    check("${FILE//?/x}", "xxxxxxxx");
    check("${X/a/b}", "");
    check("${X/*/b}", "b");
    check("${FILE//a/$$}", ".tr.gz");
    check("${FILE//a/$1}", ".tr.gz");
    check("${FILE//t*r/$DOLLAR}", "a.<tar$>.gz");
    check("${FILE/t*r/$DOLLAR}", "a.<$0$1$$>.gz");
    check("${LINES//a*/x}", "x\nx");
    fails("${FILE/a}", "`/`");
    fails("${FILE/a/b", "`}`");
}

#[test]
fn other_escape_characters() {
    let found = Lexer::new('`').expand("C:\\x`$HOME\\$HOME", &Fixed).map(|e| e.text);
    assert_eq!(found, Ok("C:\\x$HOME\\/home".to_owned()));
}

#[test]
fn bodies_of_here_documents_keep_quotes() {
    let found = Lexer::heredoc_body().expand("it's \"$SHELL\" \\$X \\\nb", &Fixed).map(|e| e.text);
    assert_eq!(found, Ok("it's \"bash\" $X \nb".to_owned()));
}

#[test]
fn words_are_cut_after_expansion() {
    let check = |text: &str, expected: &[&str]| {
        let words = Lexer::new('\\').expand(text, &Fixed).map(|e| e.words);
        assert_eq!(words, Ok(expected.iter().map(|s| (*s).to_owned()).collect()), "{text}");
    };
    check("  a  b ", &["a", "b"]);
    check("'a b' c\\ d", &["a b", "c d"]);
    check("${X:-80 81}/tcp", &["80", "81/tcp"]);
    check("\"\"", &[]);
    check("a << EOF b", &["a", "<< EOF", "b"]);
}

#[test]
fn raw_lexing_keeps_what_it_reads() {
    let raw = Lexer { raw_quotes: true, raw_escapes: true, keep_unset: true, ..Lexer::new('\\') };
    for text in ["a 'b c' \"d\\\"e\" \\f", "$x ${y} ${z:-w} ${a#b*} ${c/d/e}"] {
        assert_eq!(raw.expand(text, &NoVariables).map(|e| e.text), Ok(text.to_owned()));
    }
}

#[test]
fn uses_are_told_with_their_places() {
    let text = "a$HOME/${NOPE:-$X}";
    let used = Lexer::new('\\').expand(text, &Fixed).map(|e| e.used).unwrap_or_default();
    let found: Vec<_> = used.iter().map(|u| (u.name.as_str(), u.set, &text[u.range.clone()])).collect();
    assert_eq!(found, [("HOME", true, "$HOME"), ("X", false, "$X"), ("NOPE", false, "${NOPE:-$X}")]);
}

#[test]
fn expansion_is_bounded() {
    fails(&format!("{}x{}", "${a:-".repeat(10_000), "}".repeat(10_000)), "nested");
    struct Long(String);
    impl Variables for Long {
        fn get(&self, _: &str) -> Option<&str> {
            Some(&self.0)
        }
    }
    let long = Long("x".repeat(100_000));
    assert!(Lexer::new('\\').expand(&"$a".repeat(100), &long).is_err());
    assert!(Lexer::new('\\').expand(&format!("${{a//x/{}}}", "y".repeat(100)), &long).is_err());
    // Patterns that make a backtracking matcher slow.
    assert!(Lexer::new('\\').expand("${a//x*x*x*x*x*z/y}", &long).is_ok());
}
