//! A stand-in for a cluster: `fake_kubectl.py`, which runs Pods as processes of this machine.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::owner::{send, workers_with};
use crate::workspace::repository;

pub struct FakeCluster {
    folder: TempDir,
    /// The search path, on which `kubectl` is the stand-in.
    path: OsString,
}

impl FakeCluster {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("programs");
        fs::create_dir(&programs).unwrap();
        let program = repository().join("crates/s3t-cli/tests/all/kubernetes/fake_kubectl.py").canonicalize().unwrap();
        std::os::unix::fs::symlink(program, programs.join("kubectl")).unwrap();
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(programs).chain(std::env::split_paths(&rest))).unwrap();
        Self { folder, path }
    }

    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    pub fn manifest(&self) -> PathBuf {
        self.folder.path().join("job.yaml")
    }

    /// The variables with which a program finds the stand-in.
    pub fn variables(&self) -> [(&'static str, OsString); 2] {
        [("PATH", self.path.clone()), ("FAKE_CLUSTER", self.folder().into_os_string())]
    }

    /// The output of the stand-in.
    pub fn ask(&self, args: &[&str]) -> String {
        let output = Command::new("kubectl").args(args).envs(self.variables()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The names of the objects of a kind.
    pub fn objects(&self, kind: &str) -> Vec<String> {
        let Ok(files) = fs::read_dir(self.folder().join("objects").join(kind)) else { return Vec::new() };
        let names = files.flatten().map(|file| file.file_name().to_string_lossy().trim_end_matches(".json").to_owned());
        names.collect()
    }

    /// The calls that were made.
    pub fn calls(&self) -> String {
        fs::read_to_string(self.folder().join("calls")).unwrap_or_default()
    }

    /// The table of the executor.
    pub fn table(&self, workers: usize) -> Value {
        serde_json::json!({
            "type": "kubernetes", "workers": workers, "image": "registry.example/s3t:0.1", "program": env!("CARGO_BIN_EXE_s3t"),
            "apply": true, "manifest": self.manifest(), "listen": "127.0.0.1:0", "lease_seconds": 5.0, "look_seconds": 0.3,
            "call_seconds": 10.0,
        })
    }

    /// The lines of a pipeline file for workers here, with these fields in place of others.
    pub fn executor(&self, workers: usize, fields: Value) -> String {
        let mut table = self.table(workers);
        let Value::Object(fields) = fields else { panic!("fields") };
        table.as_object_mut().unwrap().extend(fields);
        let lines = table.as_object().unwrap().iter().map(|(field, value)| format!("{field} = {value}\n"));
        format!("[executor]\n{}\n", lines.collect::<String>())
    }

    /// The processes of the workers that run.
    pub fn workers(&self) -> Vec<i32> {
        workers_with(&format!("FAKE_CLUSTER={}\0", self.folder().display()))
    }

    /// From now on it hangs in these calls, after it has done what they ask for.
    pub fn hangs(&self, calls: &str) {
        fs::create_dir_all(self.folder()).unwrap();
        fs::write(self.folder().join("hangs"), calls).unwrap();
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        let _ = Command::new("kubectl").args(["fake", "stop"]).envs(self.variables()).status();
        self.workers().into_iter().for_each(|pid| send(pid, Signal::KILL));
    }
}
