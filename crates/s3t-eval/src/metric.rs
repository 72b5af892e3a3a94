//! Scores of answers. Every score is 1 at best.

use s3t_core::aggregate::argmax;
use s3t_core::{Target, Task};

/// The score of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// The share of records whose largest output is the right class.
    Accuracy,
    /// Of multi-label classification: the harmonic mean of precision and recall over all pairs of a record and a class; a
    /// class is answered if its output is above 0.
    MicroF1,
    /// Of regression: the correlation of answers and targets (Pearson), as for STS-B in GLUE; 0 if either does not vary.
    Correlation,
    /// Of causal language modelling: the share of the learnt tokens that are predicted from those before.
    TokenAccuracy,
}

impl Metric {
    /// The score of a task.
    pub fn of(task: Task) -> Self {
        match task {
            Task::Classification { .. } => Self::Accuracy,
            Task::MultiLabel { .. } => Self::MicroF1,
            Task::Regression => Self::Correlation,
            Task::CausalLm => Self::TokenAccuracy,
        }
    }

    /// The name as people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::MicroF1 => "micro F1",
            Self::Correlation => "correlation",
            Self::TokenAccuracy => "token accuracy",
        }
    }

    /// A score as people read it: `79.3 %`, and a correlation as the number it is.
    pub fn show(self, score: f64) -> String {
        match self {
            Self::Correlation => format!("{score:.3}"),
            Self::Accuracy | Self::MicroF1 | Self::TokenAccuracy => format!("{:.1} %", 100.0 * score),
        }
    }

    /// The score of outputs on targets, record by record. (Token accuracy is counted by
    /// [`System::responses`](s3t_engine::System::responses), which has no outputs of a head.)
    pub fn score<'a>(self, answers: impl Iterator<Item = (&'a [f32], &'a Target)>) -> f64 {
        match self {
            Self::Accuracy | Self::TokenAccuracy => {
                let (mut right, mut all) = (0_u64, 0_u64);
                for (outputs, target) in answers {
                    right += u64::from(target.class().is_some_and(|class| argmax(outputs) == class as usize));
                    all += 1;
                }
                right as f64 / all.max(1) as f64
            }
            Self::MicroF1 => micro_f1(answers),
            Self::Correlation => correlation(answers),
        }
    }
}

fn micro_f1<'a>(answers: impl Iterator<Item = (&'a [f32], &'a Target)>) -> f64 {
    let (mut both, mut either) = (0_u64, 0_u64);
    for (outputs, target) in answers {
        let Target::Classes(right) = target else { continue };
        for (class, output) in (0..).zip(outputs) {
            let (answered, is) = (*output > 0.0, right.contains(&class));
            both += u64::from(answered && is);
            either += u64::from(answered) + u64::from(is);
        }
    }
    if either == 0 { 1.0 } else { 2.0 * both as f64 / either as f64 }
}

fn correlation<'a>(answers: impl Iterator<Item = (&'a [f32], &'a Target)>) -> f64 {
    let value = |target: &Target| if let Target::Value(value) = target { Some(f64::from(*value)) } else { None };
    let pairs: Vec<(f64, f64)> =
        answers.filter_map(|(outputs, target)| Some((f64::from(*outputs.first()?), value(target)?))).collect();
    let count = pairs.len().max(1) as f64;
    let mean_x = pairs.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = pairs.iter().map(|(_, y)| y).sum::<f64>() / count;
    let sum = |of: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
    let (xx, yy, xy) = (sum(&|x, _| x * x), sum(&|_, y| y * y), sum(&|x, y| x * y));
    if xx == 0.0 || yy == 0.0 { 0.0 } else { xy / (xx * yy).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_by_hand() {
        let outputs: [&[f32]; 3] = [&[1.0, 2.0], &[3.0, -1.0], &[-1.0, -2.0]];
        let score = |metric: Metric, targets: [Target; 3]| metric.score(outputs.into_iter().zip(&targets));
        let classes = [Target::Class(1), Target::Class(1), Target::Class(0)];
        assert!((score(Metric::Accuracy, classes) - 2.0 / 3.0).abs() < 1e-12);
        // Answered: {0, 1}, {0}, {}; right: {1}, {0}, {1}; two in both, three answered, three right.
        let sets = [Target::Classes(vec![1]), Target::Classes(vec![0]), Target::Classes(vec![1])];
        assert!((score(Metric::MicroF1, sets) - 4.0 / 6.0).abs() < 1e-12);
        // Of (1, 2), (3, 6), (-1, -2): a line.
        let values = [Target::Value(2.0), Target::Value(6.0), Target::Value(-2.0)];
        assert!((score(Metric::Correlation, values) - 1.0).abs() < 1e-12);
        let constant = [Target::Value(2.0), Target::Value(2.0), Target::Value(2.0)];
        assert_eq!(score(Metric::Correlation, constant), 0.0);
    }
}
