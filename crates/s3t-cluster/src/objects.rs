//! The objects of a launch, from its beginning to its end.

use std::sync::Arc;

use s3t_executor::{ExecutorError, Relay};
use s3t_objects::{Launch, LaunchAddress, ObjectStorage};

use crate::random::fill_randomly;

/// The objects of a launch.
pub(crate) struct Objects {
    launch: Arc<Launch>,
    pub(crate) relay: Relay,
}

impl Objects {
    /// Begins a launch of a store in object storage.
    pub(crate) fn begin(storage: &ObjectStorage, store: &str) -> Result<Self, ExecutorError> {
        let mut name = [0; 8];
        random(&mut name)?;
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let launch = Arc::new(Launch::begin(storage, store, &name)?);
        let relay = Relay::new(Arc::clone(&launch) as _, name, storage.min_kilobytes.saturating_mul(1 << 10), random);
        Ok(Self { launch, relay })
    }

    /// The address of the folder, which workers are told.
    pub(crate) fn address(&self) -> &LaunchAddress {
        self.launch.address()
    }

    /// Has others see that the launch is there.
    pub(crate) fn renew(&self) {
        self.launch.renew();
    }
}

/// Removes every object of the launch.
impl Drop for Objects {
    fn drop(&mut self) {
        self.relay.forget(None);
        if let Err(error) = self.launch.end() {
            tracing::warn!(%error, "sealed objects stay until the next launch of this store; nobody has their keys");
        }
    }
}

fn random(bytes: &mut [u8]) -> Result<(), ExecutorError> {
    let failed = |error: crate::ClusterError| error.of_start("object storage");
    fill_randomly(bytes, "the keys of objects").map_err(failed)
}
