//! Checking the fields.

use s3t_cluster::fields::{check_call_seconds, check_cpus, check_memory, check_program};
use s3t_cluster::s3t_executor::ExecutorError;

use crate::options::Slurm;

/// Arguments of `sbatch` that this executor gives itself, or that would hide the workers or the invitation from it.
const OWN: [&str; 12] = [
    "--array",
    "--job-name",
    "--output",
    "--error",
    "--open-mode",
    "--parsable",
    "--wrap",
    "--wait",
    "--clusters",
    "--test-only",
    "--export",
    "--export-file",
];

/// The same as letters.
const OWN_LETTERS: [&str; 6] = ["-a", "-J", "-o", "-e", "-W", "-M"];

pub(crate) fn check(slurm: &Slurm) -> Result<(), ExecutorError> {
    let refuse = |field, problem: String| Err(ExecutorError::InvalidField { field, problem });
    if slurm.max_running > slurm.workers {
        let problem =
            format!("is {}, and there are {} workers; give less, or 0 for all", slurm.max_running, slurm.workers);
        return refuse("max_running", problem);
    }
    let words: [(&'static str, &Option<String>, &str); 6] = [
        ("partition", &slurm.partition, "the name of a partition"),
        ("account", &slurm.account, "the name of an account"),
        ("qos", &slurm.qos, "the name of a quality of service"),
        ("constraint", &slurm.constraint, "features, such as `avx512`"),
        ("time", &slurm.time, "minutes, or `hours:minutes:seconds`, or `days-hours`, such as `04:00:00`"),
        ("gres", &slurm.gres, "resources, such as `gpu:1`"),
    ];
    for (field, value, form) in words {
        let Some(value) = value else { continue };
        let is_word = !value.is_empty() && value.chars().all(|letter| letter.is_ascii_graphic());
        let is_good = if field == "time" { is_time(value) } else { is_word };
        if !is_good {
            return refuse(field, format!("is `{value}`; give {form}"));
        }
    }
    check_memory(slurm.mem.as_deref())?;
    check_cpus(slurm.cpus)?;
    for line in &slurm.setup {
        if line.contains(['\n', '\r', '\0']) || line.trim_start().starts_with("#SBATCH") {
            let problem =
                format!("has the line {line:?}; give one command a line, and options of sbatch as `arguments`");
            return refuse("setup", problem);
        }
    }
    if !slurm.shell.starts_with('/') || slurm.shell.contains(['\n', '\r', '\0']) {
        let problem =
            format!("is {:?}; give the path of a shell with its arguments, such as `/bin/bash -l`", slurm.shell);
        return refuse("shell", problem);
    }
    for argument in &slurm.arguments {
        let name = argument.split('=').next().unwrap_or_default();
        if OWN.contains(&name) || OWN_LETTERS.iter().any(|letter| name.starts_with(letter)) && !name.starts_with("--") {
            let problem = format!(
                "has `{argument}`, which this executor gives itself, or which would hide its workers from it; leave it out"
            );
            return refuse("arguments", problem);
        }
        if !argument.starts_with('-') {
            let problem = format!("has `{argument}`; write options with their values, as `--reservation=maintenance`");
            return refuse("arguments", problem);
        }
        if argument.contains(['\n', '\0']) {
            return refuse("arguments", format!("has {argument:?}; give one option each"));
        }
    }
    let Some(logs) = slurm.logs.to_str().filter(|logs| !logs.is_empty() && !logs.contains(['%', '\n', '\0'])) else {
        return refuse("logs", format!("is `{}`; give the path of a folder, without `%`", slurm.logs.display()));
    };
    if logs.len() > 2048 {
        return refuse("logs", "is too long; give a path of less than 2048 bytes".into());
    }
    check_program(slurm.program.as_deref())?;
    check_call_seconds(slurm.call_seconds)
}

fn is_time(text: &str) -> bool {
    let (days, rest) = text.split_once('-').map_or((None, text), |(days, rest)| (Some(days), rest));
    let parts: Vec<&str> = rest.split(':').collect();
    days.is_none_or(is_number) && parts.len() <= 3 && parts.into_iter().all(is_number)
}

fn is_number(text: &str) -> bool {
    (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use s3t_cluster::s3t_executor::Executor as _;

    use super::*;

    #[test]
    fn impossible_fields_are_refused_by_name() {
        let default = Slurm::default;
        let text = |text: &str| Some(text.to_owned());
        default().check().unwrap();
        let good = Slurm {
            workers: 4,
            max_running: 2,
            partition: text("gpu,long"),
            mem: text("16G"),
            time: text("1-12:00:00"),
            gres: text("gpu:a100:1"),
            constraint: text("avx512&ib"),
            setup: vec!["module load cuda".into()],
            arguments: vec!["--reservation=maintenance".into(), "-Ccold".into()],
            ..default()
        };
        good.check().unwrap();
        for (spoilt, field) in [
            (Slurm { workers: 0, ..default() }, "workers"),
            (Slurm { max_running: 2, ..default() }, "max_running"),
            (Slurm { partition: text(""), ..default() }, "partition"),
            (Slurm { account: text("a b"), ..default() }, "account"),
            (Slurm { qos: text("a\nb"), ..default() }, "qos"),
            (Slurm { constraint: text(" "), ..default() }, "constraint"),
            (Slurm { mem: text("much"), ..default() }, "mem"),
            (Slurm { mem: text("16GB"), ..default() }, "mem"),
            (Slurm { time: text("an hour"), ..default() }, "time"),
            (Slurm { time: text("1:2:3:4"), ..default() }, "time"),
            (Slurm { gres: text("gpu 1"), ..default() }, "gres"),
            (Slurm { cpus: 0, ..default() }, "cpus"),
            (Slurm { setup: vec!["#SBATCH --mem=1".into()], ..default() }, "setup"),
            (Slurm { setup: vec!["one\ntwo".into()], ..default() }, "setup"),
            (Slurm { shell: "bash".into(), ..default() }, "shell"),
            (Slurm { shell: "/bin/sh\nrm".into(), ..default() }, "shell"),
            (Slurm { arguments: vec!["--array=0-9".into()], ..default() }, "arguments"),
            (Slurm { arguments: vec!["-J".into()], ..default() }, "arguments"),
            (Slurm { arguments: vec!["--clusters=b".into()], ..default() }, "arguments"),
            (Slurm { arguments: vec!["-Mb".into()], ..default() }, "arguments"),
            (Slurm { arguments: vec!["--test-only".into()], ..default() }, "arguments"),
            (Slurm { arguments: vec!["--export=NONE".into()], ..default() }, "arguments"),
            (Slurm { arguments: vec!["rm".into()], ..default() }, "arguments"),
            (Slurm { logs: "a%b".into(), ..default() }, "logs"),
            (Slurm { logs: "".into(), ..default() }, "logs"),
            (Slurm { program: Some("".into()), ..default() }, "program"),
            (Slurm { call_seconds: 0.0, ..default() }, "call_seconds"),
            (Slurm { host: text("-; x"), ..default() }, "host"),
            (Slurm { lease_seconds: 1.0, ..default() }, "lease_seconds"),
        ] {
            let message = spoilt.check().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{field}` ")), "{message}");
        }
    }
}
