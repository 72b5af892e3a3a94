//! The task: classification, regression, language modelling.

use serde::{Deserialize, Serialize};

use crate::Target;

/// The task that is learnt from the records: decides the outputs of a model, the loss, and which [`Target`] a record must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Task {
    /// One class a record; cross entropy.
    Classification {
        /// The number of classes.
        classes: usize,
    },
    /// Any number of classes a record; binary cross entropy of each class.
    MultiLabel {
        /// The number of classes.
        classes: usize,
    },
    /// A number; squared error.
    Regression,
    /// The text that follows; cross entropy of its tokens. The model's own language head answers, and stays frozen.
    CausalLm,
}

impl Task {
    /// The names in pipeline files.
    pub const NAMES: [&str; 4] = ["classification", "multi-label", "regression", "causal-lm"];

    /// The task of this name with this many classes; `None` for an unknown name.
    pub fn from_name(name: &str, classes: usize) -> Option<Self> {
        match name {
            "classification" => Some(Self::Classification { classes }),
            "multi-label" => Some(Self::MultiLabel { classes }),
            "regression" => Some(Self::Regression),
            "causal-lm" => Some(Self::CausalLm),
            _ => None,
        }
    }

    /// The name in pipeline files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Classification { .. } => "classification",
            Self::MultiLabel { .. } => "multi-label",
            Self::Regression => "regression",
            Self::CausalLm => "causal-lm",
        }
    }

    /// The outputs of a stage's head; 0 for a task without one.
    pub fn outputs(&self) -> usize {
        match self {
            Self::Classification { classes } | Self::MultiLabel { classes } => *classes,
            Self::Regression => 1,
            Self::CausalLm => 0,
        }
    }

    /// `true` if a record with this target can be learnt from.
    pub fn takes(&self, target: &Target) -> bool {
        match (self, target) {
            (Self::Classification { classes }, Target::Class(class)) => (*class as usize) < *classes,
            (Self::MultiLabel { classes }, Target::Classes(of_record)) => {
                of_record.iter().all(|class| (*class as usize) < *classes)
            }
            (Self::Regression, Target::Value(value)) => value.is_finite(),
            (Self::CausalLm, Target::Text(text)) => !text.is_empty(),
            (Self::CausalLm, Target::Turns) => true,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways_and_each_task_takes_its_own_target() {
        let targets = [
            Target::Class(2),
            Target::Classes(vec![0, 2]),
            Target::Value(0.5),
            Target::Text("yes".into()),
            Target::None,
        ];
        for (index, name) in Task::NAMES.into_iter().enumerate() {
            let task = Task::from_name(name, 3).unwrap();
            assert_eq!(task.name(), name);
            for (other, target) in targets.iter().enumerate() {
                assert_eq!(task.takes(target), other == index, "{name} and {target:?}");
            }
        }
        assert_eq!(Task::from_name("classify", 3), None);
        assert!(!Task::Classification { classes: 2 }.takes(&targets[0]));
        assert!(!Task::MultiLabel { classes: 2 }.takes(&targets[1]));
        assert!(!Task::Regression.takes(&Target::Value(f32::NAN)));
    }
}
