use std::path::Path;

use s3t_core::limits::shown;
use s3t_core::spelling::{Spellings, Visible};
use s3t_core::{Limits, SubjectId};

use crate::DataError;
use crate::rows::{at_line, each_csv};

/// The probability of each subject that it asks for deletion: a CSV file with the columns `subject` and `probability` (0 to 1).
///
/// # Errors
///
/// [`DataError`] naming the file and line: for a missing column, a subject that occurs twice or in two spellings, a value that is no
/// probability.
pub fn read_probabilities(path: &Path, limits: &Limits) -> Result<Vec<(SubjectId, f64)>, DataError> {
    let mut lines: Spellings<'static, u64> = Spellings::new("subject");
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
        let refuse = |problem| DataError::line(path, row.line, problem);
        let name = row.text("subject").map_err(refuse)?;
        if let Some(first) = lines.add(name.to_owned(), row.line).map_err(|clash| refuse(at_line(&clash)))? {
            let name = Visible(name);
            return Err(refuse(format!("subject `{name}` has a probability in line {first} already")));
        }
        found.push((subject, probability));
        Ok(())
    })?;
    Ok(found)
}
