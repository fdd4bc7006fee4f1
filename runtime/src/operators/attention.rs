//! Attention over a forest, as an operator for ONNX Runtime's session on a processor. Bundles in integers use it: their
//! linear layers are so fast that attention in f32 would take half of the time. It multiplies in bf16, twice as fast as
//! f32 where the processor has instructions for it, and nothing that a token does not see, and it needs no mask.

mod lanes;
mod packed;
mod products;
mod seen;
mod shape;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput,
};
use ort::value::TensorElementType;
use seeward_models::contract::FOREST_ATTENTION;

use super::{Input, extract};
use seen::Block;
use shape::Shape;

/// Queries, keys and values [rows, tokens, heads·head] → the same layout. With documents and branches [rows, tokens], token
/// i sees j iff j ≤ i, documents are equal, and j's branch is 0 or i's own; without, all of a row see each other.
pub(super) struct ForestAttention;

impl Operator for ForestAttention {
    type Kernel<'attr> = Attention;

    fn name(&self) -> &str {
        FOREST_ATTENTION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let numbers = || OperatorInput::required(TensorElementType::Float32);
        let ids = || OperatorInput::optional(TensorElementType::Int32);
        [numbers(), numbers(), numbers(), ids(), ids()]
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Attention> {
        let heads = |name: &str| {
            let heads = context.get::<i64>(name).unwrap_or(0);
            usize::try_from(heads).map_err(|_| wrong(format!("{name} is {heads}")))
        };
        let (heads, kv_heads) = (heads("q_num_heads")?, heads("kv_num_heads")?);
        if kv_heads == 0 || heads == 0 || !heads.is_multiple_of(kv_heads) {
            let problem = format!("{kv_heads} heads of keys cannot serve {heads} of queries");
            return Err(wrong(problem));
        }
        Ok(Attention { heads, kv_heads })
    }
}

pub(super) struct Attention {
    heads: usize,
    kv_heads: usize,
}

impl Kernel for Attention {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let missing = || wrong("an input is missing".to_owned());
        let values = [context.input(0)?, context.input(1)?, context.input(2)?];
        let [query, key, value] = values
            .each_ref()
            .map(|value| value.as_ref().ok_or_else(missing));
        let (query, key, value) = (query?, key?, value?);
        let ids = match context.num_inputs()? {
            3 => [None, None],
            _ => [context.input(3)?, context.input(4)?],
        };
        let query = extract(query)?;
        let shape = self.shape([&query, &extract(key)?, &extract(value)?])?;
        let seen = match &ids {
            [Some(documents), Some(branches)] => {
                trees(&shape, extract(documents)?, extract(branches)?)?
            }
            [None, None] => vec![seen::everything(shape.tokens)],
            _ => return Err(missing()),
        };
        let mut output = context.output(0, query.0)?.ok_or_else(missing)?;
        let (_, output) = output.try_extract_tensor_mut::<f32>()?;
        let (key, value) = (extract(key)?.1, extract(value)?.1);
        shape.attend([query.1, key, value], &seen, context, output)
    }
}

fn wrong(problem: String) -> ort::Error {
    super::wrong(FOREST_ATTENTION, &problem)
}

impl Attention {
    fn shape(&self, [query, key, value]: [&Input<f32>; 3]) -> ort::Result<Shape> {
        let sizes = |shape: &[i64]| shape.iter().map(|&size| size as usize).collect::<Vec<_>>();
        let (queries, keys) = (sizes(&query.0), sizes(&key.0));
        let [rows, tokens, width] = queries[..] else {
            return Err(wrong(format!("queries have the shape {queries:?}")));
        };
        let size = width / self.heads;
        if size == 0
            || size * self.heads != width
            || keys != [rows, tokens, size * self.kv_heads]
            || key.0 != value.0
        {
            let problem = format!(
                "queries {:?}, keys {:?} and values {:?}",
                query.0, key.0, value.0
            );
            return Err(wrong(format!("{problem} do not belong together")));
        }
        Ok(Shape {
            rows,
            tokens,
            heads: self.heads,
            kv_heads: self.kv_heads,
            size,
        })
    }
}

/// What the tokens of every row see.
fn trees(
    shape: &Shape,
    documents: Input<i32>,
    branches: Input<i32>,
) -> ort::Result<Vec<Vec<Block>>> {
    let expected = [shape.rows as i64, shape.tokens as i64];
    if documents.0 != expected || branches.0 != expected {
        let problem = format!("documents {:?} and branches {:?}", documents.0, branches.0);
        return Err(wrong(format!("{problem}, where {expected:?} is expected")));
    }
    let rows = documents
        .1
        .chunks(shape.tokens.max(1))
        .zip(branches.1.chunks(shape.tokens.max(1)));
    Ok(rows
        .map(|(documents, branches)| seen::tree(documents, branches))
        .collect())
}
