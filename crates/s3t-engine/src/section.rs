//! The sections of a pipeline file whose fields other crates check.

/// A section of a pipeline file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Partition,
    Sequences,
    Peft,
    Training,
    Executor,
}

impl Section {
    /// The name in a pipeline file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Sequences => "sequences",
            Self::Peft => "peft",
            Self::Training => "training",
            Self::Executor => "executor",
        }
    }

    /// The dotted key of a field.
    pub(crate) fn key(self, field: &str) -> String {
        format!("{}.{field}", self.name())
    }
}
