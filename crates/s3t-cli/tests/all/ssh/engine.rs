//! An sshd of its own for a test: `xtask/sshd.sh`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::owner::{contains, script, send, skipped, workers_with};

pub struct Sshd {
    folder: TempDir,
}

impl Sshd {
    /// Starts a server. `None`, said loudly, where sshd is not installed.
    pub fn start() -> Option<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let port = 40_000 + std::process::id() % 500 * 20 + STARTED.fetch_add(1, Ordering::Relaxed) % 20;
        let (code, words) = script("sshd.sh", &["start", &path, &port.to_string()]);
        if code == Some(3) && std::env::var_os("S3T_NEEDS_SSHD").is_none() {
            skipped(&words);
            return None;
        }
        assert_eq!(code, Some(0), "{words}");
        Some(Self { folder })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("ssh_config")
    }

    /// The table of the executor.
    pub fn table(&self, hosts: &[&str]) -> Value {
        serde_json::json!({
            "type": "ssh", "hosts": hosts, "arguments": ["-F", self.config()], "program": env!("CARGO_BIN_EXE_s3t"), "cpus": 1,
            "listen": "127.0.0.1:0", "lease_seconds": 5.0, "look_seconds": 0.3,
        })
    }

    /// The lines of a pipeline file for workers here. Workers are known by a variable with the folder.
    pub fn executor(&self, hosts: &[&str], setup: &[&str], more: &str) -> String {
        let mut table = self.table(hosts);
        let mark = format!("export S3T_TEST={}", self.folder.path().display());
        table["setup"] = [&[mark.as_str()], setup].concat().into();
        let lines = table.as_object().unwrap().iter().map(|(field, value)| format!("{field} = {value}\n"));
        format!("[executor]\n{}{more}\n", lines.collect::<String>())
    }

    /// The processes of the workers that run.
    pub fn workers(&self) -> Vec<i32> {
        workers_with(&format!("S3T_TEST={}\0", self.folder.path().display()))
    }

    /// The clients of this server: their number and their command lines.
    pub fn clients(&self) -> Vec<(i32, Vec<u8>)> {
        let config = self.config().display().to_string();
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let lines = numbers.map(|pid: i32| (pid, std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()));
        lines.filter(|(_, line)| line.starts_with(b"ssh\0") && contains(line, config.as_bytes())).collect()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.workers().into_iter().for_each(|pid| send(pid, Signal::KILL));
        script("sshd.sh", &["stop", &self.folder.path().display().to_string()]);
    }
}
