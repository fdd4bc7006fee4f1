//! One ONNX graph of a bundle in an engine session.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ort::environment::Environment;
use ort::ep::{self, ArenaExtendStrategy, ExecutionProviderDispatch};
use ort::session::builder::SessionBuilder;
use ort::session::{Session, SessionInputValue};
use ort::value::{PrimitiveTensorElementType, TensorRef};
use seeward_models::bundle::Contract;

use crate::attention::{alone_if_first, operators};
use crate::{Device, Error, Options, Result, library};

/// A graph ready to run. Threads may share it; their runs take turns.
pub(crate) struct Graph {
    name: &'static str,
    session: Mutex<Session>,
}

/// What is fed to a graph, in the contract's order.
#[derive(Default)]
pub(crate) struct Inputs<'a>(Vec<ort::Result<SessionInputValue<'a>>>);

impl<'a> Inputs<'a> {
    /// Adds the next input.
    pub(crate) fn with<T, const N: usize>(mut self, shape: [usize; N], values: &'a [T]) -> Self
    where
        T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
    {
        self.0
            .push(TensorRef::from_array_view((shape, values)).map(SessionInputValue::from));
        self
    }
}

impl Graph {
    /// Opens `path`, a graph that keeps `contract`.
    pub(crate) fn open(
        name: &'static str,
        path: &Path,
        contract: &Contract,
        environment: &Environment,
        options: &Options,
    ) -> Result<Self> {
        let refused = |e: ort::Error| refused(name, &e);
        let mut builder = builder(environment, options).map_err(refused)?;
        if options.device != Device::Cpu {
            library::load_cuda().map_err(|e| no_device(options.device, &e))?;
        }
        for provider in providers(options) {
            builder = builder
                .with_execution_providers([provider.error_on_failure()])
                .map_err(|e| no_device(options.device, &e.into()))?;
        }
        let session = alone_if_first(|| builder.commit_from_file(path)).map_err(refused)?;
        check(name, &session, contract)?;
        Ok(Self {
            name,
            session: Mutex::new(session),
        })
    }

    /// The graph's output for `inputs`, flat, with the time inside the engine.
    pub(crate) fn run(&self, inputs: Inputs) -> Result<(Vec<f32>, Duration)> {
        let refused = |e: ort::Error| refused(self.name, &e);
        let inputs: Vec<_> = inputs
            .0
            .into_iter()
            .collect::<ort::Result<_>>()
            .map_err(refused)?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        let outputs = session.run(inputs.as_slice()).map_err(refused)?;
        let seconds = start.elapsed();
        let (_, values) = outputs[0].try_extract_tensor::<f32>().map_err(refused)?;
        Ok((values.to_vec(), seconds))
    }

    /// An error of this graph.
    pub(crate) fn error(&self, problem: String) -> Error {
        Error::Engine {
            graph: self.name,
            problem,
        }
    }
}

fn builder(environment: &Environment, options: &Options) -> ort::Result<SessionBuilder> {
    // Memory patterns are kept for every shape ever seen, and hardly two runs have the same.
    // Weights are prepacked, as is ONNX Runtime's default: InternVL2-1B in fp32 then takes 3.4 s of processor time to load
    // instead of 0.2 s, and every run 12 % less, which pays off within two rows. Peak memory is the same, 0.92 of the
    // weights' size: packed weights replace the mapped file, of whose embedding table only rows in use are read.
    let builder = Session::builder(environment)?
        .with_memory_pattern(false)?
        .with_operators(operators()?)?;
    match options.threads {
        Some(threads) => Ok(builder.with_intra_threads(threads)?),
        None => Ok(builder),
    }
}

/// What the device needs besides the processor, best first.
fn providers(options: &Options) -> Vec<ExecutionProviderDispatch> {
    match options.device {
        Device::Cpu => Vec::new(),
        Device::Cuda(number) => vec![cuda(number)],
        Device::Tensorrt(number) => vec![tensorrt(number, options), cuda(number)],
    }
}

/// In fp32 products are fp32, which TF32, ONNX Runtime's default, is not. Memory grows by what is asked for instead of by
/// doubling, since others may use the GPU too.
fn cuda(number: u32) -> ExecutionProviderDispatch {
    ep::CUDA::default()
        .with_device_id(number as i32)
        .with_tf32(false)
        .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested)
        .build()
}

fn tensorrt(number: u32, options: &Options) -> ExecutionProviderDispatch {
    let provider = ep::TensorRT::default().with_device_id(number as i32);
    match &options.cache_dir {
        None => provider.build(),
        Some(folder) => provider
            .with_engine_cache(true)
            .with_engine_cache_path(folder.display())
            .with_timing_cache(true)
            .with_timing_cache_path(folder.display())
            .build(),
    }
}

fn check(name: &'static str, session: &Session, contract: &Contract) -> Result<()> {
    let got: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
    let expected: Vec<&str> = contract.inputs.iter().map(|port| port.name).collect();
    if got == expected {
        return Ok(());
    }
    Err(Error::Engine {
        graph: name,
        problem: format!("expected the inputs {expected:?}, got {got:?}"),
    })
}

fn refused(graph: &'static str, error: &ort::Error) -> Error {
    // Some of the engine's messages go over several lines.
    let message = error.to_string();
    let words: Vec<&str> = message.split_whitespace().collect();
    Error::Engine {
        graph,
        problem: words.join(" "),
    }
}

fn no_device(device: Device, error: &ort::Error) -> Error {
    let hint = "it needs a GPU, its driver and ONNX Runtime's GPU build (`make setup DEVICE=cuda`)";
    Error::Device {
        device,
        problem: format!("{} ({hint})", error.to_string().trim_end()),
    }
}
