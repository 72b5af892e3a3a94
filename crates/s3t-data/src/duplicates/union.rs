//! Sets of records that are joined.

use std::collections::BTreeMap;

/// Sets that grow together.
pub(super) struct Union(Vec<usize>);

impl Union {
    pub(super) fn new(size: usize) -> Self {
        Self((0..size).collect())
    }

    pub(super) fn root(&mut self, mut index: usize) -> usize {
        while self.0[index] != index {
            self.0[index] = self.0[self.0[index]];
            index = self.0[index];
        }
        index
    }

    /// The first of both becomes the root, so that groups do not depend on the order of joins.
    pub(super) fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.0[one.max(other)] = one.min(other);
    }

    pub(super) fn groups(mut self) -> Vec<Option<u32>> {
        let roots: Vec<usize> = (0..self.0.len()).map(|index| self.root(index)).collect();
        let mut sizes = vec![0; roots.len()];
        roots.iter().for_each(|root| sizes[*root] += 1);
        let mut numbers: BTreeMap<usize, u32> = BTreeMap::new();
        let number = |root: &usize| {
            let next = numbers.len() as u32;
            (sizes[*root] > 1).then(|| *numbers.entry(*root).or_insert(next))
        };
        roots.iter().map(number).collect()
    }
}
