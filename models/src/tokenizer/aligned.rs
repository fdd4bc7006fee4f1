//! A text derived from another one, with the original byte of each of its bytes.

use std::iter::once;

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

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

    /// Appends Unicode's canonical composition (NFC) of `text`, which comes from byte `origin` on. The characters of a
    /// composed sequence come from its beginning.
    pub(super) fn push_composed(&mut self, text: &str, origin: usize) {
        if is_nfc_quick(text.chars()) == IsNormalized::Yes {
            return self.push_str(text, origin);
        }
        let begins = |(at, c): (usize, char)| (at > 0 && is_a_beginning(c)).then_some(at);
        let mut start = 0;
        for end in text
            .char_indices()
            .filter_map(begins)
            .chain(once(text.len()))
        {
            for c in text[start..end].nfc() {
                self.push(c, origin + start);
            }
            start = end;
        }
    }

    /// Removes `c` from the end.
    pub(super) fn trim_end_matches(&mut self, c: char) {
        let length = self.text.trim_end_matches(c).len();
        self.text.truncate(length);
        self.origin.truncate(length);
    }
}

/// Whether no character before `c` can change together with it.
fn is_a_beginning(c: char) -> bool {
    canonical_combining_class(c) == 0 && is_nfc_quick(once(c)) == IsNormalized::Yes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The composed characters of `text`, each with its first byte there.
    fn composed(text: &str) -> Vec<(char, usize)> {
        let mut aligned = Aligned::default();
        aligned.push_composed(text, 100);
        let places = aligned.text().char_indices();
        places
            .map(|(at, c)| (c, aligned.origin(at) - 100))
            .collect()
    }

    #[test]
    fn sequences_are_composed_and_keep_their_place() {
        assert_eq!(composed("xe\u{301}y"), [('x', 0), ('é', 1), ('y', 4)]);
        // Hangul, a character that only decomposes, and marks in another order.
        assert_eq!(composed("가\u{11a8}a"), [('각', 0), ('a', 6)]);
        assert_eq!(composed("\u{212b}a"), [('Å', 0), ('a', 3)]);
        let expected = [('ạ', 0), ('\u{301}', 0), ('b', 5)];
        assert_eq!(composed("a\u{301}\u{323}b"), expected);
        // A leading mark has nothing to join.
        assert_eq!(composed("\u{301}e\u{301}"), [('\u{301}', 0), ('é', 2)]);
    }

    #[test]
    fn marks_of_newer_versions_of_unicode_are_known() {
        // U+1AC0 (Unicode 13) has class 220 and stands before U+0301, of class 230.
        let expected = [('x', 0), ('\u{1ac0}', 0), ('\u{301}', 0)];
        assert_eq!(composed("x\u{301}\u{1ac0}"), expected);
    }
}
