//! Decoding and tiling of a JPEG of 1280 x 960, on one thread:
//!
//! ```sh
//! RAYON_NUM_THREADS=1 cargo bench -p seeward-models
//! ```

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use image::codecs::jpeg::JpegEncoder;
use seeward_models::image::{DEFAULT_MAX_PIXELS, TileSettings, decode, tiles};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 960;

/// Waves with noise, which take about as many bits as a photograph.
fn jpeg() -> Vec<u8> {
    let mut state = 1u32;
    let mut sample = |x: u32, y: u32, channel: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wave = ((x * (channel + 1)) as f32 / 90.0).sin() + (y as f32 / 70.0).cos();
        (128.0 + 50.0 * wave) as u8 ^ (state >> 29) as u8
    };
    let pixels = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
    let pixels: Vec<u8> = pixels
        .flat_map(|(x, y)| [0, 1, 2].map(|channel| sample(x, y, channel)))
        .collect();
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 85)
        .encode(&pixels, WIDTH, HEIGHT, image::ExtendedColorType::Rgb8)
        .expect("encoded");
    bytes
}

fn images(criterion: &mut Criterion) {
    let bytes = jpeg();
    let decoded = decode(&bytes, DEFAULT_MAX_PIXELS).expect("decoded");
    let settings = TileSettings {
        image_size: 448,
        dynamic: true,
        use_thumbnail: true,
        min_tiles: 1,
        max_tiles: 6,
        pad2square: false,
    };
    let mut group = criterion.benchmark_group("image");
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode(black_box(&bytes), DEFAULT_MAX_PIXELS));
    });
    group.bench_function("decode by the image crate", |bencher| {
        bencher.iter(|| image::load_from_memory(black_box(&bytes)));
    });
    group.bench_function("tile", |bencher| {
        bencher.iter(|| tiles(black_box(&decoded), &settings));
    });
}

criterion_group!(benches, images);
criterion_main!(benches);
