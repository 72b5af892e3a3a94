//! The settings that all executors on other machines share.

use std::time::Duration;

use s3t_executor::ExecutorError;
use s3t_objects::ObjectStorage;

/// The max number of workers.
const MAX_WORKERS: usize = 10_000;

/// The min and the max length of a lease in seconds. A worker renews its lease every second.
const LEASES: (f64, f64) = (3.0, 86_400.0);

/// The settings of a launch, whatever starts the workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The number of workers.
    pub workers: usize,
    /// The address on which the owner listens.
    pub listen: String,
    /// The name by which workers reach the owner; the name of its machine if it is left out.
    pub host: Option<String>,
    /// The number of times that a stage is given to another worker after one was lost with it, and of workers that may fail before they
    /// join.
    pub restarts: usize,
    /// The length of a lease in seconds.
    pub lease_seconds: f64,
    /// The seconds between two looks at the engine.
    pub look_seconds: f64,
    /// Object storage through which large parts of jobs and results travel.
    pub objects: Option<ObjectStorage>,
}

impl Settings {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`ExecutorError::InvalidField`] for the first field that cannot be used.
    pub fn check(&self) -> Result<(), ExecutorError> {
        let refuse = |field, problem: String| Err(ExecutorError::InvalidField { field, problem });
        if !(1..=MAX_WORKERS).contains(&self.workers) {
            return refuse("workers", format!("is {}; it takes 1 to {MAX_WORKERS}", self.workers));
        }
        let port = self.listen.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        if !matches!(port, Some((host, Ok(_))) if !host.is_empty()) {
            let problem =
                format!("is `{}`; give an address of this machine and a port, such as 0.0.0.0:0 for any", self.listen);
            return refuse("listen", problem);
        }
        if let Some(host) = self.host.as_deref().filter(|host| !is_host(host)) {
            return refuse("host", format!("is `{host}`; give the name or the address of this machine"));
        }
        let (min, max) = LEASES;
        if !(min..=max).contains(&self.lease_seconds) {
            return refuse("lease_seconds", format!("is {}; it takes {min} to {max}", self.lease_seconds));
        }
        if !(0.1..=60.0).contains(&self.look_seconds) {
            return refuse("look_seconds", format!("is {}; it takes 0.1 to 60", self.look_seconds));
        }
        self.objects.as_ref().map_or(Ok(()), ObjectStorage::check)
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs_f64(self.lease_seconds)
    }

    pub(crate) fn look(&self) -> Duration {
        Duration::from_secs_f64(self.look_seconds)
    }

    /// The address that workers connect to, for a port on which the owner listens.
    pub(crate) fn address(&self, port: u16) -> String {
        let listen = self.listen.rsplit_once(':').map_or("", |(host, _)| host);
        let any = ["0.0.0.0", "[::]", "*"].contains(&listen);
        match &self.host {
            Some(host) => format!("{host}:{port}"),
            None if any => format!("{}:{port}", own_name()),
            None => format!("{listen}:{port}"),
        }
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && host.chars().all(|letter| letter.is_ascii_alphanumeric() || "-._[]:".contains(letter))
}

/// The name of this machine.
fn own_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if is_host(name) { name.to_owned() } else { "localhost".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let listen = "0.0.0.0:0".to_owned();
        Settings { workers: 2, listen, host: None, restarts: 3, lease_seconds: 60.0, look_seconds: 5.0, objects: None }
    }

    #[test]
    fn impossible_settings_are_refused_by_name() {
        settings().check().unwrap();
        for (spoilt, field) in [
            (Settings { workers: 0, ..settings() }, "workers"),
            (Settings { workers: 10_001, ..settings() }, "workers"),
            (Settings { listen: "7000".into(), ..settings() }, "listen"),
            (Settings { listen: ":7000".into(), ..settings() }, "listen"),
            (Settings { listen: "0.0.0.0:x".into(), ..settings() }, "listen"),
            (Settings { host: Some("a; rm -r".into()), ..settings() }, "host"),
            (Settings { lease_seconds: 1.0, ..settings() }, "lease_seconds"),
            (Settings { lease_seconds: f64::NAN, ..settings() }, "lease_seconds"),
            (Settings { look_seconds: 0.0, ..settings() }, "look_seconds"),
            (Settings { look_seconds: 61.0, ..settings() }, "look_seconds"),
        ] {
            let message = spoilt.check().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{field}` is ")), "{message}");
        }
    }

    #[test]
    fn the_address_is_the_one_that_workers_reach() {
        assert_eq!(Settings { host: Some("login1".into()), ..settings() }.address(7), "login1:7");
        assert_eq!(Settings { listen: "10.0.0.7:0".into(), ..settings() }.address(7), "10.0.0.7:7");
        assert_ne!(settings().address(7), "0.0.0.0:7");
    }
}
