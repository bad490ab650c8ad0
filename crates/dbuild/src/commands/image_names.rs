//! Names of images as people write them.

use dbuild_oci::Reference;
use dbuild_store::Store;

/// A name as people write it: `app:latest` for `docker.io/library/app:latest`.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

/// Whether a word that may be a path, too, is an image of the store: it is one before it is a
/// directory, as with Docker. `./app` is the directory.
pub(crate) fn is_image_name(store: &Store, word: &str) -> bool {
    // The beginning of a digest is no name: a directory can be called `cafe`.
    let Some(name) = word.parse::<Reference>().ok().filter(|_| !word.starts_with(['.', '/'])) else {
        return false;
    };
    let name = name.to_string();
    store.images().is_ok_and(|images| images.iter().any(|image| image.name == name))
}

/// `localhost:5000/app` and `1` of `localhost:5000/app:1`.
pub(crate) fn name_and_tag(name: &str) -> (&str, &str) {
    let from = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[from..].find(':') {
        Some(colon) => (&name[..from + colon], &name[from + colon + 1..]),
        None => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::name_and_tag;

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(name_and_tag("localhost:5000/a:1"), ("localhost:5000/a", "1"));
        assert_eq!(name_and_tag("localhost:5000/a"), ("localhost:5000/a", ""));
    }
}
