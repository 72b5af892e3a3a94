//! The kinds of failure of a request, and the error that carries the kind.

use s3t_backends::BackendError;
use s3t_core::CoreError;
use s3t_data::DataError;
use s3t_engine::EngineError;
use s3t_eval::EvalError;
use s3t_executor::ExecutorError;
use s3t_interchange::InterchangeError;
use s3t_ledger::LedgerError;
use s3t_models::ModelError;
use s3t_peft::PeftError;
use s3t_plot::PlotError;
use s3t_simulation::SimulationError;
use s3t_store::StoreError;
use s3t_train::TrainError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The ways in which a request fails. Exit codes and HTTP codes are tables over these kinds, so a new kind has to be given a code
/// in each of them before the program compiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// A file, device or thread failed.
    Failed,
    /// The command line, pipeline, data or model was refused; nothing was done.
    Refused,
    /// Unknown record or subject; nothing was deleted.
    Unknown,
    /// The request id was used for another request; nothing was done.
    RequestIdTaken,
    /// Verification, audit, check or receipt: something does not hold.
    DoesNotHold,
    /// The store is damaged, in use, or made for something else; a deletion that was accepted stands, as the message says.
    Store,
    /// No shard can answer.
    NothingServes,
    /// Interrupted; finished stages are kept, run the same command to go on.
    Interrupted,
}

impl ErrorKind {
    /// All kinds, in the order of their documentation.
    pub const ALL: [Self; 8] = [
        Self::Failed,
        Self::Refused,
        Self::Unknown,
        Self::RequestIdTaken,
        Self::DoesNotHold,
        Self::Store,
        Self::NothingServes,
        Self::Interrupted,
    ];

    /// The meaning, in half a sentence, as tables of codes give it.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Failed => "a file, device or thread failed",
            Self::Refused => "the command line, pipeline, data or model was refused; nothing was done",
            Self::Unknown => "unknown record or subject; nothing was deleted",
            Self::RequestIdTaken => "the request id was used for another request; nothing was done",
            Self::DoesNotHold => "verification, audit, check or receipt: something does not hold",
            Self::Store => {
                "the store is damaged, in use, or made for something else; a deletion that was accepted stands, as the message says"
            }
            Self::NothingServes => "no shard can answer",
            Self::Interrupted => "interrupted; finished stages are kept, run the same command to go on",
        }
    }

    /// The advice to whoever made the request. Messages that can say more precisely what to do say it themselves.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Failed => {
                "look at the disk, device or permissions that the message names, then send the request again"
            }
            Self::Refused => "change what the message names, then send the request again",
            Self::Unknown => "compare the id with the source of the data; deleted ids leave no trace to tell them by",
            Self::RequestIdTaken => "give a new request id",
            Self::DoesNotHold => "keep the report, and restore the store from a copy or build the named stages again",
            Self::Store => "wait for the process that the message names, or check the store",
            Self::NothingServes => "repair the store",
            Self::Interrupted => "send the same request again",
        }
    }
}

/// A request that failed: the kind, a message that names the cause and the way out, and the field of the request at fault.
///
/// ```
/// use s3t_api::{ApiError, ErrorKind};
/// use s3t_core::RecordId;
///
/// let error = ApiError::from(RecordId::new("").unwrap_err());
/// assert_eq!(error.kind(), ErrorKind::Refused);
/// assert!(error.to_string().contains("it is empty"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{problem}", .field.map(|field| format!("`{field}` ")).unwrap_or_default())]
pub struct ApiError {
    kind: ErrorKind,
    field: Option<&'static str>,
    problem: String,
}

impl ApiError {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, problem: impl Into<String>) -> Self {
        Self { kind, field: None, problem: problem.into() }
    }

    /// A refused field of a request; `problem` goes on after the field's name, as in "is 2; it takes a share from 0 to 1".
    pub fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Refused, field: Some(field), problem: problem.into() }
    }

    /// The kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The field of the request that was refused, where the fault is in one field.
    pub fn refused_field(&self) -> Option<&'static str> {
        self.field
    }

    /// The message without the name of the field.
    pub fn problem(&self) -> &str {
        &self.problem
    }

    /// The general advice for the kind; the message is more precise where more is known.
    pub fn advice(&self) -> &'static str {
        self.kind.advice()
    }
}

fn of_store(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::UnknownRecord(_)
        | StoreError::UnknownSubject(_)
        | StoreError::OtherSpelling { .. }
        | StoreError::UnknownRequest(_) => ErrorKind::Unknown,
        StoreError::OtherRequest(_) => ErrorKind::RequestIdTaken,
        StoreError::Io { .. } => ErrorKind::Failed,
        StoreError::Core(_)
        | StoreError::RequestId(_)
        | StoreError::NothingNamed
        | StoreError::Foreign(_)
        | StoreError::ExportInside { .. }
        | StoreError::ExportThere(_) => ErrorKind::Refused,
        _ => ErrorKind::Store,
    }
}

fn of_executor(error: &ExecutorError) -> ErrorKind {
    match error {
        ExecutorError::Cancelled(_) => ErrorKind::Interrupted,
        ExecutorError::OtherArithmetic { .. } => ErrorKind::Store,
        ExecutorError::InvalidField { .. } | ExecutorError::OtherModel { .. } => ErrorKind::Refused,
        _ => ErrorKind::Failed,
    }
}

fn of_engine(error: &EngineError) -> ErrorKind {
    match error {
        EngineError::NothingServes | EngineError::CatchingUp { .. } => ErrorKind::NothingServes,
        EngineError::Unfinished { cause: StoreError::Io { .. }, .. }
        | EngineError::ReserveReceipt { .. }
        | EngineError::DeliverReceipt { .. }
        | EngineError::LeaderState { .. }
        | EngineError::LeaderStage { .. }
        | EngineError::Train(_) => ErrorKind::Failed,
        EngineError::StoreMismatch { .. }
        | EngineError::Environment { .. }
        | EngineError::NoStore { .. }
        | EngineError::Unfinished { .. } => ErrorKind::Store,
        EngineError::Store(error) => of_store(error),
        EngineError::Executor(error) => of_executor(error),
        _ => ErrorKind::Refused,
    }
}

fn of_eval(error: &EvalError) -> ErrorKind {
    match error {
        EvalError::Engine(error) => of_engine(error),
        EvalError::Stopped => ErrorKind::Interrupted,
        EvalError::Write { .. } => ErrorKind::Failed,
        EvalError::OtherPlan { .. } => ErrorKind::Store,
        _ => ErrorKind::Refused,
    }
}

fn of_interchange(error: &InterchangeError) -> ErrorKind {
    match error {
        InterchangeError::Engine(error) => of_engine(error),
        InterchangeError::Store(error) => of_store(error),
        InterchangeError::Read { .. } | InterchangeError::Write { .. } => ErrorKind::Failed,
        _ => ErrorKind::Refused,
    }
}

fn of_plot(error: &PlotError) -> ErrorKind {
    match error {
        PlotError::Draw(_) => ErrorKind::Failed,
        _ => ErrorKind::Refused,
    }
}

macro_rules! kinds {
    ($($error:ty => $kind:expr,)*) => {$(
        impl From<$error> for ApiError {
            fn from(error: $error) -> Self {
                let kind: fn(&$error) -> ErrorKind = $kind;
                Self::new(kind(&error), error.to_string())
            }
        }
    )*};
}

kinds! {
    EngineError => of_engine,
    EvalError => of_eval,
    StoreError => of_store,
    TrainError => |_| ErrorKind::Failed,
    ExecutorError => of_executor,
    InterchangeError => of_interchange,
    PlotError => of_plot,
    SimulationError => |_| ErrorKind::Refused,
    CoreError => |_| ErrorKind::Refused,
    DataError => |_| ErrorKind::Refused,
    BackendError => |_| ErrorKind::Refused,
    ModelError => |_| ErrorKind::Refused,
    PeftError => |_| ErrorKind::Refused,
    LedgerError => |_| ErrorKind::Refused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_once_and_has_its_documentation_as_its_meaning() {
        let schema = schemars::schema_for!(ErrorKind).to_value();
        let documented: Vec<String> = schema["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| kind["description"].as_str().unwrap().replace('\n', " "))
            .collect();
        let meanings: Vec<String> = ErrorKind::ALL.iter().map(|kind| kind.meaning().to_lowercase()).collect();
        let documented: Vec<String> = documented.iter().map(|text| text.trim_end_matches('.').to_lowercase()).collect();
        assert_eq!(documented, meanings);
    }

    #[test]
    fn a_refused_field_is_named_before_the_problem() {
        let error = ApiError::field("below_depth", "is 2; it takes a share from 0 to 1");
        assert_eq!(error.to_string(), "`below_depth` is 2; it takes a share from 0 to 1");
        assert_eq!((error.kind(), error.refused_field()), (ErrorKind::Refused, Some("below_depth")));
    }
}
