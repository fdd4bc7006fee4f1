//! The two reward models of a shortcut-aware checkpoint.

/// Scope of the text-only branch inside a checkpoint that holds both.
pub const TEXT_ONLY_SCOPE: &str = "bias_reward_model";

/// One of the two reward models that a shortcut-aware checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Branch {
    /// The reward model itself.
    Main,
    /// The shortcut proxy, trained on the white image.
    TextOnly,
}

impl Branch {
    /// The prefix of this branch's tensor names: empty, or the scope with its dot.
    pub fn prefix(self) -> String {
        match self {
            Self::Main => String::new(),
            Self::TextOnly => format!("{TEXT_ONLY_SCOPE}."),
        }
    }

    /// The branch that a tensor of this name belongs to.
    pub fn of(name: &str) -> Self {
        match Self::TextOnly.strip(name) {
            Some(_) => Self::TextOnly,
            None => Self::Main,
        }
    }

    /// The name inside this branch of the tensor `name`, unless it belongs to the other.
    pub fn strip(self, name: &str) -> Option<&str> {
        let text_only = name
            .strip_prefix(TEXT_ONLY_SCOPE)
            .and_then(|rest| rest.strip_prefix('.'));
        match self {
            Self::Main if text_only.is_some() => None,
            Self::Main => Some(name),
            Self::TextOnly => text_only,
        }
    }
}
