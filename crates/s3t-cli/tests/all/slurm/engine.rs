//! A Slurm of its own for a test: `xtask/slurm.sh`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::owner::{self, Slot, send, skipped, wait_until, workers_with};

/// Three run at a time.
static SLOTS: [Mutex<()>; 3] = [const { Mutex::new(()) }; 3];

pub struct Slurm {
    folder: TempDir,
    _slot: Slot,
}

impl Slurm {
    /// Starts a controller and some nodes of two cores each. `None`, said loudly, where Slurm is not installed.
    pub fn start(nodes: usize) -> Option<Self> {
        let slot = Slot::take(&SLOTS);
        let folder = tempfile::tempdir().unwrap();
        // The controller and each node listen on a port.
        let port = 20_000 + (std::process::id() % 400 * 3 + slot.number) * 6;
        let started = script(&["start", &folder.path().display().to_string(), &nodes.to_string(), &port.to_string()]);
        if started.0 == Some(3) && std::env::var_os("S3T_NEEDS_SLURM").is_none() {
            skipped(&started.1);
            return None;
        }
        assert_eq!(started.0, Some(0), "{}", started.1);
        Some(Self { folder, _slot: slot })
    }

    pub fn conf(&self) -> PathBuf {
        self.folder.path().join("slurm.conf")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// The output of a command of Slurm.
    pub fn ask(&self, program: &str, args: &[&str]) -> String {
        let output = Command::new(program).args(args).env("SLURM_CONF", self.conf()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `state task` of each task of this test, those too that have ended.
    pub fn tasks(&self) -> Vec<String> {
        let text = self.ask("squeue", &["--noheader", "--array", "--states=all", "--format=%T %i"]);
        text.lines().map(str::to_owned).collect()
    }

    pub fn count(&self, state: &str) -> usize {
        self.tasks().iter().filter(|task| task.starts_with(state)).count()
    }

    pub fn script(&self, command: &str, name: &[&str]) {
        let folder = self.folder.path().display().to_string();
        let (code, words) = script(&[&[command, folder.as_str()], name].concat());
        assert_eq!(code, Some(0), "{words}");
    }

    /// The process of a daemon: `slurmctld`, `node1`.
    pub fn pid(&self, daemon: &str) -> i32 {
        let file = self.folder.path().join(format!("{daemon}.pid"));
        wait_until("a daemon has no pid", || std::fs::read_to_string(&file).is_ok_and(|pid| pid.ends_with('\n')));
        std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    pub fn signal(&self, daemon: &str, signal: Signal) {
        send(self.pid(daemon), signal);
    }

    /// The lines of a pipeline file for workers here.
    pub fn executor(&self, workers: usize, more: &str) -> String {
        format!(
            "[executor]\ntype = \"slurm\"\nworkers = {workers}\nprogram = \"{}\"\nlogs = \"{}\"\nlisten = \"127.0.0.1:0\"\nlease_seconds = 5\n\
             look_seconds = 0.5\ncall_seconds = 5\n{more}\n",
            env!("CARGO_BIN_EXE_s3t"),
            self.logs().display(),
        )
    }

    /// The processes of the workers that run.
    pub fn workers(&self) -> Vec<i32> {
        workers_with(&format!("SLURM_CONF={}\0", self.conf().display()))
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        for daemon in ["slurmctld", "node1", "node2", "node3", "node4"] {
            // A daemon that is stopped does not hear that it is to end.
            if let Ok(pid) = std::fs::read_to_string(self.folder.path().join(format!("{daemon}.pid"))) {
                send(pid.trim().parse().unwrap(), Signal::CONT);
            }
        }
        script(&["stop", &self.folder.path().display().to_string()]);
        self.workers().into_iter().for_each(|pid| send(pid, Signal::KILL));
    }
}

fn script(args: &[&str]) -> (Option<i32>, String) {
    owner::script("slurm.sh", args)
}
