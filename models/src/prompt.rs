//! placeholder
#![allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Template {
    Hermes2,
}
impl std::str::FromStr for Template {
    type Err = crate::Error;
    fn from_str(_: &str) -> crate::Result<Self> {
        Ok(Self::Hermes2)
    }
}
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PromptSettings {
    pub template: Template,
    pub tokens_per_tile: usize,
    pub max_length: usize,
    pub literal_special_tokens: bool,
}
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    pub ids: Vec<u32>,
    pub response_start: usize,
    pub truncated: bool,
    pub image_tokens: Vec<usize>,
}
