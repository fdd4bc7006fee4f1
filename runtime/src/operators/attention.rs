//! Attention over a forest. Bundles in integers use it: their linear layers are so fast that attention in f32 would take half of
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
/// sees j iff j ≤ i, documents are equal, and j's branch is 0 or i's own; without, all tokens of a row see each other.
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
    let ids = match context.num_inputs()? {
        3 => [None, None],
        _ => [context.input(3)?, context.input(4)?],
    };
    match &ids {
        [Some(documents), Some(branches)] => {
            forests(shape, extract(documents)?, extract(branches)?)
        }
        [None, None] => Ok(vec![Visibility::full(shape.tokens)]),
        _ => Err(wrong("documents need branches".to_owned())),
    }
}

/// Of every row.
fn forests(
    shape: &AttentionShape,
    (documents_shape, documents): Input<i32>,
    (branches_shape, branches): Input<i32>,
) -> ort::Result<Vec<Visibility>> {
    let expected = [shape.rows as i64, shape.tokens as i64];
    if documents_shape != expected || branches_shape != expected {
        let problem = format!("documents {documents_shape:?} and branches {branches_shape:?}");
        return Err(wrong(format!("{problem}, where {expected:?} is expected")));
    }
    let row = |index: usize| {
        let tokens = index * shape.tokens..(index + 1) * shape.tokens;
        Visibility::forest(&documents[tokens.clone()], &branches[tokens])
    };
    Ok((0..shape.rows).map(row).collect())
}
