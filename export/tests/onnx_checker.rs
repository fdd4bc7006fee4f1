//! The official checker accepts the graphs. It is a Python package that `make setup` puts into `third_party/python`.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use seeward_export::export;
use support::{GOLDEN, golden, options};

const PYTHON_PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../third_party/python");
/// Full check, then strict inference in which every value must get a rank and the outputs their declared shapes.
const CHECK: &str = "
import sys, onnx
for path in sys.argv[1:]:
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
    assert dims(last) == dims(declared), f'{path}: {dims(last)} is declared as {dims(declared)}'
    assert last.elem_type == declared.elem_type, path
";

fn check(graphs: &[PathBuf]) {
    assert!(
        Path::new(PYTHON_PACKAGES).join("onnx").is_dir(),
        "{PYTHON_PACKAGES}: no onnx package; run `make setup`"
    );
    let checked = Command::new("python3")
        .env("PYTHONPATH", PYTHON_PACKAGES)
        .args(["-c", CHECK])
        .args(graphs)
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[test]
fn both_graphs_of_every_golden_bundle_pass() {
    let root = tempfile::tempdir().unwrap();
    let mut graphs = Vec::new();
    for (index, (name, branch)) in GOLDEN.into_iter().enumerate() {
        let output = root.path().join(index.to_string());
        export(&options(&golden(name), &output, branch)).unwrap();
        graphs.extend(["vision.onnx", "reward.onnx"].map(|graph| output.join(graph)));
    }
    check(&graphs);
}
