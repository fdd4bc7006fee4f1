//! The one or two branches of a run.

use anyhow::Result;

/// A value per branch.
pub struct Branches<T> {
    /// The branch that is deployed.
    pub main: T,
    /// The shortcut proxy of the shortcut-aware algorithm, if the run has one.
    pub text: Option<T>,
}

impl<T> Branches<T> {
    /// The main branch's value, then the text-only one's if there is one.
    pub fn each(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.main).chain(&self.text)
    }

    pub(crate) fn each_mut(&mut self) -> impl Iterator<Item = &mut T> {
        std::iter::once(&mut self.main).chain(&mut self.text)
    }

    /// Applies `f` to each branch's value.
    ///
    /// # Errors
    /// An error of `f`.
    pub(crate) fn map<U>(&self, f: impl Fn(&T) -> Result<U>) -> Result<Branches<U>> {
        Ok(Branches {
            main: f(&self.main)?,
            text: self.text.as_ref().map(f).transpose()?,
        })
    }
}
