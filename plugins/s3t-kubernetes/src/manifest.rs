//! The manifest of a launch: a Secret with the invitation, and a Job of workers.

use s3t_cluster::fields::bytes_of_memory;
use s3t_cluster::{Call, ClusterError, INVITATION, run_name};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::options::Kubernetes;

/// The label of all objects of a launch.
pub(crate) const RUN: &str = "s3t-run";

/// The label of all objects of a submission: the name of its Job.
pub(crate) const JOB: &str = "s3t-job";

/// The beginning of a manifest's file. It is YAML, of which JSON is a part.
pub(crate) const BEGINNING: &str = "# The workers of a training by S3T";

/// The exit code of a worker that is refused whatever is tried again, such as one of another version.
const REFUSED: u8 = 2;

/// A name for a launch that Kubernetes takes as a label and, with a number, as the name of a Job.
pub(crate) fn name(store: &str) -> Result<String, ClusterError> {
    Ok(run_name(store)?.to_ascii_lowercase())
}

/// The text of the manifest's file.
pub(crate) fn text(job: &Kubernetes, run: &str, number: u64, workers: usize, launch: &Call) -> Zeroizing<String> {
    let [secret, job] = objects(job, run, number, workers, launch);
    let text = |value: Value| Zeroizing::new(format!("{value:#}"));
    let comment = "It has a secret: whoever reads this file can join, while the training runs.";
    Zeroizing::new(format!("{BEGINNING}. {comment}\n---\n{}\n---\n{}\n", *text(secret), *text(job)))
}

/// The Secret and the Job.
pub(crate) fn objects(job: &Kubernetes, run: &str, number: u64, workers: usize, launch: &Call) -> [Value; 2] {
    let name = format!("{run}-{number}");
    let labels = json!({"app.kubernetes.io/name": "s3t", RUN: run, JOB: name});
    let mut metadata = json!({"name": name, "labels": labels});
    if let Some(namespace) = &job.namespace {
        metadata["namespace"] = namespace.as_str().into();
    }
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "stringData": {"invitation": *launch.invitation.text()},
    });
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "completionMode": "Indexed",
            "completions": workers,
            "parallelism": workers,
            "backoffLimit": workers.saturating_mul(job.restarts).min(1_000_000),
            "ttlSecondsAfterFinished": job.ttl_seconds.min(i32::MAX as u32),
            "podFailurePolicy": {"rules": [
                // A node was needed for others or is gone: that is no failure of the worker.
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                // Schemas before 1.28 ask for a list of conditions, which may be empty.
                {
                    "action": "FailJob",
                    "onExitCodes": {"containerName": "worker", "operator": "In", "values": [REFUSED]},
                    "onPodConditions": [],
                },
            ]},
            "template": {"metadata": {"labels": labels}, "spec": pod(job, &name, &launch.address)},
        },
    });
    [secret, job]
}

/// A worker that writes to no disk, and may do nothing but compute and connect.
fn pod(job: &Kubernetes, secret: &str, address: &str) -> Value {
    let mut amounts = Map::new();
    amounts.insert("cpu".into(), job.cpus.to_string().into());
    if let Some(bytes) = job.mem.as_deref().and_then(bytes_of_memory) {
        amounts.insert("memory".into(), bytes.to_string().into());
    }
    if job.gpus > 0 {
        amounts.insert("nvidia.com/gpu".into(), job.gpus.to_string().into());
    }
    let volume = |number: usize| format!("folder-{number}");
    let mounts = job.volumes.iter().enumerate();
    let mounts = mounts.map(|(number, of)| json!({"name": volume(number), "mountPath": of.path, "readOnly": true}));
    let sources = job.volumes.iter().enumerate().map(|(number, of)| match &of.claim {
        Some(claim) => json!({"name": volume(number), "persistentVolumeClaim": {"claimName": claim, "readOnly": true}}),
        None => json!({"name": volume(number), "hostPath": {"path": of.folder.clone().unwrap_or_default()}}),
    });
    let worker = json!({
        "name": "worker",
        "image": job.image,
        "command": [job.program],
        "args": ["worker", "--connect", address, "--cores", job.cpus.to_string(), "--task", "$(S3T_TASK)"],
        "env": [
            {"name": "S3T_TASK", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": INVITATION, "valueFrom": {"secretKeyRef": {"name": secret, "key": "invitation"}}},
        ],
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts.collect::<Vec<_>>(),
    });
    let mut pod = json!({
        "restartPolicy": "Never",
        // A worker holds nothing that is worth a word.
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "containers": [worker],
        "volumes": sources.collect::<Vec<_>>(),
    });
    if !job.node_selector.is_empty() {
        pod["nodeSelector"] = json!(job.node_selector);
    }
    if let Some(account) = &job.service_account {
        pod["serviceAccountName"] = account.as_str().into();
    }
    if !job.pull_secrets.is_empty() {
        let secrets = job.pull_secrets.iter().map(|name| json!({"name": name}));
        pod["imagePullSecrets"] = secrets.collect();
    }
    pod
}

#[cfg(test)]
mod tests {
    use boon::{Compiler, SchemaIndex, Schemas};

    use super::*;
    use crate::options::Volume;

    /// Of the oldest version that has everything that is asked for, and of a late one.
    const VERSIONS: [(&str, &str); 2] = [
        ("1.27", include_str!("../tests/schemas/kubernetes-1.27.0.json")),
        ("1.37", include_str!("../tests/schemas/kubernetes-1.37.0.json")),
    ];

    fn schema(schemas: &mut Schemas, text: &str, definition: &str) -> SchemaIndex {
        let mut compiler = Compiler::new();
        compiler.add_resource("schema.json", serde_json::from_str(text).unwrap()).unwrap();
        compiler.compile(&format!("schema.json#/definitions/{definition}"), schemas).unwrap()
    }

    fn launch() -> Call {
        let invitation = format!("s3t-invitation-1.{0}A.{0}A", "A".repeat(42));
        Call { address: "login1:7343".into(), invitation: invitation.parse().unwrap() }
    }

    fn full() -> Kubernetes {
        let volume = |claim: Option<&str>, folder: Option<&str>, path: &str| Volume {
            claim: claim.map(str::to_owned),
            folder: folder.map(str::to_owned),
            path: path.to_owned(),
        };
        Kubernetes {
            image: "registry.example/s3t:0.1".into(),
            namespace: Some("training".into()),
            cpus: 4,
            gpus: 1,
            mem: Some("16G".into()),
            node_selector: [("kubernetes.io/arch".to_owned(), "amd64".to_owned())].into(),
            service_account: Some("workers".into()),
            pull_secrets: vec!["registry".into()],
            volumes: vec![volume(Some("models"), None, "/models"), volume(None, Some("/srv/data"), "/data")],
            ..Kubernetes::default()
        }
    }

    #[test]
    fn the_manifest_is_valid_by_the_published_schemas_which_refuse_others() {
        let least = Kubernetes { image: "s3t".into(), ..Kubernetes::default() };
        for (version, text) in VERSIONS {
            let mut schemas = Schemas::new();
            let job_schema = schema(&mut schemas, text, "io.k8s.api.batch.v1.Job");
            let secret_schema = schema(&mut schemas, text, "io.k8s.api.core.v1.Secret");
            for options in [&full(), &least] {
                let [secret, job] = objects(options, "s3t-store-1234", 3, 8, &launch());
                let valid =
                    |value: &Value, schema| schemas.validate(value, schema).map_err(|error| format!("{error:#}"));
                assert_eq!(valid(&secret, secret_schema), Ok(()), "{version}");
                assert_eq!(valid(&job, job_schema), Ok(()), "{version}");
                // Spoilt in every part, the schema says so.
                for (place, value) in [
                    ("/spec/completions", json!("8")),
                    ("/spec/podFailurePolicy/rules/0", json!({"onPodConditions": []})),
                    ("/spec/template/spec/containers/0/env/0", json!({"nam": "S3T_TASK"})),
                    ("/spec/template/spec/containers/0/securityContext", json!({"readOnlyRootFileSystem": true})),
                    ("/spec/template/spec/containers/0/resources", json!({"request": {}})),
                    ("/spec/template/spec", json!({"restartPolicy": "Never"})),
                    ("/apiVersion", json!("v1")),
                ] {
                    let mut spoilt = job.clone();
                    *spoilt.pointer_mut(place).unwrap() = value;
                    assert!(valid(&spoilt, job_schema).is_err(), "{version}: {place} is not checked");
                }
            }
        }
    }

    #[test]
    fn the_manifest_has_every_field_and_its_secret_in_one_place() {
        let [secret, job] = objects(&full(), "s3t-store-1234", 3, 8, &launch());
        let invitation = launch().invitation.text();
        assert_eq!(secret["stringData"]["invitation"], **invitation);
        assert!(!job.to_string().contains(&**invitation));
        for (place, expected) in [
            ("/metadata/name", json!("s3t-store-1234-3")),
            ("/metadata/namespace", json!("training")),
            ("/metadata/labels/s3t-run", json!("s3t-store-1234")),
            ("/spec/completions", json!(8)),
            ("/spec/parallelism", json!(8)),
            ("/spec/backoffLimit", json!(24)),
            ("/spec/template/metadata/labels/s3t-job", json!("s3t-store-1234-3")),
            ("/spec/template/spec/restartPolicy", json!("Never")),
            ("/spec/template/spec/nodeSelector", json!({"kubernetes.io/arch": "amd64"})),
            ("/spec/template/spec/serviceAccountName", json!("workers")),
            ("/spec/template/spec/imagePullSecrets", json!([{"name": "registry"}])),
            ("/spec/template/spec/containers/0/command", json!(["s3t"])),
            (
                "/spec/template/spec/containers/0/args",
                json!(["worker", "--connect", "login1:7343", "--cores", "4", "--task", "$(S3T_TASK)"]),
            ),
            (
                "/spec/template/spec/containers/0/resources/limits",
                json!({"cpu": "4", "memory": (16_u64 << 30).to_string(), "nvidia.com/gpu": "1"}),
            ),
            (
                "/spec/template/spec/volumes",
                json!([
                    {"name": "folder-0", "persistentVolumeClaim": {"claimName": "models", "readOnly": true}},
                    {"name": "folder-1", "hostPath": {"path": "/srv/data"}},
                ]),
            ),
        ] {
            assert_eq!(job.pointer(place), Some(&expected), "{place}");
        }
    }
}
