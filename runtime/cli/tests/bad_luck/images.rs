//! Images that are missing, broken, too large, or outside the image root.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Bench, assert_exit, golden};

/// A bench with one row per image.
fn bench(paths: &[&str]) -> Bench {
    let row = |path: &&str| json!({"prompt": "p", "img_path": path, "responses": ["a"]});
    let rows: Vec<String> = paths
        .iter()
        .map(|path| format!("{}\n", row(path)))
        .collect();
    Bench::new(rows.concat())
}

/// A bench with input, images and the golden `good.png` in one folder.
fn with_images(images: &[(&str, &[u8])]) -> Bench {
    let names: Vec<&str> = images.iter().map(|(name, _)| *name).collect();
    let bench = bench(&[&["good.png"], &names[..]].concat());
    fs::copy(golden("images/vqa0.png"), bench.path("good.png")).unwrap();
    for (name, bytes) in images {
        fs::write(bench.path(name), bytes).unwrap();
    }
    bench
}

fn messages(bench: &Bench) -> Vec<String> {
    bench
        .errors("out")
        .into_iter()
        .map(|(_, message)| message)
        .collect()
}

#[test]
fn a_file_that_is_no_image_is_reported() {
    let [png, jpeg] =
        ["vqa0.png", "china.jpg"].map(|name| fs::read(golden("images").join(name)).unwrap());
    let bench = with_images(&[
        ("empty.png", b""),
        ("text.png", b"This is no image."),
        ("cut.png", &png[..png.len() / 2]),
        ("cut.jpg", &jpeg[..jpeg.len() / 2]),
        ("header.png", &png[..20]),
        ("missing.png", b""),
        ("folder.png", b""),
        ("pipe.png", b""),
        ("device.png", b""),
    ]);
    for name in ["missing.png", "folder.png", "pipe.png", "device.png"] {
        fs::remove_file(bench.path(name)).unwrap();
    }
    fs::create_dir(bench.path("folder.png")).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(bench.path("pipe.png"))
            .status()
            .unwrap()
            .success()
    );
    symlink("/dev/zero", bench.path("device.png")).unwrap();
    assert_exit(
        &bench.score("out").output().unwrap(),
        1,
        "10 rows, 1 responses",
    );
    let expected = [
        ("empty.png", "expected an image, got an empty file"),
        (
            "text.png",
            "not an image of a known format: expected PNG, JPEG, WebP, GIF or BMP",
        ),
        ("cut.png", "end of file"),
        (
            "cut.jpg",
            "the JPEG ends before its last block: the file was cut off",
        ),
        ("header.png", "end of file"),
        ("missing.png", "No such file or directory"),
        ("folder.png", "expected a file, got a folder or device"),
        ("pipe.png", "expected a file, got a folder or device"),
        ("device.png", "expected a file, got a folder or device"),
    ];
    let got = messages(&bench);
    assert_eq!(got.len(), expected.len(), "{got:?}");
    for (got, (name, problem)) in got.iter().zip(expected) {
        assert!(
            got.starts_with(&format!("image {}: ", bench.path(name).display())),
            "{got}"
        );
        assert!(got.contains(problem), "{name}: {got}");
    }
}

#[test]
fn bombs_are_refused_by_their_headers() {
    let side = 60_000u32;
    let sides = [60_000u16.to_le_bytes(), 60_000u16.to_le_bytes()].concat();
    // The sides of the screen, then those of the first frame.
    let frame = [
        b"\0\0\0\x2c\0\0\0\0".as_slice(),
        &sides,
        b"\0\x02\x01\x44\0\x3b",
    ]
    .concat();
    let gif = [b"GIF89a".as_slice(), &sides, &frame].concat();
    // A header without its pixels.
    let mut bmp = b"BM".to_vec();
    let header = [54, 0, 54, 40, side, side, 1 | 24 << 16, 0, 0, 0, 0, 0, 0];
    bmp.extend(header.iter().flat_map(|field| field.to_le_bytes()));
    let bench = with_images(&[("bomb.gif", &gif), ("bomb.bmp", &bmp)]);
    let mut command = bench.score("out");
    let run = command
        .arg("--stats")
        .arg(bench.path("stats"))
        .output()
        .unwrap();
    assert_exit(&run, 1, "2 rows failed");
    for message in messages(&bench) {
        assert!(
            message.ends_with("expected at most 178956970 pixels, got 60000 x 60000"),
            "{message}"
        );
    }
    // Each would take ten gigabytes.
    let stats: Value = serde_json::from_str(&bench.read("stats")).unwrap();
    assert!(
        stats["peak_rss_bytes"].as_u64().unwrap() < 1 << 30,
        "{stats}"
    );
}

#[test]
fn the_limit_on_pixels_can_be_set() {
    let bench = with_images(&[]);
    assert_exit(
        &bench
            .score("out")
            .args(["--max-image-pixels", "4095"])
            .output()
            .unwrap(),
        1,
        "",
    );
    assert!(messages(&bench)[0].ends_with("expected at most 4095 pixels, got 64 x 64"));
    let exact = ["--max-image-pixels", "4096", "--no-resume"];
    assert_exit(
        &bench.score("out").args(exact).output().unwrap(),
        0,
        "1 responses",
    );
}

#[test]
fn nothing_leaves_a_given_root() {
    let absolute = golden("images/vqa0.png").display().to_string();
    let bench = bench(&[
        "in/good.png",
        "../good.png",
        "in/../../good.png",
        &absolute,
        "in/link.png",
    ]);
    fs::create_dir_all(bench.path("root/in")).unwrap();
    for path in ["good.png", "root/in/good.png"] {
        fs::copy(&absolute, bench.path(path)).unwrap();
    }
    symlink(&absolute, bench.path("root/in/link.png")).unwrap();
    let root = || {
        let mut command = bench.score("out");
        command.arg("--image-root").arg(bench.path("root"));
        command
    };
    assert_exit(&root().output().unwrap(), 1, "4 rows failed");
    for message in messages(&bench) {
        assert!(
            message.ends_with(": leads out of the image root (--allow-outside-root permits it)"),
            "{message}"
        );
    }
    assert_eq!(bench.json_lines("out").len(), 1);
    let allowed = root()
        .args(["--allow-outside-root", "--no-resume"])
        .output()
        .unwrap();
    assert_exit(&allowed, 0, "5 responses");
    let scores: Vec<_> = bench
        .json_lines("out")
        .into_iter()
        .map(|line| line["score"].as_f64().unwrap())
        .collect();
    // Rows with equal images and prompt share them, so that their rewards round differently.
    let equal = |score: &f64| (score - scores[0]).abs() < 1e-5;
    assert!(scores.iter().all(equal), "{scores:?}");
}
