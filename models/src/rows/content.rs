//! What a file of rows holds, by its first bytes.

use crate::Error;
use crate::checkpoint::LFS_POINTER;

/// The content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// JSON lines, or nothing known, which is read as such.
    Lines,
    /// A JSON array.
    Array,
    Gzip,
    Zstd,
    Other(&'static Other),
}

/// Something that holds no rows that can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Other {
    start: &'static [u8],
    name: &'static str,
    cure: &'static str,
}

const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
/// The start of a frame of zstd without data, after its first byte, of which only the high half is given.
const SKIPPED_FRAME: &[u8] = b"\x2a\x4d\x18";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const UTF_8: &str = "convert it with iconv -f UTF-16 -t UTF-8";
static OTHERS: [Other; 14] = [
    other(b"PAR1", "a Parquet file", "write its rows as JSON lines"),
    other(b"ARROW1", "an Arrow file", "write its rows as JSON lines"),
    other(
        b"\xff\xff\xff\xff",
        "an Arrow stream",
        "write its rows as JSON lines",
    ),
    other(LFS_POINTER, "a Git LFS pointer", "run git lfs pull"),
    other(b"PK\x03\x04", "a zip archive", "unpack it with unzip"),
    other(b"\xfd7zXZ\0", "an xz file", "unpack it with xz -d"),
    other(b"BZh", "a bzip2 file", "unpack it with bzip2 -d"),
    other(b"\x04\x22\x4d\x18", "an lz4 file", "unpack it with lz4 -d"),
    other(b"\xff\xfe", "text in UTF-16", UTF_8),
    other(b"\xfe\xff", "text in UTF-16", UTF_8),
    other(b"{\0", "text in UTF-16", UTF_8),
    other(b"[\0", "text in UTF-16", UTF_8),
    other(b"\0{", "text in UTF-16", UTF_8),
    other(b"\0[", "text in UTF-16", UTF_8),
];
static TAR: Other = other(b"ustar", "a tar archive", "unpack it with tar -x");
static CSV: Other = other(
    b"",
    "a table with a heading (CSV)",
    "write its rows as JSON lines",
);
/// Where a tar archive has its mark.
const TAR_MARK: usize = 257;

const fn other(start: &'static [u8], name: &'static str, cure: &'static str) -> Other {
    Other { start, name, cure }
}

impl Content {
    /// The content of a file with these first bytes.
    pub(super) fn of(head: &[u8]) -> Self {
        if head.starts_with(GZIP) {
            return Self::Gzip;
        }
        let skipped = head.first().is_some_and(|byte| byte >> 4 == 5);
        if head.starts_with(ZSTD) || skipped && head[1..].starts_with(SKIPPED_FRAME) {
            return Self::Zstd;
        }
        if let Some(other) = OTHERS.iter().find(|other| head.starts_with(other.start)) {
            return Self::Other(other);
        }
        if head
            .get(TAR_MARK..)
            .is_some_and(|rest| rest.starts_with(TAR.start))
        {
            return Self::Other(&TAR);
        }
        match first_line(head) {
            Some(line) if line.starts_with(b"[") => Self::Array,
            Some(line) if is_heading(line) => Self::Other(&CSV),
            _ => Self::Lines,
        }
    }

    pub(super) fn is_compressed(self) -> bool {
        matches!(self, Self::Gzip | Self::Zstd)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Lines => "JSON lines",
            Self::Array => "a JSON array",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Other(other) => other.name,
        }
    }
}

impl Other {
    pub(super) fn error(&self) -> Error {
        let Self { name, cure, .. } = self;
        Error::invalid(format!(
            "expected JSON lines or a JSON array, plain or compressed by gzip or zstd, got {name}: {cure}"
        ))
    }
}

/// Whether `head` has a whole line that is not blank.
pub(super) fn has_a_line(head: &[u8]) -> bool {
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    head.trim_ascii_start().contains(&b'\n')
}

/// The first line that is not blank, without white space around it, as far as it is in `head`.
fn first_line(head: &[u8]) -> Option<&[u8]> {
    let head = head.strip_prefix(BYTE_ORDER_MARK).unwrap_or(head);
    let line = head
        .trim_ascii_start()
        .split(|&byte| byte == b'\n')
        .next()?;
    Some(line.trim_ascii()).filter(|line| !line.is_empty())
}

/// Whether a line is the heading of a table: names between commas, semicolons or tabs.
fn is_heading(line: &[u8]) -> bool {
    const LONGEST: usize = 64;
    let is_name = |field: &[u8]| {
        let field = field.trim_ascii();
        let bare = field
            .strip_prefix(b"\"")
            .and_then(|f| f.strip_suffix(b"\""));
        let name = bare.unwrap_or(field);
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-. ".contains(byte);
        (1..=LONGEST).contains(&name.len()) && name.iter().all(plain)
    };
    [b',', b';', b'\t'].iter().any(|between| {
        let fields = || line.split(|byte| byte == between);
        fields().count() > 1 && fields().all(is_name)
    })
}
