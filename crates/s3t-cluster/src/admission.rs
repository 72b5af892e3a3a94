//! The greeting of a worker: a token, then what the worker is, then what the owner says.

use std::io::{Read, Write};
use std::time::Duration;

use s3t_executor::s3t_core::NumericEnvironment;
use s3t_executor::{WorkerSettings, read_frame, write_frame};
use s3t_objects::LaunchAddress;
use serde::{Deserialize, Serialize};

use crate::Invitation;
use crate::invitation::LENGTH;

/// A worker, as it tells the owner about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The version of the worker's program.
    pub version: String,
    /// The task of the engine that started it, for example `1234_5` of Slurm; empty if it was started by hand.
    pub task: String,
    /// The machine.
    pub host: String,
    /// The number of the process there.
    pub process: u32,
    /// The cores that it computes on.
    pub cores: usize,
    /// Bytes of memory of the machine, where that is known.
    pub memory: Option<u64>,
}

impl Registration {
    /// This process, on this machine.
    pub fn of_this_process(task: String, cores: Option<usize>) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let host = read("/proc/sys/kernel/hostname").trim().to_owned();
        let meminfo = read("/proc/meminfo");
        let kilobytes = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix("kB"));
        let there = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            task,
            host: if host.is_empty() { "a machine without a name".into() } else { host },
            process: std::process::id(),
            cores: cores.unwrap_or(there).clamp(1, there),
            memory: kilobytes.and_then(|number| number.trim().parse::<u64>().ok()).map(|number| number << 10),
        }
    }

    /// The name of the worker in messages.
    pub(crate) fn name(&self) -> String {
        let Self { task, host, process, .. } = self;
        if task.is_empty() { format!("worker {process} on {host}") } else { format!("worker {task} on {host}") }
    }

    /// The reason why an owner does not take such a worker.
    pub(crate) fn unfit(&self, settings: &WorkerSettings) -> Option<String> {
        let version = env!("CARGO_PKG_VERSION");
        if self.version != version {
            return Some(format!(
                "its version is {}, and the owner's {version}; use one build on both sides",
                self.version
            ));
        }
        let (needed, memory) = (settings.memory, self.memory?);
        (memory < needed).then(|| {
            let megabytes = |bytes: u64| bytes >> 20;
            format!(
                "it has {} megabytes of memory, and `resources.activation_memory_mb` alone is {}",
                megabytes(memory),
                megabytes(needed)
            )
        })
    }
}

/// The owner's answer to a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Admission {
    /// The worker may stay, under leases of this length. Large parts of jobs may be objects of this launch.
    Admitted {
        lease: Duration,
        objects: Option<LaunchAddress>,
    },
    Refused(String),
}

/// The owner's side: the worker that came, if it is taken.
///
/// Nothing but a token is read of somebody whose token is wrong.
pub(crate) fn admit(
    reader: &mut impl Read,
    writer: &mut impl Write,
    invitation: &Invitation,
    settings: &WorkerSettings,
    lease: Duration,
    objects: Option<&LaunchAddress>,
) -> Result<Registration, Box<Refusal>> {
    let stranger = |problem: String| Box::new(Refusal { worker: None, problem });
    let mut token = [0; LENGTH];
    reader.read_exact(&mut token).map_err(|error| stranger(format!("it sent no token: {error}")))?;
    let registration = if invitation.is_token(&token) {
        match read_frame::<Registration>(reader) {
            Ok(Some(registration)) => match registration.unfit(settings) {
                None => Ok(registration),
                Some(problem) => Err(Box::new(Refusal { worker: Some(registration), problem })),
            },
            Ok(None) => return Err(stranger("it went away".into())),
            Err(error) => Err(stranger(error.to_string())),
        }
    } else {
        Err(stranger("its token is not that of this launch".into()))
    };
    let answer = match &registration {
        Ok(_) => Admission::Admitted { lease, objects: objects.cloned() },
        Err(refusal) => Admission::Refused(refusal.problem.clone()),
    };
    let frame = write_frame(&answer).map_err(|error| stranger(error.to_string()))?;
    let sent = writer.write_all(&frame).and_then(|()| writer.flush());
    sent.map_err(|error| stranger(format!("it went away: {error}")))?;
    registration
}

/// A worker, or somebody else, that was not taken.
pub(crate) struct Refusal {
    /// The worker, if it showed an invitation.
    pub(crate) worker: Option<Registration>,
    pub(crate) problem: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.worker {
            Some(worker) => write!(f, "{}: {}", worker.name(), self.problem),
            None => f.write_str(&self.problem),
        }
    }
}

/// The fields in which two arithmetics differ.
pub(crate) fn differences(store: &NumericEnvironment, worker: &NumericEnvironment) -> String {
    let (store_instructions, worker_instructions) = (store.instructions.join("+"), worker.instructions.join("+"));
    let fields = [
        ("backend", &store.backend, &worker.backend),
        ("library", &store.library, &worker.library),
        ("architecture", &store.architecture, &worker.architecture),
        ("instructions", &store_instructions, &worker_instructions),
        ("precision", &store.precision, &worker.precision),
        ("self-test", &store.probe, &worker.probe),
    ];
    let differing = fields.into_iter().filter(|(_, store, worker)| store != worker);
    let words = differing.map(|(name, store, worker)| format!("its {name} is `{worker}`, and the store's `{store}`"));
    words.collect::<Vec<_>>().join("; ")
}
