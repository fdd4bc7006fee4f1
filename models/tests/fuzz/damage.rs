//! Damage to files.

use proptest::prelude::*;
use proptest::sample::Index;

/// Bytes that mean something to one reader or another.
const WORDS: &[&[u8]] = &[
    b"",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x80\x80\x80\x80\x10",
    b"\x7f\xff\xff\xff",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"\\ud800",
    b"\\",
    b"\n",
    b"\r\n",
    b" ",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"18446744073709551616",
    b"0.5",
    b"\xc3",
    b"\xf0\x9f\x98\x80",
    b"\xe2\x96\x81",
    b"IHDR",
    b"IDAT",
    b"\xff\xd8",
    b"\xff\xda",
    b"\xff\xc0",
    b"RIFF",
    b"VP8L",
    b"GIF89a",
    b"BM",
];

#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Flip(Index, u8),
    Cut(Index, usize),
    Repeat(Index, usize),
    Write(Index, &'static [u8]),
    Insert(Index, &'static [u8]),
    End(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let word = || prop::sample::select(WORDS);
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), 1..64_usize).prop_map(|(at, length)| Damage::Cut(at, length)),
        (at(), 1..64_usize).prop_map(|(at, length)| Damage::Repeat(at, length)),
        (at(), word()).prop_map(|(at, word)| Damage::Write(at, word)),
        (at(), word()).prop_map(|(at, word)| Damage::Insert(at, word)),
        at().prop_map(Damage::End),
    ]
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let place = |at: &Index| at.index(bytes.len());
        match self {
            Self::Set(at, byte) => {
                let at = place(at);
                bytes[at] = *byte;
            }
            Self::Flip(at, bit) => {
                let at = place(at);
                bytes[at] ^= 1 << bit;
            }
            Self::Cut(at, length) => {
                let at = place(at);
                bytes.drain(at..bytes.len().min(at + length));
            }
            Self::Repeat(at, length) => {
                let at = place(at);
                let again = bytes[at..bytes.len().min(at + length)].to_vec();
                bytes.splice(at..at, again);
            }
            Self::Write(at, word) => {
                let at = place(at);
                bytes.splice(at..bytes.len().min(at + word.len()), word.iter().copied());
            }
            Self::Insert(at, word) => {
                let at = place(at);
                bytes.splice(at..at, word.iter().copied());
            }
            Self::End(at) => {
                let at = place(at);
                bytes.truncate(at);
            }
        }
    }
}

/// One of the files, damaged in a few places.
pub(crate) fn damaged(files: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let file = prop::sample::select(files);
    let damages = prop::collection::vec(damage(), 1..6);
    (file, damages).prop_map(|(mut bytes, damages)| {
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        bytes
    })
}
