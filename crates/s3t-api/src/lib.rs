//! The service layer: typed requests and answers, and a function for each request.
//!
//! A request is plain data, read from a command line, an HTTP body or a Python dictionary; an answer is the JSON object that `s3t
//! --json` prints. A failed request gives an [`ApiError`], whose [`ErrorKind`] becomes an exit code here and an HTTP status there.
//! Each module has one command: its request, its answer, and the function between them. Functions whose name ends in `_in` work on a
//! system that is open already, as a server has it.

mod asked;
mod attack;
mod attack_charts;
mod audit;
mod bare_model;
mod chat;
mod compare_methods;
mod deletion;
mod error;
mod evaluation;
mod export;
mod memorisation;
mod open;
mod parts;
mod picture;
mod planning;
mod plugins;
mod prediction;
mod receipt;
mod repair;
mod reply;
mod run;
mod schema;
mod status;
mod store;
mod task;
mod training;
mod verification;

pub use asked::Asked;
pub use attack::{AttackAnswer, AttackRequest, attack};
pub use attack_charts::{AttackPicture, attack_pictures};
pub use audit::{Audit, AuditAnswer, AuditCheck, AuditReport, AuditRequest, audit};
pub use bare_model::{Logits, ModelAnswer, ModelRequest, predict_with_model};
pub use chat::{Chat, ChatAnswer, ChatRequest, ChatTurn};
pub use compare_methods::{CompareMethodsAnswer, CompareMethodsRequest, compare_methods};
pub use deletion::{Cut, DeleteAnswer, DeleteRequest, Deletion, PendingErasure, SpellingsLeft, delete, delete_in};
pub use error::{ApiError, ErrorKind};
pub use evaluation::{EvalAnswer, EvalRequest, Evaluation, MemberScore, Metric, evaluate, evaluate_in};
pub use export::{BlockRange, Export, ExportAnswer, ExportRequest, ExportedShard, Superseded, export};
pub use memorisation::{
    CanaryReport, ExtractionReport, Memorisation, MemorisationAnswer, MemorisationRequest, memorisation,
};
pub use open::Start;
pub use parts::{RemainingExport, Serving, SliceAddress, StageLabel, TensorDifference, VerifiedStage};
pub use planning::{
    AdviseAnswer, AdviseRequest, Against, CompareAnswer, CompareRequest, GivenPrior, GoalName, ModelSize, PlanAnswer,
    PlanFigures, PlanRequest, RefusedStrategy, SimulateAnswer, SimulateRequest, StreamName, SystemRequest, UpkeepRow,
    advise, compare_sequences, plan, plan_of, simulate,
};
pub use plugins::{Plugin, PluginField, PluginsAnswer, plugins};
pub use prediction::{Completion, PredictAnswer, PredictRequest, Prediction, Questions, predict, predict_in};
pub use receipt::{
    Effect, Proven, Receipt, ReceiptAnswer, ShardServes, ShowReceiptRequest, VerifiedReceipt, VerifiedReceiptAnswer,
    VerifyReceiptRequest, show_receipt, verify_receipt,
};
pub use repair::{Repair, RepairAnswer, RepairReport, RepairRequest, WatchObserver, repair, watch};
pub use reply::Reply;
pub use run::{Baseline, NothingDeleted, RunAnswer, RunObserver, RunPart, RunRequest, RunStep, run};
pub use schema::{FailedAnswer, schema};
pub use status::{PendingDeletion, ShardStatus, Status, StatusAnswer, StatusRequest, status, status_in};
pub use store::{
    CheckedStore, Finding, ForgetExportAnswer, ForgetExportRequest, StoreCheck, StoreCheckAnswer, StoreCheckRequest,
    check_store, forget_export,
};
pub use task::{Sample, TaskAnswer, TaskReport, TaskRequest, TaskScore, run_tasks, run_tasks_in};
pub use training::{BuildReport, TrainAnswer, TrainRequest, Training, train, train_in};
pub use verification::{Verification, VerifyAnswer, VerifyReport, VerifyRequest, verify, verify_in};
