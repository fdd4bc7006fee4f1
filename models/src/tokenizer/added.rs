//! Added tokens, which stay whole wherever a text has them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use super::engine::is_crossed;
use super::settings::{AddedToken, Settings};
use super::words::Words;
use crate::{Error, Result};

/// An added token.
#[derive(Debug)]
pub(super) struct Added {
    pub(super) id: u32,
    pub(super) lstrip: bool,
    pub(super) rstrip: bool,
    /// Whether it has a role (bos, eos, …, additional). Being listed as special is not enough.
    pub(super) has_role: bool,
}

/// All added tokens.
pub(super) struct AddedTokens {
    tokens: Vec<Added>,
    by_content: HashMap<String, usize>,
    finder: AhoCorasick,
    /// The number of image tokens that neither the vocabulary nor the settings have.
    pub(super) new: usize,
}

impl AddedTokens {
    /// The tokens of the settings, then those with a role, then the image tokens. A token that is not in the vocabulary
    /// gets the id after all known names.
    pub(super) fn new(
        words: &dyn Words,
        settings: &Settings,
        special: &[AddedToken],
        vision: &[&str],
    ) -> Result<Self> {
        let mut table = Table::new(words, settings.added())?;
        for token in special {
            table.add(token)?;
        }
        let mut new = 0;
        for token in vision {
            new += usize::from(table.add(&AddedToken::plain(token))?);
        }
        let has_role = |content: &str| {
            vision.contains(&content) || special.iter().any(|token| token.content == content)
        };
        table.finish(new, has_role)
    }

    pub(super) fn get(&self, content: &str) -> Option<&Added> {
        self.by_content.get(content).map(|&at| &self.tokens[at])
    }

    /// Their places in `text`: from left to right, the longest first.
    pub(super) fn find<'a>(
        &'a self,
        text: &'a str,
    ) -> impl Iterator<Item = (Range<usize>, &'a Added)> {
        let found = self.finder.find_iter(text);
        found.map(|at| (at.range(), &self.tokens[at.pattern().as_usize()]))
    }

    /// As [`Engine::cuts_before`](super::engine::Engine::cuts_before).
    pub(super) fn cuts_before(&self, content: &str) -> bool {
        let keeps_place = self.get(content).is_some_and(|token| !token.lstrip);
        keeps_place && !is_crossed(content, self.by_content.keys())
    }

    pub(super) fn ids(&self) -> HashSet<u32> {
        self.tokens.iter().map(|token| token.id).collect()
    }

    /// One more than the largest of their ids.
    pub(super) fn end(&self) -> usize {
        let last = self.tokens.iter().map(|token| token.id).max();
        last.map_or(0, |id| id as usize + 1)
    }
}

/// The tokens while they are collected.
struct Table<'a> {
    words: &'a dyn Words,
    by_id: BTreeMap<u32, AddedToken>,
    ids: HashMap<String, u32>,
    /// The number of names, the vocabulary's included.
    names: usize,
}

impl<'a> Table<'a> {
    fn new(words: &'a dyn Words, added: &BTreeMap<u32, AddedToken>) -> Result<Self> {
        let mut table = Self {
            words,
            by_id: BTreeMap::new(),
            ids: HashMap::new(),
            names: words.len(),
        };
        for (&id, token) in added {
            table.insert(id, token)?;
        }
        Ok(table)
    }

    fn insert(&mut self, id: u32, token: &AddedToken) -> Result<()> {
        let AddedToken { content, .. } = token;
        if content.is_empty() {
            return Err(Error::invalid(format!("added token {id} is empty")));
        }
        // A token that takes the id of one in the vocabulary renames it.
        let is_name = id as usize >= self.words.len() && self.words.id(content).is_none();
        self.names += usize::from(is_name);
        if let Some(other) = self.by_id.insert(id, token.clone()) {
            return Err(Error::invalid(format!(
                "added token {content}: its id {id} is that of {}",
                other.content
            )));
        }
        if let Some(other) = self.ids.insert(content.clone(), id) {
            return Err(Error::invalid(format!(
                "added token {content}: it has two ids, {other} and {id}"
            )));
        }
        Ok(())
    }

    /// Whether the token is new.
    fn add(&mut self, token: &AddedToken) -> Result<bool> {
        if self.ids.contains_key(&token.content) {
            return Ok(false);
        }
        let known = self.words.id(&token.content);
        let next = || u32::try_from(self.names).map_err(Error::invalid);
        let id = known.map_or_else(next, Ok)?;
        self.insert(id, token)?;
        Ok(known.is_none())
    }

    fn finish(self, new: usize, has_role: impl Fn(&str) -> bool) -> Result<AddedTokens> {
        let contents = self.by_id.values().map(|token| &token.content);
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(contents.clone())
            .map_err(Error::invalid)?;
        let numbered = contents.enumerate();
        let by_content = numbered
            .map(|(at, content)| (content.clone(), at))
            .collect();
        let tokens = self.by_id.iter().map(|(&id, token)| Added {
            id,
            lstrip: token.lstrip,
            rstrip: token.rstrip,
            has_role: has_role(&token.content),
        });
        Ok(AddedTokens {
            tokens: tokens.collect(),
            by_content,
            finder,
            new,
        })
    }
}
