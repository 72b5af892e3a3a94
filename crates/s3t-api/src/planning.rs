//! The requests that plan a system before it is trained: `plan`, `advise`, `simulate`, `compare-sequences`.

mod advise;
mod charts;
mod compare;
mod described;
mod extent;
mod plan;
mod simulate;
mod system;

pub use advise::{AdviseAnswer, AdviseRequest, GoalName, advise};
pub use charts::Against;
pub use compare::{CompareAnswer, CompareRequest, RefusedStrategy, compare_sequences};
pub use plan::{PlanAnswer, PlanFigures, PlanRequest, UpkeepRow, plan, plan_of};
pub use simulate::{SimulateAnswer, SimulateRequest, StreamName, simulate};
pub use system::{GivenPrior, ModelSize, SystemRequest};
