//! Images as the inputs of a vision encoder.

/// Images as the encoder reads them, its inputs in the order of [`crate::contract::vision_contract`].
pub enum ImageInputs<T> {
    /// Tiles of any number of images, u8 [tiles, H, W, 3].
    Tiles(T),
    /// One image.
    Grid(GridInputs<T>),
}

/// A grid of patches, as in [`crate::image::Grid`] and [`crate::image::GridPlaces`].
pub struct GridInputs<T> {
    /// The pixels of patches, u8 [1, patches, 3·patch²].
    pub patches: T,
    /// Rows of the rope tables, i64 [1, patches].
    pub position_ids: T,
    /// Cosines by position id, f32 [patches, head/2].
    pub rope_cos: T,
    /// Sines by position id, f32 [patches, head/2].
    pub rope_sin: T,
    /// The window of each patch, i32 [1, patches].
    pub window_ids: Option<T>,
    /// Rows of the table of position embeddings, i64 [1, patches, 4], and their weights, f32.
    pub taps: Option<(T, T)>,
}
