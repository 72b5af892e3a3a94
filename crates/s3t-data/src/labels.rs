use s3t_core::registry::unknown;

use crate::DataError;

/// The class names, declared by the user.
///
/// They are never collected from the records: a deleted record could be the only one of its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Checks and wraps class names.
    ///
    /// # Errors
    ///
    /// [`DataError::Labels`] if there are fewer than two, or one is empty or doubled.
    pub fn new(names: Vec<String>) -> Result<Self, DataError> {
        if names.len() < 2 {
            return Err(DataError::Labels(format!("has {} entries; give at least two class names", names.len())));
        }
        for (index, name) in names.iter().enumerate() {
            if name.trim().is_empty() {
                return Err(DataError::Labels(format!("has an empty name at position {index}")));
            }
            if names[..index].contains(name) {
                return Err(DataError::Labels(format!("names `{name}` twice")));
            }
        }
        Ok(Self(names))
    }

    /// The names, by class index.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// The number of classes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: there are at least two.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The class index of a name; the error says which names there are.
    pub(crate) fn index_of(&self, name: &str) -> Result<u32, String> {
        if name.is_empty() {
            return Err("the label is empty".into());
        }
        self.0.iter().position(|other| other == name).map(|index| index as u32).ok_or_else(|| {
            let known: Vec<&str> = self.0.iter().map(String::as_str).collect();
            unknown(&format!("label `{name}`"), name, &known)
        })
    }
}
