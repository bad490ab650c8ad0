//! How layers lie on disk.

/// How overlayfs marks opaque directories for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OverlayFlavor {
    /// `trusted.overlay.*`: real root.
    Trusted,
    /// `user.overlay.*`: root of a user namespace, mounts with `userxattr`.
    User,
}

/// What is done when a file cannot be given its owner on disk, because the user namespace has no
/// such id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ownership {
    /// It is an error.
    Exact,
    /// The file on disk stays with whoever makes it; the index, and so the image, has the right
    /// owner. A RUN sees the wrong one. [`crate::scan_upper`] takes the owner from the lower layers
    /// for files that a RUN changed in place; a file that a RUN moves or makes anew is lost to the
    /// id that the RUN saw.
    BestEffort,
}

/// The form of a layer's directory: overlayfs' own (whiteouts are character devices 0:0, opaque
/// directories have an attribute), so that it can be mounted as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OverlayFormat {
    /// The marks.
    pub flavor: OverlayFlavor,
    /// The owners.
    pub ownership: Ownership,
}

/// Root keeps exact owners; a user namespace rarely has all ids, so there it is best effort.
impl From<OverlayFlavor> for OverlayFormat {
    fn from(flavor: OverlayFlavor) -> Self {
        let ownership = match flavor {
            OverlayFlavor::Trusted => Ownership::Exact,
            OverlayFlavor::User => Ownership::BestEffort,
        };
        Self { flavor, ownership }
    }
}

impl OverlayFlavor {
    /// The attribute of an opaque directory.
    pub(crate) const fn opaque(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.opaque",
            Self::User => "user.overlay.opaque",
        }
    }

    /// The attribute that a copied-up file carries.
    pub(crate) const fn origin(self) -> &'static str {
        match self {
            Self::Trusted => "trusted.overlay.origin",
            Self::User => "user.overlay.origin",
        }
    }
}
