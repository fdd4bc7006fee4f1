//! Images.

use std::fs;

use seeward_models::image::{TileSettings, decode, dimensions, tiles};

use crate::damage::damaged;
use crate::{check_message, fuzz, golden};

/// Larger ones would only take longer.
const LARGEST_FILE: u64 = 60_000;

fn images() -> Vec<Vec<u8>> {
    let folders = ["preprocess/images", "images", "jpeg"].map(golden);
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|kind| kind != "json"));
    paths.retain(|path| path.metadata().unwrap().len() < LARGEST_FILE);
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn damaged_images_are_shown_or_refused() {
    let settings = TileSettings {
        image_size: 28,
        dynamic: true,
        use_thumbnail: true,
        min_tiles: 1,
        max_tiles: 6,
        pad2square: false,
    };
    let images = images();
    assert!(images.len() > 10);
    fuzz(300, damaged(images), |bytes| {
        check_message(dimensions(&bytes))?;
        if let Some(image) = check_message(decode(&bytes, 1 << 20))? {
            check_message(tiles(&image, &settings))?;
        }
        Ok(())
    });
}

/// Found by the test above: the decoder's message ended in a line break.
#[test]
fn a_jpeg_that_ends_in_a_header_is_refused_in_one_line() {
    let result = decode(&[0xff, 0xd8, 0xff, 0xee, 0, 14], 1 << 20);
    let message = result.unwrap_err().to_string();
    assert!(!message.contains('\n'), "{message:?}");
}
