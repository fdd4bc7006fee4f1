//! A text derived from another one, with the original byte of each of its bytes.

use tokenizers::{NormalizedString, normalizer};

#[derive(Debug, Default)]
pub(super) struct Aligned {
    text: String,
    origin: Vec<usize>,
}

impl Aligned {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes),
            origin: Vec::with_capacity(bytes),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The byte of the original that byte `at` comes from.
    pub(super) fn origin(&self, at: usize) -> usize {
        self.origin[at]
    }

    /// Appends `c`, which comes from byte `origin`.
    pub(super) fn push(&mut self, c: char, origin: usize) {
        self.text.push(c);
        self.origin.resize(self.text.len(), origin);
    }

    /// Appends `text`, an unchanged copy of the original from byte `origin` on.
    pub(super) fn push_str(&mut self, text: &str, origin: usize) {
        self.text.push_str(text);
        self.origin.extend(origin..origin + text.len());
    }

    /// Appends Unicode's canonical composition (NFC) of `text`, which comes from byte `origin` on.
    pub(super) fn push_composed(&mut self, text: &str, origin: usize) {
        if text.is_ascii() {
            return self.push_str(text, origin);
        }
        let mut composed = NormalizedString::from(text);
        composed.nfc();
        for (at, c) in composed.get().char_indices() {
            let place = normalizer::Range::Normalized(at..at + c.len_utf8());
            let from = composed.convert_offsets(place);
            self.push(c, origin + from.map_or(0, |range| range.start));
        }
    }

    /// Removes `c` from the end.
    pub(super) fn trim_end_matches(&mut self, c: char) {
        let length = self.text.trim_end_matches(c).len();
        self.text.truncate(length);
        self.origin.truncate(length);
    }
}
