//! The laws of every executor. This program is its own worker.
#![allow(clippy::exit, reason = "a worker whose owner is gone ends in the middle of a step")]

use s3t_processes as _;
use serde_json::json;

fn main() {
    if std::env::args().nth(1).as_deref() == Some("worker") {
        let worked = s3t_train::work(std::io::stdin(), std::io::stdout(), || std::process::exit(0));
        worked.expect("the owner is understood");
        return;
    }
    for workers in [1, 2] {
        s3t_testkit::check_executor(&json!({"type": "processes", "workers": workers}));
    }
    // The same program by its path, with no worker to spare.
    let program = std::env::current_exe().expect("this program has a path");
    s3t_testkit::check_executor(&json!({"type": "processes", "workers": 3, "program": program, "restarts": 0}));
}
