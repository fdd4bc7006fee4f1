//! The official checker accepts the graphs, and their element types are as specified. The checker is a Python package that
//! `make setup` installs into `third_party/python`.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use seeward_export::export;
use seeward_models::contract::{BF16_LINEAR, INT8_LINEAR};
use seeward_models::kinds::{Precision, Target};
use seeward_models::net::Branch;
use support::{GOLDEN, families, golden_options};

const PYTHON_PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../third_party/python");
/// Full check, then strict inference in which every value must get a rank and the outputs their declared shapes. Then the
/// element types: linear layers and the operations between them have the one named first; norms, patch embedding, residual
/// sums, head and softmax are f32.
const CHECK: &str = "
import sys, onnx
narrow, wide = getattr(onnx.TensorProto, sys.argv[1]), onnx.TensorProto.FLOAT
for path in sys.argv[2:]:
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    assert (model.ir_version, model.opset_import[0].version) == (11, 23), path
    assert {node.domain for node in model.graph.node} == {''}, path
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    values = {value.name: value.type.tensor_type for value in inferred.graph.value_info}
    for node in inferred.graph.node[:-1]:
        for name in node.output:
            assert values[name].HasField('shape'), f'{path}: {name} has no rank'
    dims = lambda tensor: [dim.dim_value or dim.dim_param for dim in tensor.shape.dim]
    last = values[inferred.graph.node[-1].input[0]]
    declared = model.graph.output[0].type.tensor_type
    # A size that inference cannot name is a new one.
    named = [want if str(got).startswith('unk__') else got for got, want in zip(dims(last), dims(declared), strict=True)]
    assert named == dims(declared), f'{path}: {dims(last)} is declared as {dims(declared)}'
    assert last.elem_type == declared.elem_type == wide, path

    types = {name: tensor.elem_type for name, tensor in values.items()}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types |= {port.name: port.type.tensor_type.elem_type for port in model.graph.input}
    expected = {'LayerNormalization': wide, 'RMSNormalization': wide, 'Conv': wide, 'ScatterND': wide,
        'MatMul': narrow, 'Attention': narrow, 'RotaryEmbedding': narrow, 'Gelu': narrow, 'Sigmoid': narrow}
    for node in model.graph.node:
        element = expected.get(node.op_type)
        if node.op_type == 'Add':
            # A linear layer's bias, or the residual stream.
            element = narrow if node.input[1].endswith('.bias') else wide
        if node.name.split('/')[0].endswith('score') or 'patch_embed' in node.name:
            element = wide if element else None
        if element is not None:
            assert types[node.input[0]] == element, f'{path}: {node.name} has {types[node.input[0]]}'
        if node.op_type == 'Attention':
            attributes = {attribute.name: attribute.i for attribute in node.attribute}
            assert attributes['softmax_precision'] == wide, f'{path}: {node.name}'
";
/// Full check of graphs with narrow linear layers. Their operators are declared; every linear layer before the readout has
/// weights of the given type, in bf16 the embedding table too, and everything else is f32.
const CHECK_NARROW: &str = "
import sys, onnx
op, element = sys.argv[1], getattr(onnx.TensorProto, sys.argv[2])
ours = {'Int8Linear': {'QuantizeRows', 'Int8Hidden'}, 'Bf16Linear': {'Bf16Hidden'}}
# The place of the first layer among a node's inputs, and the number of inputs that make a layer: weights, in integers their
# scales, in 8 bits sums; and an optional bias.
first, parts = {'Int8Linear': (2, 4), 'Bf16Linear': (1, 2)}[op]
for path in sys.argv[3:]:
    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path, load_external_data=False)
    used = {'ForestAttention', op} | ours[op]
    assert [(s.domain, s.version) for s in model.opset_import] == [('', 23), ('seeward', 1)], path
    assert {node.op_type for node in model.graph.node if node.domain == 'seeward'} == used, path
    wide = [index for index, node in enumerate(model.graph.node) if node.op_type == 'MatMul']
    linear = (op, 'Int8Hidden', 'Bf16Hidden')
    narrow = [index for index, node in enumerate(model.graph.node) if node.op_type in linear]
    if path.endswith('reward.onnx'):
        # The readout: all layers after its rows are picked in the last layer.
        gathered = max(i for i, node in enumerate(model.graph.node) if 'reward_positions' in node.input)
        assert max(narrow) < gathered < min(wide) and model.graph.node[wide[-1]].name == 'score/MatMul', path
    else:
        assert all('patch_embed' in model.graph.node[index].name for index in wide), path
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    inputs = [list(node.input) for node in model.graph.node if node.op_type in linear]
    layers = [names[at:at + parts] for names in inputs for at in range(first, len(names), parts)]
    weights = {layer[0] for layer in layers}
    assert {types[name] for name in weights} == {element}, path
    sums = {layer[2] for layer in layers if parts == 4}
    assert {types[name] for name in sums} <= {onnx.TensorProto.INT32}, path
    table = {node.input[0] for node in model.graph.node if node.op_type == 'Gather' and node.input[1] == 'input_ids'}
    assert {types[name] for name in table} <= {element if op == 'Bf16Linear' else onnx.TensorProto.FLOAT}, path
    rest = {name for name in types if name not in weights | sums | table and not name.startswith(('i64', 'i32'))}
    others = {name for layer in layers for name in layer[1:] if name} - sums
    assert others <= rest and {types[name] for name in rest} == {onnx.TensorProto.FLOAT}, path
";
/// Fails for operators that are missing from onnx-tensorrt's list for TensorRT 10.15, and for uses that the list excludes.
const CHECK_TENSORRT: &str = "
import sys, onnx
listed = set('Add And Attention Cast Concat Conv Div Equal Expand Flatten Gather Gelu Identity LayerNormalization MatMul '
    'Mul Or RMSNormalization ReduceSum Reshape RotaryEmbedding ScatterND Shape Sigmoid Slice Split Squeeze Sub Transpose Trilu '
    'Unsqueeze'.split())
for path in sys.argv[1:]:
    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False), strict_mode=True)
    rank = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.value_info}
    for node in model.graph.node:
        assert node.op_type in listed, f'{path}: {node.op_type}'
        if node.op_type == 'Attention':
            assert {rank[name] for name in node.input} == {4}, f'{path}: {node.name}'
            assert not {'q_num_heads', 'kv_num_heads'} & {attribute.name for attribute in node.attribute}
    bytes = {port.name for port in model.graph.input if port.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    readers = {node.op_type for node in model.graph.node if bytes & set(node.input)}
    assert readers <= {'Cast'}, f'{path}: {readers} take bytes'
";

/// Rewards of three graphs by the official reference implementation, the only one for the CPU that has bf16: the difference
/// of fp16 and bf16 from fp32, relative to max(1, |reward|).
const COMPARE: &str = "
import sys, numpy
from onnx.reference import ReferenceEvaluator
tokens, random = 24, numpy.random.default_rng(0)
angles = numpy.outer(numpy.arange(tokens), 1e6 ** (-numpy.arange(8) / 8)).astype('float32')
row = lambda values, dtype: numpy.array(values, dtype).reshape(1, tokens)
feed = {
    'input_ids': row(random.integers(0, 700, tokens), 'int64'), 'position_ids': row(range(tokens), 'int64'),
    'document_ids': row([0] * tokens, 'int32'), 'branch_ids': row([0] * tokens, 'int32'),
    'image_embeds': random.standard_normal((4, 64)).astype('float32'), 'image_positions': numpy.arange(3, 7),
    'rope_cos': numpy.cos(angles), 'rope_sin': numpy.sin(angles), 'reward_positions': numpy.arange(8, tokens),
}
fp32, fp16, bf16 = [ReferenceEvaluator(path).run(None, feed)[0] for path in sys.argv[1:]]
for name, got, least, most in [('fp16', fp16, 1e-4, 1.5e-2), ('bf16', bf16, 1e-3, 1.4e-1)]:
    difference = (abs(got - fp32) / numpy.maximum(1, abs(fp32))).max()
    print(name, difference)
    assert least < difference < most, f'{name}: {difference}'
";

/// Language models with packed projections or scaled positions, whose graphs are written for all devices only.
const PORTABLE: [&str; 4] = ["internlm2", "internlm2_dyn", "llama", "phi3_su"];

/// Those that are written for every target: every newer family, tied embeddings, and another style of vision encoder.
fn every_family() -> Vec<String> {
    let mut names = families();
    names.extend(["qwen2", "qwen2_tied", "vit6b"].map(str::to_owned));
    names
}

fn python(script: &str, arguments: impl IntoIterator<Item = PathBuf>) {
    assert!(
        Path::new(PYTHON_PACKAGES).join("onnx").is_dir(),
        "{PYTHON_PACKAGES}: no onnx package; run `make setup`"
    );
    let checked = Command::new("python3")
        .env("PYTHONPATH", PYTHON_PACKAGES)
        .args(["-c", script])
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    print!("{}", String::from_utf8_lossy(&checked.stdout));
}

/// The graphs of a golden checkpoint's bundle: that of the vision encoder first, if it has one.
fn graphs(
    root: &Path,
    (name, branch): (&str, Branch),
    target: Target,
    precision: Precision,
) -> Vec<PathBuf> {
    let output = root.join(format!("{name}-{branch:?}-{target:?}-{precision:?}"));
    let mut options = golden_options(name, &output, branch);
    (options.target, options.precision) = (target, precision);
    export(&options).unwrap();
    let graphs = ["vision.onnx", "reward.onnx"].map(|graph| output.join(graph));
    graphs.into_iter().filter(|graph| graph.exists()).collect()
}

#[test]
fn every_golden_bundle_passes_in_every_precision() {
    for (precision, element) in [
        (Precision::Fp32, "FLOAT"),
        (Precision::Fp16, "FLOAT16"),
        (Precision::Bf16, "BFLOAT16"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let portable = PORTABLE.map(|name| (name, Branch::Main));
        let portable = GOLDEN.iter().chain(&portable);
        let portable =
            portable.map(|model| graphs(root.path(), *model, Target::Portable, precision));
        let families = every_family().into_iter().flat_map(|name| {
            [Target::Portable, Target::Cuda, Target::Tensorrt]
                .map(|target| graphs(root.path(), (&name, Branch::Main), target, precision))
        });
        let graphs = portable.chain(families).flatten();
        python(CHECK, [PathBuf::from(element)].into_iter().chain(graphs));
    }
}

#[test]
fn bundles_for_the_cpu_declare_the_operators_that_they_use() {
    for (precision, op, element) in [
        (Precision::Bf16, BF16_LINEAR, "BFLOAT16"),
        (Precision::Int8, INT8_LINEAR, "INT8"),
    ] {
        let root = tempfile::tempdir().unwrap();
        let graphs = every_family()
            .into_iter()
            .flat_map(|name| graphs(root.path(), (&name, Branch::Main), Target::Cpu, precision));
        let arguments = [op, element].map(PathBuf::from).into_iter().chain(graphs);
        python(CHECK_NARROW, arguments);
    }
}

#[test]
fn tensorrt_bundles_use_operators_of_its_list_only() {
    let root = tempfile::tempdir().unwrap();
    for precision in [Precision::Fp32, Precision::Fp16, Precision::Bf16] {
        for name in every_family() {
            let model = (name.as_str(), Branch::Main);
            let graphs = graphs(root.path(), model, Target::Tensorrt, precision);
            python(CHECK_TENSORRT, graphs);
        }
    }
}

/// 1.5e-2 is the tolerance of a probe in fp16, and 1.4e-1 twice the largest of 200 differences in bf16; here the largest differences seen are 4.1e-3 and 6.8e-2.
#[test]
fn half_precision_is_close_to_fp32_by_the_reference_implementation() {
    let root = tempfile::tempdir().unwrap();
    let reward = |precision| graphs(root.path(), GOLDEN[0], Target::Portable, precision).remove(1);
    let graphs = [Precision::Fp32, Precision::Fp16, Precision::Bf16].map(reward);
    python(COMPARE, graphs);
}
