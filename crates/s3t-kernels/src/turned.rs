//! Matrices whose rows and columns change places: copies alone, so that no bit depends on the way.
#![allow(clippy::inline_always, reason = "what is not inlined is not compiled for the vector instructions")]
#![allow(clippy::needless_range_loop, reason = "loops over several arrays at a time, of a length that is known")]

/// Rows and columns of the squares that are turned in registers.
const SIDE: usize = 8;

/// Copies `from`, whose row `r` begins at `r * stride`, turned into `to`, whose row `c` begins at `c * step`, for so many rows and columns
/// of `from`.
///
/// # Panics
///
/// If a row is not in `from` or a column not in `to`.
pub(crate) fn copy_turned(from: &[f32], stride: usize, to: &mut [f32], step: usize, [rows, columns]: [usize; 2]) {
    let size = [rows / SIDE * SIDE, columns / SIDE * SIDE];
    let squares = Squares { from, stride, to: &mut *to, step, size };
    #[cfg(target_arch = "x86_64")]
    match pulp::x86::V3::try_new() {
        Some(simd) => simd.vectorize(InVectors { simd, squares }),
        None => squares.copy(Plain),
    }
    #[cfg(not(target_arch = "x86_64"))]
    squares.copy(Plain);
    for column in 0..columns {
        let first = if column < size[1] { size[0] } else { 0 };
        for row in first..rows {
            to[column * step + row] = from[row * stride + column];
        }
    }
}

type Square = [[f32; SIDE]; SIDE];

/// A way to turn a square.
trait Turn: Copy {
    fn turned(self, square: &Square) -> Square;
}

/// Value by value.
#[derive(Clone, Copy)]
struct Plain;

impl Turn for Plain {
    #[inline(always)]
    fn turned(self, square: &Square) -> Square {
        let mut turned = [[0.0; SIDE]; SIDE];
        for row in 0..SIDE {
            for column in 0..SIDE {
                turned[column][row] = square[row][column];
            }
        }
        turned
    }
}

/// Whole squares of a matrix.
struct Squares<'a> {
    from: &'a [f32],
    stride: usize,
    to: &'a mut [f32],
    step: usize,
    /// Rows and columns of `from`, multiples of [`SIDE`].
    size: [usize; 2],
}

impl Squares<'_> {
    #[inline(always)]
    fn copy(self, turn: impl Turn) {
        let Self { from, stride, to, step, size: [rows, columns] } = self;
        for row in (0..rows).step_by(SIDE) {
            for column in (0..columns).step_by(SIDE) {
                let mut square = [[0.0; SIDE]; SIDE];
                for at in 0..SIDE {
                    square[at].copy_from_slice(&from[(row + at) * stride + column..][..SIDE]);
                }
                let turned = turn.turned(&square);
                for at in 0..SIDE {
                    to[(column + at) * step + row..][..SIDE].copy_from_slice(&turned[at]);
                }
            }
        }
    }
}

/// Whole squares, each turned in vectors of eight values.
#[cfg(target_arch = "x86_64")]
struct InVectors<'a> {
    simd: pulp::x86::V3,
    squares: Squares<'a>,
}

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for InVectors<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.squares.copy(self.simd);
    }
}

#[cfg(target_arch = "x86_64")]
impl Turn for pulp::x86::V3 {
    #[inline(always)]
    fn turned(self, square: &Square) -> Square {
        let mut turned = [[0.0; SIDE]; SIDE];
        // Four columns at a time: those of the upper four rows beside those of the lower four, each turned within its half of the vectors.
        for column in [0, 4] {
            let mut lines = [pulp::cast([0.0f32; SIDE]); 4];
            for row in 0..4 {
                let (upper, lower) = (&square[row], &square[row + 4]);
                lines[row] = pulp::cast([
                    upper[column],
                    upper[column + 1],
                    upper[column + 2],
                    upper[column + 3],
                    lower[column],
                    lower[column + 1],
                    lower[column + 2],
                    lower[column + 3],
                ]);
            }
            let [a, b, c, d] = lines;
            let (low, high) = (self.avx._mm256_unpacklo_ps(a, b), self.avx._mm256_unpackhi_ps(a, b));
            let (other_low, other_high) = (self.avx._mm256_unpacklo_ps(c, d), self.avx._mm256_unpackhi_ps(c, d));
            turned[column] = pulp::cast(self.avx._mm256_shuffle_ps::<0x44>(low, other_low));
            turned[column + 1] = pulp::cast(self.avx._mm256_shuffle_ps::<0xEE>(low, other_low));
            turned[column + 2] = pulp::cast(self.avx._mm256_shuffle_ps::<0x44>(high, other_high));
            turned[column + 3] = pulp::cast(self.avx._mm256_shuffle_ps::<0xEE>(high, other_high));
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_turned_copy_is_that_of_the_definition(
            [rows, columns] in [0..40usize, 0..40usize], [gap, other_gap] in [0..3usize, 0..3usize],
        ) {
            let (stride, step) = (columns + gap, rows + other_gap);
            let from: Vec<f32> = (0..rows * stride).map(|value| value as f32).collect();
            let mut to = vec![-1.0; columns * step];
            copy_turned(&from, stride, &mut to, step, [rows, columns]);
            for column in 0..columns {
                for row in 0..step {
                    let expected = if row < rows { from[row * stride + column] } else { -1.0 };
                    prop_assert_eq!(to[column * step + row], expected);
                }
            }
        }
    }
}
