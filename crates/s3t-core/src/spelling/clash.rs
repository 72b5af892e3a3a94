//! Ids that cannot be told apart, found while a data set is read or made and in stores.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;

use super::shown::{Visible, side_by_side};
use super::{DIFFERENCES, comparison_form};
use crate::CoreError;

/// Ids while a data set is read or made, each with the place where it was seen first.
///
/// # Proof note
///
/// *Before*: ids that were added have distinct forms. *After* [`add`](Self::add): still, or the id was refused. *Why*: an id is kept
/// under its form, so that a second one with this form meets it there. One look-up an id: linear time, and no memory beside the
/// ids themselves where these are their own forms.
#[derive(Debug)]
pub struct Spellings<'a, P> {
    kind: &'static str,
    seen: HashMap<Cow<'a, str>, Seen<'a, P>>,
}

#[derive(Debug)]
struct Seen<'a, P> {
    /// The id, where it is not its own form.
    id: Option<Cow<'a, str>>,
    place: P,
}

impl<'a, P: Clone> Spellings<'a, P> {
    /// No ids yet, of a `kind` as messages call it: `record` or `subject`.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, seen: HashMap::new() }
    }

    /// Adds an id that was seen at a place: `None` if it is new, the place where it was seen first if it is not.
    ///
    /// # Errors
    ///
    /// [`Clash`] if the id cannot be told apart from another that was added, or shows nothing.
    pub fn add(&mut self, id: impl Into<Cow<'a, str>>, place: P) -> Result<Option<P>, Clash<P>> {
        let id = id.into();
        let form = match comparison_form(&id) {
            Cow::Borrowed(_) => None,
            Cow::Owned(form) => Some(form),
        };
        let (form, id) = match form {
            None => (id, None),
            Some(form) if form.is_empty() => {
                return Err(Clash { kind: self.kind, id: id.into_owned(), earlier: None });
            }
            Some(form) => (Cow::Owned(form), Some(id)),
        };
        match self.seen.entry(form) {
            Entry::Vacant(entry) => {
                entry.insert(Seen { id, place });
                Ok(None)
            }
            Entry::Occupied(entry) => {
                let seen = entry.get();
                if seen.id == id {
                    return Ok(Some(seen.place.clone()));
                }
                let id = id.unwrap_or_else(|| entry.key().clone()).into_owned();
                let earlier = seen.id.as_ref().unwrap_or(entry.key()).clone().into_owned();
                Err(Clash { kind: self.kind, id, earlier: Some((earlier, seen.place.clone())) })
            }
        }
    }
}

/// An id that cannot be told apart from an earlier one, or that shows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash<P> {
    /// `record` or `subject`.
    pub kind: &'static str,
    /// The id.
    pub id: String,
    /// The earlier id and its place; `None` for an id that shows nothing.
    pub earlier: Option<(String, P)>,
}

impl<P> Clash<P> {
    /// The problem in words; `place` says where the earlier id is, for example ` in line 3`.
    pub fn problem(&self, place: impl FnOnce(&P) -> String) -> String {
        let earlier = self.earlier.as_ref().map(|(earlier, at)| (&**earlier, place(at)));
        problem(self.kind, &self.id, earlier)
    }
}

/// The problem with an id that cannot be told apart from an earlier one at a place, or that shows nothing.
fn problem(kind: &str, id: &str, earlier: Option<(&str, String)>) -> String {
    let Some((earlier, place)) = earlier else {
        let id = Visible(id);
        return format!(
            "{kind} id `{id}` shows nothing, only blanks or invisible characters; give an id that can be read"
        );
    };
    let (id, earlier) = side_by_side(id, earlier);
    format!(
        "{kind} id `{id}` cannot be told apart from `{earlier}`{place}: they differ only in {DIFFERENCES}; write one id in \
         one way, and let different ids look different"
    )
}

impl<P> From<Clash<P>> for CoreError {
    fn from(clash: Clash<P>) -> Self {
        let problem = clash.problem(|_| String::new());
        let earlier = clash.earlier.map(|(earlier, _)| earlier);
        Self::ConfusableIds { kind: clash.kind, id: clash.id, earlier, problem }
    }
}

/// Ids of one kind that a person cannot tell apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfusableIds<K> {
    /// The kind: `record` or `subject`.
    pub kind: K,
    /// The ids, at least two, in order.
    pub ids: Vec<String>,
}

/// The ids that cannot be told apart from another of their kind, in groups; an id that occurs twice counts once. `ids` gives every id
/// with its kind to the function that it is called with.
///
/// Calls `ids` at most twice, and keeps only ids that are not their own form and those that share it: of two ids with one form, one
/// is not its own form.
///
/// # Errors
///
/// As `ids`.
pub fn confusable<K: Copy + Ord + Hash, E>(
    mut ids: impl FnMut(&mut dyn FnMut(K, &str)) -> Result<(), E>,
) -> Result<Vec<ConfusableIds<K>>, E> {
    let mut groups: HashMap<(K, String), Vec<String>> = HashMap::new();
    ids(&mut |kind, id| {
        if let Cow::Owned(form) = comparison_form(id) {
            groups.entry((kind, form)).or_default();
        }
    })?;
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    ids(&mut |kind, id| {
        if let Some(group) = groups.get_mut(&(kind, comparison_form(id).into_owned()))
            && !group.iter().any(|known| known == id)
        {
            group.push(id.to_owned());
        }
    })?;
    let groups = groups.into_iter().filter(|(_, ids)| ids.len() > 1);
    let mut groups: Vec<ConfusableIds<K>> = groups.map(|((kind, _), ids)| ConfusableIds { kind, ids }).collect();
    groups.iter_mut().for_each(|group| group.ids.sort_unstable());
    groups.sort_unstable();
    Ok(groups)
}
