//! An S3 server of its own for a test: `xtask/s3.sh`.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::owner::{script, skipped};
use crate::workspace::repository;

const VARIABLES: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "tests"), ("AWS_SECRET_ACCESS_KEY", "tests"), ("AWS_REGION", "us-east-1")];

pub struct S3 {
    folder: TempDir,
    port: String,
}

impl S3 {
    /// Starts a server with the bucket `s3t`. `None`, said loudly, where none is installed.
    pub fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
        let s3 = Self { folder, port };
        let started = s3.script("start");
        if started.0 == Some(3) && std::env::var_os("S3T_NEEDS_S3").is_none() {
            skipped(&started.1);
            return None;
        }
        assert_eq!(started.0, Some(0), "{}", started.1);
        Some(s3)
    }

    fn path(&self) -> String {
        self.folder.path().display().to_string()
    }

    fn script(&self, command: &str) -> (Option<i32>, String) {
        script("s3.sh", &[command, &self.path(), &self.port])
    }

    /// The setting of an executor.
    pub fn objects(&self) -> String {
        format!(
            "objects = {{ url = \"s3://s3t/a/b\", endpoint = \"http://127.0.0.1:{}\", allow_http = true, min_kilobytes = 0 }}",
            self.port
        )
    }

    pub fn variables() -> [(&'static str, &'static str); 3] {
        VARIABLES
    }

    pub fn variables_for_training() -> [(&'static str, &'static OsStr); 3] {
        VARIABLES.map(|(name, value)| (name, OsStr::new(value)))
    }

    /// The names of the objects in the bucket.
    pub fn names(&self) -> Vec<String> {
        let script = repository().join("xtask/s3.sh");
        let output = Command::new(script).args(["objects", &self.path()]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    /// The requests that the server has seen.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.out")).unwrap()
    }

    pub fn keep_versions(&self) {
        assert_eq!(self.script("versions").0, Some(0));
    }

    pub fn stop(&mut self) {
        self.script("stop");
    }

    /// Starts the server again, with an empty bucket.
    pub fn start_again(&mut self) {
        let (code, words) = self.script("start");
        assert_eq!(code, Some(0), "{words}");
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.script("stop");
    }
}
