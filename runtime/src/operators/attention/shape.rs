//! A whole operator's work, cut into what threads do.

use std::sync::{Mutex, OnceLock, PoisonError};

use ort::operator::ComputeContext;

use super::packed::{PackedHead, Pair, Rows, pair_up, pairs};
use super::products::{self, Head, Output, Scratch};
use super::seen::{Block, QUERIES};

/// Blocks of queries that a thread takes at once: a head's keys and values stay in its cache for them.
const AT_ONCE: usize = 4;

/// What there is to compute.
pub(super) struct Shape {
    pub(super) rows: usize,
    pub(super) tokens: usize,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    /// Numbers of a head.
    pub(super) size: usize,
}

/// Some neighbouring blocks of a row, and where their mixed values go.
pub(super) struct Task<'a> {
    row: usize,
    blocks: &'a [Block],
    output: Mutex<&'a mut [f32]>,
}

impl Shape {
    /// `seen` are the blocks of each row, or of any.
    pub(super) fn attend(
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

    pub(super) fn pack(&self, index: usize, key: &[f32], value: &[f32]) -> PackedHead {
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

    pub(super) fn tasks<'a>(&self, seen: &'a [Vec<Block>], output: &'a mut [f32]) -> Vec<Task<'a>> {
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

    pub(super) fn run(&self, task: &Task, query: &[f32], packed: &[PackedHead]) {
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
