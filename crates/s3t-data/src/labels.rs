use std::collections::HashMap;

use s3t_core::limits::shown;
use s3t_core::registry::unknown;
use s3t_core::spelling::comparison_form;
use s3t_core::{Limits, Task};
use serde_json::Number;

use crate::DataError;

/// The targets that are read with the records.
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
    /// The number of names that are numbers.
    numbers: usize,
}

impl Labels {
    /// Checks and wraps class names.
    ///
    /// ```
    /// use s3t_data::Labels;
    ///
    /// let labels = Labels::new(vec!["cat".into(), "dog".into()])?;
    /// assert_eq!(labels.len(), 2);
    /// let error = Labels::new(vec!["cat".into(), "cat".into()]).unwrap_err();
    /// assert!(error.to_string().contains("names `cat` twice"));
    /// # Ok::<(), s3t_data::DataError>(())
    /// ```
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
        let numbers = names.iter().filter(|name| is_number(name)).count();
        Ok(Self { names, classes, numbers })
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
        Self { names: Vec::new(), classes: HashMap::new(), numbers: 0 }
    }

    /// The names, by class index.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of classes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// `true` if there are no classes.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The class of a number in JSON. Where no class name is a number it is an index; where all are it is a name, as it is in a
    /// table; where some are it must be the same class as either.
    pub(crate) fn of_number(&self, column: &str, number: &Number) -> Result<u32, String> {
        let text = number.to_string();
        let named = self.position(&text);
        let index = number.as_u64().filter(|index| *index < self.len() as u64).map(|index| index as u32);
        match (self.numbers, named, index) {
            (0, _, Some(index)) => Ok(index),
            (0, _, None) => {
                Err(format!("label {text} is not a class index; the indices are 0 to {}", self.len().saturating_sub(1)))
            }
            (numbers, Some(named), _) if numbers == self.len() => Ok(named),
            (_, Some(named), Some(index)) if named == index => Ok(named),
            (numbers, ..) if numbers == self.len() => {
                let known: Vec<&str> = self.names.iter().map(String::as_str).collect();
                let problem = unknown(&format!("label {text}"), &text, &known);
                Err(format!("{problem}; the class names are numbers, so that a number is a name and not an index"))
            }
            (_, named, index) => {
                let class = |what: &str, class: Option<u32>| {
                    class.map(|class| format!("{what}: write \"{}\"", self.names[class as usize]))
                };
                let named = class("the class of that name", named);
                let meant: Vec<String> = named.into_iter().chain(class("the class of that index", index)).collect();
                let meant = if meant.is_empty() { String::new() } else { format!(" ({})", meant.join(", or ")) };
                Err(format!(
                    "`{column}` is the number {text}, which may be a name or an index, as some class names are numbers; \
                     write the name as a text{meant}"
                ))
            }
        }
    }

    /// The class of `true` or `false` in JSON: the one that is named so, in whatever case.
    pub(crate) fn of_truth(&self, column: &str, value: bool) -> Result<u32, String> {
        let text = value.to_string();
        let named = |(_, name): &(usize, &String)| name.eq_ignore_ascii_case(&text);
        let mut named = self.names.iter().enumerate().filter(named);
        match (named.next(), named.next()) {
            (Some((class, _)), None) => Ok(class as u32),
            _ => Err(format!("`{column}` is {text}, not a label; write the name of a class as a text")),
        }
    }

    /// Refuses a class index of a file of indices where another class has that number as its name.
    pub(crate) fn check_index(&self, index: u8) -> Result<(), String> {
        match self.position(&index.to_string()).filter(|named| *named != u32::from(index)) {
            Some(named) => Err(format!(
                "label {index} is the class `{}` by its index, but another class, of index {named}, is named `{index}`; put \
                 the class names in the order of the indices, or give them names that are not numbers",
                self.names.get(usize::from(index)).map_or("", String::as_str)
            )),
            None => Ok(()),
        }
    }

    fn position(&self, name: &str) -> Option<u32> {
        self.classes.get(name).copied()
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

/// `true` if a class name is a number to whoever reads it.
fn is_number(name: &str) -> bool {
    comparison_form(name).parse::<f64>().is_ok_and(f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(names: &[&str]) -> Labels {
        Labels::new(names.iter().map(|name| (*name).to_owned()).collect()).unwrap()
    }

    #[track_caller]
    fn number(names: &[&str], text: &str) -> Result<u32, String> {
        labels(names).of_number("label", &serde_json::from_str(text).unwrap())
    }

    #[test]
    fn numbers_are_names_where_names_are_numbers() {
        assert_eq!(number(&["1", "0"], "1"), Ok(0));
        assert_eq!(number(&["1", "2", "3"], "1"), Ok(0));
        assert_eq!(number(&["-1", "1"], "-1"), Ok(0));
        assert_eq!(number(&["1.0", "0.0"], "1.0"), Ok(0));
        assert_eq!(number(&["cat", "dog"], "1"), Ok(1));
        assert_eq!(number(&["0", "other"], "0"), Ok(0));
        for (names, text, problem) in [
            (&["1", "2", "3"][..], "0", "unknown label 0; known: 1, 2, 3"),
            (&["1", "2", "3"], "1.0", "a number is a name and not an index"),
            (&["1.0", "0.0"], "1", "unknown label 1; known: 1.0, 0.0"),
            (
                &["1", "other"],
                "1",
                "(the class of that name: write \"1\", or the class of that index: write \"other\")",
            ),
            (&["1", "other"], "0", "`label` is the number 0, which may be a name or an index"),
            (&["１", "other"], "1", "may be a name or an index"),
            (&["cat", "dog"], "2", "label 2 is not a class index; the indices are 0 to 1"),
            (&["cat", "dog"], "1.0", "label 1.0 is not a class index"),
            (&["cat", "dog"], "-1", "label -1 is not a class index"),
        ] {
            let message = number(names, text).unwrap_err();
            assert!(message.contains(problem), "{message}");
        }
    }

    #[test]
    fn truths_are_names_where_a_class_is_named_so() {
        assert_eq!(labels(&["false", "true"]).of_truth("label", true), Ok(1));
        assert_eq!(labels(&["True", "False"]).of_truth("label", true), Ok(0));
        for names in [["cat", "dog"], ["true", "True"], ["0", "1"]] {
            let message = labels(&names).of_truth("label", true).unwrap_err();
            assert!(message.contains("`label` is true, not a label; write the name of a class as a text"), "{message}");
        }
    }

    #[test]
    fn indices_of_a_file_must_not_be_the_names_of_other_classes() {
        assert!(labels(&["0", "1", "2"]).check_index(1).is_ok());
        assert!(labels(&["cat", "dog"]).check_index(1).is_ok());
        let message = labels(&["1", "0"]).check_index(1).unwrap_err();
        assert!(message.contains("label 1 is the class `0` by its index, but another class, of index 0, is named `1`"));
    }
}
