use std::collections::HashMap;

use s3t_core::limits::shown;
use s3t_core::registry::unknown;
use s3t_core::{Limits, Task};

use crate::DataError;

/// What is read of each record to be learnt.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// The task.
    pub task: Task,
    /// The class names, for tasks with classes.
    pub labels: &'a Labels,
    /// The most that is read.
    pub limits: Limits,
}

impl<'a> Targets<'a> {
    /// One class a record.
    pub fn classes(labels: &'a Labels) -> Self {
        Self { task: Task::Classification { classes: labels.len() }, labels, limits: Limits::default() }
    }
}

impl Targets<'_> {
    /// Refuses tasks that a source of images in classes has nothing for.
    pub(crate) fn only_classes(&self, path: &std::path::Path) -> Result<&Labels, DataError> {
        match self.task {
            Task::Classification { .. } => Ok(self.labels),
            task => {
                let problem = format!("has one class a record, but task `{}` asks for something else", task.name());
                Err(DataError::file(path, problem))
            }
        }
    }
}

/// The class names, declared by the user.
///
/// They are never collected from the records: a deleted record could be the only one of its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    names: Vec<String>,
    /// The class of each name.
    classes: HashMap<String, u32>,
}

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
        let mut classes = HashMap::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            if name.trim().is_empty() {
                return Err(DataError::Labels(format!("has an empty name at position {index}")));
            }
            if classes.insert(name.clone(), index as u32).is_some() {
                return Err(DataError::Labels(format!("names `{}` twice", shown(name))));
            }
        }
        Ok(Self { names, classes })
    }

    /// Checks that the names can be told apart in a list with `|` between them, as records with several classes have.
    ///
    /// # Errors
    ///
    /// [`DataError::Labels`] naming the first that cannot.
    pub fn check_separable(&self) -> Result<(), DataError> {
        match self.names.iter().find(|name| name.contains('|') || name.trim() != name.as_str()) {
            Some(name) => Err(DataError::Labels(format!(
                "has the name `{name}`; records of several classes have a list with | between names, so that a name holds \
                 no | and no spaces around it"
            ))),
            None => Ok(()),
        }
    }

    /// No classes: for tasks that learn something else.
    pub fn none() -> Self {
        Self { names: Vec::new(), classes: HashMap::new() }
    }

    /// The names, by class index.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no classes.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The class index of a name; the error says which names there are.
    pub(crate) fn index_of(&self, name: &str) -> Result<u32, String> {
        if name.is_empty() {
            return Err("the label is empty".into());
        }
        self.classes.get(name).copied().ok_or_else(|| {
            let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
            unknown(&format!("label `{}`", shown(name)), name, &known)
        })
    }
}
