//! The roles of the bundles. Files and JSON fields are named after them.

pub(super) const MODEL: &str = "model";
pub(super) const TEXT_ONLY: &str = "text_only";
pub(super) const COMPARE: &str = "compare";
/// The rule that the longer response is the better one: the baseline without a model.
pub(super) const LENGTH_ONLY: &str = "length_only";

/// The index of the model to compare with the first one: the compared model, else the text-only one.
pub(super) fn other(roles: &[&str]) -> Option<usize> {
    let compared = roles.iter().position(|role| *role == COMPARE);
    compared.or((roles.len() > 1).then_some(1))
}
