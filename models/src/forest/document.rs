//! A document: conversations that may share a prefix.

use crate::prompt::Conversation;
use crate::rope::RopeSettings;
use crate::{Error, Result};

/// Conversations about the same images.
#[derive(Clone, Debug)]
pub struct Document<'a> {
    /// The conversations; at least one, none empty, all with the same scaling ([`RopeSettings::scaled_by`]).
    pub branches: Vec<&'a Conversation>,
    /// For each image token of a conversation, in order, the row of the image embeddings that belongs there.
    pub image_rows: Vec<i64>,
}

impl Document<'_> {
    /// Length of the longest common token prefix, capped so that every branch keeps at least one token.
    pub fn prefix(&self) -> usize {
        let first = &self.branches[0].ids;
        let common = |other: &Conversation| {
            first
                .iter()
                .zip(&other.ids)
                .take_while(|(a, b)| a == b)
                .count()
        };
        let shortest = self.branches.iter().map(|b| b.ids.len()).min().unwrap_or(0);
        self.branches
            .iter()
            .map(|b| common(b))
            .min()
            .unwrap_or(0)
            .min(shortest.saturating_sub(1))
    }

    /// Tokens of the document as a tree.
    pub fn tokens(&self) -> usize {
        let prefix = self.prefix();
        prefix
            + self
                .branches
                .iter()
                .map(|b| b.ids.len() - prefix)
                .sum::<usize>()
    }

    /// The length that decides the scaling of all branches.
    pub(super) fn scaled_by(&self, rope: &RopeSettings) -> usize {
        rope.scaled_by(self.branches[0].ids.len())
    }

    pub(super) fn check(&self, rope: &RopeSettings) -> Result<()> {
        self.check_content()?;
        let scaling = self.scaled_by(rope);
        let mut lengths = self.branches.iter().map(|b| b.ids.len());
        match lengths.find(|&length| rope.scaled_by(length) != scaling) {
            None => Ok(()),
            Some(length) => Err(Error::invalid(format!(
                "a document's conversations must be scaled alike, those of {} and {length} tokens are not",
                self.branches[0].ids.len()
            ))),
        }
    }

    pub(super) fn check_content(&self) -> Result<()> {
        if self.branches.is_empty() || self.branches.iter().any(|b| b.ids.is_empty()) {
            return Err(Error::invalid(
                "a document needs conversations of at least one token",
            ));
        }
        let images = &self.branches[0].images;
        if self.branches.iter().any(|b| b.images != *images) {
            let problem = "a document's conversations must have images of the same extents";
            return Err(Error::invalid(problem));
        }
        match self
            .branches
            .iter()
            .find(|b| b.image_tokens.len() != self.image_rows.len())
        {
            Some(b) => Err(Error::invalid(format!(
                "a conversation has {} image tokens for {} image embeddings",
                b.image_tokens.len(),
                self.image_rows.len()
            ))),
            None => Ok(()),
        }
    }
}
