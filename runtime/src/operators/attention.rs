//! Attention over a forest or within windows. Bundles in integers use it: their linear layers are so fast that attention in f32 would take half of
//! the time. It multiplies in bf16, twice as fast as f32 where the CPU has instructions for it, skips keys that a token does
//! not see, and needs no mask.

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use seeward_kernels::CpuFeatures;
use seeward_kernels::attention::{Attention, AttentionShape, Visibility};
use seeward_models::contract::FOREST_ATTENTION;

use super::engine::{EngineThreads, Input, extract, missing, required};

/// Queries, keys and values `[rows, tokens, heads·head]` → the same layout. With documents and branches `[rows, tokens]`, token i
/// sees j iff j ≤ i, documents are equal, and j's branch is 0 or i's own; with documents alone, which are windows, iff theirs
/// are equal; without, all tokens of a row see each other.
pub(super) struct ForestAttention;

impl Operator for ForestAttention {
    type Kernel<'attr> = Heads;

    fn name(&self) -> &str {
        FOREST_ATTENTION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let values = || OperatorInput::required(TensorElementType::Float32);
        let ids = || OperatorInput::optional(TensorElementType::Int32);
        [values(), values(), values(), ids(), ids()]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Heads> {
        let heads = |name: &str| {
            let heads = context.get::<i64>(name).unwrap_or(0);
            usize::try_from(heads).map_err(|_| wrong(format!("{name} is {heads}")))
        };
        let (heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
        if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) {
            let problem = format!("{kv_heads} heads of keys cannot serve {heads} of queries");
            return Err(wrong(problem));
        }
        Ok(Heads { heads, kv_heads })
    }
}

pub(super) struct Heads {
    heads: usize,
    kv_heads: usize,
}

impl Kernel for Heads {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let inputs = [
            required(context, 0)?,
            required(context, 1)?,
            required(context, 2)?,
        ];
        let (query_shape, query) = extract::<f32>(&inputs[0])?;
        let (key_shape, key) = extract::<f32>(&inputs[1])?;
        let (value_shape, value) = extract::<f32>(&inputs[2])?;
        let shape = self.shape([&query_shape, &key_shape, &value_shape])?;
        let attention = Attention {
            shape,
            query,
            key,
            value,
            visibility: &visibility(&shape, context)?,
        };
        let mut output = context.output(0, query_shape)?.ok_or_else(missing)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        attention.run(CpuFeatures::get(), output, &EngineThreads(context))
    }
}

fn wrong(problem: String) -> ort::Error {
    ort::Error::new(format!("{FOREST_ATTENTION}: {problem}"))
}

impl Heads {
    fn shape(&self, [query, key, value]: [&[i64]; 3]) -> ort::Result<AttentionShape> {
        let sizes = |shape: &[i64]| shape.iter().map(|&size| size as usize).collect::<Vec<_>>();
        let (queries, keys) = (sizes(query), sizes(key));
        let [rows, tokens, width] = queries[..] else {
            return Err(wrong(format!("queries have the shape {queries:?}")));
        };
        let size = width / self.heads;
        if size == 0
            || size * self.heads != width
            || keys != [rows, tokens, size * self.kv_heads]
            || key != value
        {
            let problem = format!("queries {query:?}, keys {key:?} and values {value:?}");
            return Err(wrong(format!("{problem} do not belong together")));
        }
        Ok(AttentionShape {
            rows,
            tokens,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_size: size,
        })
    }
}

fn visibility(shape: &AttentionShape, context: &ComputeContext) -> ort::Result<Vec<Visibility>> {
    let count = context.num_inputs()?;
    let optional = |index| match index < count {
        true => context.input(index),
        false => Ok(None),
    };
    match &[optional(3)?, optional(4)?] {
        [Some(documents), Some(branches)] => {
            let documents = ids(shape, "documents", extract(documents)?)?;
            let branches = ids(shape, "branches", extract(branches)?)?;
            let rows = documents.zip(branches);
            Ok(rows.map(|(d, b)| Visibility::forest(d, b)).collect())
        }
        [Some(windows), None] => {
            let windows = ids(shape, "windows", extract(windows)?)?;
            Ok(windows.map(Visibility::windows).collect())
        }
        [None, None] => Ok(vec![Visibility::full(shape.tokens)]),
        [None, Some(_)] => Err(wrong("branches need documents".to_owned())),
    }
}

/// The ids of every row.
fn ids<'a>(
    shape: &AttentionShape,
    name: &str,
    (got, ids): Input<'a, i32>,
) -> ort::Result<std::slice::ChunksExact<'a, i32>> {
    let expected = [shape.rows as i64, shape.tokens as i64];
    match got == expected {
        true => Ok(ids.chunks_exact(shape.tokens.max(1))),
        false => Err(wrong(format!(
            "{name} have the shape {got:?}, where {expected:?} is expected"
        ))),
    }
}
