//! Executors, the command of workers, and the log.

use super::{Case, TRAIN, Workspace, planned};

fn executor(w: &Workspace, table: &str) {
    w.edit("pipeline.toml", "[run]", &format!("[executor]\n{table}\n\n[run]"));
}

#[rustfmt::skip]
pub fn cases() -> Vec<Case> {
    vec![
        planned("Executors and log", "unknown executor", |w| executor(w, "type = \"process\""),
            "pipeline.toml line 45: unknown executor `process`; known: local, processes"),
        planned("Executors and log", "executor without a type", |w| executor(w, "workers = 2"),
            "pipeline.toml line 44: the executor has no `type`; known: local, processes"),
        planned("Executors and log", "field of another executor", |w| executor(w, "type = \"local\"\nworkers = 2"),
            "pipeline.toml line 46: unknown field `workers` of executor `local`; known: none"),
        planned("Executors and log", "misspelt field of an executor", |w| executor(w, "type = \"processes\"\nworker = 2"),
            "pipeline.toml line 46: unknown field `worker` of executor `processes`; known: arguments, program, restarts, silence_seconds, workers; did you mean `workers`?"),
        planned("Executors and log", "too many workers", |w| executor(w, "type = \"processes\"\nworkers = 5000"),
            "pipeline.toml line 46: `executor.workers` is 5000; it takes 0 to 1024"),
        planned("Executors and log", "no patience with workers", |w| executor(w, "type = \"processes\"\nsilence_seconds = 0.5"),
            "pipeline.toml line 46: `executor.silence_seconds` is 0.5; it takes 1 to 86400"),
        Case { part: "Executors and log", situation: "program of workers that is not there", spoil: |w| executor(w, "type = \"processes\"\nprogram = \"nowhere/s3t\""), args: TRAIN, code: 1,
            message: "worker 1 cannot be started: its program `nowhere/s3t` cannot be run (No such file or directory (os error 2)); give `executor.program` a program that has the command `worker`" },
        Case { part: "Executors and log", situation: "program that is no worker", spoil: |w| executor(w, "type = \"processes\"\nprogram = \"false\"\nrestarts = 0"), args: TRAIN, code: 1,
            message: "worker 1 ended before it answered: exit status: 1" },
        Case { part: "Executors and log", situation: "program that talks of other things", spoil: |w| executor(w, "type = \"processes\"\nprogram = \"sh\"\narguments = [\"-c\", \"echo hello, I am a shell, and I say many things\"]\nrestarts = 0"), args: TRAIN, code: 1,
            message: "a damaged frame: its header is not that of a frame; it was dropped" },
        Case { part: "Executors and log", situation: "invalid log level", spoil: |_| {}, args: &["--log", "loud", "plan", "pipeline.toml"], code: 2,
            message: "`--log loud` is no level and no filter" },
        Case { part: "Executors and log", situation: "log file without a log", spoil: |_| {}, args: &["--log-file", "s3t.log", "plan", "pipeline.toml"], code: 2,
            message: "error: the following required arguments were not provided" },
        Case { part: "Executors and log", situation: "log file that cannot be written", spoil: |_| {}, args: &["--log", "info", "--log-file", "nowhere/s3t.log", "plan", "pipeline.toml"], code: 1,
            message: "cannot write the log `nowhere/s3t.log`: No such file or directory (os error 2)" },
    ]
}
