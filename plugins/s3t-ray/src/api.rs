//! Ray's Jobs API, each call for a limited time.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use s3t_cluster::ClusterError;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};
use zeroize::Zeroizing;

use crate::options::Ray;
use crate::state::Job;

const ENGINE: &str = "Ray";

/// The max number of bytes that are read of an answer.
const MAX_BYTES: u64 = 64 << 20;

/// The max number of letters of Ray's own words that are told.
const MAX_WORDS: usize = 400;

/// Words of Ray that say that it may do later what it did not do now.
const LATER: &str = "please try again later";

pub(crate) struct Api {
    agent: Agent,
    /// Without a slash at its end.
    address: String,
    /// The value of the header `Authorization`.
    authorization: Option<Zeroizing<String>>,
    limit: Duration,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Api {
    pub(crate) fn new(ray: &Ray) -> Result<Self, ClusterError> {
        let limit = Duration::from_secs_f64(ray.call_seconds);
        // The dashboard is a machine of the cluster, and a token is for nobody else.
        let config = Agent::config_builder().timeout_global(Some(limit)).http_status_as_error(false).proxy(None);
        let address = ray.address.trim_end_matches('/').to_owned();
        let authorization = ray.token.as_deref().map(authorization).transpose()?;
        Ok(Self { agent: config.max_redirects(0).build().into(), address, authorization, limit })
    }

    /// Asks Ray for its version: a Ray that is not there at all is not waited for.
    pub(crate) fn greet(&self) -> Result<(), ClusterError> {
        match self.get("/api/version") {
            Ok(_) => Ok(()),
            Err(ClusterError::NoAnswer { command, .. }) => Err(ClusterError::Engine {
                engine: ENGINE.into(),
                command,
                problem: format!("nobody answers at {}; give `address` that of Ray's dashboard", self.address),
            }),
            Err(error) => Err(error),
        }
    }

    /// All jobs that Ray knows whose names begin so.
    pub(crate) fn jobs(&self, prefix: &str) -> Result<Vec<Job>, ClusterError> {
        let path = "/api/jobs/";
        let jobs: Vec<Job> = serde_json::from_value(self.get(path)?)
            .map_err(|error| refused("GET", path, format!("its list of jobs cannot be read: {error}")))?;
        let is_ours = |job: &Job| job.submission_id.as_deref().is_some_and(|name| name.starts_with(prefix));
        Ok(jobs.into_iter().filter(is_ours).collect())
    }

    pub(crate) fn submit(&self, job: &Value) -> Result<(), ClusterError> {
        self.post("/api/jobs/", job).map(drop)
    }

    pub(crate) fn stop(&self, name: &str) -> Result<(), ClusterError> {
        self.post(&format!("/api/jobs/{name}/stop"), &Value::Null).map(drop)
    }

    pub(crate) fn log(&self, name: &str) -> Result<String, ClusterError> {
        let answer = self.get(&format!("/api/jobs/{name}/logs"))?;
        Ok(answer["logs"].as_str().unwrap_or_default().to_owned())
    }

    fn get(&self, path: &str) -> Result<Value, ClusterError> {
        let mut request = self.agent.get(format!("{}{path}", self.address));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.as_str());
        }
        self.answer("GET", path, request.call())
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, ClusterError> {
        let mut request = self.agent.post(format!("{}{path}", self.address)).header("content-type", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization.as_str());
        }
        self.answer("POST", path, request.send(body.to_string()))
    }

    fn answer(
        &self,
        method: &str,
        path: &str,
        sent: Result<Response<Body>, ureq::Error>,
    ) -> Result<Value, ClusterError> {
        let no_answer =
            || ClusterError::NoAnswer { engine: ENGINE.into(), command: format!("{method} {path}"), limit: self.limit };
        // A dashboard that is started again refuses connections for a while, or ends them.
        let failed = |error: ureq::Error| {
            tracing::debug!(method, path, %error, "a call of Ray failed");
            match error {
                ureq::Error::Timeout(_) | ureq::Error::Io(_) | ureq::Error::ConnectionFailed => no_answer(),
                error => refused(method, path, error.to_string()),
            }
        };
        let mut response = sent.map_err(failed)?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(MAX_BYTES).lossy_utf8(true).read_to_string();
        let text = body.map_err(failed)?;
        if status.is_success() {
            let problem =
                |error| refused(method, path, format!("its answer is no JSON: {error}; is this Ray's dashboard?"));
            return serde_json::from_str(&text).map_err(problem);
        }
        if text.contains(LATER) || [502, 503, 504].contains(&status.as_u16()) {
            return Err(no_answer());
        }
        let hint = if status == 401 || status == 403 { "; give `token` the file with Ray's token" } else { "" };
        Err(refused(method, path, format!("{}{hint}", words(status.as_u16(), &text))))
    }
}

fn refused(method: &str, path: &str, problem: String) -> ClusterError {
    ClusterError::Engine { engine: ENGINE.into(), command: format!("{method} {path}"), problem }
}

/// The words of a refusal: of a traceback of Python its last line that has words.
fn words(status: u16, text: &str) -> String {
    let line = text.lines().rfind(|line| line.chars().any(char::is_alphanumeric)).unwrap_or_default().trim();
    if line.is_empty() { format!("status {status}") } else { line.chars().take(MAX_WORDS).collect() }
}

/// The header for the token in a file.
fn authorization(file: &Path) -> Result<Zeroizing<String>, ClusterError> {
    let failed = |problem: String| ClusterError::File { action: "read", path: file.display().to_string(), problem };
    let text = Zeroizing::new(std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?);
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(failed("it is no token; give the file that `ray get-auth-token --generate` wrote".into()));
    }
    Ok(Zeroizing::new(format!("Bearer {token}")))
}

#[cfg(test)]
pub(crate) mod fake {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// The options for an API at which each connection is answered with the next of these texts; an empty one is no answer.
    pub(crate) fn answering(answers: Vec<String>) -> Ray {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for answer in answers {
                let mut socket = listener.accept().unwrap().0;
                let mut request = [0; 4096];
                let _ = socket.read(&mut request);
                let _ = socket.write_all(answer.as_bytes());
                if answer.is_empty() {
                    kept.push(socket);
                }
            }
            // Whoever waits gives up first.
            std::thread::sleep(Duration::from_secs(3600));
        });
        Ray { address, call_seconds: 5.0, ..Ray::default() }
    }

    pub(crate) fn answer(status: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::fake::{answer, answering};
    use super::*;

    #[test]
    fn what_ray_says_is_told_and_what_may_come_later_is_no_refusal() {
        let python = "Traceback (most recent call last):\n  File \"x.py\"\nValueError: Job s3t-a already exists.\n.";
        let ray = answering(vec![
            answer("400 Bad Request", python),
            answer("500 Internal Server Error", "No available agent to submit job, please try again later."),
            answer("401 Unauthorized", "Unauthorized: Missing authentication token"),
            answer("200 OK", "<html>"),
            answer(
                "200 OK",
                r#"[{"submission_id": "s3t-a-0-0", "status": "RUNNING"}, {"submission_id": null, "status": "RUNNING"}]"#,
            ),
            String::new(),
        ]);
        let api = Api::new(&ray).unwrap();
        let told = |result: Result<(), ClusterError>| result.unwrap_err().to_string();
        assert_eq!(
            told(api.submit(&Value::Null)),
            "Ray refused `POST /api/jobs/`: ValueError: Job s3t-a already exists."
        );
        assert!(matches!(api.submit(&Value::Null), Err(ClusterError::NoAnswer { .. })));
        assert!(told(api.greet()).ends_with("Missing authentication token; give `token` the file with Ray's token"));
        assert!(told(api.greet()).contains("its answer is no JSON"));
        assert_eq!(api.jobs("s3t-a-").unwrap().len(), 1);
        // Nobody answers any more.
        assert_eq!(told(api.stop("a")), "Ray did not answer `POST /api/jobs/a/stop` within 5 seconds");
    }

    #[test]
    fn a_ray_that_is_not_there_is_named() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let api = Api::new(&Ray { address: format!("http://{free}/"), ..Ray::default() }).unwrap();
        let told = api.greet().unwrap_err().to_string();
        let expected = format!(
            "Ray refused `GET /api/version`: nobody answers at http://{free}; give `address` that of Ray's dashboard"
        );
        assert_eq!(told, expected);
    }

    #[test]
    fn a_file_without_a_token_is_refused_and_no_token_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "two words\n").unwrap();
        let ray = Ray { token: Some(file.clone()), ..Ray::default() };
        assert!(Api::new(&ray).unwrap_err().to_string().contains("it is no token"));
        std::fs::write(&file, "abc123\n").unwrap();
        let api = Api::new(&ray).unwrap();
        assert_eq!(**api.authorization.as_ref().unwrap(), "Bearer abc123");
        assert!(!format!("{api:?}").contains("abc123"));
    }
}
