//! The images of one call: each distinct one is read, decoded and cut once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::io;
use std::path::Path;
use std::sync::Arc;

use ndarray::Array3;
use rayon::prelude::*;
use seeward_models::ImageFault;
use seeward_models::hash::hash;
use seeward_models::image::{ImageSettings, Pixels, Rgb, decode_with};
use seeward_models::kinds::Transparency;

use crate::{Error, Image, Request, Result};

/// The content of a request's image. Equal sources are one image.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum ImageSource<'a> {
    File(Cow<'a, [u8]>),
    Pixels(Cow<'a, Rgb>),
}

impl ImageSource<'_> {
    /// A name that no other image has.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::File(bytes) => hash(bytes),
            Self::Pixels(pixels) => {
                let (width, height) = (pixels.width(), pixels.height());
                format!("{width}x{height}:{}", hash(pixels.pixels()))
            }
        }
    }
}

/// An error that several requests with the same image share.
pub(crate) type ImageError = Arc<seeward_models::Error>;

/// The distinct images of some requests.
pub(crate) struct ImageSet<'a> {
    pub(crate) sources: Vec<ImageSource<'a>>,
    /// For each request its images as indices into `sources`, or why one could not be read.
    pub(crate) requests: Vec<Result<Vec<usize>>>,
}

impl<'a> ImageSet<'a> {
    pub(crate) fn read(requests: &'a [Request]) -> Self {
        let read: Vec<_> = requests.par_iter().map(read_images).collect();
        let mut distinct = Distinct::default();
        let mut requests = Vec::with_capacity(requests.len());
        for sources in read {
            requests.push(sources.map(|sources| distinct.indices(sources)));
        }
        Self {
            requests,
            sources: distinct.in_order(),
        }
    }
}

#[derive(Default)]
struct Distinct<'a>(HashMap<ImageSource<'a>, usize>);

impl<'a> Distinct<'a> {
    fn indices(&mut self, sources: Vec<ImageSource<'a>>) -> Vec<usize> {
        let indices = sources.into_iter().map(|source| self.index(source));
        indices.collect()
    }

    fn index(&mut self, source: ImageSource<'a>) -> usize {
        let next = self.0.len();
        *self.0.entry(source).or_insert(next)
    }

    fn in_order(self) -> Vec<ImageSource<'a>> {
        let mut sources: Vec<_> = self.0.into_iter().collect();
        sources.sort_by_key(|(_, index)| *index);
        sources.into_iter().map(|(source, _)| source).collect()
    }
}

/// Turns images into tiles or patches.
#[derive(Clone, Copy)]
pub(crate) struct Decoder {
    pub(crate) settings: ImageSettings,
    pub(crate) max_pixels: u64,
    pub(crate) transparency: Transparency,
}

impl Decoder {
    /// # Errors
    /// The image cannot be decoded or is too large.
    pub(crate) fn decode(&self, source: &ImageSource) -> seeward_models::Result<Pixels> {
        match source {
            ImageSource::File(bytes) => {
                let pixels = decode_with(bytes, self.max_pixels, self.transparency)?;
                self.settings.cut(&pixels)
            }
            ImageSource::Pixels(pixels) => self.settings.cut(pixels),
        }
    }
}

fn read_images(request: &Request) -> Result<Vec<ImageSource<'_>>> {
    let images = request.images.iter().enumerate();
    let read = |(index, image)| read(image).map_err(|e| image_error(image, index, Arc::new(e)));
    images.map(read).collect()
}

fn read(image: &Image) -> seeward_models::Result<ImageSource<'_>> {
    match image {
        Image::Rgb(pixels) => Ok(ImageSource::Pixels(Cow::Borrowed(pixels))),
        Image::Pixels(pixels) => Ok(ImageSource::Pixels(Cow::Owned(rgb(pixels)?))),
        Image::Bytes(bytes) => Ok(ImageSource::File(Cow::Borrowed(bytes))),
        Image::Path(path) => match read_file(path) {
            Ok(bytes) => Ok(ImageSource::File(Cow::Owned(bytes))),
            // The path is in the error's place already.
            Err(e) => Err(seeward_models::Error::image(ImageFault::Unreadable, e)),
        },
    }
}

fn rgb(pixels: &Array3<u8>) -> seeward_models::Result<Rgb> {
    let problem = || {
        let shape = pixels.shape();
        let problem = format!("expected pixels [height, width, 3], got {shape:?}");
        seeward_models::Error::image(ImageFault::Content, problem)
    };
    let (height, width, channels) = pixels.dim();
    let sides = (u32::try_from(width), u32::try_from(height));
    match (channels, sides) {
        (3, (Ok(width), Ok(height))) => Rgb::new(width, height, pixels.iter().copied().collect()),
        _ => Err(problem()),
    }
}

/// Only regular files: a pipe would block and a device might never end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    match fs::metadata(path)?.is_file() {
        true => fs::read(path),
        false => Err(io::Error::other("expected a file, got a folder or device")),
    }
}

/// The error of the image at `index` of a request.
pub(crate) fn image_error(image: &Image, index: usize, error: ImageError) -> Error {
    let image = match image {
        Image::Path(path) => path.display().to_string(),
        Image::Bytes(_) | Image::Rgb(_) | Image::Pixels(_) => format!("{}", index + 1),
    };
    Error::Image { image, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_images_are_one() {
        let here = std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let bytes = std::fs::read(&here).unwrap();
        let red = || Rgb::new(1, 1, vec![255, 0, 0]).unwrap();
        let array = Array3::from_shape_vec((1, 1, 3), vec![255, 0, 0]).unwrap();
        let requests = [
            Request::default().image(red()).image(bytes),
            Request::default(),
            Request::default().image(here).image(array).image(vec![1]),
        ];
        let images = ImageSet::read(&requests);
        let indices: Vec<_> = images.requests.into_iter().map(Result::unwrap).collect();
        assert_eq!(indices, [vec![0, 1], vec![], vec![1, 0, 2]]);
        assert!(matches!(images.sources[2], ImageSource::File(ref bytes) if **bytes == [1]));
    }

    #[test]
    fn a_missing_file_spoils_its_request_alone() {
        let requests = [
            Request::default().image(Image::path("no/such.png")),
            Request::default().image(Image::bytes([1])),
        ];
        let images = ImageSet::read(&requests);
        let message = images.requests[0].as_ref().unwrap_err().to_string();
        assert!(message.starts_with("image no/such.png: "), "{message}");
        assert_eq!(images.requests[1].as_ref().unwrap(), &[0]);
    }

    #[test]
    fn pixels_of_another_shape_are_refused() {
        for shape in [(2, 2, 4), (3, 2, 2), (0, 2, 3)] {
            let request = Request::default().image(Array3::zeros(shape));
            let images = ImageSet::read(std::slice::from_ref(&request));
            let message = images.requests[0].as_ref().unwrap_err().to_string();
            assert!(message.starts_with("image 1: "), "{message}");
        }
    }

    #[test]
    fn pixels_may_lie_in_any_order() {
        let pixels = Array3::from_shape_fn((2, 3, 3), |(y, x, c)| (9 * y + 3 * x + c) as u8);
        let columns = pixels.view().permuted_axes([1, 0, 2]).to_owned();
        let view = columns.view().permuted_axes([1, 0, 2]);
        let requests = [Request::default().image(pixels.view()).image(view)];
        let images = ImageSet::read(&requests);
        assert_eq!(images.requests[0].as_ref().unwrap(), &[0, 0]);
    }
}
