//! The images of a request: their content, wherever it comes from.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seeward_models::image::dimensions;
use seeward_models::sample::ImageRef;
use seeward_runtime::Image;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::permits;
use crate::errors::Refusal;
use crate::image_root::ImageRoot;
use crate::remote::Remote;

/// The most images of a request.
const MOST_IMAGES: usize = 16;
/// Text longer than this is no path.
const LONGEST_PATH: usize = 4096;

/// Where images come from, and their limits.
#[derive(Debug)]
pub(crate) struct Images {
    pub(crate) root: ImageRoot,
    /// For images at addresses, which are in the rows when their content is read.
    pub(crate) remote: Remote,
    /// The most bytes of a file.
    pub(crate) max_bytes: u64,
    /// For the bytes of images that did not come in a body.
    pub(crate) budget: Arc<Semaphore>,
}

/// The bytes of an image, held until its request has been answered.
pub(crate) type Place = OwnedSemaphorePermit;

impl Images {
    /// # Errors
    /// Too many images for a request.
    pub(crate) fn check_count(images: &[ImageRef]) -> Result<(), Refusal> {
        let count = images.len();
        let message = || format!("images: expected at most {MOST_IMAGES}, got {count}");
        match count > MOST_IMAGES {
            true => Err(Refusal::unprocessable(message()).at("images")),
            false => Ok(()),
        }
    }

    /// Bytes for an image that did not come in a body. It does not wait for them, since what holds them may wait for it.
    ///
    /// # Errors
    /// 503 if they are not free.
    pub(crate) fn hold(&self, bytes: usize) -> Result<Place, Refusal> {
        let place = self.budget.clone().try_acquire_many_owned(permits(bytes));
        let full = |_| Refusal::unavailable("too many images are waiting (--queue-bytes)", 5);
        place.map_err(full)
    }

    /// The content of a request's images, and the places of those that are files.
    ///
    /// # Errors
    /// Too many, or one that cannot be read.
    pub(crate) fn content_of(
        &self,
        images: &[ImageRef],
    ) -> Result<(Vec<Image>, Vec<Place>), Refusal> {
        Self::check_count(images)?;
        let mut places = Vec::new();
        let images = images.iter().map(|image| self.content(image, &mut places));
        let images: Vec<Image> = images.collect::<Result<_, _>>()?;
        Ok((images, places))
    }

    fn content(&self, image: &ImageRef, places: &mut Vec<Place>) -> Result<Image, Refusal> {
        match image {
            ImageRef::Bytes(bytes) => Ok(Image::bytes(bytes.to_vec())),
            ImageRef::File(text) => match bare_base64(text)? {
                Some(bytes) => Ok(Image::bytes(bytes)),
                None => {
                    let content = self.root.read(text, self.max_bytes)?;
                    places.push(self.hold(content.len())?);
                    Ok(Image::bytes(content))
                }
            },
        }
    }
}

/// The image that a text is in base64. ms-swift sends images so, without the prefix of a data URL.
///
/// # Errors
/// A text that is too long for a path and no base64.
fn bare_base64(text: &str) -> Result<Option<Vec<u8>>, Refusal> {
    match STANDARD.decode(text) {
        Ok(bytes) if text.len() > LONGEST_PATH || dimensions(&bytes).is_ok() => Ok(Some(bytes)),
        Err(error) if text.len() > LONGEST_PATH => {
            let message = format!("images: expected a path, a data URL or base64: {error}");
            Err(Refusal::unprocessable(message).at("images"))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A GIF of one pixel.
    const PIXEL: &[u8] =
        b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

    fn images() -> Images {
        Images {
            root: ImageRoot::None,
            remote: Remote::new(crate::remote::RemoteOptions::default()).unwrap(),
            max_bytes: 1 << 20,
            budget: Arc::new(Semaphore::new(9)),
        }
    }

    #[test]
    fn bare_base64_is_an_image_and_other_text_a_path() {
        let base64 = ImageRef::File(STANDARD.encode(PIXEL));
        assert_eq!(
            images().content(&base64, &mut Vec::new()).unwrap(),
            Image::bytes(PIXEL)
        );
        // Base64 of something else is a path like any other.
        for path in ["abcd", "photos/1.png", &STANDARD.encode("no image")] {
            let error = images()
                .content(&ImageRef::File(path.to_owned()), &mut Vec::new())
                .unwrap_err();
            assert!(
                error.message.starts_with(&format!("image {path}: ")),
                "{error:?}"
            );
        }
        let long = ImageRef::File("?".repeat(LONGEST_PATH + 1));
        let error = images().content(&long, &mut Vec::new()).unwrap_err();
        assert!(error.message.contains("base64"), "{error:?}");
    }

    #[test]
    fn the_number_of_images_is_bounded() {
        let image = ImageRef::Bytes(PIXEL.into());
        let refs = vec![image; MOST_IMAGES + 1];
        assert!(images().content_of(&refs[1..]).is_ok());
        let message = images().content_of(&refs).unwrap_err().message;
        assert_eq!(message, "images: expected at most 16, got 17");
    }
}
