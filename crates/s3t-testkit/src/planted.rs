//! An executor that a test makes from a function, to plant mistakes.

use std::fmt;
use std::sync::Arc;

use s3t_executor::{Executor, ExecutorError, Local, Session, Site, Trainer};
use serde::{Deserialize, Serialize};

type Start = dyn Fn(Site) -> Result<Box<dyn Session>, ExecutorError> + Send + Sync;

/// An executor of which [`start`](Executor::start) is a function of a test.
///
/// ```
/// use s3t_executor::{Executor, Local};
/// use s3t_testkit::Planted;
///
/// // Trains as `local` does.
/// let executor: Box<dyn Executor> = Planted::new(|site| Local {}.start(site));
/// executor.check().unwrap();
/// ```
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Planted {
    #[serde(skip)]
    start: Option<Arc<Start>>,
}

impl Planted {
    /// An executor that is started by a function.
    #[allow(clippy::new_ret_no_self, reason = "a pipeline takes executors in boxes")]
    pub fn new(
        start: impl Fn(Site) -> Result<Box<dyn Session>, ExecutorError> + Send + Sync + 'static,
    ) -> Box<dyn Executor> {
        Box::new(Self { start: Some(Arc::new(start)) })
    }

    /// An executor that trains in this process with a trainer made from the honest one.
    pub fn trainer(
        trainer: impl Fn(Arc<dyn Trainer>) -> Arc<dyn Trainer> + Send + Sync + 'static,
    ) -> Box<dyn Executor> {
        Self::new(move |site| Local {}.start(Site { trainer: trainer(Arc::clone(&site.trainer)), ..site }))
    }
}

impl fmt::Debug for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Planted")
    }
}

#[typetag::serde(name = "planted")]
impl Executor for Planted {
    fn start(&self, site: Site) -> Result<Box<dyn Session>, ExecutorError> {
        match &self.start {
            Some(start) => start(site),
            None => Local {}.start(site),
        }
    }
}
