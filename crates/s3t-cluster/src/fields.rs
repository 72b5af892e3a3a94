//! Checks of fields that several engines have.

use std::path::Path;

use s3t_executor::ExecutorError;

fn refuse(field: &'static str, problem: String) -> Result<(), ExecutorError> {
    Err(ExecutorError::InvalidField { field, problem })
}

/// The cores of a worker.
///
/// # Errors
///
/// [`ExecutorError::InvalidField`], as of every function here.
pub fn check_cpus(cpus: usize) -> Result<(), ExecutorError> {
    if (1..=4096).contains(&cpus) { Ok(()) } else { refuse("cpus", format!("is {cpus}; it takes 1 to 4096")) }
}

/// The memory of a worker: megabytes, or a number with K, M, G or T.
///
/// # Errors
///
/// [`ExecutorError::InvalidField`].
pub fn check_memory(memory: Option<&str>) -> Result<(), ExecutorError> {
    match memory {
        Some(memory) if bytes_of_memory(memory).is_none() => {
            let form = "give a number of megabytes, or one with K, M, G or T, such as `16G`";
            refuse("mem", format!("is `{memory}`; {form}"))
        }
        _ => Ok(()),
    }
}

/// The bytes of `16G` and the like.
///
/// ```
/// assert_eq!(s3t_cluster::fields::bytes_of_memory("16G"), Some(16 << 30));
/// assert_eq!(s3t_cluster::fields::bytes_of_memory("100"), Some(100 << 20));
/// assert_eq!(s3t_cluster::fields::bytes_of_memory("16GB"), None);
/// ```
pub fn bytes_of_memory(text: &str) -> Option<u64> {
    let (number, shift) = match text.strip_suffix(['K', 'M', 'G', 'T']) {
        Some(number) => (
            number,
            [('K', 10), ('M', 20), ('G', 30), ('T', 40)].into_iter().find(|(unit, _)| text.ends_with(*unit))?.1,
        ),
        None => (text, 20),
    };
    let is_number = (1..=9).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { number.parse::<u64>().ok()?.checked_mul(1 << shift) } else { None }
}

/// Lines of a shell before the worker.
///
/// # Errors
///
/// [`ExecutorError::InvalidField`].
pub fn check_setup(setup: &[String]) -> Result<(), ExecutorError> {
    match setup.iter().find(|line| line.contains(['\n', '\r', '\0'])) {
        Some(line) => refuse("setup", format!("has the line {line:?}; give one command a line")),
        None => Ok(()),
    }
}

/// The program of the workers on their machines.
///
/// # Errors
///
/// [`ExecutorError::InvalidField`].
pub fn check_program(program: Option<&Path>) -> Result<(), ExecutorError> {
    let is_path = |text: &str| !text.is_empty() && !text.contains(['\n', '\0']);
    match program {
        Some(program) if !program.to_str().is_some_and(is_path) => {
            refuse("program", format!("is `{}`; give the path of `s3t` on the machines", program.display()))
        }
        _ => Ok(()),
    }
}

/// The seconds that a call of an engine may take.
///
/// # Errors
///
/// [`ExecutorError::InvalidField`].
pub fn check_call_seconds(seconds: f64) -> Result<(), ExecutorError> {
    if (0.1..=3600.0).contains(&seconds) {
        Ok(())
    } else {
        refuse("call_seconds", format!("is {seconds}; it takes 0.1 to 3600"))
    }
}
