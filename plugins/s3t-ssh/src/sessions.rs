//! The sessions of a launch.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use s3t_cluster::{Call, ClusterError, INVITATION, Launcher, Task, quoted, worker_command, worker_program};

use crate::hosts::Hosts;
use crate::options::Ssh;
use crate::session::Running;

/// The max number of sessions that have ended of which something is kept.
const MAX_ENDED: usize = 1000;

/// The sessions of a launch.
#[derive(Debug)]
pub(crate) struct Sessions {
    ssh: Ssh,
    program: PathBuf,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    hosts: Hosts,
    /// The number of sessions that were started.
    started: u64,
    sessions: Vec<Running>,
}

impl Sessions {
    pub(crate) fn new(ssh: &Ssh) -> Result<Self, ClusterError> {
        let rest = Duration::from_secs_f64(ssh.look_seconds);
        let hosts = Hosts::new(ssh.hosts.len(), ssh.workers_per_host, rest);
        Ok(Self {
            ssh: ssh.clone(),
            program: worker_program(ssh.program.as_deref())?,
            start: Instant::now(),
            state: Mutex::new(State { hosts, started: 0, sessions: Vec::new() }),
        })
    }

    /// The state after a look at all sessions.
    fn look(&self) -> MutexGuard<'_, State> {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { hosts, sessions, .. } = &mut *guard;
        for session in sessions.iter_mut() {
            if session.ends_now() {
                hosts.give_back(session.host, session.has_failed(), self.start.elapsed());
            }
        }
        let surplus = sessions.iter().filter(|session| session.has_ended()).count().saturating_sub(MAX_ENDED);
        let mut left = surplus;
        sessions.retain(|session| {
            let is_dropped = left > 0 && session.has_ended();
            left -= usize::from(is_dropped);
            !is_dropped
        });
        guard
    }

    /// The arguments of `ssh`. Of an option that is given twice `ssh` takes the first.
    fn arguments(&self, host: &str, name: &str, address: &str) -> Vec<String> {
        let ssh = &self.ssh;
        let mut arguments = vec!["-T".to_owned(), "-oBatchMode=yes".to_owned()];
        arguments.push(format!("-oConnectTimeout={}", ssh.connect_seconds));
        arguments.extend(ssh.arguments.iter().cloned());
        arguments.extend(["-oServerAliveInterval=15", "-oServerAliveCountMax=4", "--"].map(str::to_owned));
        arguments.extend([host.to_owned(), format!("exec sh -c {}", quoted(&self.script(name, address)))]);
        arguments
    }

    /// The script of a worker. The invitation is the first line of its standard input.
    fn script(&self, name: &str, address: &str) -> String {
        let setup: String = self.ssh.setup.iter().map(|line| format!("{line}\n")).collect();
        let cores = (self.ssh.cpus > 0).then_some(self.ssh.cpus);
        let worker = worker_command(&self.program, address, cores);
        format!(
            "IFS= read -r {INVITATION} || exit\nexport {INVITATION}\n{setup}{worker} --task {} < /dev/null",
            quoted(name)
        )
    }
}

impl Launcher for Sessions {
    fn engine(&self) -> &'static str {
        "ssh"
    }

    fn submit(&self, _number: u64, workers: usize, launch: &Call) -> Result<usize, ClusterError> {
        let secret = launch.invitation.text();
        let mut state = self.look();
        for taken in 0..workers {
            let Some(number) = state.hosts.take(self.start.elapsed()) else {
                let problem = "every machine has its workers, or rests because workers failed there".to_owned();
                let refusal = ClusterError::Engine { engine: "ssh".into(), command: "ssh".into(), problem };
                return if taken > 0 { Ok(taken) } else { Err(refusal) };
            };
            let host = &self.ssh.hosts[number];
            state.started += 1;
            let name = format!("{host}/{}", state.started);
            let arguments = self.arguments(host, &name, &launch.address);
            match Running::start(name, number, &arguments, &secret) {
                Ok(session) => state.sessions.push(session),
                Err(error) => {
                    state.hosts.give_back(number, true, self.start.elapsed());
                    return if taken > 0 { Ok(taken) } else { Err(error) };
                }
            }
        }
        Ok(workers)
    }

    fn tasks(&self) -> Result<Vec<Task>, ClusterError> {
        let state = self.look();
        let task = |session: &Running| Task { name: session.name.clone(), state: session.state() };
        Ok(state.sessions.iter().map(task).collect())
    }

    fn cancel(&self) -> Result<(), ClusterError> {
        self.look().sessions.iter_mut().for_each(Running::end);
        Ok(())
    }

    fn log(&self, task: &str) -> Option<String> {
        self.look().sessions.iter().find(|session| session.name == task)?.log()
    }
}

impl Drop for Sessions {
    fn drop(&mut self) {
        let _ = self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_hold_every_field_and_no_secret() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let ssh = Ssh {
            hosts: words(&["me@node7"]),
            arguments: words(&["-p", "2222"]),
            setup: words(&["module load 'cuda'"]),
            program: Some("/opt/s3t".into()),
            cpus: 4,
            ..Ssh::default()
        };
        let sessions = Sessions::new(&ssh).unwrap();
        let script = "IFS= read -r S3T_INVITATION || exit\nexport S3T_INVITATION\nmodule load 'cuda'\nexec '/opt/s3t' worker --connect \
                      'login1:7343' --cores 4 --task 'me@node7/1' < /dev/null";
        assert_eq!(sessions.script("me@node7/1", "login1:7343"), script);
        let command = format!("exec sh -c {}", quoted(script));
        let expected = [
            "-T",
            "-oBatchMode=yes",
            "-oConnectTimeout=15",
            "-p",
            "2222",
            "-oServerAliveInterval=15",
            "-oServerAliveCountMax=4",
            "--",
            "me@node7",
            &command,
        ];
        assert_eq!(sessions.arguments("me@node7", "me@node7/1", "login1:7343"), expected);
    }
}
