//! Single responses, put together where their prompts and images are equal.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyList;
use seeward_runtime::{Error, Request, Result, RewardModel, Scores};

use crate::batch::unreadable;
use crate::errors::raise;
use crate::images::kind;
use crate::requests::request;
use crate::windows::{self, WINDOW, Work};

/// Requests with all responses to their prompts and images.
#[derive(Default)]
pub(crate) struct Groups {
    requests: Vec<Request>,
    /// Indices of `requests` by the hash of prompt and images.
    known: HashMap<u64, Vec<usize>>,
    /// For each triple its request and its place there, or why it could not be read.
    places: Vec<std::result::Result<(usize, usize), PyErr>>,
}

impl Groups {
    /// Reads triples of prompt, response and images.
    ///
    /// # Errors
    /// Something else than triples.
    pub(crate) fn read(triples: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut groups = Self::default();
        for triple in triples.try_iter()? {
            let (prompt, response, images): (Bound<'_, _>, Bound<'_, _>, Bound<'_, _>) =
                triple?.extract()?;
            let read = response.extract().map_err(|_| {
                let got = kind(&response);
                PyException::new_err(format!("responses: expected a text, got {got}"))
            });
            let read = read.and_then(|response| request(&prompt, vec![response], Some(&images)));
            let place = match read {
                Ok(request) => Ok(groups.add(request)),
                Err(error) => Err(unreadable(triples.py(), error)?),
            };
            groups.places.push(place);
        }
        Ok(groups)
    }

    fn add(&mut self, request: Request) -> (usize, usize) {
        let mut hasher = DefaultHasher::new();
        (&request.prompt, &request.images).hash(&mut hasher);
        let known = self.known.entry(hasher.finish()).or_default();
        let requests = &mut self.requests;
        let is_equal = |&&at: &&usize| {
            requests[at].prompt == request.prompt && requests[at].images == request.images
        };
        if let Some(&at) = known.iter().find(is_equal) {
            requests[at].responses.extend(request.responses);
            return (at, requests[at].responses.len() - 1);
        }
        known.push(requests.len());
        requests.push(request);
        (requests.len() - 1, 0)
    }

    /// The reward of each triple, or its exception.
    ///
    /// # Errors
    /// As [`windows::score`].
    pub(crate) fn score<'py>(
        self,
        py: Python<'py>,
        model: &RewardModel,
    ) -> PyResult<Bound<'py, PyList>> {
        let scored = Whole::score(py, model, self.requests.clone())?;
        let rewards = self.rewards(py, model, scored)?;
        let results = PyList::empty(py);
        for place in self.places {
            let reward = place.and_then(|(at, index)| match &rewards[at][index] {
                Ok(reward) => Ok(*reward),
                Err(error) => Err(raise(error)),
            });
            match reward {
                Ok(reward) => results.append(reward)?,
                Err(error) => results.append(error.into_value(py))?,
            }
        }
        Ok(results)
    }

    /// For each request the reward of each response. One response may have spoiled the others' request: these are scored
    /// alone.
    fn rewards(
        &self,
        py: Python<'_>,
        model: &RewardModel,
        scored: Vec<Result<Scores>>,
    ) -> PyResult<Vec<Vec<Result<f32>>>> {
        let is_shared = |request: &Request| request.responses.len() > 1;
        let failed = self.requests.iter().zip(&scored);
        let failed = failed.filter(|(request, result)| is_shared(request) && result.is_err());
        let alone = failed.flat_map(|(request, _)| alone(request)).collect();
        let mut alone = Whole::score(py, model, alone)?.into_iter().map(first);
        let rewards = |(request, result): (&Request, Result<Scores>)| match result {
            Ok(scores) => scores.rewards.into_iter().map(Ok).collect(),
            Err(_) if is_shared(request) => alone.by_ref().take(request.responses.len()).collect(),
            Err(error) => vec![Err(error)],
        };
        Ok(self.requests.iter().zip(scored).map(rewards).collect())
    }
}

/// A request for each of the request's responses.
fn alone(request: &Request) -> impl Iterator<Item = Request> {
    let of = |response| {
        let alone = Request::new(&request.prompt).images(request.images.iter().cloned());
        alone.response(response)
    };
    request.responses.iter().map(of)
}

fn first(result: Result<Scores>) -> Result<f32> {
    result?.rewards.first().copied().ok_or(Error::Panicked)
}

/// Requests that are all there.
struct Whole {
    requests: std::vec::IntoIter<Request>,
    results: Vec<Result<Scores>>,
}

impl Whole {
    fn score(
        py: Python<'_>,
        model: &RewardModel,
        requests: Vec<Request>,
    ) -> PyResult<Vec<Result<Scores>>> {
        let mut work = Self {
            results: Vec::with_capacity(requests.len()),
            requests: requests.into_iter(),
        };
        windows::score(py, model, &mut work)?;
        Ok(work.results)
    }
}

impl Work for Whole {
    fn next(&mut self) -> PyResult<Option<Vec<Request>>> {
        let window: Vec<Request> = self.requests.by_ref().take(WINDOW).collect();
        Ok(Some(window).filter(|window| !window.is_empty()))
    }

    fn done(&mut self, results: Vec<Result<Scores>>) -> PyResult<()> {
        self.results.extend(results);
        Ok(())
    }
}
