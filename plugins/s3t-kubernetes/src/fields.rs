//! Checking the fields.

use s3t_cluster::fields::{check_call_seconds, check_cpus, check_memory};
use s3t_cluster::s3t_executor::ExecutorError;

use crate::options::{Kubernetes, Volume};

/// The min time that a Job that has ended stays, so that its end is seen.
const MIN_TTL: u32 = 120;

pub(crate) fn check(job: &Kubernetes) -> Result<(), ExecutorError> {
    let refuse = |field, problem: String| Err(ExecutorError::InvalidField { field, problem });
    if !is_word(&job.image) || job.image.starts_with('-') {
        let problem =
            format!("is `{}`; give an image that has the program, such as `registry.example/s3t:0.1`", job.image);
        return refuse("image", problem);
    }
    if job.program.is_empty() || job.program.contains(['\0', '\n']) {
        return refuse("program", format!("is {:?}; give the path of `s3t` in the image", job.program));
    }
    if job.manifest.file_name().is_none() {
        return refuse("manifest", format!("is `{}`; give the path of a file to write", job.manifest.display()));
    }
    if job.context.as_ref().is_some_and(|context| context.is_empty() || context.contains('\0')) {
        return refuse("context", "is no name of a context of `kubectl`; see `kubectl config get-contexts`".into());
    }
    check_cpus(job.cpus)?;
    if job.gpus > 64 {
        return refuse("gpus", format!("is {}; it takes 0 to 64", job.gpus));
    }
    check_memory(job.mem.as_deref())?;
    let names = [("namespace", &job.namespace), ("service_account", &job.service_account)];
    for (field, name) in names.into_iter().filter_map(|(field, name)| Some((field, name.as_ref()?))) {
        if !is_name(name) {
            return refuse(field, format!("is `{name}`; give lower-case letters, digits and hyphens"));
        }
    }
    if let Some(name) = job.pull_secrets.iter().find(|name| !is_name(name)) {
        return refuse("pull_secrets", format!("has `{name}`; give names of Secrets"));
    }
    if let Some((label, value)) = job.node_selector.iter().find(|(label, value)| !is_word(label) || value.contains(' '))
    {
        let problem = format!("has `{label} = {value}`; give labels of nodes, see `kubectl get nodes --show-labels`");
        return refuse("node_selector", problem);
    }
    for volume in &job.volumes {
        if let Err(problem) = check_volume(volume) {
            return refuse("volumes", problem);
        }
    }
    if job.ttl_seconds < MIN_TTL {
        return refuse("ttl_seconds", format!("is {}; it takes {MIN_TTL} or more", job.ttl_seconds));
    }
    check_call_seconds(job.call_seconds)
}

fn check_volume(volume: &Volume) -> Result<(), String> {
    let Volume { claim, folder, path } = volume;
    if !path.starts_with('/') || path.contains(':') {
        return Err(format!("has the path `{path}`; give an absolute path of the container"));
    }
    match (claim, folder) {
        (Some(claim), None) if is_name(claim) => Ok(()),
        (None, Some(folder)) if folder.starts_with('/') => Ok(()),
        _ => {
            Err(format!("has no source for `{path}`; give the name of a `claim`, or an absolute `folder` of the nodes"))
        }
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_ascii_graphic())
}

/// The name of an object.
fn is_name(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    name.starts_with(is_letter)
        && name.ends_with(is_letter)
        && name.chars().all(|letter| is_letter(letter) || "-.".contains(letter))
}

#[cfg(test)]
mod tests {
    use s3t_cluster::s3t_executor::Executor as _;

    use super::*;

    #[test]
    fn impossible_fields_are_refused_by_name() {
        let default = || Kubernetes { image: "registry.example/s3t:0.1".into(), ..Kubernetes::default() };
        let text = |text: &str| Some(text.to_owned());
        let volumes = |claim: Option<&str>, folder: Option<&str>, path: &str| {
            vec![Volume { claim: claim.map(str::to_owned), folder: folder.map(str::to_owned), path: path.to_owned() }]
        };
        default().check().unwrap();
        let good = Kubernetes {
            apply: true,
            context: text("kind-s3t"),
            namespace: text("training"),
            mem: text("16G"),
            node_selector: [("kubernetes.io/arch".to_owned(), "amd64".to_owned())].into(),
            volumes: volumes(Some("models"), None, "/models"),
            ..default()
        };
        good.check().unwrap();
        Kubernetes { volumes: volumes(None, Some("/srv"), "/models"), ..default() }.check().unwrap();
        for (spoilt, field) in [
            (Kubernetes::default(), "image"),
            (Kubernetes { image: "a b".into(), ..default() }, "image"),
            (Kubernetes { workers: 0, ..default() }, "workers"),
            (Kubernetes { program: String::new(), ..default() }, "program"),
            (Kubernetes { manifest: "".into(), ..default() }, "manifest"),
            (Kubernetes { context: text(""), ..default() }, "context"),
            (Kubernetes { cpus: 0, ..default() }, "cpus"),
            (Kubernetes { gpus: 65, ..default() }, "gpus"),
            (Kubernetes { mem: text("16GB"), ..default() }, "mem"),
            (Kubernetes { namespace: text("Mine"), ..default() }, "namespace"),
            (Kubernetes { service_account: text("-a"), ..default() }, "service_account"),
            (Kubernetes { pull_secrets: vec!["a b".into()], ..default() }, "pull_secrets"),
            (Kubernetes { node_selector: [(String::new(), "x".to_owned())].into(), ..default() }, "node_selector"),
            (Kubernetes { volumes: volumes(None, None, "/models"), ..default() }, "volumes"),
            (Kubernetes { volumes: volumes(Some("a"), Some("/b"), "/models"), ..default() }, "volumes"),
            (Kubernetes { volumes: volumes(Some("a"), None, "models"), ..default() }, "volumes"),
            (Kubernetes { ttl_seconds: 0, ..default() }, "ttl_seconds"),
            (Kubernetes { call_seconds: 0.0, ..default() }, "call_seconds"),
        ] {
            let message = spoilt.check().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{field}` ")), "{message}");
        }
    }
}
