//! The pictures of one call: each distinct one is decoded, tiled and encoded once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::hash::Hash;
use std::io;
use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use seeward_models::image::{Rgb, TileSettings, Tiles, decode, tiles};

use crate::{Error, Image, Request, Result};

/// A picture as it was given. Equal contents are one picture.
#[derive(PartialEq, Eq, Hash)]
pub(crate) enum Content<'a> {
    File(Cow<'a, [u8]>),
    Pixels(&'a Rgb),
}

/// How pictures become tiles.
#[derive(Clone, Copy)]
pub(crate) struct Decoder {
    pub(crate) settings: TileSettings,
    pub(crate) max_pixels: u64,
}

impl Decoder {
    fn tiles(&self, content: &Content) -> seeward_models::Result<Tiles> {
        match content {
            Content::File(bytes) => tiles(&decode(bytes, self.max_pixels)?, &self.settings),
            Content::Pixels(picture) => tiles(picture, &self.settings),
        }
    }

    /// The tiles of `contents`, or what is wrong with each, made in parallel.
    pub(crate) fn all(&self, contents: &[Content]) -> Vec<Result<Tiles, String>> {
        let tiles = |content| self.tiles(content).map_err(|e| e.to_string());
        contents.par_iter().map(tiles).collect()
    }
}

/// The distinct pictures of some requests, and which of them each request shows.
pub(crate) struct Gallery<'a> {
    pub(crate) contents: Vec<Content<'a>>,
    /// For each request, its pictures: indices into `contents`, or why one could not be read.
    pub(crate) shown: Vec<Result<Vec<usize>>>,
}

impl<'a> Gallery<'a> {
    pub(crate) fn read(requests: &'a [Request]) -> Self {
        let read: Vec<_> = requests.par_iter().map(read_images).collect();
        let mut distinct = Distinct::default();
        let mut shown = Vec::with_capacity(requests.len());
        for images in read {
            shown.push(images.map(|contents| distinct.indices(contents)));
        }
        Self {
            contents: distinct.in_order(),
            shown,
        }
    }
}

#[derive(Default)]
struct Distinct<'a>(HashMap<Content<'a>, usize>);

impl<'a> Distinct<'a> {
    fn indices(&mut self, contents: Vec<Content<'a>>) -> Vec<usize> {
        contents
            .into_iter()
            .map(|content| self.index(content))
            .collect()
    }

    fn index(&mut self, content: Content<'a>) -> usize {
        let next = self.0.len();
        *self.0.entry(content).or_insert(next)
    }

    fn in_order(self) -> Vec<Content<'a>> {
        let mut contents: Vec<_> = self.0.into_iter().collect();
        contents.sort_by_key(|(_, index)| *index);
        contents.into_iter().map(|(content, _)| content).collect()
    }
}

fn read_images(request: &Request) -> Result<Vec<Content<'_>>> {
    let images = request.images.iter().enumerate();
    images.map(|(index, image)| read(image, index)).collect()
}

fn read(image: &Image, index: usize) -> Result<Content<'_>> {
    match image {
        Image::Rgb(picture) => Ok(Content::Pixels(picture)),
        Image::Bytes(bytes) => Ok(Content::File(Cow::Borrowed(bytes))),
        Image::Path(path) => match read_file(path) {
            Ok(bytes) => Ok(Content::File(Cow::Owned(bytes))),
            Err(e) => Err(bad_image(image, index, e.to_string())),
        },
    }
}

/// A pipe would block and a device might never end.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    match fs::metadata(path)?.is_file() {
        true => fs::read(path),
        false => Err(io::Error::other("expected a file, got a folder or device")),
    }
}

/// The error of a request's image, which is number `index` of them.
pub(crate) fn bad_image(image: &Image, index: usize, problem: String) -> Error {
    let image = match image {
        Image::Path(path) => path.display().to_string(),
        Image::Bytes(_) | Image::Rgb(_) => format!("{}", index + 1),
    };
    Error::Image { image, problem }
}

/// Image embeddings of several pictures, one after the other: f32 [rows, width].
pub(crate) struct Embeddings {
    values: Vec<f32>,
    width: usize,
}

/// Where a picture is among the embeddings.
#[derive(Clone, Debug)]
pub(crate) struct Encoded {
    pub(crate) rows: Range<usize>,
    pub(crate) tiles: usize,
}

impl Embeddings {
    pub(crate) fn new(width: usize) -> Self {
        Self {
            values: Vec::new(),
            width,
        }
    }

    /// Adds the embeddings of a picture.
    pub(crate) fn push(&mut self, values: &[f32]) {
        self.values.extend_from_slice(values);
    }

    /// The rows of these indices: f32 [rows.len(), width].
    pub(crate) fn gather(&self, rows: &[i64]) -> Vec<f32> {
        let row = |&row: &i64| &self.values[row as usize * self.width..][..self.width];
        rows.iter().flat_map(row).copied().collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request(images: Vec<Image>) -> Request {
        Request {
            images,
            ..Request::default()
        }
    }

    #[test]
    fn equal_pictures_are_one() {
        let here = std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let bytes = std::fs::read(&here).unwrap();
        let red = || Image::Rgb(Rgb::new(1, 1, vec![255, 0, 0]).unwrap());
        let requests = [
            request(vec![red(), Image::Bytes(bytes)]),
            request(vec![]),
            request(vec![Image::Path(here), red(), Image::Bytes(vec![1])]),
        ];
        let gallery = Gallery::read(&requests);
        let shown: Vec<_> = gallery.shown.into_iter().map(Result::unwrap).collect();
        assert_eq!(shown, [vec![0, 1], vec![], vec![1, 0, 2]]);
        assert!(matches!(gallery.contents[2], Content::File(ref bytes) if **bytes == [1]));
    }

    #[test]
    fn a_missing_file_spoils_its_request_alone() {
        let requests = [
            request(vec![Image::Path("no/such.png".into())]),
            request(vec![Image::Bytes(vec![1])]),
        ];
        let gallery = Gallery::read(&requests);
        let message = gallery.shown[0].as_ref().unwrap_err().to_string();
        assert!(message.starts_with("image no/such.png: "), "{message}");
        assert_eq!(gallery.shown[1].as_ref().unwrap(), &[0]);
    }

    #[test]
    fn embeddings_are_gathered_by_row() {
        let mut embeddings = Embeddings::new(2);
        embeddings.push(&[0.0, 1.0, 2.0, 3.0]);
        embeddings.push(&[4.0, 5.0]);
        assert_eq!(embeddings.gather(&[2, 0]), [4.0, 5.0, 0.0, 1.0]);
    }
}
