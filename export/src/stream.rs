//! A tensor's elements in the order and type that a graph wants them in, window by window: memory does not grow with
//! the tensor. Threads read, cast and transpose a window together.

use rayon::prelude::*;
use seeward_models::checkpoint::Checkpoint;
use seeward_models::contract::{PANEL_GROUP, PANEL_OUTPUTS};
use seeward_models::{Error, Result};

use crate::cast;
use crate::form::{self, Form};
use crate::proto::DataType;
use crate::quantize::{self, BLOCK, BLOCK_BYTES};

/// Most elements held at once.
pub(crate) const WINDOW: usize = 8 << 20;
/// Elements that are handed over at once: who takes them finds them in the cache.
const PIECE: usize = 512 << 10;
/// Elements that a thread reads and casts at a time.
const RUN: usize = 64 << 10;
/// Rows and columns that are transposed at a time: both sides of such a square fit into the fastest cache.
const TILE: usize = 64;

/// What hears of one window after the other.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// A tensor of a checkpoint, and what its elements are to become.
#[derive(Clone, Copy)]
pub(crate) struct Stream<'a> {
    pub(crate) from: &'a Checkpoint,
    pub(crate) tensor: &'a str,
    pub(crate) form: Form,
}

/// Memory that one tensor after the other passes through.
#[derive(Default)]
pub(crate) struct Buffers {
    read: Vec<u8>,
    turned: Vec<u8>,
}

/// Fills a piece with elements from an index on.
type Read<'a> = dyn Fn(usize, &mut [u8]) -> Result<()> + Sync + 'a;

/// Elements that are wanted side by side: `length` of them from `first` on, and again after every `stride`.
struct Runs {
    first: usize,
    length: usize,
    stride: usize,
}

impl Runs {
    fn contiguous(first: usize) -> Self {
        Self {
            first,
            length: RUN,
            stride: RUN,
        }
    }

    /// A whole matrix from its first row on.
    fn whole_rows(columns: usize) -> Self {
        let length = (RUN / columns.max(1)).max(1) * columns;
        Self {
            first: 0,
            length,
            stride: length,
        }
    }

    /// Reads run by run, each by one thread.
    fn read(&self, size: usize, into: &mut [u8], read: &Read) -> Result<()> {
        let pieces = into.par_chunks_mut((self.length * size).max(1));
        pieces
            .enumerate()
            .try_for_each(|(index, piece)| read(self.first + index * self.stride, piece))
    }
}

impl Stream<'_> {
    /// Hands the elements over, at most `window` at once (but always whole columns, and whole rows of quantized ones).
    pub(crate) fn run(self, window: usize, buffers: &mut Buffers, sink: &mut Sink) -> Result<()> {
        match self.form {
            Form::Stored(element) => self.stored(element, window, buffers, sink),
            Form::Transposed(element) => self.transposed(element, window, buffers, sink),
            Form::Int8 => self.by_rows(PANEL_OUTPUTS, window, &mut buffers.read, &int8, sink),
            Form::Int8Scales => self.by_rows(1, window, &mut buffers.read, &int8_scale, sink),
            Form::Int8Sums => self.by_rows(1, window, &mut buffers.read, &int8_sum, sink),
            Form::Int4 => self.by_rows(1, window, &mut buffers.read, &int4, sink),
            Form::Int4Scales => self.by_rows(1, window, &mut buffers.read, &int4_scales, sink),
        }
    }

    fn stored(
        self,
        element: DataType,
        window: usize,
        buffers: &mut Buffers,
        sink: &mut Sink,
    ) -> Result<()> {
        let elements: usize = self.from.info(self.tensor)?.shape.iter().product();
        let piece = &mut buffers.read;
        let at_once = window.min(PIECE);
        for start in (0..elements).step_by(at_once) {
            piece.resize(at_once.min(elements - start) * element.size(), 0);
            let runs = Runs::contiguous(start);
            runs.read(element.size(), piece, &|start, into: &mut [u8]| {
                self.cast(start, element, into)
            })?;
            sink(piece)?;
        }
        Ok(())
    }

    /// The matrix's columns one after another: bands of columns, as many at once as fit into the window.
    fn transposed(
        self,
        element: DataType,
        window: usize,
        buffers: &mut Buffers,
        sink: &mut Sink,
    ) -> Result<()> {
        let [rows, columns] = self.matrix()?;
        let size = element.size();
        let width = (window / rows.max(1)).clamp(1, columns.max(1));
        let (band, turned) = (&mut buffers.read, &mut buffers.turned);
        for first in (0..columns).step_by(width) {
            let length = width.min(columns - first);
            band.resize(rows * length * size, 0);
            let runs = match length == columns {
                true => Runs::whole_rows(columns),
                false => Runs {
                    first,
                    length,
                    stride: columns,
                },
            };
            runs.read(size, band, &|start, into: &mut [u8]| {
                self.cast(start, element, into)
            })?;
            let at_once = (PIECE / rows.max(1)).next_multiple_of(TILE);
            for from in (0..length).step_by(at_once) {
                turned.resize(rows * at_once.min(length - from) * size, 0);
                match size {
                    2 => transpose::<2>(band, rows, from, turned),
                    _ => transpose::<4>(band, rows, from, turned),
                }
                sink(turned)?;
            }
        }
        Ok(())
    }

    /// What `made` makes of so many rows at a time, the last of which may be fewer.
    fn by_rows(
        self,
        some: usize,
        window: usize,
        piece: &mut Vec<u8>,
        made: &Made,
        sink: &mut Sink,
    ) -> Result<()> {
        let [rows, columns] = self.matrix()?;
        let at_once = (window / columns.max(1)).max(1).next_multiple_of(some);
        let of_rows = |first: usize| {
            let count = some.min(rows - first);
            let values = self.values(first * columns, count * columns)?;
            made(&values, columns).map_err(|e| self.at(e))
        };
        for first in (0..rows).step_by(at_once) {
            let firsts = (first..rows.min(first + at_once)).into_par_iter();
            let firsts = firsts.step_by(some);
            let pieces: Vec<Vec<u8>> = firsts.map(of_rows).collect::<Result<_>>()?;
            piece.clear();
            pieces.iter().for_each(|bytes| piece.extend(bytes));
            sink(piece)?;
        }
        Ok(())
    }

    /// Elements from `start` on, as many as fit into `into`.
    fn cast(self, start: usize, element: DataType, into: &mut [u8]) -> Result<()> {
        let dtype = self.from.info(self.tensor)?.dtype;
        if cast::same(dtype) == element {
            let offset = start * dtype.size();
            return self.from.read_range(self.tensor, offset, into);
        }
        let stored = self.read(start, into.len() / element.size())?;
        cast::cast(dtype, &stored, element, into).map_err(|e| self.at(e))
    }

    /// `count` elements from `start` on, as f32.
    fn values(self, start: usize, count: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0; count];
        let dtype = self.from.info(self.tensor)?.dtype;
        cast::widen(dtype, &self.read(start, count)?, &mut values);
        Ok(values)
    }

    fn read(self, start: usize, count: usize) -> Result<Vec<u8>> {
        let size = self.from.info(self.tensor)?.dtype.size();
        let mut stored = vec![0; count * size];
        self.from
            .read_range(self.tensor, start * size, &mut stored)?;
        Ok(stored)
    }

    fn matrix(self) -> Result<[usize; 2]> {
        form::matrix(&self.from.info(self.tensor)?.shape).map_err(|e| self.at(e))
    }

    fn at(self, error: Error) -> Error {
        error.at(format_args!("tensor {}", self.tensor))
    }
}

/// The bytes that the weights of one or more rows of so many columns become.
type Made = dyn Fn(&[f32], usize) -> Result<Vec<u8>> + Sync;

/// A panel.
fn int8(rows: &[f32], columns: usize) -> Result<Vec<u8>> {
    let mut panel = vec![0; columns.div_ceil(PANEL_GROUP) * PANEL_GROUP * PANEL_OUTPUTS];
    let mut integers = vec![0; columns];
    for (output, row) in rows.chunks(columns.max(1)).enumerate() {
        quantize::row(row, quantize::row_scale(row)?, &mut integers);
        let groups = panel.chunks_mut(PANEL_OUTPUTS * PANEL_GROUP);
        for (group, integers) in groups.zip(integers.chunks(PANEL_GROUP)) {
            group[output * PANEL_GROUP..][..integers.len()].copy_from_slice(integers);
        }
    }
    Ok(panel)
}

fn int8_scale(row: &[f32], _: usize) -> Result<Vec<u8>> {
    Ok(quantize::row_scale(row)?.to_le_bytes().to_vec())
}

fn int8_sum(row: &[f32], columns: usize) -> Result<Vec<u8>> {
    let mut integers = vec![0; columns];
    quantize::row(row, quantize::row_scale(row)?, &mut integers);
    let sum: i32 = integers.iter().map(|&byte| i32::from(byte as i8)).sum();
    Ok(sum.to_le_bytes().to_vec())
}

fn int4(row: &[f32], _: usize) -> Result<Vec<u8>> {
    let blocks = row.chunks(BLOCK);
    let mut bytes = vec![0; blocks.len() * BLOCK_BYTES];
    for (block, into) in blocks.zip(bytes.chunks_mut(BLOCK_BYTES)) {
        quantize::block(block, quantize::block_scale(block)?, into);
    }
    Ok(bytes)
}

fn int4_scales(row: &[f32], _: usize) -> Result<Vec<u8>> {
    let scale = |block| Ok(quantize::block_scale(block)?.to_le_bytes());
    let scales: Vec<[u8; 4]> = row.chunks(BLOCK).map(scale).collect::<Result<_>>()?;
    Ok(scales.concat())
}

/// A matrix of so many rows and elements of N bytes, column by column from the column `from` on, as far as they fit.
fn transpose<const N: usize>(matrix: &[u8], rows: usize, from: usize, into: &mut [u8]) {
    let (matrix, into) = (matrix.as_chunks::<N>().0, into.as_chunks_mut::<N>().0);
    let width = matrix.len() / rows.max(1);
    let tiles = into.par_chunks_mut((TILE * rows).max(1)).enumerate();
    tiles.for_each(|(tile, columns)| {
        // Rows of the matrix may lie so far apart that they would drive each other out of the cache.
        let mut square = [[[0; N]; TILE]; TILE];
        for top in (0..rows).step_by(TILE) {
            let height = TILE.min(rows - top);
            let lines = matrix[top * width..(top + height) * width].chunks(width);
            for (line, into) in lines.zip(&mut square) {
                let left = from + tile * TILE;
                let line = &line[left..width.min(left + TILE)];
                into[..line.len()].copy_from_slice(line);
            }
            for (c, column) in columns.chunks_mut(rows).enumerate() {
                let pairs = column[top..top + height].iter_mut().zip(&square);
                pairs.for_each(|(to, line)| *to = line[c]);
            }
        }
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::borrow::Cow;
    use std::path::Path;

    use seeward_models::checkpoint::{Dtype, TensorData, WEIGHTS_FILE, write_tensors};

    use super::*;

    fn checkpoint(folder: &Path, shape: &[usize], values: &[f32]) -> Checkpoint {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = TensorData {
            name: "w".to_owned(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: Box::new(move || Cow::Owned(bytes.clone())),
        };
        write_tensors(&folder.join(WEIGHTS_FILE), vec![tensor]).unwrap();
        Checkpoint::open(folder).unwrap()
    }

    /// The numbers, all of them small enough for bf16.
    fn streamed(from: &Checkpoint, form: Form, window: usize) -> Vec<f32> {
        let mut values = Vec::new();
        let stream = Stream {
            from,
            tensor: "w",
            form,
        };
        let element = form.element();
        let rows = from.info("w").unwrap().shape[0];
        let mut take = |piece: &[u8]| {
            assert!(piece.len() <= window.max(rows) * element.size());
            let elements = piece.chunks(element.size());
            values.extend(elements.map(|bytes| match *bytes {
                [low, high] => f32::from_le_bytes([0, 0, low, high]),
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                _ => panic!("{bytes:?}"),
            }));
            Ok(())
        };
        stream
            .run(window, &mut Buffers::default(), &mut take)
            .unwrap();
        values
    }

    #[test]
    fn every_window_streams_the_same_elements() {
        for [rows, columns] in [[3, 5], [1, 7], [130, 67], [64, 128]] {
            let folder = tempfile::tempdir().unwrap();
            let values: Vec<f32> = (0..rows * columns).map(|v| (v % 251) as f32).collect();
            let from = checkpoint(folder.path(), &[rows, columns], &values);
            let turned: Vec<f32> = (0..rows * columns)
                .map(|i| values[i % rows * columns + i / rows])
                .collect();
            for window in [1, 4, 7, 15, 100, 700, 10_000] {
                for element in [DataType::F32, DataType::Bf16] {
                    let got = |form| streamed(&from, form, window);
                    assert_eq!(got(Form::Stored(element)), values);
                    assert_eq!(got(Form::Transposed(element)), turned);
                }
            }
        }
    }

    /// Each weight at its place in its panel, zeros where there is none.
    #[test]
    fn integers_come_in_panels() {
        for [rows, columns] in [[3, 5], [64, 4], [130, 67]] {
            let folder = tempfile::tempdir().unwrap();
            // The largest of a row is 127, so that weights are their integers.
            let integer = |row: usize, column: usize| match column {
                0 => 127,
                _ => ((31 * row + 7 * column) % 255) as i32 - 127,
            };
            let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
            let values: Vec<f32> = places.clone().map(|(r, c)| integer(r, c) as f32).collect();
            let from = checkpoint(folder.path(), &[rows, columns], &values);
            let groups = columns.div_ceil(PANEL_GROUP);
            let panels = rows.div_ceil(PANEL_OUTPUTS);
            let mut expected = vec![0_u8; panels * groups * PANEL_OUTPUTS * PANEL_GROUP];
            for (row, column) in places {
                let group = row / PANEL_OUTPUTS * groups + column / PANEL_GROUP;
                let place = group * PANEL_OUTPUTS + row % PANEL_OUTPUTS;
                expected[place * PANEL_GROUP + column % PANEL_GROUP] = integer(row, column) as u8;
            }
            let sum = |row| (0..columns).map(|column| integer(row, column)).sum::<i32>();
            let sums: Vec<u8> = (0..rows).flat_map(|row| sum(row).to_le_bytes()).collect();
            for window in [1, 700, 10_000] {
                for (form, expected) in [(Form::Int8, &expected), (Form::Int8Sums, &sums)] {
                    let (mut got, tensor) = (Vec::new(), "w");
                    let from = &from;
                    let stream = Stream { from, tensor, form };
                    let mut take = |piece: &[u8]| {
                        got.extend_from_slice(piece);
                        Ok(())
                    };
                    stream
                        .run(window, &mut Buffers::default(), &mut take)
                        .unwrap();
                    assert_eq!(&got, expected, "{rows} x {columns}, window {window}");
                }
            }
        }
    }

    #[test]
    fn what_leaves_the_range_is_named_with_its_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let from = checkpoint(folder.path(), &[2, 1], &[1.0, 7e4]);
        for form in [Form::Stored, Form::Transposed] {
            let stream = Stream {
                from: &from,
                tensor: "w",
                form: form(DataType::F16),
            };
            let done = stream.run(100, &mut Buffers::default(), &mut |_| Ok(()));
            let text = done.unwrap_err().to_string();
            assert!(
                text.starts_with("tensor w: 70000 is outside fp16's range"),
                "{text}"
            );
        }
    }
}
