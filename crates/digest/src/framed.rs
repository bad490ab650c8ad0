//! Hashing of several values such that no two different sequences give the same bytes.

/// A blake3 hasher whose every input is framed.
///
/// The byte rules, which are a format (changing one changes every key in every store):
///
/// - the hash opens with the *domain* (what kind of thing is hashed) and a *version*;
/// - a byte string is its length as a little-endian `u64`, then its bytes;
/// - a number is a little-endian `u64`; a flag is one byte, 0 or 1;
/// - an optional value is a flag and then, if it is there, the value;
/// - a list is its length and then its items, which the caller writes in a fixed order.
///
/// So `("ab", "c")` and `("a", "bc")` differ, and so do an absent string and an empty one.
#[derive(Clone)]
pub struct Framed(blake3::Hasher);

impl Framed {
    /// Starts a hash of one kind of thing, at one version of its layout.
    pub fn new(domain: &'static str, version: u32) -> Self {
        let mut framed = Self(blake3::Hasher::new());
        framed.str(domain).u64(u64::from(version));
        framed
    }

    /// Adds a byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u64(bytes.len() as u64);
        self.0.update(bytes);
        self
    }

    /// Adds a text.
    pub fn str(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number; also the way to open a list, with its length.
    pub fn u64(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    /// Adds a flag.
    pub fn bool(&mut self, flag: bool) -> &mut Self {
        self.0.update(&[u8::from(flag)]);
        self
    }

    /// Adds a text that may be absent.
    pub fn opt_str(&mut self, text: Option<&str>) -> &mut Self {
        self.bool(text.is_some());
        if let Some(text) = text {
            self.str(text);
        }
        self
    }

    /// Adds a list of texts, in the order given.
    pub fn strs<S: AsRef<str>>(&mut self, texts: impl ExactSizeIterator<Item = S>) -> &mut Self {
        self.u64(texts.len() as u64);
        for text in texts {
            self.str(text.as_ref());
        }
        self
    }

    /// The digest of all that was added. Wrap it in the type that says what it names.
    pub fn finish(&self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::Framed;

    fn of(fill: impl for<'a> Fn(&'a mut Framed) -> &'a mut Framed) -> [u8; 32] {
        fill(&mut Framed::new("test", 1)).finish()
    }

    #[test]
    fn bytes_do_not_slide_between_fields() {
        assert_ne!(of(|f| f.str("ab").str("cd")), of(|f| f.str("a").str("bcd")));
        assert_ne!(of(|f| f.strs(["a", "b"].iter())), of(|f| f.strs(["ab"].iter())));
    }

    #[test]
    fn absent_and_empty_differ() {
        assert_ne!(of(|f| f.opt_str(None)), of(|f| f.opt_str(Some(""))));
    }

    #[test]
    fn domain_and_version_are_part_of_the_hash() {
        assert_ne!(Framed::new("a", 1).finish(), Framed::new("b", 1).finish());
        assert_ne!(Framed::new("a", 1).finish(), Framed::new("a", 2).finish());
    }

    /// The rules are a format: this value changes only together with every store's format version.
    #[test]
    fn the_format_does_not_drift() {
        let mut framed = Framed::new("drift", 7);
        framed.bytes(&[0, 255]).str("é").u64(u64::MAX).bool(true).opt_str(None).strs(["x", ""].iter());
        assert_hex(&framed.finish(), "c823b71519fa192dbefbe239ced3d113d0eb43dd3da6c6a9df2256c5c18605f8");
    }

    fn assert_hex(bytes: &[u8], expected: &str) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }
}
