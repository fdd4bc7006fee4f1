//! The reasoning of answers, as Qwen3's template writes it: in a separate block, which the last answer always has. Answers
//! before the last question lose theirs.

use crate::chat::{Message, Role};
use crate::tokenizer::Piece::{self, Text, Token};

const START: &str = "<think>";
const END: &str = "</think>";

/// The tokens around reasoning.
pub(super) const TOKENS: [Piece<'static>; 2] = [Token(START), Token(END)];

/// The place of an answer in its conversation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Place {
    /// A question comes later.
    History,
    /// After the last question, and not the last answer.
    Between,
    /// The last answer, to a question.
    Last,
}

impl Place {
    /// The place of each of `turns`, and of the response to them. The results of tools, which a user's message may hold,
    /// are no question.
    pub(in super::super) fn all(turns: &[Message]) -> (Vec<Self>, Self) {
        let is_question = |turn: &Message| turn.role == Role::User && !is_of_tool(&turn.content);
        let Some(last) = turns.iter().rposition(is_question) else {
            return (vec![Self::History; turns.len()], Self::History);
        };
        let place = |turn| match turn > last {
            true => Self::Between,
            false => Self::History,
        };
        ((0..turns.len()).map(place).collect(), Self::Last)
    }
}

fn is_of_tool(text: &str) -> bool {
    text.starts_with("<tool_response>") && text.ends_with("</tool_response>")
}

/// An answer with its reasoning, if it has a place for it.
pub(super) fn pieces(text: &str, place: Place) -> Vec<Piece<'_>> {
    let (reasoning, answer) = split(text);
    let has_block = match place {
        Place::History => false,
        Place::Between => !reasoning.is_empty(),
        Place::Last => true,
    };
    match has_block {
        false if answer.is_empty() => Vec::new(),
        false => vec![Text(answer)],
        true => vec![
            Token(START),
            Text("\n"),
            Text(reasoning.trim_matches('\n')),
            Text("\n"),
            Token(END),
            Text("\n\n"),
            Text(answer.trim_start_matches('\n')),
        ],
    }
}

/// Reasoning and answer of a message: before the first and after the last end of reasoning. The rest is lost, as in the
/// published template.
fn split(text: &str) -> (&str, &str) {
    let Some((before, _)) = text.split_once(END) else {
        return ("", text);
    };
    let before = before.trim_end_matches('\n');
    let reasoning = before.rsplit_once(START).map_or(before, |(_, after)| after);
    let answer = text.rsplit_once(END).map_or(text, |(_, after)| after);
    (
        reasoning.trim_start_matches('\n'),
        answer.trim_start_matches('\n'),
    )
}
