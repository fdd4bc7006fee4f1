//! The rates of linear layers and attention on one thread, for each instruction set of this CPU. The sizes are InternVL2-1B's:
//!
//! ```sh
//! cargo bench -p seeward-kernels
//! ```

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seeward_kernels::attention::{Attention, AttentionShape, Visibility};
use seeward_kernels::{CpuFeatures, Serial, bf16, int8};

const ROWS: usize = 96;
const INPUTS: usize = 896;
const OUTPUTS: usize = 4864;
const SHAPE: AttentionShape = AttentionShape {
    rows: 1,
    tokens: 512,
    heads: 14,
    kv_heads: 2,
    head_size: 64,
};

fn instruction_sets() -> [(&'static str, CpuFeatures); 3] {
    let features = CpuFeatures::get();
    [
        ("best", features),
        ("without AVX-512", features.without_avx512()),
        ("portable", CpuFeatures::default()),
    ]
}

fn int8_linear(criterion: &mut Criterion) {
    let groups = INPUTS / int8::GROUP;
    let weights = vec![3; int8::packed_shape(INPUTS, OUTPUTS).iter().product()];
    let (integers, scales) = (vec![130; ROWS * INPUTS], vec![0.1; groups * OUTPUTS]);
    let parts = int8::LayerParts {
        inputs: INPUTS,
        outputs: OUTPUTS,
        groups,
        zero_point: 128,
        weights: &weights,
        scales: &scales,
        sums: &vec![3 * int8::GROUP as i32; groups * OUTPUTS],
        bias: None,
    };
    let layer = int8::Layer::new(parts).expect("sizes match");
    let rows = int8::QuantizedRows {
        integers: &integers,
        scales: &scales[..ROWS * groups],
        groups,
    };
    let mut output = vec![0.0; ROWS * OUTPUTS];
    let mut group = criterion.benchmark_group("int8 linear");
    group.throughput(Throughput::Elements((ROWS * INPUTS * OUTPUTS) as u64));
    for (name, features) in instruction_sets() {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| int8::linear(features, &layer, black_box(rows), &mut output, &Serial));
        });
    }
}

fn bf16_linear(criterion: &mut Criterion) {
    let weights = vec![0x3dcd; bf16::packed_shape(INPUTS, OUTPUTS).iter().product()];
    let parts = bf16::LayerParts {
        inputs: INPUTS,
        outputs: OUTPUTS,
        weights: &weights,
        bias: None,
    };
    let layer = bf16::Layer::new(parts).expect("sizes match");
    let values = vec![0.1; ROWS * INPUTS];
    let mut output = vec![0.0; ROWS * OUTPUTS];
    let mut group = criterion.benchmark_group("bf16 linear");
    group.throughput(Throughput::Elements((ROWS * INPUTS * OUTPUTS) as u64));
    for (name, features) in instruction_sets() {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            let rows = bf16::Rows::F32(black_box(&values));
            bencher.iter(|| bf16::linear(features, &layer, rows, &mut output, &Serial));
        });
    }
}

fn quantize_rows(criterion: &mut Criterion) {
    let values: Vec<f32> = (0..ROWS * INPUTS).map(|at| (at as f32).sin()).collect();
    let quantizer = int8::Quantizer::RotatedGroups;
    let (mut integers, mut scales) = (
        vec![0; values.len()],
        vec![0.0; quantizer.shape(INPUTS)[1] * ROWS],
    );
    let mut group = criterion.benchmark_group("quantize rows");
    group.throughput(Throughput::Elements(values.len() as u64));
    for (name, features) in instruction_sets() {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let output = int8::QuantizedRowsMut {
                    integers: &mut integers,
                    scales: &mut scales,
                };
                quantizer.quantize_rows(features, (black_box(&values), INPUTS), output, &Serial)
            });
        });
    }
}

fn forest_attention(criterion: &mut Criterion) {
    let row = SHAPE.tokens * SHAPE.head_size;
    let (query, keys) = (
        vec![0.5; row * SHAPE.heads],
        vec![0.5; row * SHAPE.kv_heads],
    );
    // A prefix of three quarters, and four responses.
    let branch = |token: usize| (token.saturating_sub(384) / 32 + usize::from(token >= 384)) as i32;
    let branches: Vec<i32> = (0..SHAPE.tokens).map(branch).collect();
    let attention = Attention {
        shape: SHAPE,
        query: &query,
        key: &keys,
        value: &keys,
        visibility: &[Visibility::forest(&vec![0; SHAPE.tokens], &branches)],
    };
    let mut output = vec![0.0; query.len()];
    let mut group = criterion.benchmark_group("forest attention");
    group.throughput(Throughput::Elements((SHAPE.tokens * SHAPE.heads) as u64));
    for (name, features) in instruction_sets() {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| black_box(&attention).run(features, &mut output, &Serial));
        });
    }
}

criterion_group!(
    benches,
    int8_linear,
    quantize_rows,
    bf16_linear,
    forest_attention
);
criterion_main!(benches);
