//! Attention of whole rows, cut into tasks for threads.

use std::cell::RefCell;
use std::sync::OnceLock;

use super::dispatch;
use super::head::{Head, Output, Scratch};
use super::packed::{PackedHead, Rows, pairs};
use super::visibility::{QUERIES, QueryBlock, Visibility};
use crate::CpuFeatures;
use crate::pair::{Pair, pair_up};
use crate::parallel::{ParallelFor, run_tasks};

/// Blocks of queries of a task: a head's keys and values stay in the cache for them.
const BLOCKS_PER_TASK: usize = 4;

/// The sizes of attention. Queries and outputs are `[rows, tokens, heads, head_size]`, keys and values
/// `[rows, tokens, kv_heads, head_size]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Sequences.
    pub rows: usize,
    /// Tokens of a row.
    pub tokens: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values, each of which serves as many neighbouring heads of queries; a divisor of `heads`.
    pub kv_heads: usize,
    /// Values of a head.
    pub head_size: usize,
}

/// Attention to compute.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// The sizes.
    pub shape: AttentionShape,
    /// Queries.
    pub query: &'a [f32],
    /// Keys.
    pub key: &'a [f32],
    /// Values.
    pub value: &'a [f32],
    /// Which keys the tokens of each row see, or one for all rows.
    pub visibility: &'a [Visibility],
}

/// A thread's memory, kept for its next task.
#[derive(Default)]
struct TaskScratch {
    queries: Vec<Pair>,
    head: Scratch,
}

thread_local! {
    static SCRATCH: RefCell<TaskScratch> = RefCell::default();
}

/// Neighbouring blocks of a row, with the outputs of their tokens.
struct Task<'a> {
    row: usize,
    blocks: &'a [QueryBlock],
    output: &'a mut [f32],
}

impl Attention<'_> {
    /// Writes softmax(q·kᵀ/√head_size)·v to `output`, in the shape of the queries.
    ///
    /// # Errors
    /// Those of `parallel`.
    ///
    /// # Panics
    /// If lengths do not match the shape.
    pub fn run<P: ParallelFor>(
        &self,
        features: CpuFeatures,
        output: &mut [f32],
        parallel: &P,
    ) -> Result<(), P::Error> {
        self.check(output.len());
        let packed = self.pack(parallel)?;
        run_tasks(parallel, self.tasks(output).into_iter(), |task| {
            SCRATCH.with_borrow_mut(|scratch| self.run_task(features, task, &packed, scratch));
        })
    }

    fn check(&self, outputs: usize) {
        let shape = &self.shape;
        assert!(shape.kv_heads > 0 && shape.heads.is_multiple_of(shape.kv_heads));
        let [queries, keys] = [shape.heads, shape.kv_heads]
            .map(|heads| shape.rows * shape.tokens * heads * shape.head_size);
        let lengths = [self.query, self.key, self.value].map(<[f32]>::len);
        assert_eq!(lengths, [queries, keys, keys], "queries, keys and values");
        assert_eq!(outputs, queries, "outputs");
        let mut tokens = self.visibility.iter().map(Visibility::tokens);
        assert!(tokens.all(|tokens| tokens == shape.tokens), "visibility");
        assert!(
            [1, shape.rows].contains(&self.visibility.len()),
            "visibility"
        );
    }

    /// Keys and values of every row's heads.
    fn pack<P: ParallelFor>(&self, parallel: &P) -> Result<Vec<PackedHead>, P::Error> {
        let heads = self.shape.rows * self.shape.kv_heads;
        let packed: Vec<OnceLock<PackedHead>> = (0..heads).map(|_| OnceLock::new()).collect();
        parallel.for_each(heads, &|index| {
            packed[index].get_or_init(|| self.pack_head(index));
        })?;
        let packed = packed.into_iter();
        Ok(packed.filter_map(OnceLock::into_inner).collect())
    }

    fn pack_head(&self, index: usize) -> PackedHead {
        let AttentionShape {
            tokens,
            kv_heads,
            head_size,
            ..
        } = self.shape;
        let (row, head) = (index / kv_heads, index % kv_heads);
        let stride = kv_heads * head_size;
        let first = row * tokens * stride + head * head_size;
        let [keys, values] = [self.key, self.value].map(|values| Rows {
            values: values.get(first..).unwrap_or(&[]),
            stride,
            size: head_size,
        });
        PackedHead::new(keys, values, tokens)
    }

    fn tasks<'a>(&'a self, output: &'a mut [f32]) -> Vec<Task<'a>> {
        let mut tasks = Vec::new();
        let width = self.shape.heads * self.shape.head_size;
        let rows = output.chunks_mut((self.shape.tokens * width).max(1));
        for ((row, mut rest), visibility) in rows.enumerate().zip(self.visibility.iter().cycle()) {
            for blocks in visibility.0.chunks(BLOCKS_PER_TASK) {
                let tokens: usize = blocks.iter().map(|block| block.queries.len()).sum();
                let (output, after) = rest.split_at_mut(tokens * width);
                rest = after;
                tasks.push(Task {
                    row,
                    blocks,
                    output,
                });
            }
        }
        tasks
    }

    fn run_task(
        &self,
        features: CpuFeatures,
        mut task: Task,
        packed: &[PackedHead],
        scratch: &mut TaskScratch,
    ) {
        let AttentionShape {
            heads, kv_heads, ..
        } = self.shape;
        let packed = &packed[task.row * kv_heads..][..kv_heads];
        for head in 0..heads {
            let served = &packed[head / (heads / kv_heads)];
            self.run_head(features, &mut task, (head, served), scratch);
        }
    }

    /// All of the task's blocks for one head of queries, with its keys and values.
    fn run_head(
        &self,
        features: CpuFeatures,
        task: &mut Task,
        (head, packed): (usize, &PackedHead),
        scratch: &mut TaskScratch,
    ) {
        let size = self.shape.head_size;
        let stride = self.shape.heads * size;
        scratch.queries.resize(QUERIES * pairs(size), [0; 2]);
        let mut first = 0;
        for block in task.blocks {
            self.pair_up(task.row, head, block, &mut scratch.queries);
            let of_block = Head {
                queries: &scratch.queries,
                count: block.queries.len(),
                size,
                keys: &packed.keys,
                values: &packed.values,
                visible: &block.visible,
                scale: 1.0 / (size as f32).sqrt(),
            };
            let mut into = Output {
                values: &mut task.output[first * stride + head * size..],
                stride,
            };
            dispatch::run(features, &of_block, &mut scratch.head, &mut into);
            first += block.queries.len();
        }
    }

    /// The block's queries of a head in pairs, padded with zeros.
    fn pair_up(&self, row: usize, head: usize, block: &QueryBlock, into: &mut [Pair]) {
        let AttentionShape {
            tokens,
            heads,
            head_size,
            ..
        } = self.shape;
        into.fill([0; 2]);
        let tokens = block.queries.clone().map(|token| row * tokens + token);
        for (token, into) in tokens.zip(into.chunks_mut(pairs(head_size).max(1))) {
            let first = (token * heads + head) * head_size;
            pair_up(&self.query[first..][..head_size], into);
        }
    }
}
