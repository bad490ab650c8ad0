//! Whether an owner is given by names, which are looked up in the files that a step stands on.

/// Whether `--chown` or `USER` names somebody, and does not number them.
pub(crate) fn has_names(owner: &str) -> bool {
    !owner.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
}
