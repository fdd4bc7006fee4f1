//! The layout that linear layers of all kinds share: panels of outputs, and blocks of rows whose sums stay in registers.

/// Outputs of a panel of packed weights.
pub const PANEL_OUTPUTS: usize = 64;
/// Rows whose sums are computed at once.
pub(crate) const ROWS: usize = 6;
/// Tasks at least, if there are as many blocks of rows.
const TASKS: usize = 8;

/// Rows of a task: whole blocks, at most `most`.
pub(crate) fn rows_per_task(rows: usize, most: usize) -> usize {
    let even = rows.div_ceil(TASKS).next_multiple_of(ROWS);
    even.clamp(ROWS, most)
}

/// Values from `first` on, padded with zeros.
pub(crate) fn padded<T: Copy + Default, const N: usize>(values: &[T], first: usize) -> [T; N] {
    let values = values.get(first..).unwrap_or(&[]);
    std::array::from_fn(|index| values.get(index).copied().unwrap_or_default())
}
