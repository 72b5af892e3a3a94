//! Somebody who starts workers by hand: `s3t worker --connect`, as soon as there is an invitation, and again when they have ended.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

pub struct ByHand {
    folder: TempDir,
    workers: usize,
    port: u16,
    shared: Arc<Shared>,
    starting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    children: Mutex<Vec<Child>>,
    is_over: AtomicBool,
    /// Workers that have ended are not started again.
    is_tired: AtomicBool,
}

impl ByHand {
    /// Keeps this number of workers there.
    pub fn start(workers: usize) -> Self {
        Self::with_variables(workers, &[])
    }

    /// The same, with variables in the environment of the workers.
    pub fn with_variables(workers: usize, variables: &[(&'static str, &'static str)]) -> Self {
        let variables = variables.to_vec();
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let (starting, invitation) = (Arc::clone(&shared), folder.path().join("invitation"));
        let starting = std::thread::spawn(move || {
            while !starting.is_over.load(Ordering::SeqCst) {
                {
                    let mut children = starting.children.lock().unwrap();
                    children.retain_mut(|child| child.try_wait().unwrap().is_none());
                    let missing = if starting.is_tired.load(Ordering::SeqCst) { 0 } else { workers - children.len() };
                    if std::fs::read(&invitation).is_ok_and(|text| !text.is_empty()) {
                        children.extend((0..missing).map(|_| {
                            Command::new(env!("CARGO_BIN_EXE_s3t"))
                                .args([
                                    "worker",
                                    "--connect",
                                    &format!("127.0.0.1:{port}"),
                                    "--cores",
                                    "1",
                                    "--invitation",
                                ])
                                .arg(&invitation)
                                .envs(variables.iter().copied())
                                .stderr(Stdio::null())
                                .spawn()
                                .unwrap()
                        }));
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { folder, workers, port, shared, starting: Some(starting) }
    }

    pub fn invitation(&self) -> PathBuf {
        self.folder.path().join("invitation")
    }

    /// The table `[executor]` of a pipeline that these workers join.
    pub fn table(&self) -> Value {
        let listen = format!("127.0.0.1:{}", self.port);
        json!({
            "type": "network", "workers": self.workers, "listen": listen, "invitation": self.invitation(),
            "restarts": 10_000, "lease_seconds": 3.0,
        })
    }

    /// The same as lines of a pipeline file.
    pub fn lines(&self) -> String {
        let table = self.table();
        let lines = table.as_object().unwrap().iter().map(|(field, value)| format!("{field} = {value}\n"));
        format!("[executor]\n{}\n", lines.collect::<String>())
    }

    /// The processes of the workers that are there.
    pub fn pids(&self) -> Vec<i32> {
        self.shared.children.lock().unwrap().iter().map(|child| child.id() as i32).collect()
    }

    /// Starts no more workers.
    pub fn tire(&self) {
        self.shared.is_tired.store(true, Ordering::SeqCst);
    }

    /// Starts workers again.
    pub fn go_on(&self) {
        self.shared.is_tired.store(false, Ordering::SeqCst);
    }

    /// Waits until no worker is there; each ends by itself.
    pub fn wait_for_ends(&self) {
        while !self.pids().is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Some(starting) = self.starting.take() {
            let _ = starting.join();
        }
        for child in self.shared.children.lock().unwrap().iter_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
