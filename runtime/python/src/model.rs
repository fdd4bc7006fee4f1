//! `RewardModel` of `seeward._native`: what the class of that name in Python is derived from.

use std::path::PathBuf;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use seeward_models::probe::{Tolerance, Verdict};
use seeward_runtime::{Bundle, Error, Options};

use crate::batch::{Batch, Scored, fields};
use crate::errors::raise;
use crate::groups::Groups;
use crate::local::Local;
use crate::options::{INPUTS, read_options};
use crate::requests::{request, texts};
use crate::windows;

/// Whether the rewards are as trained, why, their errors as JSON, and for each probe the rewards as trained and as
/// computed here.
type Checked = (Option<bool>, String, String, Vec<(Vec<f32>, Vec<f32>)>);

/// A loaded bundle.
#[pyclass(frozen, subclass, module = "seeward._native")]
pub(crate) struct RewardModel(Local<seeward_runtime::RewardModel>);

impl RewardModel {
    pub(crate) fn model(&self) -> PyResult<&seeward_runtime::RewardModel> {
        self.0.get()
    }
}

/// Compares every file of the bundle in a folder with its hash.
#[pyfunction]
pub(crate) fn verify_bundle(py: Python<'_>, folder: PathBuf) -> PyResult<()> {
    let verify = || Bundle::open(&folder)?.verify();
    let verified = py.detach(verify).map_err(Error::Bundle);
    verified.map_err(|error| raise(&error))
}

#[pymethods]
impl RewardModel {
    #[new]
    #[pyo3(signature = (bundle, **options))]
    fn new(py: Python<'_>, bundle: PathBuf, options: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let options = options.map_or_else(|| Ok(Options::default()), read_options)?;
        let model = py.detach(|| seeward_runtime::RewardModel::load(&bundle, options));
        Ok(Self(Local::new(model.map_err(|error| raise(&error))?)))
    }

    #[getter]
    fn bundle(&self) -> PyResult<PathBuf> {
        Ok(self.model()?.bundle().folder().to_owned())
    }

    #[getter]
    fn device(&self) -> PyResult<String> {
        Ok(self.model()?.device().to_string())
    }

    #[getter]
    fn input_mode(&self) -> PyResult<&'static str> {
        let mode = self.model()?.input_mode();
        let mut names = INPUTS.iter();
        Ok(names
            .find(|(_, of)| *of == mode)
            .map_or("", |(name, _)| name))
    }

    /// The content of the bundle's reward_model.json, as text.
    fn manifest_json(&self) -> PyResult<String> {
        let manifest = self.model()?.bundle().manifest();
        let json = serde_json::to_string(manifest);
        json.map_err(|error| PyException::new_err(error.to_string()))
    }

    /// The graph nodes of each execution provider.
    fn node_assignments(&self) -> PyResult<Vec<String>> {
        let assignments = self.model()?.node_assignments();
        Ok(assignments.map(ToString::to_string).collect())
    }

    /// The rewards of one request.
    #[pyo3(signature = (prompt, responses, images = None))]
    fn score_one(
        &self,
        py: Python<'_>,
        prompt: &Bound<'_, PyAny>,
        responses: &Bound<'_, PyAny>,
        images: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Scored> {
        let request = request(prompt, texts(responses)?, images)?;
        let model = self.model()?;
        let scored = py.detach(|| model.score(std::slice::from_ref(&request)));
        let mut results = scored.map_err(|error| raise(&error))?.results;
        let scores = results.pop().unwrap_or(Err(Error::Panicked));
        scores.map(fields).map_err(|error| raise(&error))
    }

    /// For each request the fields of its scores, or its exception, which is raised instead if `raises`. `progress` gets
    /// the number of requests of every window that is finished.
    #[pyo3(signature = (requests, raises = false, progress = None))]
    fn score_requests<'py>(
        &self,
        requests: &Bound<'py, PyAny>,
        raises: bool,
        progress: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut batch = Batch::new(requests, raises, progress)?;
        windows::score(requests.py(), self.model()?, &mut batch)?;
        Ok(batch.into_results())
    }

    /// For each triple of prompt, response and images its reward, or its exception. Responses of equal prompts and images
    /// are one request.
    fn score_triples<'py>(&self, triples: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        Groups::read(triples)?.score(triples.py(), self.model()?)
    }

    /// What the bundle's probes show.
    fn check_probes(&self, py: Python<'_>) -> PyResult<Checked> {
        let model = self.model()?;
        let check = py.detach(|| model.check_probes());
        let check = check.map_err(|error| raise(&error))?;
        let errors = serde_json::to_string(&check.errors);
        let errors = errors.map_err(|error| PyException::new_err(error.to_string()))?;
        let allowed = match check.tolerance {
            Tolerance::Largest(allowed) => format!("{allowed:.1e} · max(1, |reward|)"),
            Tolerance::ShareOfSpread(share) => format!("{share} of the rewards' spread"),
        };
        let (is_as_trained, reason) = match check.errors.verdict(check.tolerance) {
            Verdict::AsTrained => (Some(true), format!("allowed: {allowed}")),
            Verdict::NotAsTrained => (Some(false), format!("allowed: {allowed}")),
            Verdict::Undecided(reason) => (None, reason),
        };
        let rows = check.rewards.into_iter();
        let rewards = rows.map(|row| (row.expected, row.got)).collect();
        Ok((is_as_trained, reason, errors, rewards))
    }
}
