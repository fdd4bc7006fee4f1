//! What each layout says in its own way.

use super::encoder::VisionConfig;
use super::fields::Fields;
use super::text::TextConfig;
use crate::Result;
use crate::image::{ImageSettings, Normalization};
use crate::kinds::{Layout, Transparency};

/// The key of the vision encoder's section.
pub(super) const VISION: &str = "vision_config";

/// The parts of a configuration that the layouts write differently.
pub(super) struct Own {
    pub(super) layout: Layout,
    pub(super) is_in_model: bool,
    pub(super) vision: Option<VisionConfig>,
    pub(super) text: TextConfig,
    /// `None`: tiles, whose keys are the same in all layouts.
    pub(super) images: Option<ImageSettings>,
    /// The normalisation where no key names one.
    pub(super) normalization: Normalization,
    pub(super) transparency: Transparency,
}

/// The vision encoder's section. `null` means a model without vision; a missing key is an oversight.
pub(super) fn vision<'a>(root: &Fields<'a>) -> Result<Option<Fields<'a>>> {
    match root.is_null(VISION) {
        true => Ok(None),
        false => root.section(VISION).map(Some),
    }
}
