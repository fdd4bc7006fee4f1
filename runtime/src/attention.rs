//! Attention over a forest, as an operator for ONNX Runtime's session on a processor. Bundles in integers use it: their
//! linear layers are so fast that attention in f32 would take half of the time. It multiplies in bf16, twice as fast as
//! f32 where the processor has instructions for it, and nothing that a token does not see, and it needs no mask.

mod lanes;
mod packed;
mod products;
mod seen;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::{Mutex, OnceLock, PoisonError};

use ort::operator::{
    ComputeContext, Kernel, KernelContext, Operator, OperatorDomain, OperatorInput, OperatorOutput,
};
use ort::value::{PrimitiveTensorElementType, TensorElementType};
use seeward_models::bundle::{FOREST_ATTENTION, OPERATORS};

use packed::{PackedHead, Pair, Rows, pair_up, pairs};
use products::{Head, Output, Scratch};
use seen::{Block, QUERIES};

/// Blocks of queries that a thread takes at once: a head's keys and values stay in its cache for them.
const AT_ONCE: usize = 4;

/// The operators that bundles may use beyond ONNX's and ONNX Runtime's own, for sessions that are not made by
/// [`RewardModel`](crate::RewardModel): `builder.with_operators(operators()?)`.
///
/// # Errors
/// What ONNX Runtime says.
pub fn operators() -> ort::Result<OperatorDomain> {
    OperatorDomain::new(OPERATORS)?.add(ForestAttention)
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
            _ => vec![seen::everything(shape.tokens)],
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

/// What there is to compute.
struct Shape {
    rows: usize,
    tokens: usize,
    heads: usize,
    kv_heads: usize,
    /// Numbers of a head.
    size: usize,
}

impl Attention {
    fn shape(&self, [query, key, value]: [&Input<f32>; 3]) -> ort::Result<Shape> {
        let sizes = |shape: &[i64]| shape.iter().map(|&size| size as usize).collect::<Vec<_>>();
        let (queries, keys) = (sizes(&query.0), sizes(&key.0));
        let [rows, tokens, width] = queries[..] else {
            return Err(wrong(format!("queries have the shape {queries:?}")));
        };
        let size = width / self.heads;
        if size * self.heads != width
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

/// Some neighbouring blocks of a row, and where their mixed values go.
struct Task<'a> {
    row: usize,
    blocks: &'a [Block],
    output: Mutex<&'a mut [f32]>,
}

impl Shape {
    /// `seen` are the blocks of each row, or of any.
    fn attend(
        &self,
        [query, key, value]: [&[f32]; 3],
        seen: &[Vec<Block>],
        context: &ComputeContext,
        output: &mut [f32],
    ) -> ort::Result<()> {
        let heads = self.rows * self.kv_heads;
        let packed: Vec<OnceLock<PackedHead>> = (0..heads).map(|_| OnceLock::new()).collect();
        context.par_for(heads, 0, |index| {
            packed[index].get_or_init(|| self.pack(index, key, value));
        })?;
        let packed: Vec<_> = packed
            .into_iter()
            .filter_map(OnceLock::into_inner)
            .collect();
        let tasks = self.tasks(seen, output);
        context.par_for(tasks.len(), 0, |index| {
            self.run(&tasks[index], query, &packed)
        })
    }

    fn pack(&self, index: usize, key: &[f32], value: &[f32]) -> PackedHead {
        let (row, head) = (index / self.kv_heads, index % self.kv_heads);
        let stride = self.kv_heads * self.size;
        let first = row * self.tokens * stride + head * self.size;
        let [keys, values] = [key, value].map(|numbers| Rows {
            numbers: &numbers[first..],
            stride,
            size: self.size,
        });
        PackedHead::new(keys, values, self.tokens)
    }

    fn tasks<'a>(&self, seen: &'a [Vec<Block>], output: &'a mut [f32]) -> Vec<Task<'a>> {
        let mut tasks = Vec::new();
        let width = self.heads * self.size;
        let rows = output.chunks_mut((self.tokens * width).max(1));
        for ((row, mut left), blocks) in rows.enumerate().zip(seen.iter().cycle()) {
            for blocks in blocks.chunks(AT_ONCE) {
                let tokens: usize = blocks.iter().map(|block| block.queries.len()).sum();
                let (output, rest) = left.split_at_mut(tokens * width);
                left = rest;
                tasks.push(Task {
                    row,
                    blocks,
                    output: Mutex::new(output),
                });
            }
        }
        tasks
    }

    fn run(&self, task: &Task, query: &[f32], packed: &[PackedHead]) {
        let mut output = task.output.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = Scratch::default();
        let mut queries = vec![0; QUERIES * pairs(self.size)];
        for head in 0..self.heads {
            let served = head / (self.heads / self.kv_heads);
            let packed = &packed[task.row * self.kv_heads + served];
            let mut first = 0;
            for block in task.blocks {
                self.pair_up(task.row, head, block, query, &mut queries);
                let of_head = Head {
                    queries: &queries,
                    count: block.queries.len(),
                    size: self.size,
                    keys: &packed.keys,
                    values: &packed.values,
                    seen: &block.seen,
                    scale: 1.0 / (self.size as f32).sqrt(),
                };
                let stride = self.heads * self.size;
                let mut into = Output {
                    numbers: &mut output[first * stride + head * self.size..],
                    stride,
                };
                products::run(&of_head, &mut scratch, &mut into);
                first += block.queries.len();
            }
        }
    }

    /// The block's queries of a head in pairs; what is beyond them is zero.
    fn pair_up(&self, row: usize, head: usize, block: &Block, query: &[f32], into: &mut [Pair]) {
        into.fill(0);
        let tokens = block.queries.clone().map(|token| row * self.tokens + token);
        for (token, into) in tokens.zip(into.chunks_mut(pairs(self.size).max(1))) {
            pair_up(
                &query[(token * self.heads + head) * self.size..][..self.size],
                into,
            );
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// (rows, tokens, heads, kv_heads, size): whole and broken blocks, odd sizes, more registers than are mixed at once.
    const SHAPES: [[usize; 5]; 5] = [
        [1, 1, 1, 1, 8],
        [2, 35, 4, 2, 16],
        [1, 70, 3, 1, 7],
        [1, 33, 2, 2, 80],
        [2, 40, 6, 3, 64],
    ];

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let draw = |_| {
            state = state
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let number = (state >> 40) as f32 / (1 << 23) as f32 - 1.0;
            // In bf16 already, so that the reference has no other numbers.
            f32::from_bits(packed::rounded(2.0 * number) << 16)
        };
        (0..count).map(draw).collect()
    }

    /// A head's attention of one token in f64.
    fn reference(
        shape: &Shape,
        [q, k, v]: [&[f32]; 3],
        at: [usize; 3],
        sees: &dyn Fn(usize) -> bool,
    ) -> Vec<f64> {
        let [row, token, head] = at;
        let served = head / (shape.heads / shape.kv_heads);
        let place = |token, heads, head| ((row * shape.tokens + token) * heads + head) * shape.size;
        let query = &q[place(token, shape.heads, head)..][..shape.size];
        let keys = (0..shape.tokens)
            .filter(|&key| sees(key))
            .map(|key| place(key, shape.kv_heads, served));
        let keys: Vec<usize> = keys.collect();
        let score = |&key: &usize| {
            let products = query
                .iter()
                .zip(&k[key..])
                .map(|(&a, &b)| f64::from(a) * f64::from(b));
            products.sum::<f64>() / (shape.size as f64).sqrt()
        };
        let weights: Vec<f64> = keys.iter().map(score).map(f64::exp).collect();
        let total: f64 = weights.iter().sum();
        let mixed = |number| {
            keys.iter()
                .zip(&weights)
                .map(|(&key, w)| w * f64::from(v[key + number]))
                .sum::<f64>()
        };
        (0..shape.size)
            .map(|number| mixed(number) / total)
            .collect()
    }

    /// As the operator does, without a session.
    fn attend(shape: &Shape, inputs: [&[f32]; 3], seen: &[Vec<Block>]) -> Vec<f32> {
        let heads = shape.rows * shape.kv_heads;
        let packed: Vec<_> = (0..heads)
            .map(|head| shape.pack(head, inputs[1], inputs[2]))
            .collect();
        let mut output = vec![f32::NAN; inputs[0].len()];
        for task in shape.tasks(seen, &mut output) {
            shape.run(&task, inputs[0], &packed);
        }
        output
    }

    fn each(check: impl Fn(&Shape, [&[f32]; 3])) {
        for [rows, tokens, heads, kv_heads, size] in SHAPES {
            let shape = Shape {
                rows,
                tokens,
                heads,
                kv_heads,
                size,
            };
            let [q, kv] = [heads, kv_heads].map(|heads| rows * tokens * heads * size);
            check(&shape, [&numbers(q, 1), &numbers(kv, 2), &numbers(kv, 3)]);
        }
    }

    fn compare(
        shape: &Shape,
        inputs: [&[f32]; 3],
        seen: &[Vec<Block>],
        sees: &dyn Fn(usize, usize) -> bool,
    ) {
        let output = attend(shape, inputs, seen);
        for (index, got) in output.chunks(shape.size).enumerate() {
            let (token, head) = (index / shape.heads, index % shape.heads);
            let at = [token / shape.tokens, token % shape.tokens, head];
            let expected = reference(shape, inputs, at, &|key| sees(at[1], key));
            for (&got, expected) in got.iter().zip(expected) {
                // Weights of at most 1 in 8 bits, times values of at most 2.
                assert!(
                    (f64::from(got) - expected).abs() < 2.0 / 256.0,
                    "{at:?}: {got}, {expected}"
                );
            }
        }
    }

    #[test]
    fn everything_seen_is_mixed() {
        each(|shape, inputs| {
            let seen = [seen::everything(shape.tokens)];
            compare(shape, inputs, &seen, &|_, _| true);
        });
    }

    #[test]
    fn of_a_tree_is_mixed_what_a_token_sees() {
        each(|shape, inputs| {
            let third = shape.tokens / 3;
            let documents = vec![0; shape.tokens];
            let branches: Vec<i32> = (0..shape.tokens)
                .map(|token| token.checked_div(third).unwrap_or(0).min(2) as i32)
                .collect();
            let seen = vec![seen::tree(&documents, &branches); shape.rows];
            let sees =
                |i: usize, j: usize| j <= i && (branches[j] == 0 || branches[j] == branches[i]);
            compare(shape, inputs, &seen, &sees);
        });
    }

    #[test]
    fn what_is_no_number_shows_where_it_is_seen() {
        let shape = Shape {
            rows: 1,
            tokens: 40,
            heads: 1,
            kv_heads: 1,
            size: 16,
        };
        let inputs = [1, 2, 3].map(|seed| numbers(40 * 16, seed));
        let seen = [seen::tree(&[0; 40], &[0; 40])];
        for spoilt in 0..3 {
            let mut inputs = inputs.clone();
            inputs[spoilt][20 * 16] = f32::NAN;
            let output = attend(&shape, [&inputs[0], &inputs[1], &inputs[2]], &seen);
            let nan = |token: usize| output[token * 16].is_nan();
            // No weight times no number is none: a value spoils those who see another key of its block.
            let untouched = if spoilt == 2 { 16 } else { 20 };
            assert!(
                (0..untouched).all(|token| !nan(token)) && nan(20),
                "{spoilt}"
            );
            assert_eq!(nan(30), spoilt > 0);
        }
    }
}
