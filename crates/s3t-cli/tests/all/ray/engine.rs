//! A Ray of its own for a test: `xtask/ray.sh`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::owner::{Slot, contains, script, send, skipped, wait_until, workers_with};

/// Two run at a time.
static SLOTS: [Mutex<()>; 2] = [const { Mutex::new(()) }; 2];

pub struct Ray {
    folder: TempDir,
    address: String,
    _slot: Slot,
}

impl Ray {
    /// Starts a head with some cores. `None`, said loudly, where Ray is not installed.
    pub fn start(cpus: usize) -> Option<Self> {
        Self::start_with(cpus, None)
    }

    /// Starts a head that answers to whoever has the token in a file.
    pub fn start_with(cpus: usize, token: Option<&Path>) -> Option<Self> {
        let slot = Slot::take(&SLOTS);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        // The head listens on four ports.
        let port = 30_000 + (std::process::id() % 250 * 2 + slot.number) * 4;
        let (cpus, port) = (cpus.to_string(), port.to_string());
        let token = token.map(|token| token.display().to_string());
        let arguments = ["start", &path, &cpus, &port].into_iter().chain(token.as_deref());
        let started = script("ray.sh", &arguments.collect::<Vec<_>>());
        if started.0 == Some(3) && std::env::var_os("S3T_NEEDS_RAY").is_none() {
            skipped(&started.1);
            return None;
        }
        if started.0 != Some(0) {
            script("ray.sh", &["stop", &path]);
            panic!("{}", started.1);
        }
        let address = fs::read_to_string(folder.path().join("address")).unwrap().trim().to_owned();
        Some(Self { folder, address, _slot: slot })
    }

    pub fn node(&self, name: &str, cpus: usize) {
        let path = self.folder.path().display().to_string();
        let (code, words) = script("ray.sh", &["node", &path, name, &cpus.to_string()]);
        assert_eq!(code, Some(0), "{words}");
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn invitation(&self) -> PathBuf {
        self.folder.path().join("invitation")
    }

    /// The table of the executor.
    pub fn table(&self, workers: usize) -> Value {
        serde_json::json!({
            "type": "ray", "workers": workers, "address": self.address, "program": env!("CARGO_BIN_EXE_s3t"),
            "invitation": self.invitation(), "listen": "127.0.0.1:0", "lease_seconds": 5.0, "look_seconds": 0.5, "call_seconds": 20.0,
        })
    }

    /// The lines of a pipeline file for workers here.
    pub fn executor(&self, workers: usize, more: &str) -> String {
        let table = self.table(workers);
        let lines = table.as_object().unwrap().iter().map(|(field, value)| format!("{field} = {value}\n"));
        format!("[executor]\n{}{more}\n", lines.collect::<String>())
    }

    /// The processes of the workers that run.
    pub fn workers(&self) -> Vec<i32> {
        workers_with(&self.invitation().display().to_string())
    }

    /// `status name` of each job.
    pub fn jobs(&self) -> Vec<String> {
        let answer = ureq::get(format!("{}/api/jobs/", self.address)).config().proxy(None).build().call().unwrap();
        let jobs: Vec<Value> = serde_json::from_str(&answer.into_body().read_to_string().unwrap()).unwrap();
        let word = |job: &Value, field: &str| job[field].as_str().unwrap_or_default().to_owned();
        jobs.iter().map(|job| format!("{} {}", word(job, "status"), word(job, "submission_id"))).collect()
    }

    pub fn count(&self, status: &str) -> usize {
        self.jobs().iter().filter(|job| job.starts_with(status)).count()
    }

    /// Stops a job, as a person does.
    pub fn stop_job(&self, name: &str) {
        let address = format!("{}/api/jobs/{name}/stop", self.address);
        ureq::post(address).config().proxy(None).build().send_empty().unwrap();
    }

    /// Sends a signal to the processes of this Ray whose command line has these words.
    pub fn signal(&self, words: &str, signal: Signal) -> usize {
        let session = self.folder.path().join("session").display().to_string();
        let mut count = 0;
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if contains(&line, session.as_bytes()) && contains(&line, words.as_bytes()) {
                send(pid, signal);
                count += 1;
            }
        }
        count
    }
}

impl Drop for Ray {
    fn drop(&mut self) {
        self.signal("", Signal::CONT);
        script("ray.sh", &["stop", &self.folder.path().display().to_string()]);
        self.workers().into_iter().for_each(|pid| send(pid, Signal::KILL));
        wait_until("a worker is left", || self.workers().is_empty());
    }
}
