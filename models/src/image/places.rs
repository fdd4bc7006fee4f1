//! What an encoder of grids reads besides the patches: everything that follows from the number of their rows and columns.

use ndarray::{Array1, Array2, Array3, Axis};

use super::grid::{GridSettings, places};

/// Base of the rotary frequencies of all published encoders.
const THETA: f32 = 10000.0;

/// The places of an image's patches.
#[derive(Clone, Debug, PartialEq)]
pub struct GridPlaces {
    /// Rows of the rope tables, i64 `[1, patches]`.
    pub position_ids: Array2<i64>,
    /// Cosines of the places of patches, row by row, f32 `[patches, head/2]`.
    pub rope_cos: Array2<f32>,
    /// Sines of the same.
    pub rope_sin: Array2<f32>,
    /// The window of each patch, i32 `[1, patches]`, for an encoder with windows.
    pub window_ids: Option<Array2<i32>>,
    /// Where the table of position embeddings is read, for an encoder with one.
    pub taps: Option<Taps>,
}

/// Weighted rows of the table of position embeddings that add up to the embedding of a patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Taps {
    /// i64 `[1, patches, 4]`.
    pub rows: Array3<i64>,
    /// f32 `[1, patches, 4]`.
    pub weights: Array3<f32>,
}

impl GridPlaces {
    /// The places of the patches of `rows` × `columns` tokens.
    pub fn new(settings: &GridSettings, rows: usize, columns: usize) -> Self {
        let merge = settings.merge as usize;
        let patches: Vec<_> = places(rows, columns, merge).collect();
        let (rows, columns) = (rows * merge, columns * merge);
        let angles = angles(settings.head_dim / 4, rows, columns);
        let position = |&(row, column): &(usize, usize)| (row * columns + column) as i64;
        Self {
            position_ids: line(patches.iter().map(position).collect()),
            rope_cos: angles.mapv(f32::cos),
            rope_sin: angles.mapv(f32::sin),
            window_ids: settings.window.map(|window| {
                let side = window as usize * merge;
                let windows = columns.div_ceil(side);
                let id = |&(row, column): &(usize, usize)| row / side * windows + column / side;
                line(patches.iter().map(|place| id(place) as i32).collect())
            }),
            taps: settings
                .table
                .map(|side| Taps::new(side as usize, rows, columns, &patches)),
        }
    }
}

/// `[1, n]`.
fn line<T>(values: Vec<T>) -> Array2<T> {
    Array1::from(values).insert_axis(Axis(0))
}

/// The angles of a patch: those of its row, then those of its column.
fn angles(frequencies: usize, rows: usize, columns: usize) -> Array2<f32> {
    let frequency = |index: usize| {
        THETA
            .powf((2 * index) as f32 / (2 * frequencies) as f32)
            .recip()
    };
    Array2::from_shape_fn([rows * columns, 2 * frequencies], |(place, pair)| {
        let at = match pair < frequencies {
            true => place / columns,
            false => place % columns,
        };
        at as f32 * frequency(pair % frequencies)
    })
}

impl Taps {
    /// Bilinear interpolation of a table of `side` × `side` whose corners are those of the image.
    fn new(side: usize, rows: usize, columns: usize, patches: &[(usize, usize)]) -> Self {
        let (by_row, by_column) = (steps(side, rows), steps(side, columns));
        let tap = |patch: usize, corner: usize| {
            let (row, column) = patches[patch];
            let (y, x) = (by_row[row][corner / 2], by_column[column][corner % 2]);
            ((y.0 * side + x.0) as i64, y.1 * x.1)
        };
        let shape = [1, patches.len(), 4];
        Self {
            rows: Array3::from_shape_fn(shape, |(_, patch, corner)| tap(patch, corner).0),
            weights: Array3::from_shape_fn(shape, |(_, patch, corner)| tap(patch, corner).1),
        }
    }
}

/// For `count` places over the whole of a line of `side` entries, the two entries around each, with their weights.
fn steps(side: usize, count: usize) -> Vec<[(usize, f32); 2]> {
    let last = side - 1;
    let step = last as f32 / (count.max(2) - 1) as f32;
    let at = |place: usize| match place < count / 2 || count == 1 {
        true => place as f32 * step,
        // From the end, as in PyTorch: the last place is the last entry exactly.
        false => last as f32 - (count - 1 - place) as f32 * step,
    };
    let around = |place: usize| {
        let at = at(place);
        let first = at as usize;
        let weight = at - first as f32;
        [(first, 1.0 - weight), ((first + 1).min(last), weight)]
    };
    (0..count).map(around).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> GridSettings {
        GridSettings {
            patch: 14,
            merge: 2,
            min_pixels: 1,
            max_pixels: 1 << 20,
            head_dim: 8,
            window: Some(2),
            table: Some(5),
        }
    }

    #[test]
    fn patches_of_a_token_follow_each_other() {
        let places = GridPlaces::new(&settings(), 1, 2);
        let expected = ndarray::array![[0, 1, 4, 5, 2, 3, 6, 7]];
        assert_eq!(places.position_ids, expected);
    }

    #[test]
    fn rows_and_columns_turn_half_of_a_head_each() {
        let places = GridPlaces::new(&settings(), 1, 2);
        // Row 1, column 2 of four columns; frequencies 1 and 0.01.
        let angles = [1.0f32, 0.01, 2.0, 0.02];
        for (pair, angle) in angles.iter().enumerate() {
            assert!((places.rope_cos[[6, pair]] - angle.cos()).abs() < 1e-6);
            assert!((places.rope_sin[[6, pair]] - angle.sin()).abs() < 1e-6);
        }
    }

    #[test]
    fn windows_begin_at_the_top_left() {
        let places = GridPlaces::new(&settings(), 3, 3);
        let ids = places.window_ids.unwrap();
        let of_token: Vec<i32> = (0..9).map(|token| ids[[0, 4 * token]]).collect();
        assert_eq!(of_token, [0, 0, 1, 0, 0, 1, 2, 2, 3]);
        let whole = |token: usize| (0..4).all(|p| ids[[0, 4 * token + p]] == of_token[token]);
        assert!((0..9).all(whole));
    }

    #[test]
    fn taps_reach_from_corner_to_corner() {
        let taps = GridPlaces::new(&settings(), 2, 1).taps.unwrap();
        // Four rows over five entries: 0, 4/3, 8/3, 4; two columns: 0 and 4.
        let first = (taps.rows[[0, 0, 0]], taps.weights[[0, 0, 0]]);
        assert_eq!(first, (0, 1.0));
        // The second row of patches, right column: between rows 1 and 2 of the table.
        let got: Vec<_> = (0..4)
            .map(|corner| (taps.rows[[0, 3, corner]], taps.weights[[0, 3, corner]]))
            .collect();
        assert_eq!([got[0].0, got[2].0], [9, 14]);
        assert!((got[0].1 - 2.0 / 3.0).abs() < 1e-6 && (got[2].1 - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!((got[1].1, got[3].1), (0.0, 0.0));
        let last: f32 = (0..4)
            .filter(|&corner| taps.rows[[0, 7, corner]] == 24)
            .map(|corner| taps.weights[[0, 7, corner]])
            .sum();
        assert_eq!(last, 1.0);
    }
}
