//! The journal of a run's notices.

use std::collections::BTreeSet;

/// The notices that were logged. A bad row recurs in every epoch and evaluation, but its notice is logged once.
#[derive(Default)]
pub(crate) struct Notices(BTreeSet<String>);

impl Notices {
    /// Adds notices. Returns the new ones, in order.
    pub(crate) fn add(&mut self, notices: impl IntoIterator<Item = String>) -> Vec<String> {
        let is_new = |notice: &String| self.0.insert(notice.clone());
        notices.into_iter().filter(is_new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_new_once() {
        let mut journal = Notices::default();
        let add = |journal: &mut Notices, notices: &[&str]| {
            journal.add(notices.iter().map(|&notice| notice.to_owned()))
        };
        assert_eq!(add(&mut journal, &["b", "a", "b"]), ["b", "a"]);
        assert_eq!(add(&mut journal, &["c", "a"]), ["c"]);
    }
}
