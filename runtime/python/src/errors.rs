//! The runtime's errors as the exceptions of `seeward.errors`.

use pyo3::exceptions::PyValueError;
use pyo3::{PyErr, import_exception};
use seeward_runtime::Error;

import_exception!(seeward.errors, SeewardError);
import_exception!(seeward.errors, BundleError);
import_exception!(seeward.errors, DeviceError);
import_exception!(seeward.errors, EngineError);
import_exception!(seeward.errors, LibraryError);
import_exception!(seeward.errors, QueueFull);
import_exception!(seeward.errors, Closed);
import_exception!(seeward.errors, RequestError);
import_exception!(seeward.errors, ImageError);
import_exception!(seeward.errors, PromptError);
import_exception!(seeward.errors, NotFinite);

/// The exception for an error.
pub(crate) fn raise(error: &Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Image { image, .. } => ImageError::new_err((text, image.clone())),
        Error::NotFinite {
            response, reward, ..
        } => NotFinite::new_err((text, *response, *reward)),
        Error::Prompt(_) | Error::NoResponses | Error::NoVision { .. } => {
            PromptError::new_err(text)
        }
        Error::Bundle(_) | Error::InputMode { .. } | Error::NoProbes | Error::Probe { .. } => {
            BundleError::new_err(text)
        }
        Error::Device { .. } => DeviceError::new_err(text),
        Error::Library(_) => LibraryError::new_err(text),
        Error::Engine { .. } | Error::Batch(_) | Error::Panicked => EngineError::new_err(text),
        Error::QueueFull { .. } => QueueFull::new_err(text),
        Error::Closed => Closed::new_err(text),
        Error::Options(_) => PyValueError::new_err(text),
        _ => SeewardError::new_err(text),
    }
}
