//! Pictures.

use std::fs;

use seeward_models::image::{TileSettings, decode, dimensions, tiles};

use crate::damage::damaged;
use crate::{check_message, fuzz, golden};

/// Larger ones would only take longer.
const LARGEST_FILE: u64 = 60_000;

fn pictures() -> Vec<Vec<u8>> {
    let folders = ["preprocess/images", "images"].map(golden);
    let entries = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.metadata().unwrap().len() < LARGEST_FILE);
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn damaged_pictures_are_shown_or_refused() {
    let settings = TileSettings {
        image_size: 28,
        dynamic: true,
        use_thumbnail: true,
        min_tiles: 1,
        max_tiles: 6,
        pad2square: false,
    };
    let pictures = pictures();
    assert!(pictures.len() > 10);
    fuzz(300, damaged(pictures), |bytes| {
        check_message(dimensions(&bytes))?;
        if let Some(picture) = check_message(decode(&bytes, 1 << 20))? {
            check_message(tiles(&picture, &settings))?;
        }
        Ok(())
    });
}
