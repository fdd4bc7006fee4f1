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

use std::sync::{Mutex, PoisonError};

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::value::{PrimitiveTensorElementType, TensorElementType};
use seeward_models::bundle::{FOREST_ATTENTION, OPERATORS};

use seen::Block;
use shape::Shape;

/// The operators that bundles may use beyond ONNX's and ONNX Runtime's own, for sessions that are not made by
/// [`RewardModel`](crate::RewardModel): `builder.with_operators(operators()?)`. A process's first session with them must not
/// be made beside another: ONNX Runtime looks whether it knows their domain, and then adds it, without a lock.
///
/// # Errors
/// What ONNX Runtime says.
pub fn operators() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(OPERATORS)?.add(ForestAttention)
}

/// Makes a session with our operators: the process's first one alone.
pub(crate) fn alone_if_first<T>(make: impl FnOnce() -> ort::Result<T>) -> ort::Result<T> {
    static KNOWN: Mutex<bool> = Mutex::new(false);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if *known {
        drop(known);
        return make();
    }
    let made = make();
    *known = made.is_ok();
    made
}

/// Queries, keys and values [rows, tokens, heads·head] → the same layout. With documents and branches [rows, tokens], token
/// i sees j iff j ≤ i, documents are equal, and j's branch is 0 or i's own; without, all of a row see each other.
struct ForestAttention;

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

struct Attention {
    heads: usize,
    kv_heads: usize,
}

/// An input's shape and elements.
type Input<'a, T> = (Vec<i64>, &'a [T]);

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

fn extract<'a, T: PrimitiveTensorElementType>(
    value: &'a ort::value::DynValue,
) -> ort::Result<Input<'a, T>> {
    let (shape, elements) = value.try_extract_tensor::<T>()?;
    Ok((shape.to_vec(), elements))
}

fn wrong(problem: String) -> ort::Error {
    ort::Error::new(format!("{FOREST_ATTENTION}: {problem}"))
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
