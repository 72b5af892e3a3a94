//! Pages of remembered keys and values, and the beginnings of texts that share them.
//!
//! # Proof note
//!
//! *Before*: every text has reserved the pages of its largest length, and these together are at most as many as there are. *After*: a page is
//! always to be had for the next tokens of a text. *Why*: a page in use belongs to a text that has reserved it, or is remembered for
//! texts to come and given up when another is needed.

use std::collections::HashMap;
use std::sync::Arc;

use s3t_kernels::PAGE;

/// The keys and values of [`PAGE`] tokens in all layers of all models.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) values: Vec<f32>,
}

/// The beginning of a text by the beginning before it and its last tokens.
type Beginning = (u64, [u32; PAGE]);

struct Remembered {
    node: u64,
    page: Arc<Page>,
    /// The time of the last use, in uses.
    used: u64,
}

/// The pages.
pub(crate) struct Cache {
    /// The values of a page.
    size: usize,
    max: usize,
    /// The pages that may be held now.
    limit: usize,
    reserved: usize,
    /// Pages in use or remembered.
    made: usize,
    free: Vec<Page>,
    remembered: HashMap<Beginning, Remembered>,
    nodes: u64,
    clock: u64,
}

impl Cache {
    /// Up to so many pages of this size.
    pub(crate) fn new(size: usize, max: usize) -> Self {
        Self {
            size,
            max,
            limit: max,
            reserved: 0,
            made: 0,
            free: Vec::new(),
            remembered: HashMap::new(),
            nodes: 0,
            clock: 0,
        }
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Pages that texts have reserved.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved
    }

    /// Pages whose memory was asked for: in use, remembered, or free again.
    pub(crate) fn held(&self) -> usize {
        self.made + self.free.len()
    }

    /// Holds at most so many pages from now on, but those that are reserved.
    pub(crate) fn limit(&mut self, pages: usize) {
        self.limit = pages.min(self.max);
        while self.held() > self.limit.max(self.reserved) && (self.free.pop().is_some() || self.give_up()) {}
    }

    /// Gives back all pages that no text uses.
    pub(crate) fn shrink(&mut self) {
        while self.give_up() {}
        self.free.clear();
    }

    /// Reserves pages, if they are to be had.
    pub(crate) fn reserve(&mut self, pages: usize) -> bool {
        let fits = self.reserved + pages <= self.limit;
        if fits {
            self.reserved += pages;
        }
        fits
    }

    pub(crate) fn release(&mut self, pages: usize) {
        self.reserved -= pages;
    }

    /// A page for a text that has reserved it.
    pub(crate) fn page(&mut self) -> Arc<Page> {
        if self.free.is_empty() && self.held() >= self.limit.max(self.reserved) {
            self.give_up();
        }
        self.made += 1;
        Arc::new(self.free.pop().unwrap_or_else(|| Page { values: vec![0.0; self.size] }))
    }

    /// Takes a page back from a text.
    pub(crate) fn put_back(&mut self, page: Arc<Page>) {
        // Others may hold it: the last one gives it back.
        if let Ok(page) = Arc::try_unwrap(page) {
            self.made -= 1;
            self.free.push(page);
        }
    }

    /// Gives up the beginning that was used longest ago, and that no text uses; `false` if there is no such beginning.
    fn give_up(&mut self) -> bool {
        let unused = |of: &&Remembered| Arc::strong_count(&of.page) == 1;
        let oldest = self.remembered.iter().filter(|(_, of)| unused(of)).min_by_key(|(_, of)| of.used);
        if let Some(key) = oldest.map(|(key, _)| *key)
            && let Some(of) = self.remembered.remove(&key)
        {
            self.put_back(of.page);
            return true;
        }
        false
    }

    /// The pages of the longest remembered beginning of a text, with the node that they lead to.
    pub(crate) fn look_up(&mut self, ids: &[u32]) -> (Vec<Arc<Page>>, u64) {
        let (mut pages, mut node) = (Vec::new(), 0);
        self.clock += 1;
        for tokens in ids.as_chunks::<PAGE>().0 {
            let Some(found) = self.remembered.get_mut(&(node, *tokens)) else { break };
            found.used = self.clock;
            pages.push(Arc::clone(&found.page));
            node = found.node;
        }
        (pages, node)
    }

    /// Remembers a whole page behind a beginning: the node of the longer beginning.
    pub(crate) fn remember(&mut self, node: u64, tokens: &[u32; PAGE], page: &Arc<Page>) -> u64 {
        self.clock += 1;
        let clock = self.clock;
        let next = self.nodes + 1;
        let of = self.remembered.entry((node, *tokens)).or_insert_with(|| {
            self.nodes = next;
            Remembered { node: next, page: Arc::clone(page), used: clock }
        });
        of.node
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(first: u32) -> [u32; PAGE] {
        std::array::from_fn(|place| first + place as u32)
    }

    #[test]
    fn beginnings_are_found_by_all_their_tokens_and_given_up_when_pages_are_short() {
        let mut cache = Cache::new(4, 3);
        assert!(cache.reserve(2) && !cache.reserve(2));
        let (one, two) = (cache.page(), cache.page());
        let node = cache.remember(0, &tokens(0), &one);
        cache.remember(node, &tokens(100), &two);
        let text: Vec<u32> = tokens(0).into_iter().chain(tokens(100)).chain([7]).collect();
        assert_eq!(cache.look_up(&text).0.len(), 2);
        assert_eq!(cache.look_up(&text[..20]).0.len(), 1);
        assert_eq!(cache.look_up(&text[1..]).0.len(), 0);
        let other: Vec<u32> = tokens(1).into_iter().chain(tokens(100)).collect();
        assert_eq!(cache.look_up(&other).0.len(), 0, "the same tokens behind another beginning");
        for page in [one, two] {
            cache.put_back(page);
        }
        cache.release(2);
        // Three pages are needed, two are remembered: the oldest are given up.
        assert!(cache.reserve(3));
        let pages: Vec<_> = (0..3).map(|_| cache.page()).collect();
        assert_eq!((cache.held(), cache.look_up(&text).0.len()), (3, 0));
        pages.into_iter().for_each(|page| cache.put_back(page));
        assert_eq!((cache.held(), cache.made), (3, 0));
    }
}
