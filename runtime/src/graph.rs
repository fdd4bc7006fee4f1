//! One ONNX graph of a bundle in an engine session.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ndarray::{ArrayView, Dimension};
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::builder::SessionBuilder;
use ort::session::{Session, SessionInputValue};
use ort::value::{PrimitiveTensorElementType, Tensor, TensorRef};
use seeward_models::bundle::Bundle;
use seeward_models::contract::Contract;

use crate::assignment::{NodeAssignment, RECORD};
use crate::operators::{alone_if_first, operators};
use crate::provider::providers;
use crate::{Device, Error, Options, Result, library};

/// A graph ready to run. Threads may share it; their runs take turns.
pub(crate) struct Graph {
    name: &'static str,
    session: Mutex<Session>,
    /// Whether runs bind their inputs and output; on the CPU that would only copy them.
    pub(crate) bound: bool,
    /// The execution providers of the nodes.
    pub(crate) assignments: Vec<NodeAssignment>,
}

/// A graph's inputs, in the contract's order.
#[derive(Default)]
pub(crate) struct Inputs<'a>(Vec<Input<'a>>);

/// Creates the engine's value.
type Input<'a> = Box<dyn Fn(Storage) -> ort::Result<SessionInputValue<'a>> + 'a>;

/// Where the engine's value has its elements.
#[derive(Clone, Copy)]
enum Storage {
    /// In the caller's array.
    Borrowed,
    /// In a copy.
    Owned,
}

impl<'a> Inputs<'a> {
    /// Adds the next input.
    pub(crate) fn with<T, D>(mut self, array: ArrayView<'a, T, D>) -> Self
    where
        T: PrimitiveTensorElementType + Debug + Clone + 'static,
        D: Dimension + 'static,
    {
        self.0.push(Box::new(move |storage| match storage {
            Storage::Borrowed => Ok(TensorRef::from_array_view(array.clone())?.into()),
            Storage::Owned => Ok(Tensor::from_array(array.to_owned())?.into()),
        }));
        self
    }

    fn values(&self, storage: Storage) -> ort::Result<Vec<SessionInputValue<'a>>> {
        self.0.iter().map(|input| input(storage)).collect()
    }
}

impl Graph {
    /// Opens the bundle's graph of this name, which must have the contract's inputs.
    pub(crate) fn open(
        name: &'static str,
        bundle: &Bundle,
        contract: &Contract,
        options: &Options,
    ) -> Result<Self> {
        let refused = |e: ort::Error| refused(name, &e);
        let environment = library::environment(options.library.as_deref())?;
        let mut builder = builder(&environment, options).map_err(refused)?;
        if let Some(profile) = library::profile(name)? {
            builder = builder
                .with_profiling(profile)
                .map_err(|e| refused(e.into()))?;
        }
        if options.device != Device::Cpu {
            library::load_cuda().map_err(|e| no_device(options.device, &e))?;
        }
        for provider in providers(bundle, contract, options)? {
            builder = builder
                .with_execution_providers([provider.error_on_failure()])
                .map_err(|e| no_device(options.device, &e.into()))?;
        }
        let path = bundle.folder().join(name);
        let session = alone_if_first(|| builder.commit_from_file(path)).map_err(refused)?;
        check(name, &session, contract)?;
        Ok(Self {
            name,
            bound: options.device != Device::Cpu,
            assignments: NodeAssignment::of(name, &session).map_err(refused)?,
            session: Mutex::new(session),
        })
    }

    /// The graph's output for `inputs`, flat, and the time inside the engine.
    pub(crate) fn run(&self, inputs: Inputs) -> Result<(Vec<f32>, Duration)> {
        let refused = |e: ort::Error| refused(self.name, &e);
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        let values = match self.bound {
            true => run_bound(&mut session, &inputs),
            false => run(&mut session, &inputs),
        };
        Ok((values.map_err(refused)?, start.elapsed()))
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
    // No memory patterns: they are kept for every shape ever seen, and two runs rarely have the same.
    // Weights are prepacked, ONNX Runtime's default: loading InternVL2-1B in fp32 then takes 3.4 s of CPU time instead of
    // 0.2 s, and every run 12 % less, which pays off within two rows. Peak memory is the same, 0.92 of the weights' size:
    // packed weights replace the mapped file, of whose embedding table only the rows in use are read.
    Ok(Session::builder(environment)?
        .with_memory_pattern(false)?
        .with_config_entry(RECORD, "1")?
        .with_operators(operators()?)?
        // By default ONNX Runtime binds a thread to each core of the machine, even to those that the process may not use.
        .with_intra_threads(options.thread_count())?
        // A thread that spins while it waits takes its core from other processes and from the decoding of images.
        .with_intra_op_spinning(false)?)
}

fn run(session: &mut Session, inputs: &Inputs) -> ort::Result<Vec<f32>> {
    let inputs = inputs.values(Storage::Borrowed)?;
    let outputs = session.run(inputs.as_slice())?;
    let (_, values) = outputs[0].try_extract_tensor::<f32>()?;
    Ok(values.to_vec())
}

/// The same with each input copied once to the memory of the graph's provider, and the output to the CPU's. Inputs are owned:
/// ort 2.0.0-rc.15 deadlocks when binding borrowed CPU tensors that need no copy.
fn run_bound(session: &mut Session, inputs: &Inputs) -> ort::Result<Vec<f32>> {
    let mut binding = session.create_binding()?;
    for (input, value) in session.inputs().iter().zip(inputs.values(Storage::Owned)?) {
        binding.bind_input(input.name(), &value)?;
    }
    let cpu = MemoryInfo::new(
        AllocationDevice::CPU,
        0,
        AllocatorType::Device,
        MemoryType::CPUOutput,
    )?;
    binding.bind_output_to_device(session.outputs()[0].name(), &cpu)?;
    binding.synchronize_inputs()?;
    let outputs = session.run_binding(&binding)?;
    binding.synchronize_outputs()?;
    let (_, values) = outputs[0].try_extract_tensor::<f32>()?;
    Ok(values.to_vec())
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
    // Some of the engine's messages have several lines.
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
