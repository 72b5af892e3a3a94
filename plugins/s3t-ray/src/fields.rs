//! Checking the fields.

use s3t_cluster::fields::{check_call_seconds, check_cpus, check_memory, check_program, check_setup};
use s3t_cluster::s3t_executor::ExecutorError;

use crate::options::Ray;

pub(crate) fn check(ray: &Ray) -> Result<(), ExecutorError> {
    let refuse = |field, problem: String| Err(ExecutorError::InvalidField { field, problem });
    let host = ["http://", "https://"].iter().find_map(|scheme| ray.address.strip_prefix(scheme));
    let is_address = |host: &str| {
        let host = host.strip_suffix('/').unwrap_or(host);
        !host.is_empty() && host.chars().all(|letter| letter.is_ascii_graphic() && !"?#@\"\\".contains(letter))
    };
    if !host.is_some_and(is_address) {
        let problem = format!("is `{}`; give the address of Ray's dashboard, such as http://head1:8265", ray.address);
        return refuse("address", problem);
    }
    if ray.token.as_ref().is_some_and(|token| token.file_name().is_none()) {
        return refuse("token", "is no path of a file; give the file with Ray's token, or leave it out".into());
    }
    check_cpus(ray.cpus)?;
    if !(0.0..=4096.0).contains(&ray.gpus) {
        return refuse("gpus", format!("is {}; it takes 0 to 4096", ray.gpus));
    }
    check_memory(ray.mem.as_deref())?;
    for (name, amount) in &ray.resources {
        if ["CPU", "GPU", "memory", "object_store_memory", ""].contains(&name.as_str()) {
            let problem = format!("has `{name}`; give cores as `cpus`, graphics cards as `gpus` and memory as `mem`");
            return refuse("resources", problem);
        }
        if !(amount.is_finite() && *amount > 0.0) {
            return refuse("resources", format!("has {amount} of `{name}`; give more than 0, or leave it out"));
        }
    }
    check_setup(&ray.setup)?;
    if ray.invitation.file_name().is_none() || ray.invitation.to_str().is_none_or(|path| path.contains(['\n', '\0'])) {
        return refuse("invitation", format!("is `{}`; give the path of a file to write", ray.invitation.display()));
    }
    check_program(ray.program.as_deref())?;
    check_call_seconds(ray.call_seconds)
}

#[cfg(test)]
mod tests {
    use s3t_cluster::s3t_executor::Executor as _;

    use super::*;

    #[test]
    fn impossible_fields_are_refused_by_name() {
        let default = Ray::default;
        default().check().unwrap();
        let resources = |name: &str, amount| [(name.to_owned(), amount)].into();
        let good = Ray {
            workers: 4,
            address: "https://ray.example/cluster/7/".into(),
            token: Some("/home/me/.ray/auth_token".into()),
            gpus: 0.5,
            mem: Some("16G".into()),
            resources: resources("avx512", 1.0),
            setup: vec!["module load cuda".into()],
            ..default()
        };
        good.check().unwrap();
        for (spoilt, field) in [
            (Ray { workers: 0, ..default() }, "workers"),
            (Ray { address: "head1:8265".into(), ..default() }, "address"),
            (Ray { address: "http://".into(), ..default() }, "address"),
            (Ray { address: "http://user@head1".into(), ..default() }, "address"),
            (Ray { address: "http://head1/ ".into(), ..default() }, "address"),
            (Ray { token: Some("".into()), ..default() }, "token"),
            (Ray { cpus: 0, ..default() }, "cpus"),
            (Ray { gpus: -1.0, ..default() }, "gpus"),
            (Ray { gpus: f64::NAN, ..default() }, "gpus"),
            (Ray { mem: Some("much".into()), ..default() }, "mem"),
            (Ray { resources: resources("GPU", 1.0), ..default() }, "resources"),
            (Ray { resources: resources("avx512", 0.0), ..default() }, "resources"),
            (Ray { setup: vec!["one\ntwo".into()], ..default() }, "setup"),
            (Ray { invitation: "".into(), ..default() }, "invitation"),
            (Ray { program: Some("".into()), ..default() }, "program"),
            (Ray { call_seconds: 0.0, ..default() }, "call_seconds"),
            (Ray { look_seconds: 0.0, ..default() }, "look_seconds"),
        ] {
            let message = spoilt.check().unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{field}` ")), "{message}");
        }
    }
}
