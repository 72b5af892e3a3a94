//! The jobs of a launch.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use s3t_cluster::fields::bytes_of_memory;
use s3t_cluster::{
    Call, ClusterError, Launcher, SecretFile, Task, end_of_log, quoted, run_name, worker_command, worker_program,
};
use serde_json::{Value, json};

use crate::api::Api;
use crate::options::Ray;

/// The jobs of a launch.
#[derive(Debug)]
pub(crate) struct Jobs {
    ray: Ray,
    api: Api,
    program: PathBuf,
    invitation: SecretFile,
    /// The beginning of the names of its jobs: the store and the run.
    name: String,
    /// A submission may have been taken: jobs are looked up before anything else is submitted.
    is_uncertain: AtomicBool,
}

impl Jobs {
    pub(crate) fn new(ray: &Ray, store: &str) -> Result<Self, ClusterError> {
        let jobs = Self::unseen(ray, store)?;
        jobs.api.greet()?;
        Ok(jobs)
    }

    fn unseen(ray: &Ray, store: &str) -> Result<Self, ClusterError> {
        let invitation = std::path::absolute(&ray.invitation).map_err(|error| ClusterError::File {
            action: "find",
            path: ray.invitation.display().to_string(),
            problem: error.to_string(),
        })?;
        Ok(Self {
            ray: ray.clone(),
            api: Api::new(ray)?,
            program: worker_program(ray.program.as_deref())?,
            invitation: SecretFile::of_invitation(invitation),
            name: run_name(store)?,
            is_uncertain: AtomicBool::new(false),
        })
    }

    /// The name of a job, which Ray takes once.
    fn job(&self, number: u64, index: usize) -> String {
        format!("{}-{number}-{index}", self.name)
    }

    /// The command of a worker. Ray shows and keeps it, so it holds no secret.
    fn entrypoint(&self, name: &str, address: &str) -> String {
        let setup: String = self.ray.setup.iter().map(|line| format!("{line}\n")).collect();
        let worker = worker_command(&self.program, address, Some(self.ray.cpus));
        let invitation = quoted(&self.invitation.path().display().to_string());
        format!("{setup}{worker} --task {} --invitation {invitation}", quoted(name))
    }

    fn body(&self, name: &str, address: &str) -> Value {
        let ray = &self.ray;
        let mut body = json!({
            "submission_id": name,
            "entrypoint": self.entrypoint(name, address),
            "entrypoint_num_cpus": ray.cpus,
            "metadata": {"program": "s3t"},
        });
        if ray.gpus > 0.0 {
            body["entrypoint_num_gpus"] = ray.gpus.into();
        }
        if let Some(bytes) = ray.mem.as_deref().and_then(bytes_of_memory) {
            body["entrypoint_memory"] = bytes.into();
        }
        if !ray.resources.is_empty() {
            body["entrypoint_resources"] = json!(ray.resources);
        }
        body
    }

    /// The names of the jobs of a submission that Ray has.
    fn known(&self, number: u64) -> Result<BTreeSet<String>, ClusterError> {
        let jobs = self.api.jobs(&format!("{}-{number}-", self.name))?;
        Ok(jobs.into_iter().filter_map(|job| job.submission_id).collect())
    }
}

impl Launcher for Jobs {
    fn engine(&self) -> &'static str {
        "ray"
    }

    fn submit(&self, number: u64, workers: usize, launch: &Call) -> Result<usize, ClusterError> {
        self.invitation.write(launch.invitation.text())?;
        let is_uncertain = self.is_uncertain.load(Ordering::Acquire);
        let known = if is_uncertain { self.known(number)? } else { BTreeSet::new() };
        self.is_uncertain.store(false, Ordering::Release);
        for index in 0..workers {
            let name = self.job(number, index);
            if known.contains(&name) {
                tracing::info!(name, "Ray had taken a worker that it did not answer for");
                continue;
            }
            let Err(error) = self.api.submit(&self.body(&name, &launch.address)) else { continue };
            // Ray takes a name once, and what it has of this name is this job.
            if matches!(&error, ClusterError::Engine { problem, .. } if problem.contains("already exists")) {
                continue;
            }
            self.is_uncertain.store(matches!(error, ClusterError::NoAnswer { .. }), Ordering::Release);
            // The others are asked for later, under the next number.
            return if index > 0 { Ok(index) } else { Err(error) };
        }
        tracing::info!(number, workers, "workers are submitted");
        Ok(workers)
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        let jobs = self.api.jobs(&format!("{}-", self.name))?;
        Ok(jobs.iter().filter_map(|job| job.task()).collect())
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        let removed = self.invitation.remove();
        for job in self.api.jobs(&format!("{}-", self.name))? {
            let Some(name) = job.submission_id.as_deref().filter(|_| !job.has_ended()) else { continue };
            match self.api.stop(name) {
                // It has ended in the meantime.
                Ok(()) | Err(ClusterError::Engine { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        removed
    }

    fn log(&self, task: &str) -> Option<String> {
        end_of_log(&self.api.log(task).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::fake::{answer, answering};

    #[test]
    fn a_submission_without_an_answer_is_looked_up_before_it_is_repeated() {
        let invitation = format!("s3t-invitation-1.{0}A.{0}A", "A".repeat(42));
        let launch = Call { address: "login1:7343".into(), invitation: invitation.parse().unwrap() };
        let folder = tempfile::tempdir().unwrap();
        let start = |answers: Vec<String>| {
            let invitation = folder.path().join("invitation");
            Jobs::unseen(&Ray { invitation, ..answering(answers) }, "store-1234").unwrap()
        };
        let (ok, hang) = (|| answer("200 OK", "{}"), String::new);
        // The answer for the second worker does not come: the first is there.
        assert_eq!(start(vec![ok(), hang()]).submit(0, 3, &launch).unwrap(), 1);
        // Ray had taken the first worker. It is not asked for again, and there is no other call than these.
        let mut jobs = start(vec![hang()]);
        assert!(matches!(jobs.submit(0, 2, &launch), Err(ClusterError::NoAnswer { .. })));
        let known = format!(r#"[{{"submission_id": "{}", "status": "PENDING"}}]"#, jobs.job(0, 0));
        jobs.api = Api::new(&answering(vec![answer("200 OK", &known), ok()])).unwrap();
        assert_eq!(jobs.submit(0, 2, &launch).unwrap(), 2);
        // Ray takes a name once, which is no failure; what it refuses is one.
        jobs.api = Api::new(&answering(vec![
            answer("400 Bad Request", "ValueError: Job with submission_id a already exists. Use another."),
            answer("400 Bad Request", "ValueError: no"),
            answer("400 Bad Request", "ValueError: no"),
        ]))
        .unwrap();
        assert_eq!(jobs.submit(1, 2, &launch).unwrap(), 1);
        assert!(matches!(jobs.submit(2, 2, &launch), Err(ClusterError::Engine { .. })));
    }

    #[test]
    fn every_field_is_one_of_the_job_and_none_is_a_secret() {
        let ray = Ray {
            cpus: 4,
            gpus: 0.5,
            mem: Some("16G".into()),
            resources: [("avx512".to_owned(), 1.0)].into(),
            setup: vec!["module load cuda".into()],
            program: Some("/opt/it's here/s3t".into()),
            invitation: "/shared/s3t.invitation".into(),
            ..Ray::default()
        };
        let jobs = Jobs::unseen(&ray, "store-1234").unwrap();
        assert!(jobs.name.starts_with("s3t-store-1234-"));
        let name = jobs.job(3, 7);
        let expected = json!({
            "submission_id": format!("{}-3-7", jobs.name),
            "entrypoint": format!(
                "module load cuda\nexec '/opt/it'\\''s here/s3t' worker --connect 'login1:7000' --cores 4 --task '{name}' \
                 --invitation '/shared/s3t.invitation'"
            ),
            "entrypoint_num_cpus": 4,
            "entrypoint_num_gpus": 0.5,
            "entrypoint_memory": 16_u64 << 30,
            "entrypoint_resources": {"avx512": 1.0},
            "metadata": {"program": "s3t"},
        });
        assert_eq!(jobs.body(&name, "login1:7000"), expected);
        let plain = Jobs::unseen(&Ray::default(), "store-1234").unwrap().body("a", "login1:7000");
        assert_eq!(plain.as_object().unwrap().len(), 4, "{plain}");
    }
}
