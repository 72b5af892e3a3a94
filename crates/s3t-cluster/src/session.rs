//! A launch: from the start to the end of its workers.

use std::net::TcpListener;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use s3t_executor::s3t_core::{Digest, NumericEnvironment};
use s3t_executor::{ExecutorError, Permit, Session, Site, StageJob, StageProgress, TrainedStage, Trainer};

use crate::accept::accept;
use crate::launcher::{Call, Launcher};
use crate::objects::Objects;
use crate::pool::Pool;
use crate::supervise::supervise;
use crate::tls::Owner;
use crate::{ClusterError, Settings};

/// Starts to listen, and has a launcher start workers. Returns before any of them has joined.
///
/// # Errors
///
/// [`ExecutorError::StartFailed`] if this machine cannot listen, the object storage does not do what is needed, or the engine refuses the
/// workers.
pub fn start(site: &Site, settings: Settings, launcher: Box<dyn Launcher>) -> Result<Box<dyn Session>, ExecutorError> {
    settings.check()?;
    let place = format!("executor `{}`", launcher.engine());
    let failed = |error: ClusterError| error.of_start(&place);
    let refused = |error: std::io::Error| {
        let (address, problem) = (settings.listen.clone(), error.to_string());
        failed(ClusterError::Listen { address, problem })
    };
    let listener = TcpListener::bind(&settings.listen).map_err(refused)?;
    let objects = settings.objects.as_ref().map(|storage| Objects::begin(storage, &site.store)).transpose();
    let unusable =
        |error: ExecutorError| ExecutorError::StartFailed { place: place.clone(), problem: error.to_string() };
    let objects = objects.map_err(unusable)?;
    listener.set_nonblocking(true).map_err(refused)?;
    let address = settings.address(listener.local_addr().map_err(refused)?.port());
    let owner = Owner::new().map_err(failed)?;
    let call = Call { address, invitation: owner.invitation.clone() };
    let taken = match launcher.submit(0, settings.workers, &call) {
        // It may have taken them all the same, and is asked again later.
        Err(error @ ClusterError::NoAnswer { .. }) => {
            tracing::warn!(%error, "the engine is asked again later");
            None
        }
        taken => Some(taken.map_err(failed)?),
    };
    let pool = Arc::new(Pool::new(settings, site.worker.clone(), &*site.trainer, owner, launcher, objects));
    let (workers, address) = (pool.settings.workers, &call.address);
    let to_do = pool.launcher.to_do().map(|words| format!("; {words}")).unwrap_or_default();
    pool.tell(match taken {
        Some(taken) => format!("{taken} of {workers} workers are asked for; they join at {address}{to_do}"),
        None => format!("{workers} workers are asked for, with no answer yet; they join at {address}"),
    });
    let mut cluster = Cluster { pool, threads: Vec::new() };
    let no_thread = |error: std::io::Error| ExecutorError::StartFailed {
        place: place.clone(),
        problem: format!("no thread can be started ({error}); raise the limit of processes (`ulimit -u`)"),
    };
    let pool = Arc::clone(&cluster.pool);
    let accepting = std::thread::Builder::new().name("s3t-accept".to_owned()).spawn(move || accept(&pool, &listener));
    cluster.threads.push(accepting.map_err(no_thread)?);
    let pool = Arc::clone(&cluster.pool);
    let supervising = std::thread::Builder::new().name("s3t-supervise".to_owned());
    cluster.threads.push(supervising.spawn(move || supervise(&pool, &call, taken)).map_err(no_thread)?);
    Ok(Box::new(cluster))
}

/// The session: ends its workers when it is dropped.
struct Cluster {
    pool: Arc<Pool>,
    threads: Vec<JoinHandle<()>>,
}

impl Trainer for Cluster {
    fn environment(&self) -> NumericEnvironment {
        self.pool.environment.clone()
    }

    fn train(&self, stage: &StageJob, progress: &dyn StageProgress) -> Result<TrainedStage, ExecutorError> {
        self.pool.train(stage, progress)
    }

    fn forget(&self, records: &[Digest]) {
        self.pool.forget(Some(records));
    }

    fn forget_all(&self) {
        self.pool.forget(None);
    }
}

impl Session for Cluster {
    fn capacity(&self) -> NonZero<usize> {
        NonZero::new(self.pool.settings.workers).unwrap_or(NonZero::<usize>::MIN)
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.pool.settings.lease())
    }

    fn permit(&self, permit: Option<Permit>) {
        self.pool.permit(permit);
    }

    fn has_failed(&self) -> bool {
        self.pool.has_failed()
    }

    fn unforgotten(&self) -> Option<String> {
        self.pool.objects.as_ref()?.relay.unforgotten()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.pool.end();
        // Nobody asks for workers any more once the threads have ended.
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        if let Err(error) = self.pool.launcher.cancel() {
            tracing::warn!(%error, "workers are not cancelled; they end by themselves");
        }
    }
}
