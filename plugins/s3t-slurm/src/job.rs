//! The job arrays of a launch.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use s3t_cluster::{
    Call, ClusterError, INVITATION, Launcher, Task, end_of_log_file, quoted, run_name, worker_command, worker_program,
};

use crate::call::call;
use crate::options::Slurm;
use crate::state;

/// Words of Slurm that say that a limit of the site allows no array of this size, or no more jobs now.
const LIMITS: [&str; 7] = [
    "Invalid job array specification",
    "Job violates accounting/QOS policy",
    "MaxSubmitJob",
    "MaxJob",
    "QOSMax",
    "AssocMax",
    "Slurm temporarily unable to accept job",
];

/// The job arrays of a launch.
#[derive(Debug)]
pub(crate) struct Array {
    slurm: Slurm,
    program: PathBuf,
    logs: PathBuf,
    /// The beginning of the names of its jobs: the store and the run.
    name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The numbers of submissions that Slurm has taken.
    submitted: Vec<u64>,
    /// A submission that may have been taken: looked up before anything else is submitted.
    uncertain: bool,
}

impl Array {
    pub(crate) fn new(slurm: &Slurm, store: &str) -> Result<Self, ClusterError> {
        let file = |action: &'static str, path: &Path| {
            let path = path.display().to_string();
            move |error: std::io::Error| ClusterError::File { action, path, problem: error.to_string() }
        };
        let logs = std::path::absolute(&slurm.logs).map_err(file("find", &slurm.logs))?;
        fs::create_dir_all(&logs).map_err(file("make", &logs))?;
        let program = worker_program(slurm.program.as_deref())?;
        Ok(Self { slurm: slurm.clone(), program, logs, name: run_name(store)?, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limit(&self) -> Duration {
        Duration::from_secs_f64(self.slurm.call_seconds)
    }

    /// The name of a submission's job.
    fn job(&self, number: u64) -> String {
        format!("{}-{number}", self.name)
    }

    fn arguments(&self, number: u64, workers: usize) -> Vec<String> {
        let slurm = &self.slurm;
        let cap = if slurm.max_running == 0 { String::new() } else { format!("%{}", slurm.max_running) };
        let log = |end: &str| self.logs.join(format!("%A_%a_%t_log.{end}")).display().to_string();
        let mut arguments = vec![
            "--parsable".to_owned(),
            format!("--job-name={}", self.job(number)),
            format!("--array=0-{}{cap}", workers - 1),
            format!("--output={}", log("out")),
            format!("--error={}", log("err")),
            "--open-mode=append".to_owned(),
            "--requeue".to_owned(),
            "--export=ALL".to_owned(),
            "--ntasks=1".to_owned(),
            format!("--cpus-per-task={}", slurm.cpus),
        ];
        let options = [
            ("partition", &slurm.partition),
            ("account", &slurm.account),
            ("qos", &slurm.qos),
            ("constraint", &slurm.constraint),
            ("mem", &slurm.mem),
            ("time", &slurm.time),
            ("gres", &slurm.gres),
        ];
        let given = options.iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?)));
        arguments.extend(given);
        arguments.extend(slurm.arguments.iter().cloned());
        arguments
    }

    /// The script of a worker. A worker that is asked to end ends: it holds nothing that is worth a word.
    fn script(&self, address: &str) -> String {
        // A line that fails ends the worker, by name: it would train without what it needs, or fail later for another reason.
        let setup: String = (1..)
            .zip(&self.slurm.setup)
            .map(|(number, line)| {
                let failed = quoted(&format!("s3t: line {number} of `setup` failed: {line}"));
                format!("{{ {line}\n}} || {{ echo {failed} >&2; exit 1; }}\n")
            })
            .collect();
        format!(
            "#!{}\n{setup}{} \\\n  --task \"${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}\"\n",
            self.slurm.shell,
            worker_command(&self.program, address, Some(self.slurm.cpus))
        )
    }

    /// The tasks of jobs with these names, as far as Slurm still knows them.
    fn look(&self, names: &str) -> Result<Vec<Task>, ClusterError> {
        let arguments = ["--noheader", "--array", "--states=all", "--format", state::FORMAT, "--name", names];
        Ok(state::tasks(&call("squeue", &arguments.map(str::to_owned), None, "", self.limit())?))
    }
}

impl Launcher for Array {
    fn engine(&self) -> &'static str {
        "slurm"
    }

    fn submit(&self, number: u64, workers: usize, launch: &Call) -> Result<usize, ClusterError> {
        if self.lock().uncertain {
            let there = self.look(&self.job(number))?.len();
            if there > 0 {
                tracing::info!(number, there, "Slurm had taken the workers that it did not answer for");
                let mut state = self.lock();
                state.uncertain = false;
                state.submitted.push(number);
                return Ok(there);
            }
        }
        let invitation = launch.invitation.text();
        let script = self.script(&launch.address);
        let mut asked = workers;
        loop {
            let environment = Some((INVITATION, invitation.as_str()));
            match call("sbatch", &self.arguments(number, asked), environment, &script, self.limit()) {
                Ok(job) => {
                    tracing::info!(job = job.trim(), workers = asked, "workers are submitted");
                    let mut state = self.lock();
                    state.uncertain = false;
                    state.submitted.push(number);
                    return Ok(asked);
                }
                Err(ClusterError::Engine { problem, .. })
                    if asked > 1 && LIMITS.iter().any(|limit| problem.contains(limit)) =>
                {
                    tracing::warn!(workers = asked, problem, "fewer workers are asked for");
                    asked = asked.div_ceil(2);
                }
                Err(error) => {
                    self.lock().uncertain = matches!(error, ClusterError::NoAnswer { .. });
                    return Err(error);
                }
            }
        }
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        let names: Vec<String> = self.lock().submitted.iter().map(|number| self.job(*number)).collect();
        if names.is_empty() { Ok(Vec::new()) } else { self.look(&names.join(",")) }
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        let names: Vec<u64> = self.lock().submitted.clone();
        let cancel = |number| call("scancel", &[format!("--name={}", self.job(number))], None, "", self.limit());
        // All of them, whatever fails of the first.
        let cancelled: Vec<Result<String, ClusterError>> = names.into_iter().map(cancel).collect();
        cancelled.into_iter().try_for_each(|cancelled| cancelled.map(drop))
    }

    fn log(&self, task: &str) -> Option<String> {
        end_of_log_file(&self.logs.join(format!("{task}_0_log.err")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(slurm: Slurm) -> (tempfile::TempDir, Array) {
        let folder = tempfile::tempdir().unwrap();
        let array = Array::new(&Slurm { logs: folder.path().join("logs"), ..slurm }, "store-1234").unwrap();
        (folder, array)
    }

    #[test]
    fn every_field_is_an_option_of_sbatch() {
        let text = |text: &str| Some(text.to_owned());
        let (_folder, array) = array(Slurm {
            max_running: 2,
            partition: text("gpu"),
            account: text("lab"),
            qos: text("low"),
            constraint: text("avx512"),
            mem: text("16G"),
            time: text("04:00:00"),
            gres: text("gpu:1"),
            cpus: 8,
            arguments: vec!["--exclusive".into()],
            ..Slurm::default()
        });
        let arguments = array.arguments(3, 7);
        let logs = array.logs.display().to_string();
        for expected in [
            format!("--job-name={}-3", array.name),
            "--array=0-6%2".into(),
            format!("--output={logs}/%A_%a_%t_log.out"),
            format!("--error={logs}/%A_%a_%t_log.err"),
            "--partition=gpu".into(),
            "--account=lab".into(),
            "--qos=low".into(),
            "--constraint=avx512".into(),
            "--mem=16G".into(),
            "--time=04:00:00".into(),
            "--gres=gpu:1".into(),
            "--cpus-per-task=8".into(),
        ] {
            assert!(arguments.contains(&expected), "{expected}: {arguments:?}");
        }
        assert_eq!(arguments.last().unwrap(), "--exclusive");
        assert!(array.name.starts_with("s3t-store-1234-"));
    }

    #[test]
    fn a_script_has_the_setup_and_no_secret() {
        let program = Some("/opt/it's here/s3t".into());
        let (_folder, array) = array(Slurm { setup: vec!["module load cuda".into()], program, ..Slurm::default() });
        let script = array.script("login1:7000");
        let expected = "#!/bin/bash -l\n{ module load cuda\n} || { echo 's3t: line 1 of `setup` failed: module load cuda' >&2; exit 1; }\n\
                        exec '/opt/it'\\''s here/s3t' worker --connect 'login1:7000' --cores 1 \\\n  \
                        --task \"${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}\"\n";
        assert_eq!(script, expected);
    }

    #[test]
    fn the_end_of_a_log_is_short() {
        let (_folder, array) = array(Slurm::default());
        let lines: String = (0..1000).map(|line| format!("line {line}\n\n")).collect();
        fs::write(array.logs.join("7_1_0_log.err"), lines).unwrap();
        assert_eq!(array.log("7_1").unwrap(), "line 995 / line 996 / line 997 / line 998 / line 999");
        assert_eq!(array.log("7_2"), None);
    }
}
