//! placeholder
#![allow(missing_docs)]
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TileSettings {
    pub image_size: u32,
    pub dynamic: bool,
    pub use_thumbnail: bool,
    pub min_tiles: u32,
    pub max_tiles: u32,
    pub pad2square: bool,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalization {
    Imagenet,
    Clip,
    Siglip,
}
impl Normalization {
    pub fn mean(self) -> [f32; 3] {
        [0.485, 0.456, 0.406]
    }
    pub fn std(self) -> [f32; 3] {
        [0.229, 0.224, 0.225]
    }
}
