//! A tensor's elements in the layout of the data file, window by window: memory does not grow with the tensor, except by
//! the scales and sums of a quantized one (an eighth of a byte per weight). Threads
//! read, cast and transpose a window together.

use rayon::prelude::*;
use seeward_models::Result;
use seeward_models::contract::PANEL_OUTPUTS;

use super::layout::WeightLayout;
use super::pack::{self, Pack, Packed};
use super::tensor::Tensor;
use super::transpose::{self, SQUARE};
use crate::data_type::DataType;

/// Maximum number of elements in memory.
pub(super) const WINDOW: usize = 8 << 20;
/// Elements per chunk: the consumer finds them in the cache.
const CHUNK: usize = 512 << 10;
/// Elements that a thread reads and casts at a time.
const RUN: usize = 64 << 10;

/// The consumer of one chunk after another.
pub(super) type Sink<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

/// Streams one tensor after another through the same memory.
pub(super) struct Streamer {
    window: usize,
    buffer: Vec<u8>,
    transposed: Vec<u8>,
}

/// Reads elements from an index on.
type Read<'a> = dyn Fn(usize, &mut [u8]) -> Result<()> + Sync + 'a;

/// Contiguous elements to read: `length` of them from `first` on, and again after every `stride`.
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

    /// `length` columns from the column `first` on; whole rows are read several at a time.
    fn columns(first: usize, length: usize, columns: usize) -> Self {
        let rows = match length == columns {
            true => (RUN / columns.max(1)).max(1),
            false => 1,
        };
        Self {
            first,
            length: rows * length,
            stride: rows * columns,
        }
    }

    /// Reads run by run, each by one thread.
    fn read(&self, size: usize, into: &mut [u8], read: &Read) -> Result<()> {
        let runs = into.par_chunks_mut((self.length * size).max(1));
        runs.enumerate()
            .try_for_each(|(index, run)| read(self.first + index * self.stride, run))
    }
}

impl Streamer {
    /// With at most `window` elements in memory, but always whole columns, and whole rows of packed matrices.
    pub(super) fn new(window: usize) -> Self {
        Self {
            window,
            buffer: Vec::new(),
            transposed: Vec::new(),
        }
    }

    /// Passes the tensor's first part to `sink` and returns its other parts, which are small. The tensor is read once.
    ///
    /// # Errors
    /// An unreadable checkpoint, a value outside the range of the layout's element type, or the error of `sink`.
    pub(super) fn run(
        &mut self,
        tensor: Tensor,
        layout: WeightLayout,
        sink: &mut Sink,
    ) -> Result<Vec<Vec<u8>>> {
        match layout {
            WeightLayout::Stored(element) => self.stored(tensor, element, sink)?,
            WeightLayout::Transposed(element) => self.transposed(tensor, element, sink)?,
            WeightLayout::Bf16 => return self.packed(tensor, PANEL_OUTPUTS, &pack::bf16, sink),
            WeightLayout::Int8 => return self.packed(tensor, PANEL_OUTPUTS, &pack::int8, sink),
        }
        Ok(Vec::new())
    }

    fn stored(&mut self, tensor: Tensor, element: DataType, sink: &mut Sink) -> Result<()> {
        let elements = tensor.elements()?;
        let at_once = self.window.min(CHUNK);
        for start in (0..elements).step_by(at_once) {
            let length = at_once.min(elements - start);
            self.fill(tensor, element, length, &Runs::contiguous(start))?;
            sink(&self.buffer)?;
        }
        Ok(())
    }

    /// The matrix's columns one after another: bands of columns, as many at once as fit into the window.
    fn transposed(&mut self, tensor: Tensor, element: DataType, sink: &mut Sink) -> Result<()> {
        let [rows, columns] = tensor.matrix()?;
        let width = (self.window / rows.max(1)).clamp(1, columns.max(1));
        let at_once = (CHUNK / rows.max(1)).max(1).next_multiple_of(SQUARE);
        let size = element.size();
        for first in (0..columns).step_by(width) {
            let length = width.min(columns - first);
            let runs = Runs::columns(first, length, columns);
            self.fill(tensor, element, rows * length, &runs)?;
            for from in (0..length).step_by(at_once) {
                let bytes = rows * at_once.min(length - from) * size;
                self.transposed.resize(bytes, 0);
                transpose::columns(&self.buffer, size, rows, from, &mut self.transposed);
                sink(&self.transposed)?;
            }
        }
        Ok(())
    }

    /// Fills the buffer with `length` elements.
    fn fill(&mut self, from: Tensor, to: DataType, length: usize, runs: &Runs) -> Result<()> {
        let size = to.size();
        self.buffer.resize(length * size, 0);
        let read = |start, into: &mut [u8]| from.cast(start, to, into);
        runs.read(size, &mut self.buffer, &read)
    }

    /// The matrix packed by `count` rows at a time; the last rows may be fewer.
    fn packed(
        &self,
        tensor: Tensor,
        count: usize,
        pack: &Pack,
        sink: &mut Sink,
    ) -> Result<Vec<Vec<u8>>> {
        let [rows, columns] = tensor.matrix()?;
        let at_once = (self.window / columns.max(1)).max(1);
        let at_once = at_once.next_multiple_of(count);
        let packed = |first: usize| {
            let count = count.min(rows - first);
            let values = tensor.values(first * columns, count * columns)?;
            pack(&values, columns).map_err(|e| tensor.at(e))
        };
        let mut small = Vec::new();
        for first in (0..rows).step_by(at_once) {
            let firsts = (first..rows.min(first + at_once)).into_par_iter();
            let window: Vec<Packed> = firsts.step_by(count).map(packed).collect::<Result<_>>()?;
            for packed in window {
                sink(&packed.bytes)?;
                append(&mut small, packed.small, rows.div_ceil(count));
            }
        }
        Ok(small)
    }
}

/// Appends each part's next elements; the first of `times` calls reserves memory for all.
fn append(parts: &mut Vec<Vec<u8>>, next: Vec<Vec<u8>>, times: usize) {
    if parts.is_empty() {
        let reserved = next
            .iter()
            .map(|part| Vec::with_capacity(times * part.len()));
        *parts = reserved.collect();
    }
    let pairs = parts.iter_mut().zip(next);
    pairs.for_each(|(part, next)| part.extend(next));
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::path::Path;

    use seeward_models::checkpoint::{Checkpoint, Dtype, TensorData, WEIGHTS_FILE, write_tensors};
    use seeward_models::contract::{BF16_GROUP, GROUP, QUAD};

    use super::*;
    use crate::weights::quantize::QuantizedGroup;

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

    fn tensor(checkpoint: &Checkpoint) -> Tensor<'_> {
        Tensor {
            checkpoint,
            name: "w",
        }
    }

    /// The values, each of them exact in bf16.
    fn streamed(
        from: &Checkpoint,
        layout: fn(DataType) -> WeightLayout,
        element: DataType,
        window: usize,
    ) -> Vec<f32> {
        let mut values = Vec::new();
        let rows = from.info("w").unwrap().shape[0];
        let mut take = |chunk: &[u8]| {
            assert!(chunk.len() <= window.max(rows) * element.size());
            let elements = chunk.chunks(element.size());
            values.extend(elements.map(|bytes| match *bytes {
                [low, high] => f32::from_le_bytes([0, 0, low, high]),
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                _ => panic!("{bytes:?}"),
            }));
            Ok(())
        };
        let mut streamer = Streamer::new(window);
        let small = streamer.run(tensor(from), layout(element), &mut take);
        assert_eq!(small.unwrap(), Vec::<Vec<u8>>::new());
        values
    }

    #[test]
    fn every_window_streams_the_same_elements() {
        for [rows, columns] in [[3, 5], [1, 7], [130, 67], [64, 128]] {
            let folder = tempfile::tempdir().unwrap();
            let values: Vec<f32> = (0..rows * columns).map(|v| (v % 251) as f32).collect();
            let from = checkpoint(folder.path(), &[rows, columns], &values);
            let transposed: Vec<f32> = (0..rows * columns)
                .map(|i| values[i % rows * columns + i / rows])
                .collect();
            for window in [1, 4, 7, 15, 100, 700, 10_000] {
                for element in [DataType::F32, DataType::Bf16] {
                    let got = |layout| streamed(&from, layout, element, window);
                    assert_eq!(got(WeightLayout::Stored), values);
                    assert_eq!(got(WeightLayout::Transposed), transposed);
                }
            }
        }
    }

    /// Streams the matrix in panels: their bytes, and those of the parts after them.
    fn in_panels(
        from: &Checkpoint,
        layout: WeightLayout,
        window: usize,
    ) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut panels = Vec::new();
        let mut take = |chunk: &[u8]| {
            panels.extend_from_slice(chunk);
            Ok(())
        };
        let mut streamer = Streamer::new(window);
        let small = streamer.run(tensor(from), layout, &mut take);
        (panels, small.unwrap())
    }

    /// The place of an element among those of the panels of a matrix with this number of columns.
    fn place([row, column]: [usize; 2], columns: usize, group: usize) -> usize {
        let groups = row / PANEL_OUTPUTS * columns.div_ceil(group) + column / group;
        (groups * PANEL_OUTPUTS + row % PANEL_OUTPUTS) * group + column % group
    }

    #[test]
    fn weights_in_bf16_come_in_panels() {
        for [rows, columns] in [[3, 5], [64, 4], [130, 67]] {
            let folder = tempfile::tempdir().unwrap();
            let values: Vec<f32> = (0..rows * columns).map(|v| (v % 251) as f32).collect();
            let from = checkpoint(folder.path(), &[rows, columns], &values);
            let panel = columns.next_multiple_of(BF16_GROUP) * PANEL_OUTPUTS;
            let mut expected = vec![0_u16; rows.div_ceil(PANEL_OUTPUTS) * panel];
            for (index, value) in values.iter().enumerate() {
                let at = [index / columns, index % columns];
                expected[place(at, columns, BF16_GROUP)] = half::bf16::from_f32(*value).to_bits();
            }
            let expected: Vec<u8> = expected.into_iter().flat_map(u16::to_le_bytes).collect();
            for window in [1, 700, 10_000] {
                let (panels, small) = in_panels(&from, WeightLayout::Bf16, window);
                assert!(panels == expected, "{rows} x {columns}, window {window}");
                assert!(small.is_empty());
            }
        }
    }

    /// Each integer, scale and sum at its place in its panel, zeros in the unused places.
    #[test]
    fn integers_come_in_panels_with_scales_and_sums_after_them() {
        for [rows, columns] in [[3, 5], [64, 64], [130, 67]] {
            let folder = tempfile::tempdir().unwrap();
            let values: Vec<f32> = (0..rows * columns).map(|at| (at as f32).sin()).collect();
            let from = checkpoint(folder.path(), &[rows, columns], &values);
            let (panels, groups) = (rows.div_ceil(PANEL_OUTPUTS), columns.div_ceil(GROUP));
            let mut integers = vec![0_u8; panels * groups * GROUP * PANEL_OUTPUTS];
            let mut small = vec![vec![0_u8; panels * groups * PANEL_OUTPUTS * 4]; 2];
            for (row, values) in values.chunks(columns).enumerate() {
                for (index, weights) in values.chunks(GROUP).enumerate() {
                    let group = QuantizedGroup::new(weights).unwrap();
                    let panel = row / PANEL_OUTPUTS * groups + index;
                    for (column, integer) in group.integers.into_iter().enumerate() {
                        let quad = panel * GROUP / QUAD + column / QUAD;
                        let place = quad * PANEL_OUTPUTS + row % PANEL_OUTPUTS;
                        integers[place * QUAD + column % QUAD] = integer;
                    }
                    let place = 4 * (panel * PANEL_OUTPUTS + row % PANEL_OUTPUTS);
                    small[0][place..][..4].copy_from_slice(&group.scale.to_le_bytes());
                    small[1][place..][..4].copy_from_slice(&group.sum().to_le_bytes());
                }
            }
            for window in [1, 700, 10_000] {
                let streamed = in_panels(&from, WeightLayout::Int8, window);
                assert!(
                    streamed == (integers.clone(), small.clone()),
                    "{rows} x {columns}, window {window}"
                );
            }
        }
    }

    #[test]
    fn a_value_out_of_range_is_reported_with_its_tensor() {
        let folder = tempfile::tempdir().unwrap();
        let from = checkpoint(folder.path(), &[2, 1], &[1.0, 7e4]);
        let refused = |from: &Checkpoint, layout| {
            let done = Streamer::new(100).run(tensor(from), layout, &mut |_| Ok(()));
            done.unwrap_err().to_string()
        };
        for layout in [WeightLayout::Stored, WeightLayout::Transposed] {
            let text = refused(&from, layout(DataType::F16));
            let expected = "tensor w: 70000 is outside fp16's range";
            assert!(text.starts_with(expected), "{text}");
        }
        let from = checkpoint(folder.path(), &[2, 1], &[1.0, f32::MAX]);
        let text = refused(&from, WeightLayout::Bf16);
        assert!(
            text.starts_with("tensor w: ") && text.ends_with("outside the range of Bf16"),
            "{text}"
        );
    }
}
