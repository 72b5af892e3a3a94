//! Exit codes, and the failures that end in one.

use s3t::engine::EngineError;
use s3t::interchange::InterchangeError;
use s3t::plot::PlotError;
use s3t::simulation::SimulationError;
use s3t::store::StoreError;
use s3t::train::TrainError;

/// A file, device or thread failed.
pub(crate) const FAILED: u8 = 1;
/// The command line, pipeline, data or model was refused.
pub(crate) const REFUSED: u8 = 2;
/// Unknown record or subject.
pub(crate) const UNKNOWN: u8 = 3;
/// The request's id was used for another request.
pub(crate) const OTHER_REQUEST: u8 = 4;
/// Verification found a difference.
pub(crate) const DIFFERENT: u8 = 5;
/// The store is damaged, in use, or made for something else.
pub(crate) const STORE: u8 = 6;
/// No shard can answer.
pub(crate) const NOTHING_SERVES: u8 = 7;
/// Interrupted.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command failed.
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self { code: code(&error), message: error.to_string() }
    }
}

/// Failures that come from below the engine, or beside it.
macro_rules! by_way_of_the_engine {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                EngineError::from(error).into()
            }
        }
    )*};
}

by_way_of_the_engine!(s3t::core::CoreError, s3t::data::DataError);

impl From<InterchangeError> for Failure {
    fn from(error: InterchangeError) -> Self {
        match error {
            InterchangeError::Engine(error) => error.into(),
            InterchangeError::Store(error) => EngineError::from(error).into(),
            error @ (InterchangeError::Read { .. } | InterchangeError::Write { .. }) => {
                Self { code: FAILED, message: error.to_string() }
            }
            error => Self { code: REFUSED, message: error.to_string() },
        }
    }
}

impl From<PlotError> for Failure {
    fn from(error: PlotError) -> Self {
        let code = if matches!(error, PlotError::Draw(_)) { FAILED } else { REFUSED };
        Self { code, message: error.to_string() }
    }
}

impl From<SimulationError> for Failure {
    fn from(error: SimulationError) -> Self {
        Self { code: REFUSED, message: error.to_string() }
    }
}

fn code(error: &EngineError) -> u8 {
    match error {
        EngineError::NothingServes => NOTHING_SERVES,
        EngineError::Unfinished { cause: StoreError::Io { .. }, .. } => FAILED,
        EngineError::StoreMismatch { .. } | EngineError::Environment { .. } | EngineError::Unfinished { .. } => STORE,
        EngineError::Store(error) => match error {
            StoreError::UnknownRecord(_)
            | StoreError::UnknownSubject(_)
            | StoreError::OtherSpelling { .. }
            | StoreError::UnknownRequest(_) => UNKNOWN,
            StoreError::OtherRequest(_) => OTHER_REQUEST,
            StoreError::Io { .. } => FAILED,
            StoreError::Core(_) | StoreError::RequestId(_) | StoreError::NothingNamed | StoreError::Foreign(_) => {
                REFUSED
            }
            _ => STORE,
        },
        EngineError::Train(TrainError::Interrupted(_)) => INTERRUPTED,
        EngineError::Train(_) => FAILED,
        _ => REFUSED,
    }
}
