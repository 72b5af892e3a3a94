//! Products of matrices that may lie in any order in memory.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use crate::buffer::{Unwritten, zeros};

/// A matrix in borrowed memory.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose element (i, j) is `values[i * strides[0] + j * strides[1]]`.
    ///
    /// # Panics
    ///
    /// If an element is outside the memory.
    pub(crate) fn strided(values: &'a [f32], [rows, columns]: [usize; 2], strides: [usize; 2]) -> Self {
        check(values.len(), [rows, columns], strides);
        Self { values, rows, columns, row_stride: strides[0], column_stride: strides[1] }
    }

    /// A matrix whose rows follow each other.
    pub(crate) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, [rows, columns], [columns, 1])
    }

    /// Rows and columns.
    pub(crate) fn dims(self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    pub(crate) fn transposed(self) -> Self {
        let Self { values, rows, columns, row_stride, column_stride } = self;
        Self { values, rows: columns, columns: rows, row_stride: column_stride, column_stride: row_stride }
    }
}

/// A matrix to write to; its columns follow each other in memory.
pub(crate) struct MatrixMut<'a> {
    values: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    memory: PhantomData<&'a mut [f32]>,
}

impl<'a> MatrixMut<'a> {
    /// # Panics
    ///
    /// If an element is outside the memory or a row reaches into the next.
    pub(crate) fn strided(values: &'a mut [f32], [rows, columns]: [usize; 2], row_stride: usize) -> Self {
        assert!(row_stride >= columns, "rows of {columns} columns overlap at a distance of {row_stride}");
        check(values.len(), [rows, columns], [row_stride, 1]);
        Self { values: values.as_mut_ptr(), rows, columns, row_stride, memory: PhantomData }
    }

    pub(crate) fn new(values: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, [rows, columns], columns)
    }

    /// Over memory that may only be written to: with [`Onto::Replace`].
    fn unwritten(values: &'a mut [MaybeUninit<f32>], rows: usize, columns: usize) -> Self {
        check(values.len(), [rows, columns], [columns, 1]);
        let values = values.as_mut_ptr().cast();
        Self { values, rows, columns, row_stride: columns, memory: PhantomData }
    }
}

fn check(length: usize, [rows, columns]: [usize; 2], [row_stride, column_stride]: [usize; 2]) {
    let last = match (rows.checked_sub(1), columns.checked_sub(1)) {
        (Some(row), Some(column)) => {
            let place = row.checked_mul(row_stride).zip(column.checked_mul(column_stride));
            let place = place.and_then(|(row, column)| row.checked_add(column)?.checked_add(1));
            place.expect("no memory is that large")
        }
        _ => 0,
    };
    assert!(last <= length, "a matrix of {rows} by {columns} does not fit into {length} values");
}

/// What happens to the values that a product is written over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onto {
    /// They are replaced.
    Replace,
    /// The product is added to them.
    Add,
}

/// Where a product may run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// In this thread.
    One,
    /// On all threads of the current pool.
    Pool,
}

/// `out = scale a b`, or added to `out`. Each element is summed up in an order that depends on the sizes alone.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn multiply(
    out: &mut MatrixMut<'_>,
    onto: Onto,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
    threads: Threads,
) {
    assert!(
        a.columns == b.rows && out.rows == a.rows && out.columns == b.columns,
        "a product of {} by {} and {} by {} does not go into {} by {}",
        a.rows,
        a.columns,
        b.rows,
        b.columns,
        out.rows,
        out.columns
    );
    let parallelism = match threads {
        Threads::Pool if rayon::current_num_threads() > 1 => gemm::Parallelism::Rayon(0),
        _ => gemm::Parallelism::None,
    };
    // SAFETY: `check` has made sure at construction that every element (i, j) of each matrix, i below its rows and j below its
    // columns, is inside its borrowed memory. `out` is borrowed for writing alone, so nothing overlaps it, and its rows do not
    // overlap each other. All memory is initialised but that of `MatrixMut::unwritten`, of which the kernels read nothing: that is
    // private to `product`, which replaces.
    #[allow(unsafe_code, reason = "the product's kernels take pointers")]
    unsafe {
        gemm::gemm(
            out.rows,
            out.columns,
            a.columns,
            out.values,
            1,
            out.row_stride as isize,
            onto == Onto::Add,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `scale a b`, in new memory.
///
/// # Panics
///
/// If the sizes do not go together.
pub(crate) fn product(scale: f32, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let (rows, columns) = (a.rows, b.columns);
    let length = rows.checked_mul(columns).expect("no memory is that large");
    if a.columns == 0 {
        return zeros(length);
    }
    let mut out = Unwritten::new(length);
    let mut view = MatrixMut::unwritten(out.memory(), rows, columns);
    multiply(&mut view, Onto::Replace, scale, a, b, Threads::Pool);
    // SAFETY: with `Onto::Replace` the kernels write each element of the result, and it covers the memory.
    #[allow(unsafe_code, reason = "see above")]
    unsafe {
        out.written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_strided_and_transposed_matrices_are_those_of_the_definition() {
        // a is 5 by 3 inside rows of 4; b is the transpose of 2 by 3; the result goes into rows of 6.
        let a: Vec<f32> = (0..20).map(|value| (value % 7) as f32 - 3.0).collect();
        let b: Vec<f32> = (0..6).map(|value| value as f32 * 0.5).collect();
        let start: Vec<f32> = (0..30).map(|value| value as f32).collect();
        for (onto, keep) in [(Onto::Replace, 0.0), (Onto::Add, 1.0)] {
            let mut out = start.clone();
            let a_view = Matrix::strided(&a[1..], [5, 3], [4, 1]);
            let b_view = Matrix::new(&b, 2, 3).transposed();
            multiply(&mut MatrixMut::strided(&mut out[2..], [5, 2], 6), onto, 2.0, a_view, b_view, Threads::Pool);
            for row in 0..5 {
                for column in 0..6 {
                    let place = row * 6 + column;
                    let expected = if (2..4).contains(&column) {
                        let sum: f32 = (0..3).map(|k| a[1 + row * 4 + k] * b[(column - 2) * 3 + k]).sum();
                        keep * start[place] + 2.0 * sum
                    } else {
                        start[place]
                    };
                    assert_eq!(out[place], expected, "{row} {column}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "no memory is that large")]
    fn sizes_that_overflow_are_refused() {
        Matrix::strided(&[0.0; 10], [usize::MAX, 3], [usize::MAX / 2, 1]);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn a_matrix_outside_its_memory_is_refused() {
        Matrix::strided(&[0.0; 10], [3, 3], [4, 1]);
    }
}
