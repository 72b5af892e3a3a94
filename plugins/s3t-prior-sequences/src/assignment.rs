//! The assignment problem, solved again and again over the same columns.
//!
//! Crates solve one problem at a time. Here L - 1 of the same size follow each other, and the prices of the columns in one
//! are good first guesses for the next: with them, 64 slices are matched four times as fast as by the fastest crate that we
//! tried (`lsap`; the others were `pathfinding` and `lapjv`). The tests hold it to `lsap` and to brute force.

/// Solves assignment problems of one size by shortest augmenting paths (Jonker and Volgenant 1987; the method of scipy).
///
/// # Proof note
///
/// *Before*: any prices. *After*: a perfect matching of least cost, if there is one. *Why*: every row gets the bid
/// `min_c cost - price`, so all reduced costs are at least 0 whatever the prices were, and rows whose best column is free
/// take it at reduced cost 0. Each further row extends the matching along a shortest path by reduced cost, after which bids and
/// prices move so that reduced costs stay at least 0 and those of matched pairs are 0. When all rows are matched, all
/// columns are, and a matching on which a feasible dual is tight has least cost: prices need no sign, because no column is
/// left over.
pub(crate) struct Assignment {
    size: usize,
    /// The dual value of each column.
    prices: Vec<f64>,
}

const UNMATCHED: usize = usize::MAX;

impl Assignment {
    /// For problems with so many rows and columns.
    pub(crate) fn new(size: usize) -> Self {
        Self { size, prices: vec![0.0; size] }
    }

    /// The column of each row in a matching of least cost; `None` if there is no perfect matching. `costs` is row-major;
    /// an infinite cost is no edge. Ties are broken by the costs and prices alone, so equal calls in equal order give
    /// equal matchings.
    pub(crate) fn solve(&mut self, costs: &[f64]) -> Option<Vec<usize>> {
        let size = self.size;
        let row_of = |row: usize| &costs[row * size..][..size];
        let mut column_of = vec![UNMATCHED; size];
        let mut owner = vec![UNMATCHED; size];
        let mut bids = vec![0.0; size];
        // Rows with most at stake first: the others find the columns that are left at once.
        let mut order: Vec<usize> = (0..size).collect();
        let stake: Vec<f64> = (0..size).map(|row| row_of(row).iter().copied().fold(f64::INFINITY, f64::min)).collect();
        order.sort_by(|one, other| stake[*one].total_cmp(&stake[*other]));
        let (mut left, mut reduced) = (Vec::new(), vec![0.0; size]);
        for row in order {
            reduced.iter_mut().zip(row_of(row)).zip(&self.prices).for_each(|((reduced, cost), price)| {
                *reduced = cost - price;
            });
            let best = min_of(&reduced);
            let column = reduced.iter().position(|reduced| *reduced == best).filter(|_| best < f64::INFINITY)?;
            bids[row] = best;
            if owner[column] == UNMATCHED {
                owner[column] = row;
                column_of[row] = column;
            } else {
                left.push(row);
            }
        }
        let mut search = Search::new(size);
        for start in left {
            let (last, length) = search.run(start, row_of, &bids, &self.prices, &owner)?;
            bids[start] += length;
            for (column, distance) in &search.passed {
                bids[owner[*column]] += length - distance;
                self.prices[*column] -= length - distance;
            }
            // Turn the path around.
            let mut column = last;
            loop {
                let row = search.reached_from[column];
                owner[column] = row;
                std::mem::swap(&mut column_of[row], &mut column);
                if row == start {
                    break;
                }
            }
        }
        Some(column_of)
    }
}

/// The search for one shortest path, by arrays over columns so that the loops are vectorised.
struct Search {
    /// The distance to each column that is open, infinity for the others.
    distances: Vec<f64>,
    /// The price of each column that is open, minus infinity for the others.
    open_prices: Vec<f64>,
    reached_from: Vec<usize>,
    /// The columns on the way with their distances.
    passed: Vec<(usize, f64)>,
}

impl Search {
    fn new(size: usize) -> Self {
        Self {
            distances: vec![0.0; size],
            open_prices: vec![0.0; size],
            reached_from: vec![UNMATCHED; size],
            passed: Vec::with_capacity(size),
        }
    }

    /// A free column that is nearest to the row, and its distance.
    fn run<'a>(
        &mut self,
        start: usize,
        row_of: impl Fn(usize) -> &'a [f64],
        bids: &[f64],
        prices: &[f64],
        owner: &[usize],
    ) -> Option<(usize, f64)> {
        self.distances.fill(f64::INFINITY);
        self.open_prices.copy_from_slice(prices);
        self.passed.clear();
        let (mut row, mut length) = (start, 0.0);
        loop {
            self.relax(row_of(row), length - bids[row], row);
            length = min_of(&self.distances);
            if length == f64::INFINITY {
                return None;
            }
            let column = self.nearest(length, owner)?;
            if owner[column] == UNMATCHED {
                return Some((column, length));
            }
            self.passed.push((column, length));
            self.distances[column] = f64::INFINITY;
            self.open_prices[column] = f64::NEG_INFINITY;
            row = owner[column];
        }
    }

    /// The first column at this distance that is free, else the first at this distance.
    fn nearest(&self, length: f64, owner: &[usize]) -> Option<usize> {
        let mut nearest = None;
        for (column, (distance, owner)) in self.distances.iter().zip(owner).enumerate() {
            if *distance == length {
                if *owner == UNMATCHED {
                    return Some(column);
                }
                nearest = nearest.or(Some(column));
            }
        }
        nearest
    }

    fn relax(&mut self, costs: &[f64], offset: f64, row: usize) {
        let columns = self.distances.iter_mut().zip(&mut self.reached_from);
        for ((distance, from), (cost, price)) in columns.zip(costs.iter().zip(&self.open_prices)) {
            let found = offset + cost - price;
            let nearer = found < *distance;
            *distance = if nearer { found } else { *distance };
            *from = if nearer { row } else { *from };
        }
    }
}

/// The smallest of some numbers, in four lanes.
fn min_of(numbers: &[f64]) -> f64 {
    let smaller = |one: f64, other: f64| if other < one { other } else { one };
    let mut lanes = [f64::INFINITY; 4];
    let chunks = numbers.chunks_exact(4);
    let rest = chunks.remainder().iter().copied().fold(f64::INFINITY, smaller);
    for chunk in chunks {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane = smaller(*lane, *number);
        }
    }
    lanes.into_iter().fold(rest, smaller)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn brute_force(costs: &[f64], size: usize, row: usize, used: u32) -> f64 {
        if row == size {
            return 0.0;
        }
        (0..size)
            .filter(|column| used >> column & 1 == 0)
            .map(|column| costs[row * size + column] + brute_force(costs, size, row + 1, used | 1 << column))
            .fold(f64::INFINITY, f64::min)
    }

    fn total(costs: &[f64], size: usize, matching: &[usize]) -> f64 {
        let mut columns = matching.to_vec();
        columns.sort_unstable();
        assert_eq!(columns, (0..size).collect::<Vec<_>>(), "not a matching");
        matching.iter().enumerate().map(|(row, column)| costs[row * size + column]).sum()
    }

    /// Costs from a few values, so that ties are common, with edges missing.
    fn problems() -> impl Strategy<Value = (usize, Vec<Vec<f64>>)> {
        (1usize..7).prop_flat_map(|size| {
            let cost = prop_oneof![1 => Just(f64::INFINITY), 6 => (-6i32..6).prop_map(f64::from), 2 => -3.0..3.0f64];
            let problem = proptest::collection::vec(cost, size * size);
            (Just(size), proptest::collection::vec(problem, 1..5))
        })
    }

    proptest! {
        #[test]
        fn matchings_have_the_least_cost_of_all((size, problems) in problems()) {
            // One solver for all of them: prices of earlier problems must not matter.
            let mut solver = Assignment::new(size);
            for costs in problems {
                let best = brute_force(&costs, size, 0, 0);
                match solver.solve(&costs) {
                    Some(matching) => prop_assert!((total(&costs, size, &matching) - best).abs() < 1e-9),
                    None => {
                        prop_assert_eq!(best, f64::INFINITY);
                        solver = Assignment::new(size);
                    }
                }
            }
        }

        #[test]
        fn another_solver_finds_the_same_cost(
            size in 20usize..50, seed in proptest::collection::vec(-10.0..10.0f64, 2500),
        ) {
            let costs: Vec<f64> = (0..size * size).map(|cell| (seed[cell] + seed[cell / size]).exp()).collect();
            let found = Assignment::new(size).solve(&costs).unwrap();
            let (_, expected) = lsap::solve(size, size, &costs, false).unwrap();
            let (found, expected) = (total(&costs, size, &found), total(&costs, size, &expected));
            prop_assert!((found - expected).abs() <= 1e-9 * expected, "{} {}", found, expected);
        }
    }
}
