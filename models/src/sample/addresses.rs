//! Addresses in place of image files.

/// Whether images of rows may be http(s) addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Addresses {
    /// An address is an error: nothing downloads images.
    #[default]
    Refused,
    /// The reader of the row fetches them.
    Kept,
}
