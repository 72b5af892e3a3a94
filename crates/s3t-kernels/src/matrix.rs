//! Products of matrices that may lie in any order in memory.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use crate::buffer::GRAIN;

/// A matrix in borrowed memory.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T = f32> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// A matrix whose element (i, j) is `values[i * strides[0] + j * strides[1]]`.
    ///
    /// # Panics
    ///
    /// If an element is outside the memory.
    pub(crate) fn strided(values: &'a [T], [rows, columns]: [usize; 2], strides: [usize; 2]) -> Self {
        check(values.len(), [rows, columns], strides);
        Self { values, rows, columns, row_stride: strides[0], column_stride: strides[1] }
    }

    /// A matrix whose rows follow each other.
    pub(crate) fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(values, [rows, columns], [columns, 1])
    }

    /// Rows and columns.
    pub(crate) fn dims(self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Some of the rows.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(crate) fn rows(self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        let values = &self.values[(rows.start * self.row_stride).min(self.values.len())..];
        Self::strided(values, [rows.len(), self.columns], [self.row_stride, self.column_stride])
    }

    /// Some of the columns.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(crate) fn columns(self, columns: Range<usize>) -> Self {
        self.transposed().rows(columns).transposed()
    }

    /// The memory from the first row on and the distance of rows, if the values of a row follow each other.
    pub(crate) fn lines(self) -> Option<(&'a [T], usize)> {
        (self.column_stride == 1).then_some((self.values, self.row_stride))
    }

    /// The values of a row, where they lie if they follow each other.
    pub(crate) fn row(self, row: usize) -> Cow<'a, [T]> {
        match self.lines() {
            Some((values, stride)) => Cow::Borrowed(&values[row * stride..][..self.columns]),
            None => (0..self.columns).map(|column| self.at(row, column)).collect(),
        }
    }

    /// The memory, and the distances of rows and of columns in it: element (i, j) is `values[i * strides[0] + j * strides[1]]`, and
    /// every element is inside.
    pub(crate) fn memory(self) -> (&'a [T], [usize; 2]) {
        (self.values, [self.row_stride, self.column_stride])
    }

    /// An element.
    pub(crate) fn at(self, row: usize, column: usize) -> T {
        self.values[row * self.row_stride + column * self.column_stride]
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

    /// Over memory that may only be written to: with [`Onto::Replace`], or after [`fill_rows`](Self::fill_rows).
    pub(crate) fn unwritten(values: &'a mut [MaybeUninit<f32>], rows: usize, columns: usize) -> Self {
        check(values.len(), [rows, columns], [columns, 1]);
        let values = values.as_mut_ptr().cast();
        Self { values, rows, columns, row_stride: columns, memory: PhantomData }
    }

    /// Rows and columns.
    pub(crate) fn dims(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// The values of a row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        if self.columns == 0 {
            return &mut [];
        }
        // SAFETY: the row is inside the memory, `check` has made sure, its values follow each other, and this matrix, whose memory is
        // initialised unless it was made by `unwritten`, is borrowed for writing alone.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            std::slice::from_raw_parts_mut(self.values.add(row * self.row_stride), self.columns)
        }
    }

    /// The first value of a row, for [`dims`](Self::dims)`[1]` values to write to.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub(crate) fn row_pointer(&self, row: usize) -> *mut f32 {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        self.values.wrapping_add(row * self.row_stride)
    }

    /// Some of the rows and columns.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(crate) fn block(&mut self, rows: Range<usize>, columns: Range<usize>) -> MatrixMut<'_> {
        // SAFETY: this matrix is borrowed for as long as its part lives.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            self.part(rows, columns)
        }
    }

    /// Some of the rows.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(crate) fn rows(&mut self, rows: Range<usize>) -> MatrixMut<'_> {
        // SAFETY: this matrix is borrowed for as long as its part lives.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            self.part(rows, 0..self.columns)
        }
    }

    /// Some of the columns.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    pub(crate) fn columns(&mut self, columns: Range<usize>) -> MatrixMut<'_> {
        // SAFETY: this matrix is borrowed for as long as its part lives.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            self.part(0..self.rows, columns)
        }
    }

    /// Some of the rows and columns.
    ///
    /// # Safety
    ///
    /// While the part lives no element of it is reached in another way.
    ///
    /// # Panics
    ///
    /// If it is not inside.
    #[allow(unsafe_code, reason = "only the caller knows that parts are disjoint")]
    unsafe fn part<'b>(&self, rows: Range<usize>, columns: Range<usize>) -> MatrixMut<'b> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert!(columns.start <= columns.end && columns.end <= self.columns, "columns {columns:?} of {}", self.columns);
        let first = rows.start * self.row_stride + columns.start;
        let values = if rows.is_empty() || columns.is_empty() {
            self.values
        } else {
            // SAFETY: element (rows.start, columns.start) is inside the memory, as every element is.
            unsafe { self.values.add(first) }
        };
        let (rows, columns) = (rows.len(), columns.len());
        MatrixMut { values, rows, columns, row_stride: self.row_stride, memory: PhantomData }
    }

    /// Writes a value to each element.
    pub(crate) fn fill(&mut self, value: f32) {
        for row in 0..self.rows {
            let first = self.row_pointer(row);
            for column in 0..self.columns {
                // SAFETY: the row is inside the memory, `check` has made sure, and this matrix is borrowed for writing alone.
                #[allow(unsafe_code, reason = "see above")]
                unsafe {
                    first.add(column).write(value);
                }
            }
        }
    }

    /// Writes `row` to each row.
    pub(crate) fn fill_rows(&mut self, row: &[f32], threads: Threads) {
        assert_eq!(row.len(), self.columns, "a row is as long as the rows");
        let together = (GRAIN / row.len().max(1)).max(1);
        by_blocks(self, [together, row.len()], threads, |_, _, part| {
            for place in 0..part.rows {
                // SAFETY: the row `place` is inside the memory, `check` has made sure, and `part` is borrowed for writing alone.
                #[allow(unsafe_code, reason = "see above")]
                unsafe {
                    part.values.add(place * part.row_stride).copy_from_nonoverlapping(row.as_ptr(), row.len());
                }
            }
        });
    }
}

/// A matrix that several threads write to, each to elements of its own.
struct Shared<'a, 'b>(&'a MatrixMut<'b>);

impl<'b> Shared<'_, 'b> {
    fn get(&self) -> &MatrixMut<'b> {
        self.0
    }
}

// SAFETY: its memory is borrowed for writing alone, and whoever shares it gives each element to one thread.
#[allow(unsafe_code, reason = "see above")]
unsafe impl Sync for Shared<'_, '_> {}

/// Cuts a matrix into blocks of so many rows and columns, and runs `work(row of blocks, column of blocks, block)` for each,
/// side by side if there are threads. The last ones are smaller where the sizes do not go into each other.
pub(crate) fn by_blocks(
    out: &mut MatrixMut<'_>,
    [rows, columns]: [usize; 2],
    threads: Threads,
    work: impl Fn(usize, usize, &mut MatrixMut<'_>) + Sync,
) {
    let across = out.columns.div_ceil(columns.max(1));
    let blocks = out.rows.div_ceil(rows.max(1)) * across;
    let (all_rows, all_columns, out) = (out.rows, out.columns, Shared(out));
    let block = |index: usize| {
        let (row, column) = (index / across, index % across);
        let rows = row * rows..((row + 1) * rows).min(all_rows);
        let columns = column * columns..((column + 1) * columns).min(all_columns);
        // SAFETY: blocks do not overlap, and nothing else reaches the matrix, which is borrowed, while they live.
        #[allow(unsafe_code, reason = "see above")]
        let mut part = unsafe { out.get().part(rows, columns) };
        work(row, column, &mut part);
    };
    if blocks > 1 && threads.are_many() {
        (0..blocks).into_par_iter().for_each(block);
    } else {
        (0..blocks).for_each(block);
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

/// The treatment of the values that a product is written over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onto {
    /// They are replaced.
    Replace,
    /// The product is added to them.
    Add,
}

/// The threads that a product may run on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// In this thread.
    One,
    /// On all threads of the current pool.
    Pool,
}

impl Threads {
    pub(crate) fn are_many(self) -> bool {
        self == Self::Pool && rayon::current_num_threads() > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "rows 1..4 of 3")]
    fn a_part_outside_a_matrix_is_refused() {
        MatrixMut::new(&mut [0.0; 9], 3, 3).rows(1..4);
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
