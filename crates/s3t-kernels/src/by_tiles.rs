//! Products by tiles whose sums stay in registers: the way over a part's rows and vectors of columns that the processor's own instructions
//! have in common.

/// Defines `run(part, out)`, which computes a part by tiles of at most `ROWS` rows and `VECTORS` vectors of columns. The module has a
/// `tile::<ROWS, VECTORS>(part, out, row)` with these features, `is_there()`, which is true where the processor has them, and the names
/// `Part`, `MatrixMut` and `LANES`.
macro_rules! by_tiles {
    ($features:literal) => {
        /// Rows and vectors of columns whose sums stay in registers.
        const ROWS: usize = 6;
        const VECTORS: usize = 4;

        pub(super) fn run(part: &Part<'_>, out: &mut MatrixMut<'_>) {
            let [rows, columns] = out.dims();
            let vectors = columns.div_ceil(LANES);
            assert!(is_there() && vectors <= VECTORS, "a panel is as wide as the tiles");
            for row in (0..rows).step_by(ROWS) {
                let height = ROWS.min(rows - row);
                // SAFETY: the processor has the instructions.
                #[allow(unsafe_code, reason = "see above")]
                unsafe {
                    match vectors {
                        1 => rows_of::<1>(part, out, row, height),
                        2 => rows_of::<2>(part, out, row, height),
                        3 => rows_of::<3>(part, out, row, height),
                        _ => rows_of::<4>(part, out, row, height),
                    }
                }
            }
        }

        #[target_feature(enable = $features)]
        fn rows_of<const VECTORS: usize>(part: &Part<'_>, out: &mut MatrixMut<'_>, row: usize, height: usize) {
            match height {
                1 => tile::<1, VECTORS>(part, out, row),
                2 => tile::<2, VECTORS>(part, out, row),
                3 => tile::<3, VECTORS>(part, out, row),
                4 => tile::<4, VECTORS>(part, out, row),
                5 => tile::<5, VECTORS>(part, out, row),
                _ => tile::<ROWS, VECTORS>(part, out, row),
            }
        }
    };
}

pub(crate) use by_tiles;
