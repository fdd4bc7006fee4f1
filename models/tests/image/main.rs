//! Images compared with golden values of Pillow 9.5 and the published preprocessing; broken files.
//!
//! The golden file gives, as the first 16 hex digits of a sha256, the decoded RGB bytes of every image and every tile
//! of it under 18 settings.

#![allow(clippy::unwrap_used)]

mod jpeg;
mod refused;

use std::fs;
use std::path::Path;

use seeward_models::image::{
    DEFAULT_MAX_PIXELS, Extent, GridSettings, MAX_SIDE, Normalization, Rgb, TileSettings, Tiles,
    decode, dimensions, file_dimensions, tile_count, tiles,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/preprocess/");

/// A file that has lost its end, which Pillow fills with grey and `decode` refuses.
const TRUNCATED: &str = "truncated.jpg";

#[derive(Deserialize)]
struct Golden {
    images: Vec<GoldenImage>,
    /// Width, height, min_tiles, max_tiles, image_size → columns, rows.
    grid_cases: Vec<[u32; 7]>,
}

#[derive(Deserialize)]
struct GoldenImage {
    file: String,
    width: u32,
    height: u32,
    decoded: String,
    tilings: Vec<GoldenTiling>,
}

#[derive(Deserialize)]
struct GoldenTiling {
    settings: TileSettings,
    grid: [usize; 2],
    tiles: Vec<String>,
}

#[derive(Deserialize)]
struct GoldenNormalization {
    image: String,
    image_size: u32,
    normalize_type: Normalization,
    /// `[channel, the first four pixels]`.
    first_values: Vec<f32>,
}

fn golden<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&read(name)).unwrap()
}

fn read(name: &str) -> Vec<u8> {
    fs::read(format!("{GOLDEN}{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn read_image(name: &str) -> Rgb {
    decode(&read(name), DEFAULT_MAX_PIXELS).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The image as Pillow decodes it: from a lossless copy of its result for the file that has lost its end.
fn as_pillow_decodes(file: &str) -> Rgb {
    if file == TRUNCATED {
        read_image(&format!("decoded/{file}.png"))
    } else {
        read_image(&format!("images/{file}"))
    }
}

fn settings(image_size: u32, max_tiles: u32) -> TileSettings {
    TileSettings {
        image_size,
        dynamic: true,
        use_thumbnail: true,
        min_tiles: 1,
        max_tiles,
        pad2square: false,
    }
}

fn tile_hashes(tiles: &Tiles) -> Vec<String> {
    let tiles = tiles.outer_iter();
    tiles.map(|tile| hash(tile.as_slice().unwrap())).collect()
}

/// Width, height, side of a token, fewest and most pixels → width and height after resizing, or none where it is refused.
type ResizeCase = (u32, u32, u32, u64, u64, Option<usize>, Option<usize>);

#[test]
fn whole_images_are_resized_to_the_published_sizes() {
    let cases: Vec<ResizeCase> = golden("grids.json");
    assert_eq!(cases.len(), 615);
    for case in cases {
        let (width, height, token, min_pixels, max_pixels, columns, rows) = case;
        let settings = GridSettings {
            patch: token / 2,
            merge: 2,
            min_pixels,
            max_pixels,
            head_dim: 4,
            window: None,
            table: None,
        };
        let got = settings.extent(width, height);
        let side = token as usize;
        let expected = columns.zip(rows).map(|(columns, rows)| Extent::Grid {
            rows: rows / side,
            columns: columns / side,
        });
        assert_eq!(got.ok(), expected, "{case:?}");
    }
}

/// A pixel's value is its place: red the column, green the row, blue a constant.
#[test]
fn patches_of_a_token_follow_each_other_channel_by_channel() {
    let settings = GridSettings {
        patch: 2,
        merge: 2,
        min_pixels: 1,
        max_pixels: 1 << 20,
        head_dim: 4,
        window: None,
        table: None,
    };
    let places = (0..4u8).flat_map(|y| (0..8u8).map(move |x| (x, y)));
    let pixels = places.flat_map(|(x, y)| [x, y, 9]).collect();
    let grid = settings.cut(&Rgb::new(8, 4, pixels).unwrap()).unwrap();
    assert_eq!(
        grid.extent(),
        Extent::Grid {
            rows: 1,
            columns: 2
        }
    );
    assert_eq!(grid.patches.dim(), (1, 8, 12));
    let patch = |index: usize| grid.patches.slice(ndarray::s![0, index, ..]).to_vec();
    assert_eq!(patch(0), [0, 1, 0, 1, 0, 0, 1, 1, 9, 9, 9, 9]);
    // The second row of the first token.
    assert_eq!(patch(2), [0, 1, 0, 1, 2, 2, 3, 3, 9, 9, 9, 9]);
    // The second token.
    assert_eq!(patch(4), [4, 5, 4, 5, 0, 0, 1, 1, 9, 9, 9, 9]);
}

#[test]
fn settings_of_grids_are_checked() {
    let settings = GridSettings {
        patch: 14,
        merge: 2,
        min_pixels: 3136,
        max_pixels: 50176,
        head_dim: 80,
        window: Some(4),
        table: None,
    };
    settings.validate().unwrap();
    for (wrong, expected) in [
        (
            GridSettings {
                patch: 0,
                ..settings
            },
            "patch: expected 1 to 256, got 0",
        ),
        (
            GridSettings {
                merge: 17,
                ..settings
            },
            "merge: expected 1 to 16, got 17",
        ),
        (
            GridSettings {
                head_dim: 6,
                ..settings
            },
            "head_dim: expected a multiple of 4",
        ),
        (
            GridSettings {
                max_pixels: 100,
                ..settings
            },
            "min_pixels and max_pixels: expected",
        ),
    ] {
        let message = wrong.validate().unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}");
    }
    let message = settings.extent(1000, 4).unwrap_err().to_string();
    assert_eq!(message, "expected an aspect ratio of at most 200, got 250");
}

#[test]
fn every_file_decodes_to_pillows_pixels() {
    let golden: Golden = golden("golden.json");
    let exact: Vec<_> = golden
        .images
        .iter()
        .filter(|image| image.file != TRUNCATED)
        .collect();
    assert_eq!(exact.len(), 34);
    for image in exact {
        let decoded = read_image(&format!("images/{}", image.file));
        assert_eq!(
            (decoded.width(), decoded.height()),
            (image.width, image.height),
            "{}",
            image.file
        );
        assert_eq!(hash(decoded.pixels()), image.decoded, "{}", image.file);
    }
}

#[test]
fn every_header_has_the_size() {
    let golden: Golden = golden("golden.json");
    for image in golden.images {
        let size = dimensions(&read(&format!("images/{}", image.file))).unwrap();
        assert_eq!(size, (image.width, image.height), "{}", image.file);
        let path = format!("{GOLDEN}images/{}", image.file);
        assert_eq!(
            file_dimensions(Path::new(&path), DEFAULT_MAX_PIXELS).unwrap(),
            size
        );
    }
}

#[test]
fn a_file_is_measured_as_it_would_be_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        file_dimensions(&path, DEFAULT_MAX_PIXELS).map_err(|e| e.to_string())
    };
    // A JPEG whose size comes after 128 KiB of metadata.
    let jpeg = read("images/photo_444.jpg");
    let segment = [&[0xFF, 0xE5, 0xFF, 0xFF][..], &[0; 0xFFFD]].concat();
    let padded = [&jpeg[..2], &segment, &segment, &jpeg[2..]].concat();
    assert_eq!(
        written("padded.jpg", &padded),
        Ok(dimensions(&jpeg).unwrap())
    );
    let error = written("bomb.png", &refused::png_claiming(70_000, 60_000)).unwrap_err();
    assert!(
        error.ends_with("bomb.png: expected at most 178956970 pixels, got 70000 x 60000"),
        "{error}"
    );
    let error = written("text.png", b"text").unwrap_err();
    assert!(error.contains("text.png: not an image"), "{error}");
    let missing = file_dimensions(&folder.path().join("none.png"), 1).unwrap_err();
    assert!(
        missing.to_string().contains("none.png: No such file"),
        "{missing}"
    );
}

#[test]
fn every_image_is_tiled_as_published() {
    let golden: Golden = golden("golden.json");
    for image in golden.images {
        let decoded = as_pillow_decodes(&image.file);
        assert_eq!(hash(decoded.pixels()), image.decoded, "{}", image.file);
        for tiling in image.tilings {
            check_tiling(&image.file, &decoded, &tiling);
        }
    }
}

fn check_tiling(file: &str, image: &Rgb, tiling: &GoldenTiling) {
    let place = format!("{file} {:?}", tiling.settings);
    let tiles = tiles(image, &tiling.settings).unwrap();
    assert_eq!(tile_hashes(&tiles), tiling.tiles, "{place}");
    let (count, side) = (tiles.dim().0, tiling.settings.image_size as usize);
    assert_eq!(count, tiling.tiles.len(), "{place}");
    assert_eq!(tiles.shape()[1..], [side, side, 3], "{place}");
    let thumbnails = count - tiling.grid[0] * tiling.grid[1];
    let expected = tiling.settings.dynamic && tiling.settings.use_thumbnail && count > 1;
    assert_eq!(thumbnails, usize::from(expected), "{place}");
}

#[test]
fn every_grid_has_the_published_number_of_tiles() {
    let golden: Golden = golden("golden.json");
    assert_eq!(golden.grid_cases.len(), 850);
    for case in golden.grid_cases {
        let [
            width,
            height,
            min_tiles,
            max_tiles,
            image_size,
            columns,
            rows,
        ] = case;
        let plain = TileSettings {
            min_tiles,
            use_thumbnail: false,
            ..settings(image_size, max_tiles)
        };
        let grid = (columns * rows) as usize;
        assert_eq!(tile_count(width, height, &plain), grid, "{case:?}");
        let with_thumbnail = TileSettings {
            use_thumbnail: true,
            ..plain
        };
        let expected = grid + usize::from(grid > 1);
        assert_eq!(
            tile_count(width, height, &with_thumbnail),
            expected,
            "{case:?}"
        );
    }
}

#[test]
fn normalised_pixels_are_the_published_ones() {
    for case in golden::<Vec<GoldenNormalization>>("normalize.json") {
        let whole = settings(case.image_size, 1).one_tile();
        let tiles = tiles(&read_image(&case.image), &whole).unwrap();
        let (mean, std) = (case.normalize_type.mean(), case.normalize_type.std());
        for (i, expected) in case.first_values.iter().enumerate() {
            let (channel, pixel) = (i / 4, i % 4);
            let value = f32::from(tiles[(0, 0, pixel, channel)]) / 255.0;
            let value = (value - mean[channel]) / std[channel];
            assert_eq!(
                value, *expected,
                "{:?}, channel {channel}",
                case.normalize_type
            );
        }
    }
}

#[test]
fn normalizations_are_written_in_lower_case() {
    assert_eq!(
        serde_json::to_string(&Normalization::Siglip).unwrap(),
        r#""siglip""#
    );
}

#[test]
fn the_white_image_stays_white_and_one_tile() {
    let one = settings(448, 12).one_tile();
    let tiles = tiles(&Rgb::white(), &one).unwrap();
    assert_eq!(tiles.dim(), (1, 448, 448, 3));
    assert!(tiles.iter().all(|&value| value == 255));
}

#[test]
fn an_image_as_large_as_its_tile_is_copied() {
    let image = read_image("images/rgb.png");
    let tiles = tiles(&image, &settings(256, 1)).unwrap();
    assert_eq!(tiles.as_slice().unwrap(), image.pixels());
}

#[test]
fn extreme_images_are_squeezed() {
    for (width, height) in [(MAX_SIDE, 1), (1, MAX_SIDE)] {
        let mut pixels = vec![9; MAX_SIDE as usize * 3];
        pixels[0] = 10;
        let image = Rgb::new(width, height, pixels).unwrap();
        let tiles = tiles(&image, &settings(28, 12)).unwrap();
        assert_eq!(tiles.dim().0, 13);
        assert!(tiles.iter().all(|&value| value == 9));
    }
}

#[test]
fn settings_that_would_exhaust_memory_are_refused() {
    let image = Rgb::white();
    for (image_size, max_tiles, problem) in [
        (0, 1, "image_size"),
        (5000, 1, "image_size"),
        (448, 2000, "max_tiles"),
    ] {
        let error = tiles(&image, &settings(image_size, max_tiles)).unwrap_err();
        assert!(error.to_string().starts_with(problem), "{error}");
    }
    let strip = Rgb::new(20_000, 1, vec![0; 60_000]).unwrap();
    let padded = TileSettings {
        pad2square: true,
        ..settings(56, 1).one_tile()
    };
    let error = tiles(&strip, &padded).unwrap_err().to_string();
    assert!(
        error.starts_with("pad2square: a square around 20000 x 1"),
        "{error}"
    );
}

#[test]
fn rgb_has_as_many_bytes_as_pixels() {
    assert!(Rgb::new(2, 3, vec![0; 18]).is_ok());
    let error = Rgb::new(2, 3, vec![0; 17]).unwrap_err().to_string();
    assert_eq!(error, "an image of 2 x 3 RGB pixels takes 18 bytes, got 17");
    let error = Rgb::new(0, 3, vec![]).unwrap_err().to_string();
    assert_eq!(error, "expected an image of at least one pixel, got 0 x 3");
}
