//! Checking the fields.

use std::collections::BTreeSet;

use s3t_cluster::fields::{check_cpus, check_program, check_setup};
use s3t_cluster::s3t_executor::ExecutorError;

use crate::options::Ssh;

pub(crate) fn check(ssh: &Ssh) -> Result<(), ExecutorError> {
    let refuse = |field, problem: String| Err(ExecutorError::InvalidField { field, problem });
    if ssh.hosts.is_empty() {
        return refuse("hosts", "is empty; give machines that `ssh` knows, such as [\"node7\", \"node8\"]".into());
    }
    let mut seen = BTreeSet::new();
    for host in &ssh.hosts {
        let is_host =
            !host.is_empty() && !host.starts_with('-') && host.chars().all(|letter| letter.is_ascii_graphic());
        if !is_host {
            return refuse("hosts", format!("has {host:?}; give the name of a machine, such as `you@node7`"));
        }
        if !seen.insert(host) {
            let problem = format!("has `{host}` twice; name each machine once, and give `workers_per_host`");
            return refuse("hosts", problem);
        }
    }
    if !(1..=1024).contains(&ssh.workers_per_host) {
        return refuse("workers_per_host", format!("is {}; it takes 1 to 1024", ssh.workers_per_host));
    }
    if ssh.workers > ssh.room() {
        let (workers, room) = (ssh.workers, ssh.room());
        let problem = format!(
            "is {workers}, and there is room for {room}; give less, more `hosts`, or a higher `workers_per_host`"
        );
        return refuse("workers", problem);
    }
    check_cpus(ssh.cpus.max(1))?;
    check_setup(&ssh.setup)?;
    if let Some(argument) = ssh.arguments.iter().find(|argument| argument.is_empty() || argument.contains(['\n', '\0']))
    {
        return refuse("arguments", format!("has {argument:?}; give one argument of `ssh` each"));
    }
    if !(1..=3600).contains(&ssh.connect_seconds) {
        return refuse("connect_seconds", format!("is {}; it takes 1 to 3600", ssh.connect_seconds));
    }
    check_program(ssh.program.as_deref())
}

#[cfg(test)]
mod tests {
    use s3t_cluster::s3t_executor::Executor as _;

    use super::*;

    #[test]
    fn impossible_fields_are_refused_by_name() {
        let hosts = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
        let default = || Ssh { hosts: hosts(&["node7", "me@node8"]), ..Ssh::default() };
        default().check().unwrap();
        let good = Ssh { workers_per_host: 4, workers: 7, arguments: hosts(&["-p", "2222"]), cpus: 2, ..default() };
        good.check().unwrap();
        for (spoilt, field) in [
            (Ssh::default(), "hosts"),
            (Ssh { hosts: hosts(&["node7", "node7"]), ..default() }, "hosts"),
            (Ssh { hosts: hosts(&["-oProxyCommand=x"]), ..default() }, "hosts"),
            (Ssh { hosts: hosts(&["node 7"]), ..default() }, "hosts"),
            (Ssh { workers_per_host: 0, ..default() }, "workers_per_host"),
            (Ssh { workers: 3, ..default() }, "workers"),
            (Ssh { cpus: 5000, ..default() }, "cpus"),
            (Ssh { setup: hosts(&["one\ntwo"]), ..default() }, "setup"),
            (Ssh { arguments: hosts(&["a\nb"]), ..default() }, "arguments"),
            (Ssh { connect_seconds: 0, ..default() }, "connect_seconds"),
            (Ssh { program: Some("".into()), ..default() }, "program"),
            (Ssh { lease_seconds: 1.0, ..default() }, "lease_seconds"),
        ] {
            let message = spoilt.check().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{field}` ")), "{message}");
        }
    }
}
