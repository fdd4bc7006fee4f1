//! Prompt, response and image tiles → the token ids that the network reads.
//!
//! The string is the published one: the family's template, each `<image>` tag replaced by the tokens of its image, in
//! InternVL `<img>`, `tokens_per_tile` times `<IMG_CONTEXT>` for every tile, `</img>`. The published code continues with a sequence whose image tokens do
//! not match its images; here that is an error.

mod conversation;
mod encoder;
mod script;
mod settings;
mod shared;
mod template;

pub use conversation::Conversation;
use encoder::Encoder;
use script::Script;
pub use settings::PromptSettings;
use shared::Seam;
pub use shared::SharedPrompt;
pub use template::Template;

use crate::chat::{Message, Prompt};
use crate::image::Extent;
use crate::tokenizer::Tokenizer;
use crate::{Error, Result};

/// Tokenises prompts and responses as conversations. Threads may share it.
#[derive(Debug)]
pub struct Prompter {
    encoder: Encoder,
    /// Where conversations are cut in two; `None` where they must be tokenised whole.
    seam: Option<Seam>,
}

impl Prompter {
    /// # Errors
    /// The tokenizer lacks a token of the template or of image tags, or a size is zero.
    pub fn new(tokenizer: Tokenizer, settings: PromptSettings) -> Result<Self> {
        settings.check_sizes()?;
        check_tokens(&tokenizer, settings.template)?;
        let encoder = Encoder {
            image_context: image_context(&tokenizer, &settings)?,
            tokenizer,
            settings,
        };
        Ok(Self {
            seam: Seam::of(&encoder),
            encoder,
        })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.encoder.tokenizer
    }

    /// The settings.
    pub fn settings(&self) -> &PromptSettings {
        &self.encoder.settings
    }

    /// The ids of one conversation about images of these extents.
    ///
    /// [`Prompt`] says where the images stand. What an empty message leaves depends on the template.
    ///
    /// # Errors
    /// `<image>` tags that do not match the images, messages in an order that no template has, a literal `<IMG_CONTEXT>`
    /// (unless special tokens are literal), or image tokens that `max_length` cuts.
    pub fn conversation(
        &self,
        prompt: &Prompt,
        response: &str,
        images: &[Extent],
    ) -> Result<Conversation> {
        self.shared(prompt, images)?.conversation(response)
    }

    /// A prompt about images of these extents, to be tokenised with several responses.
    ///
    /// # Errors
    /// Those of [`Self::conversation`] that concern no response.
    pub fn shared<'a>(&'a self, prompt: &Prompt, images: &'a [Extent]) -> Result<SharedPrompt<'a>> {
        let needed = self.count_image_tokens(images)?;
        let messages = self.messages(prompt, images.len())?;
        let way = (&self.encoder, self.seam.as_ref());
        Ok(SharedPrompt::new(way, messages, images, needed))
    }

    /// The string before tokenisation.
    ///
    /// # Errors
    /// Those of [`Self::conversation`] that concern the string.
    pub fn text(&self, prompt: &Prompt, response: &str, images: &[Extent]) -> Result<String> {
        self.count_image_tokens(images)?;
        let messages = self.messages(prompt, images.len())?;
        let counts = images
            .iter()
            .map(|image| self.encoder.image_tokens_of(image));
        let markup = self.encoder.settings.template.markup();
        Ok(Script::new(markup, &messages, response, counts.collect()).text())
    }

    fn messages(&self, prompt: &Prompt, images: usize) -> Result<Vec<Message>> {
        let template = self.encoder.settings.template;
        match (self.encoder.settings.tokens_per_tile, images) {
            (0, 0) if template.markup().images.is_none() => prompt.as_it_is(),
            (0, 0) => prompt.untagged(),
            (0, _) => Err(Error::NoVision { images }),
            _ => prompt.tagged(images, template.tag_style()),
        }
    }

    /// The number of image tokens, which must be within the length limit.
    fn count_image_tokens(&self, images: &[Extent]) -> Result<usize> {
        let units = images.iter().map(|image| image.units());
        if let Some(image) = units.clone().position(|units| units == 0) {
            return Err(Error::invalid(format!("image {} has no tiles", image + 1)));
        }
        let units = units.fold(0usize, usize::saturating_add);
        let needed = units.saturating_mul(self.encoder.settings.tokens_per_tile);
        if needed > self.encoder.settings.max_length {
            return Err(self.encoder.images_cut(needed));
        }
        Ok(needed)
    }
}

fn check_tokens(tokenizer: &Tokenizer, template: Template) -> Result<()> {
    let lacks = |token: &&str| !tokenizer.adds(token);
    match template.tokens().find(lacks) {
        Some(token) => Err(Error::invalid(format!(
            "template {template} needs the token {token}, which the tokenizer lacks (is it another model's template?)"
        ))),
        None => Ok(()),
    }
}

/// Name and id of image tokens, if the template has images.
fn image_context(
    tokenizer: &Tokenizer,
    settings: &PromptSettings,
) -> Result<Option<(&'static str, u32)>> {
    let (template, sees) = (settings.template, settings.tokens_per_tile > 0);
    let Some(images) = &template.markup().images else {
        return match sees {
            false => Ok(None),
            true => Err(Error::invalid(format!(
                "template {template} has no images, but the model has a vision encoder"
            ))),
        };
    };
    match tokenizer.id(images.context) {
        None if sees => {
            let problem = format!("the tokenizer has no token {}", images.context);
            Err(Error::invalid(problem))
        }
        id => Ok(id.map(|id| (images.context, id))),
    }
}
