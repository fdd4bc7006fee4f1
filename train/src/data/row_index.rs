//! Positions of the rows of a JSONL file, in 8 bytes per line.

use seeward_models::sample::Line;

/// The lines of a file that have rows. A line may have several: all pairs of a list of rated completions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RowIndex {
    /// Byte offset of each line that has rows.
    offsets: Vec<u64>,
    /// First row of each of these lines; empty if every line has one row.
    first: Vec<u64>,
    /// Ascending pairs (index of a line, number of lines before it without rows); a pair holds until the next one.
    gaps: Vec<(usize, u64)>,
    rows: usize,
}

/// The place of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Byte offset of its line.
    pub(crate) offset: u64,
    /// Line number, from 1.
    pub(crate) line: u64,
    /// Index among the rows of its line.
    pub(crate) within: usize,
}

impl RowIndex {
    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a line after all others.
    pub(crate) fn push(&mut self, line: Line, rows: usize) {
        if rows == 0 {
            return;
        }
        let lines = self.offsets.len();
        let skipped = line.number - 1 - lines as u64;
        if self.gaps.last().map_or(0, |gap| gap.1) != skipped {
            self.gaps.push((lines, skipped));
        }
        if rows > 1 && self.first.is_empty() {
            self.first = (0..lines as u64).collect();
        }
        if rows > 1 || !self.first.is_empty() {
            self.first.push(self.rows as u64);
        }
        self.offsets.push(line.offset);
        self.rows += rows;
    }

    /// Releases spare capacity.
    pub(crate) fn shrink(&mut self) {
        self.offsets.shrink_to_fit();
        self.first.shrink_to_fit();
        self.gaps.shrink_to_fit();
    }

    /// The place of row `row`, which is below [`rows`](Self::rows).
    pub(crate) fn place(&self, row: usize) -> Place {
        let (index, within) = match self.first.is_empty() {
            true => (row, 0),
            false => {
                let index = self.first.partition_point(|&first| first <= row as u64) - 1;
                (index, row - self.first[index] as usize)
            }
        };
        let gaps = self.gaps.partition_point(|&(from, _)| from <= index);
        let skipped = self.gaps[..gaps].last().map_or(0, |gap| gap.1);
        Place {
            offset: self.offsets[index],
            line: index as u64 + 1 + skipped,
            within,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index of lines of ten bytes with these numbers of rows.
    fn index(rows: &[usize]) -> RowIndex {
        let mut index = RowIndex::default();
        for (line, &rows) in rows.iter().enumerate() {
            let (number, offset) = (line as u64 + 1, line as u64 * 10);
            let end = offset + 10;
            index.push(
                Line {
                    number,
                    offset,
                    end,
                },
                rows,
            );
        }
        index
    }

    #[test]
    fn every_row_is_where_it_was_put() {
        for lines in [
            vec![1, 1, 1],
            vec![0, 1, 0, 0, 1, 1],
            vec![3, 0, 1, 6],
            vec![1, 1, 0, 2, 1],
            vec![0, 0],
        ] {
            let index = index(&lines);
            let rows = lines.iter().enumerate().flat_map(|(line, &rows)| {
                (0..rows).map(move |within| Place {
                    offset: line as u64 * 10,
                    line: line as u64 + 1,
                    within,
                })
            });
            let found = (0..index.rows()).map(|row| index.place(row));
            assert!(found.eq(rows), "{lines:?}");
        }
    }

    #[test]
    fn a_line_of_one_row_takes_eight_bytes() {
        let index = index(&[1; 1000]);
        assert_eq!(
            (index.offsets.len(), index.first.len(), index.gaps.len()),
            (1000, 0, 0)
        );
    }
}
