//! The values that settings take.

use s3t_ledger::WitnessKey;

use super::ServerSettings;
use super::limits::{MAX_LEASE, MAX_SECONDS, MIN_LEASE};
use super::sections::NO_LIMIT;

impl ServerSettings {
    /// Checks the values.
    ///
    /// # Errors
    ///
    /// The key of the first value that cannot be used, and the problem, as in "is 0; it takes 1 to 4096".
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let number = |key, value: u64, min: u64, max: u64| {
            let fits = (min..=max).contains(&value);
            if fits { Ok(()) } else { Err((key, format!("is {value}; it takes {min} to {max}"))) }
        };
        let seconds = |key, value: f64, min: f64| {
            let fits = (min..=MAX_SECONDS).contains(&value);
            if fits { Ok(()) } else { Err((key, format!("is {value}; it takes {min} to {MAX_SECONDS}"))) }
        };
        number("batch_records", self.batch_records as u64, 1, 4096)?;
        number("request_records", self.request_records as u64, 1, 4096)?;
        // A caller alone may fill half of the queue; so its largest request has to fit into that.
        number("queue_records", self.queue_records as u64, 2 * self.request_records as u64, 1 << 20)?;
        number("deadline_ms", self.deadline_ms, 1, 3_600_000)?;
        number("body_bytes", self.body_bytes as u64, 1024, 1 << 30)?;
        number("connections", self.connections as u64, 1, 1 << 20)?;
        number("batch_minutes", self.batch_minutes, 0, 44_640)?;
        for witness in &self.witnesses {
            let local = ["http://127.0.0.1", "http://[::1]", "http://localhost"];
            if !(witness.url.starts_with("https://") || local.iter().any(|prefix| witness.url.starts_with(prefix))) {
                return Err((
                    "witnesses.url",
                    format!("is `{}`; give an address that starts with https://", witness.url),
                ));
            }
            if let Err(error) = witness.key.parse::<WitnessKey>() {
                return Err(("witnesses.key", error.to_string()));
            }
        }
        if let Some(repair) = &self.repair {
            number("repair.minutes_per_hour", repair.minutes_per_hour, 1, NO_LIMIT)?;
            if let Some(depth) = repair.below_depth.filter(|depth| !(0.0..=1.0).contains(depth)) {
                return Err(("repair.below_depth", format!("is {depth}; it takes 0 to 1, a share of the plan")));
            }
        }
        seconds("read_seconds", self.read_seconds, 0.1)?;
        seconds("generation_seconds", self.generation_seconds, 0.1)?;
        seconds("stop_delay_seconds", self.stop_delay_seconds, 0.0)?;
        seconds("drain_seconds", self.drain_seconds, 0.0)?;
        if self.lease_seconds != 0.0 && !(MIN_LEASE..=MAX_LEASE).contains(&self.lease_seconds) {
            let problem =
                format!("is {}; it takes {MIN_LEASE} to {MAX_LEASE}, or 0 for no followers", self.lease_seconds);
            return Err(("lease_seconds", problem));
        }
        if let Some(follow) = &self.follow {
            follow.check()?;
            if self.private_address.is_some() {
                let problem = "is for a leader; a follower has answers only, and all on `server.address`";
                return Err(("private_address", problem.to_owned()));
            }
            if self.opendsr.is_some() {
                return Err(("opendsr", "is for a leader; a follower takes no privacy requests".to_owned()));
            }
        }
        if let Some(domain) = self.opendsr.as_ref().map(|opendsr| &opendsr.domain)
            && (domain.is_empty() || domain.len() > 253 || !domain.bytes().all(is_of_domain))
        {
            return Err(("opendsr.domain", format!("is `{domain}`; give a domain such as dsr.example.com")));
        }
        Ok(())
    }
}

fn is_of_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FollowSettings;

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        type Case = (fn(&mut ServerSettings), &'static str, &'static str);
        let refused = |change: fn(&mut ServerSettings)| {
            let mut settings = ServerSettings::default();
            change(&mut settings);
            settings.check().unwrap_err()
        };
        let cases: [Case; 8] = [
            (|settings| settings.batch_records = 0, "batch_records", "is 0; it takes 1 to 4096"),
            (|settings| settings.queue_records = 63, "queue_records", "it takes 64 to"),
            (|settings| settings.read_seconds = f64::NAN, "read_seconds", "is NaN"),
            (|settings| settings.deadline_ms = 0, "deadline_ms", "is 0"),
            (|settings| settings.stop_delay_seconds = -1.0, "stop_delay_seconds", "is -1"),
            (|settings| settings.lease_seconds = 0.1, "lease_seconds", "0.5 to 3600, or 0"),
            (
                |settings| settings.follow = Some(FollowSettings::of("https://me:word@leader")),
                "follow.leader",
                "without name, password",
            ),
            (
                |settings| {
                    settings.follow = Some(FollowSettings::of("https://leader:3000"));
                    settings.private_address = Some("127.0.0.1:0".into());
                },
                "private_address",
                "a follower has answers only",
            ),
        ];
        for (change, key, problem) in cases {
            let (found, message) = refused(change);
            assert_eq!(found, key);
            assert!(message.contains(problem), "{message}");
        }
        ServerSettings::default().check().unwrap();
    }
}
