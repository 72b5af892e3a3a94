use std::collections::HashMap;
use std::path::Path;

use s3t_core::limits::shown;
use s3t_core::{Limits, SubjectId};

use crate::DataError;
use crate::rows::each_csv;

/// How likely each subject is to ask for deletion: a CSV file with the columns `subject` and `probability` (0 to 1).
///
/// # Errors
///
/// [`DataError`] naming the file and line: for a missing column, a subject that occurs twice, a value that is no
/// probability.
pub fn read_probabilities(path: &Path, limits: &Limits) -> Result<Vec<(SubjectId, f64)>, DataError> {
    let mut lines: HashMap<SubjectId, u64> = HashMap::new();
    let mut found = Vec::new();
    each_csv(path, limits, &mut |row| {
        let read = || -> Result<(SubjectId, f64), String> {
            let subject = SubjectId::new(row.text("subject")?).map_err(|error| error.to_string())?;
            let text = row.text("probability")?.trim();
            let probability = text.parse::<f64>().ok().filter(|value| (0.0..=1.0).contains(value));
            let probability =
                probability.ok_or_else(|| format!("`{}` is not a probability; give 0 to 1", shown(text)))?;
            Ok((subject, probability))
        };
        let (subject, probability) = read().map_err(|problem| DataError::line(path, row.line, problem))?;
        if let Some(first) = lines.insert(subject.clone(), row.line) {
            let problem = format!("subject `{subject}` has a probability in line {first} already");
            return Err(DataError::line(path, row.line, problem));
        }
        found.push((subject, probability));
        Ok(())
    })?;
    Ok(found)
}
