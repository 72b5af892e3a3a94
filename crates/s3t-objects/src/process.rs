//! The process of a launch, so that another process of its machine can tell whether it has ended.

use serde::{Deserialize, Serialize};

/// A process, as its machine knows it. Every field is empty where the system does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// A random name of the machine's start.
    boot: String,
    /// The namespace of its number: containers have their own.
    namespace: String,
    number: u32,
    /// The moment of its start, in the machine's own units.
    started: String,
}

impl Process {
    pub(crate) fn this() -> Self {
        let number = std::process::id();
        Self { number, started: started(number), ..Self::place() }
    }

    fn place() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default().to_string_lossy().into_owned();
        Self { boot, namespace, ..Self::default() }
    }

    /// Returns whether the process has ended; `None` if it is not of this machine, or the system does not tell.
    pub(crate) fn has_ended(&self) -> Option<bool> {
        let here = Self::place();
        let is_here = !here.boot.is_empty() && self.boot == here.boot && self.namespace == here.namespace;
        (is_here && !self.started.is_empty()).then(|| started(self.number) != self.started)
    }
}

/// The twenty-second field of a process' state; empty if there is no such process.
fn started(number: u32) -> String {
    let state = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    let fields = state.rsplit_once(") ").map(|(_, rest)| rest);
    fields.and_then(|rest| rest.split(' ').nth(19)).unwrap_or_default().to_owned()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_of_this_machine_is_known_by_number_and_start() {
        let this = Process::this();
        assert_eq!(this.has_ended(), Some(false));
        assert_eq!(Process { started: "1".into(), ..this.clone() }.has_ended(), Some(true));
        assert_eq!(Process { boot: "another".into(), ..this }.has_ended(), None);
    }
}
