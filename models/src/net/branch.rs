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
    /// What stands before this branch's tensor names: nothing, or the scope with its dot.
    pub fn prefix(self) -> String {
        match self {
            Self::Main => String::new(),
            Self::TextOnly => format!("{TEXT_ONLY_SCOPE}."),
        }
    }
}
