//! Properties of any input: rows, lines, images, tensors.
#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::BufReader;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use seeward_models::checkpoint::{Checkpoint, Dtype, TensorData, write_tensors};
use seeward_models::image::{Rgb, TileSettings, tile_count, tiles};
use seeward_models::sample::{CarriedKeys, Lines, PreferenceRow, ScoreRow, sft};

fn cases(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(0),
        failure_persistence: None,
        ..Config::default()
    }
}

/// Some JSON, with the keys that rows have.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<f64>().prop_map(|number| serde_json::json!(number).to_string()),
        any::<String>().prop_map(|text| serde_json::json!(text).to_string()),
        "[-0-9.eE]{1,6}",
        "\"\\\\u[0-9a-fA-F]{4}\"",
    ];
    let key = prop::sample::select(vec![
        "prompt",
        "img_path",
        "responses",
        "chosen",
        "rejected",
        "completions",
        "response",
        "score",
        "x",
    ]);
    leaf.prop_recursive(4, 32, 6, move |inner| {
        let list = prop::collection::vec(inner.clone(), 0..4);
        let entries = prop::collection::vec((key.clone(), inner), 0..8);
        let entry = |(key, value): (&str, String)| format!("\"{key}\":{value}");
        prop_oneof![
            list.prop_map(|items| format!("[{}]", items.join(","))),
            entries.prop_map(move |entries| {
                let entries: Vec<String> = entries.into_iter().map(entry).collect();
                format!("{{{}}}", entries.join(","))
            }),
        ]
    })
}

/// A row that is one more often than not.
fn row() -> impl Strategy<Value = String> {
    let value = || prop_oneof![2 => "\"[a-z<>\\\\\\\\]{0,5}\"", 1 => json()];
    let list = prop::collection::vec(value(), 0..3);
    let object = (value(), value(), list).prop_map(|(prompt, image, responses)| {
        let responses = responses.join(",");
        format!("{{\"prompt\":{prompt},\"img_path\":{image},\"responses\":[{responses}],\"chosen\":{prompt},\"rejected\":{image}}}")
    });
    prop_oneof![3 => object, 1 => json(), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn any_row_is_read_or_refused_in_one_line(row in row()) {
        let carried = CarriedKeys::default();
        let errors = [ScoreRow::parse(&row, &carried).err(), PreferenceRow::parse(&row).err(), sft(&row, &carried).err()];
        for error in errors.into_iter().flatten() {
            let message = error.to_string();
            prop_assert!(!message.is_empty() && !message.contains('\n'), "{:?}", message);
        }
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn lines_resume_after_every_line(
        bytes in prop::collection::vec(prop::sample::select(b"a\xff\xc3\xa9 \r\n\n".to_vec()), 0..60),
        chunk in 1..9_usize,
    ) {
        let read = |number, offset: u64| {
            let rest = BufReader::with_capacity(chunk, &bytes[offset as usize..]);
            let rows = Lines::resume(rest, number, offset).map(|row| row.unwrap());
            rows.map(|(line, text)| (line, text.map_err(|e| e.to_string()))).collect::<Vec<_>>()
        };
        let whole = read(0, 0);
        for (index, (line, _)) in whole.iter().enumerate() {
            prop_assert!(line.offset < line.end);
            prop_assert_eq!(&read(line.number, line.end), &whole[index + 1..]);
        }
    }
}

fn tile_settings() -> impl Strategy<Value = TileSettings> {
    (
        1..24_u32,
        any::<bool>(),
        any::<bool>(),
        0..6_u32,
        0..13_u32,
        any::<bool>(),
    )
        .prop_map(
            |(image_size, dynamic, use_thumbnail, min_tiles, max_tiles, pad2square)| TileSettings {
                image_size,
                dynamic,
                use_thumbnail,
                min_tiles,
                max_tiles,
                pad2square,
            },
        )
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn the_number_of_tiles_is_announced_and_a_plain_colour_stays(
        settings in tile_settings(),
        (width, height) in (1..300_u32, 1..300_u32),
        color in any::<[u8; 3]>(),
    ) {
        let image = Rgb::new(width, height, color.repeat((width * height) as usize)).unwrap();
        let tiles = tiles(&image, &settings).unwrap();
        let (count, side) = (tile_count(width, height, &settings), settings.image_size as usize);
        prop_assert_eq!(tiles.dim(), (count, side, side, 3));
        let thumbnail = usize::from(settings.dynamic && settings.use_thumbnail && count > 1);
        let grid = count - thumbnail;
        let ranges = settings.dynamic && (1..=settings.max_tiles).contains(&settings.min_tiles);
        let (fewest, most) = match ranges {
            true => (settings.min_tiles as usize, settings.max_tiles as usize),
            false => (1, settings.max_tiles.max(1) as usize),
        };
        prop_assert!((fewest..=most).contains(&grid), "{} tiles", grid);
        if settings.dynamic || !settings.pad2square {
            let mut pixels = tiles.rows().into_iter();
            prop_assert!(pixels.all(|pixel| pixel.iter().eq(&color)));
        }
    }
}

/// Tensors by name: dtype, shape, and as many bytes as they take.
fn tensors() -> impl Strategy<Value = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>> {
    let dtype = prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::Bf16]);
    let shape = prop::collection::vec(0..5_usize, 0..4);
    let tensor = (dtype, shape).prop_flat_map(|(dtype, shape): (Dtype, Vec<usize>)| {
        let length = shape.iter().product::<usize>() * dtype.size();
        let bytes = prop::collection::vec(any::<u8>(), length);
        (Just(dtype), Just(shape), bytes)
    });
    prop::collection::btree_map(any::<String>(), tensor, 0..6)
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn a_saved_checkpoint_is_what_is_read(tensors in tensors()) {
        let folder = tempfile::tempdir().unwrap();
        let save = |name: &str| {
            let path = folder.path().join(name);
            let data = |(name, (dtype, shape, bytes)): (&String, &(Dtype, Vec<usize>, Vec<u8>))| {
                let bytes = bytes.clone();
                TensorData {
                    name: name.clone(),
                    dtype: *dtype,
                    shape: shape.clone(),
                    bytes: Box::new(move || Cow::Owned(bytes.clone())),
                }
            };
            write_tensors(&path, tensors.iter().map(data).collect()).unwrap();
            path
        };
        let (first, second) = (save("first"), save("second"));
        prop_assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(second).unwrap());
        let checkpoint = Checkpoint::open_file(&first).unwrap();
        prop_assert_eq!(checkpoint.tensors().count(), tensors.len());
        for (name, (dtype, shape, bytes)) in &tensors {
            let info = checkpoint.info(name).unwrap();
            prop_assert_eq!((info.dtype, &info.shape), (*dtype, shape));
            prop_assert_eq!(&checkpoint.read(name).unwrap(), bytes);
        }
    }
}
