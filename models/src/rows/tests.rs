//! Files of rows in every form, whole and damaged.

use super::*;

const LINES: &str = "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n";
/// Two members, by gzip.
const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x56\xca\x53\xb2\x32\xac\xe5\x02\x00\x93\x11\xbe\x85\
    \x08\x00\x00\x00\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\x56\xca\x53\xb2\x32\xaa\xe5\xaa\x06\xd1\xc6\xb5\x5c\x00\
    \x73\xca\xb8\x26\x10\x00\x00\x00";
/// Two frames with checksums, by zstd, and between them one without data.
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x24\x08\x41\x00\x00{\"n\":1}\n\x33\x15\x9b\x3c\x50\x2a\x4d\x18\x03\x00\x00\x00abc\
    \x28\xb5\x2f\xfd\x24\x10\x81\x00\x00{\"n\":2}\n{\"n\":3}\n\xe4\x7f\x74\xfe";

fn file(content: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, content).unwrap();
    file
}

/// The lines of a file with this content, or the error of opening it.
fn lines(content: &[u8]) -> Result<String> {
    let file = file(content);
    let mut text = String::new();
    let read = RowStream::open(file.path())?.read_to_string(&mut text);
    read.map_err(|e| Error::io(file.path(), e)).map(|_| text)
}

/// The error, without its place.
fn problem(content: &[u8]) -> String {
    let error = lines(content).unwrap_err().to_string();
    error.split_once(": ").unwrap().1.to_owned()
}

#[test]
fn every_form_has_the_same_rows() {
    let array = b"\xef\xbb\xbf [{\"n\":1},{\"n\":2} ,\n{\"n\":3}]\n";
    for content in [LINES.as_bytes(), GZIP, ZSTD] {
        assert_eq!(lines(content).unwrap(), LINES);
    }
    assert_eq!(lines(array).unwrap().replace("} \n", "}\n"), LINES);
    for empty in [&b""[..], b"\n", b" []", b"\xef\xbb\xbf[\n]"] {
        assert_eq!(lines(empty).unwrap().trim(), "", "{empty:?}");
    }
}

#[test]
fn an_array_is_cut_at_its_rows_whatever_they_hold() {
    let rows = r#"[ {"a": "x, ] \" } \\", "b": [[1, 2], {"c": []}]} , [1], 2 ]"#;
    let expected = [
        "{\"a\": \"x, ] \\\" } \\\\\", \"b\": [[1, 2], {\"c\": []}]} ",
        "[1]",
        "2 ",
    ];
    let pretty = "[\n  {\n    \"a\": 1\n  },\n  {\n    \"a\": 2\n  }\n]\n";
    for capacity in 1..40 {
        let read = |text: &'static str| {
            let input = BufReader::with_capacity(capacity, text.as_bytes());
            ArrayLines::new(input)
                .lines()
                .map(|line| line.unwrap())
                .collect::<Vec<_>>()
        };
        let text: &'static str = Box::leak(rows.to_owned().into_boxed_str());
        assert_eq!(read(text), expected, "{capacity}");
        let rows = read(pretty)
            .into_iter()
            .map(|row| row.split_whitespace().collect::<String>());
        assert_eq!(rows.collect::<Vec<_>>(), ["{\"a\":1}", "{\"a\":2}"]);
    }
}

#[test]
fn rows_before_damage_are_read() {
    for (array, expected) in [
        ("[{},{}", "the file is cut short"),
        ("[{},{\"a\": \"]", "the file is cut short"),
        ("[{},", "the file is cut short"),
        ("[{},,{}]", "expected a row, got ,"),
        ("[{},]", "expected a row, got ]"),
        ("[{}] {}", "expected nothing after the array, got {"),
    ] {
        let mut lines = ArrayLines::new(array.as_bytes()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "{}", "{array}");
        let error = lines
            .find_map(std::result::Result::err)
            .unwrap()
            .to_string();
        assert!(error.contains(expected), "{array}: {error}");
    }
    assert_eq!(
        problem(&GZIP[..GZIP.len() - 9]),
        "gzip: incomplete deflate stream"
    );
    let mut changed = GZIP.to_vec();
    changed[20] ^= 1;
    assert!(problem(&changed).starts_with("gzip: "));
    for damaged in [
        &ZSTD[..12],
        &ZSTD[..ZSTD.len() - 1],
        &[ZSTD, b"more"].concat(),
    ] {
        assert!(problem(damaged).starts_with("zstd: "), "{damaged:?}");
    }
    let mut changed = ZSTD.to_vec();
    changed[12] ^= 1;
    assert_eq!(problem(&changed), "zstd: the checksum differs");
}

#[test]
fn what_holds_no_rows_is_named_with_its_cure() {
    let utf_16 = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<_>>()
    };
    let mut tar = vec![b'x'; 300];
    tar[257..262].copy_from_slice(b"ustar");
    for (content, name, cure) in [
        (b"PAR1...".to_vec(), "a Parquet file", "JSON lines"),
        (utf_16("{\"a\":1}"), "text in UTF-16", "iconv"),
        (utf_16("\u{feff}{\"a\":1}"), "text in UTF-16", "iconv"),
        (
            b"prompt,chosen,rejected\na,b,c\n".to_vec(),
            "a table",
            "JSON lines",
        ),
        (b"\"prompt\";\"chosen\"\n".to_vec(), "a table", "JSON lines"),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "a Git LFS",
            "git lfs pull",
        ),
        (tar, "a tar archive", "tar -x"),
    ] {
        let problem = problem(&content);
        assert!(
            problem.contains(&format!("got {name}")) && problem.contains(cure),
            "{problem}"
        );
    }
    // Prose with commas is no heading: its lines are rows that are not JSON.
    assert!(lines(b"no row, and then some more: none\n").is_ok());
}

#[test]
fn compressed_content_is_looked_at_too() {
    let zipped = |content: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, content).unwrap();
        encoder.finish().unwrap()
    };
    assert_eq!(lines(&zipped(b"[1,2]")).unwrap(), "1\n2\n");
    assert!(problem(&zipped(b"PAR1")).contains("got a Parquet file"));
    assert!(problem(&zipped(GZIP)).contains("gzip within compressed data"));
}

#[test]
fn only_plain_files_are_sought_in_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("rows.jsonl");
    let plain = file(LINES.as_bytes());
    assert_eq!(seekable(plain.path(), &into).unwrap(), plain.path());
    assert!(!into.exists());
    assert_eq!(seekable(file(ZSTD).path(), &into).unwrap(), into);
    assert_eq!(fs::read_to_string(&into).unwrap(), LINES);
    // A damaged file is named, and replaces nothing.
    let damaged = file(&ZSTD[..12]);
    let error = seekable(damaged.path(), &into).unwrap_err().to_string();
    assert!(
        error.starts_with(&damaged.path().display().to_string()),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&into).unwrap(), LINES);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn images_are_looked_for_where_the_user_is_when_rows_have_no_folder() {
    for path in ["-", "/dev/stdin", "/dev/null"] {
        assert_eq!(image_folder(Path::new(path)), Path::new(""), "{path}");
    }
    let plain = file(b"");
    assert_eq!(Some(image_folder(plain.path())), plain.path().parent());
}
