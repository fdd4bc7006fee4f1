//! What a response answers: one question, or the messages of a conversation.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::kinds::InputMode;
use crate::{Error, Result};

/// The tag that stands for an image in a user's text.
pub const IMAGE_TAG: &str = "<image>";

/// The notice about rows with [`Prompt::keeps_tag`].
pub const TAG_NOTICE: &str = "a prompt with one image has an <image> tag, which in InternVL's templates stays in its text \
                              after the image, as in the published code; rows with messages have the image in the tag's place";

/// How a template puts images into a user's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagStyle {
    /// As InternVL: an image without a tag has a line for itself, and the only image of a question comes first whatever
    /// its text says.
    Line,
    /// As Qwen: an image stands exactly where its tag does, or else before the text without a line break.
    Inline,
}

impl TagStyle {
    /// Tags of `images` before a text.
    fn first(self, images: usize) -> String {
        match self {
            Self::Line => format!("{IMAGE_TAG}\n").repeat(images),
            Self::Inline => IMAGE_TAG.repeat(images),
        }
    }
}

/// The author of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions to the assistant.
    System,
    /// The author of questions and images.
    User,
    /// The author of responses.
    Assistant,
}

/// One message of a conversation, without the conversation template.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Its author.
    pub role: Role,
    /// Its text. In a user's message `<image>` is the place of an image.
    pub content: String,
}

/// What a response answers. Strings are questions, lists of messages conversations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// The user's only message, read as the published code reads it: a single image comes before it whatever it says;
    /// several take the places of its `<image>` tags, or all come first if it has none.
    Question(String),
    /// A conversation that the response continues: maybe a system message, then turns of the user and the assistant,
    /// the last one the user's. Images take the places of the `<image>` tags in the user's messages, or all come first
    /// in the first of these if there is no tag. Without a system message, or with an empty one, the template's counts.
    Messages(Vec<Message>),
}

impl Role {
    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl Message {
    /// A message of this author.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: content.into(),
        }
    }

    /// A system message, which replaces the template's.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new(Role::System, content)
    }

    /// A message of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new(Role::User, content)
    }

    /// An earlier answer.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new(Role::Assistant, content)
    }

    fn is_by(&self, role: Role) -> bool {
        self.role == role
    }
}

impl Prompt {
    /// Whether InternVL's templates keep a tag in the text, after the only image, which comes first in any case
    /// ([`TAG_NOTICE`]).
    pub fn keeps_tag(&self, images: usize) -> bool {
        matches!(self, Self::Question(text) if images == 1 && text.contains(IMAGE_TAG))
    }

    /// Length of its texts in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Question(text) => text.len(),
            Self::Messages(messages) => messages.iter().map(|m| m.content.len()).sum(),
        }
    }

    /// Checks a row: a conversation has turns that a template has, and tags that match its `images`.
    ///
    /// # Errors
    /// It has not.
    pub(crate) fn check(&self, images: usize) -> Result<()> {
        self.tagged(images, TagStyle::Line).map(drop)
    }

    /// What a model of this input mode reads: a text-only one sees one white image instead of all others, an image-only
    /// one no text.
    pub fn seen(&self, mode: InputMode) -> Cow<'_, Self> {
        match (mode, self) {
            (InputMode::ImageOnly, _) => Cow::Owned(Self::Question(String::new())),
            (InputMode::TextOnly, Self::Messages(messages)) => {
                Cow::Owned(Self::Messages(with_first_tag(messages)))
            }
            (InputMode::TextOnly, Self::Question(text)) if tags(text) > 1 => {
                let message = Message::user(text);
                Cow::Owned(Self::Messages(with_first_tag(&[message])))
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// The messages with a tag in the user's for each of `images`.
    ///
    /// # Errors
    /// Tags that do not match the images, or messages in an order that no template has.
    pub(crate) fn tagged(&self, images: usize, style: TagStyle) -> Result<Vec<Message>> {
        match self {
            Self::Question(text) => Ok(vec![Message::user(tagged_question(text, images, style)?)]),
            Self::Messages(messages) => {
                check(messages)?;
                tagged_messages(messages, images, style)
            }
        }
    }

    /// The messages with tags as text like any other, for a template without images.
    ///
    /// # Errors
    /// Messages in an order that no template has.
    pub(crate) fn as_it_is(&self) -> Result<Vec<Message>> {
        let messages = match self {
            Self::Question(text) => vec![Message::user(text)],
            Self::Messages(messages) => messages.clone(),
        };
        check(&messages)?;
        Ok(messages)
    }

    /// The messages without image tags, for a model without vision.
    ///
    /// # Errors
    /// Messages in an order that no template has.
    pub(crate) fn untagged(&self) -> Result<Vec<Message>> {
        let mut messages = self.as_it_is()?;
        for message in of_user(&mut messages) {
            message.content = without_tags(&message.content);
        }
        Ok(messages)
    }
}

/// The question, or each message after the name of its author.
impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Question(text) => f.write_str(text),
            Self::Messages(messages) if messages.len() == 1 => f.write_str(&messages[0].content),
            Self::Messages(messages) => {
                let texts = messages
                    .iter()
                    .map(|m| format!("{}: {}", m.role.name(), m.content));
                f.write_str(&texts.collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

impl Default for Prompt {
    fn default() -> Self {
        Self::Question(String::new())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::Question(text)
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::Question(text.to_owned())
    }
}

impl From<&String> for Prompt {
    fn from(text: &String) -> Self {
        Self::Question(text.clone())
    }
}

impl From<&Self> for Prompt {
    fn from(prompt: &Self) -> Self {
        prompt.clone()
    }
}

impl From<Vec<Message>> for Prompt {
    fn from(messages: Vec<Message>) -> Self {
        Self::Messages(messages)
    }
}

/// Checks the order of the messages that a response continues.
///
/// # Errors
/// A system message that is not the first one, two messages of one author in a row, or a last one that is not the
/// user's.
pub(crate) fn check(messages: &[Message]) -> Result<()> {
    let first = usize::from(messages.first().is_some_and(|m| m.is_by(Role::System)));
    let authors = [Role::User, Role::Assistant].into_iter().cycle();
    for ((index, message), author) in messages.iter().enumerate().skip(first).zip(authors) {
        if !message.is_by(author) {
            let (expected, got) = (author.name(), message.role.name());
            return Err(Error::invalid(format!(
                "expected a message of role {expected}, got one of role {got} (turns alternate; a system message is the \
                 first one)"
            ))
            .at(format!("[{index}]")));
        }
    }
    match messages.last() {
        Some(last) if last.is_by(Role::User) => Ok(()),
        _ => Err(Error::invalid(
            "expected a last message of role user before the response",
        )),
    }
}

fn of_user(messages: &mut [Message]) -> impl Iterator<Item = &mut Message> {
    messages.iter_mut().filter(|m| m.is_by(Role::User))
}

fn tags(text: &str) -> usize {
    text.matches(IMAGE_TAG).count()
}

fn tagged_question(text: &str, images: usize, style: TagStyle) -> Result<String> {
    let tags = tags(text);
    let is_first = style == TagStyle::Line && images == 1;
    match is_first || tags == 0 {
        true => Ok(style.first(images) + text),
        false if tags == images => Ok(text.to_owned()),
        false => Err(Error::ImageTags { tags, images }),
    }
}

fn tagged_messages(messages: &[Message], images: usize, style: TagStyle) -> Result<Vec<Message>> {
    let mut messages = messages.to_owned();
    let tags = of_user(&mut messages).map(|m| tags(&m.content)).sum();
    if tags != 0 && tags != images {
        return Err(Error::ImageTags { tags, images });
    }
    for (index, message) in of_user(&mut messages).enumerate() {
        match tags {
            0 if index == 0 => message.content.insert_str(0, &style.first(images)),
            1 if style == TagStyle::Line => message.content = with_line(&message.content),
            _ => {}
        }
    }
    Ok(messages)
}

/// The text with the only image's tag in a separate line, if it begins with it: as the published code puts it.
fn with_line(text: &str) -> String {
    match text.trim_start().strip_prefix(IMAGE_TAG) {
        Some(rest) => TagStyle::Line.first(1) + rest.strip_prefix('\n').unwrap_or(rest),
        None => text.to_owned(),
    }
}

/// The messages without all tags but the first one.
fn with_first_tag(messages: &[Message]) -> Vec<Message> {
    let (mut messages, mut is_found) = (messages.to_owned(), false);
    for message in of_user(&mut messages) {
        let content = &mut message.content;
        *content = match content.split_once(IMAGE_TAG).filter(|_| !is_found) {
            Some((before, after)) => {
                is_found = true;
                format!("{before}{IMAGE_TAG}{}", without_tags(after))
            }
            None => without_tags(content),
        };
    }
    messages
}

fn without_tags(text: &str) -> String {
    text.replace(&TagStyle::Line.first(1), "")
        .replace(IMAGE_TAG, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(texts: &[&str]) -> Vec<Message> {
        let authors = [Role::User, Role::Assistant].into_iter().cycle();
        let messages = texts.iter().zip(authors);
        messages
            .map(|(text, role)| Message::new(role, *text))
            .collect()
    }

    fn tagged(texts: &[&str], images: usize) -> Vec<String> {
        let tagged = Prompt::Messages(messages(texts))
            .tagged(images, TagStyle::Line)
            .unwrap();
        tagged.into_iter().map(|m| m.content).collect()
    }

    #[test]
    fn images_take_the_places_of_the_users_tags() {
        for (texts, images, expected) in [
            (["a", "b", "c"], 0, ["a", "b", "c"]),
            (["a", "<image>", "c"], 1, ["<image>\na", "<image>", "c"]),
            (["a", "b", "c"], 2, ["<image>\n<image>\na", "b", "c"]),
            (["<image>a", "b", "c"], 1, ["<image>\na", "b", "c"]),
            ([" <image>\na", "b", "c"], 1, ["<image>\na", "b", "c"]),
            (["a", "b", "<image>c"], 1, ["a", "b", "<image>\nc"]),
            (["a <image>?", "b", "c"], 1, ["a <image>?", "b", "c"]),
            (
                ["<image>a", "b", "<image>c"],
                2,
                ["<image>a", "b", "<image>c"],
            ),
        ] {
            assert_eq!(tagged(&texts, images), expected, "{texts:?} {images}");
        }
        for (texts, images) in [(["<image>", "b", "<image>"], 1), (["<image>", "b", "c"], 0)] {
            let error = Prompt::Messages(messages(&texts))
                .tagged(images, TagStyle::Line)
                .unwrap_err();
            assert!(matches!(error, Error::ImageTags { .. }), "{error}");
        }
    }

    #[test]
    fn inline_images_stand_where_their_tags_do() {
        let tagged = |text: &str, images| Prompt::from(text).tagged(images, TagStyle::Inline);
        for (text, images, expected) in [
            ("a", 2, "<image><image>a"),
            ("a <image> b", 1, "a <image> b"),
            ("<image>a", 1, "<image>a"),
        ] {
            assert_eq!(tagged(text, images).unwrap()[0].content, expected);
        }
        assert!(matches!(
            tagged("<image><image>", 1),
            Err(Error::ImageTags { .. })
        ));
        let turns = Prompt::Messages(messages(&["a", "b", "<image>c"]));
        let turns = turns.tagged(1, TagStyle::Inline).unwrap();
        assert_eq!(turns[2].content, "<image>c");
    }

    #[test]
    fn models_without_vision_or_with_the_white_image_read_other_tags() {
        let prompt = Prompt::Messages(messages(&["<image>\na <image>", "<image>", "<image>\nc"]));
        let texts =
            |messages: Vec<Message>| messages.into_iter().map(|m| m.content).collect::<Vec<_>>();
        assert_eq!(texts(prompt.untagged().unwrap()), ["a ", "<image>", "c"]);
        let white = prompt.seen(InputMode::TextOnly);
        assert_eq!(
            texts(white.tagged(1, TagStyle::Line).unwrap()),
            ["<image>\na ", "<image>", "c"]
        );
        let none = prompt.seen(InputMode::ImageOnly);
        assert_eq!(
            texts(none.tagged(2, TagStyle::Line).unwrap()),
            ["<image>\n<image>\n"]
        );
    }

    #[test]
    fn turns_alternate_and_end_with_the_users() {
        let system = || Message::system("s");
        let [user, assistant] = [Message::user("u"), Message::assistant("a")];
        let of = |list: &[&Message]| check(&list.iter().copied().cloned().collect::<Vec<_>>());
        of(&[&system(), &user, &assistant, &user]).unwrap();
        for (list, expected) in [
            (vec![], "expected a last message of role user"),
            (vec![&system()], "expected a last message of role user"),
            (
                vec![&user, &assistant],
                "expected a last message of role user",
            ),
            (
                vec![&user, &user],
                "[1]: expected a message of role assistant, got one of role user",
            ),
            (
                vec![&assistant],
                "[0]: expected a message of role user, got one of role assistant",
            ),
            (
                vec![&user, &system()],
                "[1]: expected a message of role assistant, got one of role system",
            ),
        ] {
            let error = of(&list).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn prompts_are_written_as_rows_have_them() {
        for json in [r#""p""#, r#"[{"role":"user","content":"p"}]"#] {
            let prompt: Prompt = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&prompt).unwrap(), json);
        }
    }
}
