//! The slow Python tokenizers of transformers 4, which the published code uses. A text is prepared as a whole, cut at its
//! added tokens, and the text between them is cut into words of the vocabulary.

use std::ops::Range;

use super::added::{Added, AddedTokens};
use super::aligned::Aligned;
use super::engine::{Additions, Engine, Piece, Specials, Tokens, no_token};
use super::settings::Settings;
use super::words::{BLANK, Words, is_python_space};
use crate::Result;

/// The preparation of a text as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Preparation {
    None,
    /// Canonical composition, which may compose a special token's last character away.
    Composed,
    /// A literal blank symbol becomes a blank; one is put before the text if `prefix`.
    Blanks {
        prefix: bool,
    },
}

/// The rules of one family's tokenizer.
pub(super) struct Rules {
    preparation: Preparation,
    adds_bos: bool,
    /// The special tokens of roles that the settings do not mention.
    defaults: &'static [(&'static str, &'static str)],
}

impl Rules {
    /// InternLM2, and Llama by its legacy rule.
    pub(super) const SENTENCEPIECE: Self = Self {
        preparation: Preparation::None,
        adds_bos: true,
        defaults: &[
            ("bos_token", "<s>"),
            ("eos_token", "</s>"),
            ("unk_token", "<unk>"),
        ],
    };

    pub(super) const QWEN2: Self = Self {
        preparation: Preparation::Composed,
        adds_bos: false,
        defaults: &[
            ("eos_token", "<|endoftext|>"),
            ("unk_token", "<|endoftext|>"),
            ("pad_token", "<|endoftext|>"),
        ],
    };

    /// Llama with `legacy: false`: a blank is put before the whole text, not before each text between added tokens.
    pub(super) fn llama_not_legacy(prefix: bool) -> Self {
        Self {
            preparation: Preparation::Blanks { prefix },
            ..Self::SENTENCEPIECE
        }
    }
}

pub(super) struct Slow {
    words: Box<dyn Words>,
    added: AddedTokens,
    preparation: Preparation,
    bos: Option<u32>,
    blank: Option<u32>,
}

impl Slow {
    pub(super) fn new(
        mut words: Box<dyn Words>,
        rules: Rules,
        (settings, additions): (&Settings, Additions),
    ) -> Result<Self> {
        let special = settings.special(rules.defaults)?;
        let added = AddedTokens::new(&*words, settings, &special, additions.vision_tokens());
        let added = added.map_err(|e| settings.place(e))?;
        words.set_special(added.ids())?;
        let bos = settings.role("bos_token", rules.defaults)?;
        let bos = bos.and_then(|token| added.get(&token.content).map(|token| token.id));
        Ok(Self {
            bos: bos
                .filter(|_| additions == Additions::Published && settings.adds_bos(rules.adds_bos)),
            blank: words.id(BLANK.encode_utf8(&mut [0; 4])),
            words,
            added,
            preparation: rules.preparation,
        })
    }

    /// Begins the preparation of a text of `bytes` bytes.
    fn begin(&self, bytes: usize) -> Aligned {
        let mut text = Aligned::with_capacity(bytes + BLANK.len_utf8());
        if bytes > 0 && self.preparation == (Preparation::Blanks { prefix: true }) {
            text.push(BLANK, 0);
        }
        text
    }

    fn prepare(&self, part: &str, origin: usize, into: &mut Aligned) {
        match self.preparation {
            Preparation::None => into.push_str(part, origin),
            Preparation::Composed => into.push_composed(part, origin),
            Preparation::Blanks { .. } => {
                for (at, c) in part.char_indices() {
                    into.push(if c == BLANK { ' ' } else { c }, origin + at);
                }
            }
        }
    }

    fn encode(&self, text: &Aligned, cuts: &[Cut], specials: Specials) -> Result<Tokens> {
        let mut found = Vec::with_capacity(text.text().len() / 2);
        let ends = cuts.iter().map(Some).chain([None]);
        let mut before = None;
        for after in ends {
            let range = between(text.text(), before, after);
            let first = found.len();
            let part = &text.text()[range.clone()];
            self.words.encode(part, specials, &mut found)?;
            found[first..]
                .iter_mut()
                .for_each(|(_, start)| *start += range.start);
            if first == 0 && self.is_blank_before_role(&found, after) {
                found.clear();
            }
            found.extend(after.map(|cut| (cut.added.id, cut.range.start)));
            before = after;
        }
        let mut tokens = Tokens::default();
        self.bos.into_iter().for_each(|bos| tokens.push(bos, 0));
        for (id, start) in found {
            tokens.push(id, text.origin(start));
        }
        Ok(tokens)
    }

    /// Whether the text so far is only the added blank, which disappears before a token with a role.
    fn is_blank_before_role(&self, found: &[(u32, usize)], after: Option<&Cut>) -> bool {
        matches!(self.preparation, Preparation::Blanks { .. })
            && after.is_some_and(|cut| cut.added.has_role)
            && matches!(found, [(id, _)] if Some(*id) == self.blank)
    }
}

/// An added token at its place in the prepared text.
struct Cut<'a> {
    range: Range<usize>,
    added: &'a Added,
}

/// The text between two added tokens, without the white space that they swallow.
fn between(text: &str, before: Option<&Cut>, after: Option<&Cut>) -> Range<usize> {
    let mut start = before.map_or(0, |cut| cut.range.end);
    let mut end = after.map_or(text.len(), |cut| cut.range.start);
    if before.is_some_and(|cut| cut.added.rstrip) {
        start = end - text[start..end].trim_start_matches(is_python_space).len();
    }
    if after.is_some_and(|cut| cut.added.lstrip) {
        end = start + text[start..end].trim_end_matches(is_python_space).len();
    }
    start..end
}

impl Engine for Slow {
    fn encode_parsed(&self, text: &str) -> Result<Tokens> {
        let mut prepared = self.begin(text.len());
        self.prepare(text, 0, &mut prepared);
        let found = self.added.find(prepared.text());
        let cuts: Vec<_> = found.map(|(range, added)| Cut { range, added }).collect();
        self.encode(&prepared, &cuts, Specials::Parsed)
    }

    fn encode_pieces(&self, pieces: &[Piece]) -> Result<Tokens> {
        let mut prepared = self.begin(pieces.iter().map(|piece| piece.as_str().len()).sum());
        let mut cuts = Vec::new();
        let mut origin = 0;
        for piece in pieces {
            match piece {
                Piece::Text(part) => self.prepare(part, origin, &mut prepared),
                Piece::Token(name) => {
                    let added = self.added.get(name).ok_or_else(|| no_token(name))?;
                    let start = prepared.text().len();
                    prepared.push_str(name, origin);
                    let range = start..prepared.text().len();
                    cuts.push(Cut { range, added });
                }
            }
            origin += piece.as_str().len();
        }
        self.encode(&prepared, &cuts, Specials::AsText)
    }

    fn id(&self, token: &str) -> Option<u32> {
        let added = self.added.get(token).map(|added| added.id);
        added.or_else(|| self.words.id(token))
    }

    fn adds(&self, token: &str) -> bool {
        self.added.get(token).is_some()
    }

    fn cuts_before(&self, token: &str) -> bool {
        self.added.cuts_before(token)
    }

    fn vocabulary(&self) -> usize {
        self.words.len().max(self.added.end())
    }

    fn new_tokens(&self) -> usize {
        self.added.new
    }
}
