//! Values with threads, which a forked child does not have.

use pyo3::exceptions::PyRuntimeError;
use pyo3::{PyResult, Python};

/// A value of the process that made it.
pub(crate) struct Local<T: Send> {
    /// None only while it is dropped.
    value: Option<T>,
    process: u32,
}

impl<T: Send> Local<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            value: Some(value),
            process: std::process::id(),
        }
    }

    fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    /// The value.
    ///
    /// # Errors
    /// This process is a fork of the one that made it.
    pub(crate) fn get(&self) -> PyResult<&T> {
        match &self.value {
            Some(value) if self.is_here() => Ok(value),
            _ => Err(PyRuntimeError::new_err(format!(
                "this model was loaded in process {}, of which this one is a fork: the threads of the engine stayed there. \
                 Load it in the child, or start workers by the method \"spawn\"",
                self.process
            ))),
        }
    }
}

/// Without the interpreter's lock, since the value's threads may be waiting for it. In a child the value is forgotten:
/// waiting for threads that do not exist would never end.
impl<T: Send> Drop for Local<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if !self.is_here() {
            return std::mem::forget(value);
        }
        let mut value = Some(value);
        Python::try_attach(|py| py.detach(|| drop(value.take())));
        // The interpreter has ended, and nothing waits for its lock.
        drop(value);
    }
}
