//! Chain ids: the name of a layer together with all that lies below it.

use dbuild_digest::BlobDigest;

/// The chain ids of layers by their diff_ids, lowest first, as the OCI image specification defines
/// them.
pub fn chain_ids(diff_ids: impl IntoIterator<Item = BlobDigest>) -> Vec<BlobDigest> {
    let chain = diff_ids.into_iter().scan(None, |below: &mut Option<BlobDigest>, diff_id| {
        let chain = match below {
            None => diff_id,
            Some(below) => BlobDigest::of(format!("{below} {diff_id}").as_bytes()),
        };
        *below = Some(chain);
        Some(chain)
    });
    chain.collect()
}

#[cfg(test)]
mod tests {
    use super::chain_ids;
    use dbuild_digest::BlobDigest;

    #[test]
    fn chains_follow_the_specification() {
        let [a, b] = [BlobDigest::of(b"a"), BlobDigest::of(b"b")];
        let both = BlobDigest::of(format!("{a} {b}").as_bytes());
        assert_eq!(chain_ids([a, b]), [a, both]);
        assert_eq!(chain_ids([]), []);
    }
}
