//! A few ops run by both engines on the same arrays.

use std::path::Path;
use std::rc::Rc;
use std::sync::{Mutex, OnceLock, PoisonError};

use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::{PrimitiveTensorElementType, TensorRef};
use seeward_export::{Graph, GraphOps, Lowering, build_graph};
use seeward_models::Result;
use seeward_models::checkpoint::{Checkpoint, TensorData, WEIGHTS_FILE, write_tensors};
use seeward_models::contract::{Contract, Dim, Element, Port};
use seeward_models::kinds::{Precision, Target};
use seeward_models::net::Ops;
use seeward_tests::compare::{Tolerance, assert_close};
use seeward_train::libtorch::interpreter::{self, Torch};
use seeward_train::libtorch::parameters::{self, Parameters};
use seeward_train::libtorch::precision;
use seeward_train::random::Stream;
use tch::{Device, Kind, Tensor};

/// Target and precision of a case, with the tolerance.
const LOWERINGS: [(Target, Precision, f64); 7] = [
    (Target::Portable, Precision::Fp32, 1e-5),
    (Target::Cpu, Precision::Fp32, 1e-5),
    (Target::Tensorrt, Precision::Fp32, 1e-5),
    (Target::Portable, Precision::Fp16, 5e-3),
    (Target::Tensorrt, Precision::Fp16, 5e-3),
    (Target::Cpu, Precision::Bf16, 3.2e-2),
    (Target::Cpu, Precision::Int8, 6.4e-2),
];
const GRAPH: &str = "case.onnx";
/// Width of a head in the cases of attention over a forest.
const HEAD: usize = 8;

/// The computation of a case, by one interpreter.
pub(crate) type Body<O> = fn(&mut O, &[<O as Ops>::T]) -> Result<<O as Ops>::T>;

/// An input or a weight.
pub(crate) struct Array {
    name: &'static str,
    shape: Vec<usize>,
    values: Values,
}

enum Values {
    F32(Vec<f32>),
    U8(Vec<u8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// Uniform in [−1, 1), the same values for the same name.
pub(crate) fn floats<const N: usize>(shape: [usize; N]) -> impl FnOnce(&'static str) -> Array {
    let one = |bits: u64| (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
    array(shape, move |name| Values::F32(random(name, &shape, one)))
}

/// Every grey level, the same values for the same name.
pub(crate) fn bytes<const N: usize>(shape: [usize; N]) -> impl FnOnce(&'static str) -> Array {
    let one = |bits: u64| (bits >> 56) as u8;
    array(shape, move |name| Values::U8(random(name, &shape, one)))
}

pub(crate) fn i64s<const N: usize, const COUNT: usize>(
    shape: [usize; N],
    values: [i64; COUNT],
) -> impl FnOnce(&'static str) -> Array {
    array(shape, move |_| Values::I64(values.to_vec()))
}

pub(crate) fn i32s<const N: usize, const COUNT: usize>(
    shape: [usize; N],
    values: [i32; COUNT],
) -> impl FnOnce(&'static str) -> Array {
    array(shape, move |_| Values::I32(values.to_vec()))
}

/// An array without its name.
fn array<const N: usize>(
    shape: [usize; N],
    values: impl FnOnce(&str) -> Values,
) -> impl FnOnce(&'static str) -> Array {
    move |name| Array {
        name,
        shape: shape.to_vec(),
        values: values(name),
    }
}

fn random<T>(name: &str, shape: &[usize], one: impl Fn(u64) -> T) -> Vec<T> {
    let mut stream = Stream::new(0, name, 0);
    let count = shape.iter().product();
    (0..count).map(|_| one(stream.draw())).collect()
}

impl Array {
    fn torch(&self) -> interpreter::Value {
        match &self.values {
            Values::F32(values) => tensor(&self.shape, values),
            Values::U8(values) => tensor(&self.shape, values),
            Values::I32(values) => tensor(&self.shape, values),
            Values::I64(values) => tensor(&self.shape, values),
        }
    }

    fn onnx(&self) -> SessionInputValue<'_> {
        match &self.values {
            Values::F32(values) => view(&self.shape, values),
            Values::U8(values) => view(&self.shape, values),
            Values::I32(values) => view(&self.shape, values),
            Values::I64(values) => view(&self.shape, values),
        }
    }

    /// The graph has no fixed size.
    fn port(&self) -> Port {
        let element = match self.values {
            Values::F32(_) => Element::F32,
            Values::U8(_) => Element::U8,
            Values::I32(_) => Element::I32,
            Values::I64(_) => Element::I64,
        };
        port(self.name, element, self.shape.len())
    }

    fn weight(&self) -> TensorData<'_> {
        let Values::F32(values) = &self.values else {
            panic!("{}: weights are f32", self.name)
        };
        TensorData::f32(self.name, &self.shape, values)
    }
}

fn tensor<T: tch::kind::Element>(shape: &[usize], values: &[T]) -> interpreter::Value {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    interpreter::Value(Tensor::from_slice(values).reshape(&shape[..]))
}

fn view<'a, T>(shape: &'a [usize], values: &'a [T]) -> SessionInputValue<'a>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    let view = TensorRef::from_array_view((shape, values)).unwrap();
    view.into()
}

fn port(name: &'static str, element: Element, rank: usize) -> Port {
    let free = |axis| Dim::Free(format!("{name}_{axis}").leak());
    Port {
        name,
        element,
        dims: (0..rank).map(free).collect(),
    }
}

/// Shape and values of the output.
type Output = (Vec<i64>, Vec<f64>);

/// Runs a case in both engines, from one file of weights.
///
/// # Panics
/// If they differ in shape or in a value.
pub(crate) fn agree(
    case: &str,
    inputs: &[Array],
    weights: &[Array],
    torch: Body<Torch>,
    graph: Body<GraphOps>,
) {
    let folder = tempfile::tempdir().unwrap();
    let tensors = weights.iter().map(Array::weight).collect();
    write_tensors(&folder.path().join(WEIGHTS_FILE), tensors).unwrap();
    let checkpoint = Rc::new(Checkpoint::open(folder.path()).unwrap());
    let (shape, expected) = in_libtorch(&checkpoint, inputs, torch);
    for (target, precision, absolute) in LOWERINGS {
        let case = format!("{case} for {target:?} in {precision:?}");
        let lowering = Lowering::new(target, precision).unwrap().of_heads(HEAD);
        let contract = contract(inputs, shape.len());
        let graph = build_graph(GRAPH, contract, checkpoint.clone(), lowering, |ops| {
            let inputs: Result<Vec<_>> = inputs.iter().map(|input| ops.input(input.name)).collect();
            graph(ops, &inputs?)
        });
        let got = in_onnx_runtime(folder.path(), &graph.unwrap(), inputs);
        assert_eq!(got.0, shape, "{case}");
        let tolerance = Tolerance {
            absolute,
            relative: 0.0,
        };
        assert_close(&case, &got.1, &expected, tolerance);
    }
}

fn contract(inputs: &[Array], rank: usize) -> Contract {
    Contract {
        inputs: inputs.iter().map(Array::port).collect(),
        outputs: vec![port("output", Element::F32, rank)],
    }
}

fn in_libtorch(checkpoint: &Checkpoint, inputs: &[Array], body: Body<Torch>) -> Output {
    let mut weights = Parameters::default();
    for (name, _) in checkpoint.tensors() {
        let tensor = parameters::read(checkpoint, name, Device::Cpu).unwrap();
        weights.insert(name.to_owned(), tensor);
    }
    let inputs: Vec<_> = inputs.iter().map(Array::torch).collect();
    let interpreter::Value(y) = body(
        &mut Torch::new(Rc::new(weights), precision::Precision::Fp32),
        &inputs,
    )
    .unwrap();
    let flat = y.to_kind(Kind::Double).reshape(-1);
    (y.size(), Vec::try_from(flat).unwrap())
}

fn in_onnx_runtime(folder: &Path, graph: &Graph, inputs: &[Array]) -> Output {
    graph.write(folder, &mut |_| ()).unwrap();
    let builder = Session::builder(environment()).unwrap();
    let builder = builder.with_operators(seeward_runtime::operators().unwrap());
    let mut session = builder.unwrap().with_intra_threads(1).unwrap();
    let mut session = {
        // The first session with our operators must be created alone.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        session.commit_from_file(folder.join(GRAPH)).unwrap()
    };
    let inputs: Vec<_> = inputs.iter().map(Array::onnx).collect();
    let outputs = session.run(inputs.as_slice()).unwrap();
    let (shape, values) = outputs[0].try_extract_tensor::<f32>().unwrap();
    let values = values.iter().map(|&value| f64::from(value)).collect();
    (shape.to_vec(), values)
}

/// The process's one environment; cargo's configuration has the library's path.
fn environment() -> &'static Environment {
    static LOADED: OnceLock<Environment> = OnceLock::new();
    LOADED.get_or_init(|| {
        let library = std::env::var("ORT_DYLIB_PATH").unwrap();
        let builder = ort::init_from(library).unwrap();
        builder.with_telemetry(false).build().unwrap()
    })
}
