//! Scores of each attack, from signals of the system and of reference models.

use s3t_attack::AttackError;
use s3t_attack::language::{Shift, error_zone, loss_ratio, min_k};
use s3t_attack::lira::{Deviation, Shadows, offline, online};
use s3t_attack::report::Attack;
use s3t_attack::rmia::{self, Confidences, Marginal, choose_a};
use s3t_attack::roc::Scores;

use super::references::{ReferenceSet, Role};
use super::signals::Signals;

/// The factor of domination of RMIA, as in its paper.
const GAMMA: f64 = 2.0;

/// The slope of RMIA's offline estimate where no reference can be attacked in the target's place.
const DEFAULT_A: f64 = 0.3;

/// The weight of the pooled variance beside an example's own, in degrees of freedom.
const PRIOR: f64 = 4.0;

/// The share of tokens of Min-K%, as in its paper.
const MIN_K: f64 = 0.2;

/// Everything that scores are computed from, besides the system under attack.
pub(crate) struct Ground<'a> {
    pub references: &'a ReferenceSet,
    /// Signals of the base model, for language models.
    pub base: Option<&'a Signals>,
    pub members: usize,
    pub non_members: usize,
    /// All records, with the population.
    pub all: usize,
}

impl Ground<'_> {
    /// The records that are told apart: members, then non-members.
    fn examples(&self) -> usize {
        self.members + self.non_members
    }

    fn split(&self, scores: &[f64]) -> Scores {
        let (members, non_members) = scores.split_at(self.members);
        Scores { members: members.to_vec(), non_members: non_members.to_vec() }
    }

    fn scaled(&self, role: Role) -> Vec<Vec<f64>> {
        (0..self.examples()).map(|at| self.references.of(at, role, |signals, at| signals.scaled[at])).collect()
    }

    /// The attacks for which there is what they need.
    pub(crate) fn attacks(&self) -> Vec<Attack> {
        let outside = self.scaled(Role::Outside);
        let mut attacks = Vec::new();
        if self.base.is_some() {
            attacks.extend([
                Attack::LossRatio,
                Attack::ErrorZone { shift: Shift::LogProbability },
                Attack::MinK { share: MIN_K },
            ]);
        }
        let differs = |values: &Vec<f64>| values.windows(2).any(|pair| pair[0] != pair[1]);
        let has_spread = outside.iter().any(differs);
        if outside.iter().all(|values| !values.is_empty()) {
            if has_spread {
                attacks.push(Attack::LiraOffline { deviation: Deviation::Pooled });
                attacks.push(Attack::LiraOffline { deviation: Deviation::Shrunk { prior: PRIOR } });
                // Where all records have as many references, Student's t ranks them as the normal distribution does.
                if outside.windows(2).any(|pair| pair[0].len() != pair[1].len()) {
                    attacks.push(Attack::LiraOffline { deviation: Deviation::Predictive { prior: PRIOR } });
                }
            }
            let a = self.best_a().unwrap_or(DEFAULT_A);
            attacks.push(Attack::Rmia { marginal: Marginal::Offline { a }, gamma: GAMMA });
            let inside = self.scaled(Role::Inside);
            if has_spread && inside.iter().all(|values| !values.is_empty()) && inside.iter().any(differs) {
                attacks.push(Attack::LiraOnline { deviation: Deviation::Pooled });
                attacks.push(Attack::LiraOnline { deviation: Deviation::Shrunk { prior: PRIOR } });
                attacks.push(Attack::LiraOnline { deviation: Deviation::Predictive { prior: PRIOR } });
            }
        }
        attacks
    }

    /// The slope of RMIA's offline estimate that is best against a reference model.
    fn best_a(&self) -> Option<f64> {
        let grid: Vec<f64> = (0..=10).map(|tenth| f64::from(tenth) / 10.0).collect();
        let confidence = |signals: &Signals, at: usize| signals.confidence[at];
        (0..self.references.0.len()).find_map(|attacked| {
            let reference = &self.references.0[attacked];
            let others = |at: usize| self.references.without(Some(attacked), at, Role::Outside, confidence);
            let chosen: Vec<usize> = (0..self.examples())
                .filter(|at| reference.roles[*at] != Role::Unused && !others(*at).is_empty())
                .collect();
            let population: Vec<usize> = (self.examples()..self.all).filter(|at| !others(*at).is_empty()).collect();
            let is_member: Vec<bool> = chosen.iter().map(|at| reference.roles[*at] != Role::Outside).collect();
            let of = |records: &[usize]| Confidences {
                target: records.iter().map(|at| reference.signals.confidence[*at]).collect(),
                references: records.iter().map(|at| others(*at)).collect(),
            };
            choose_a(&of(&chosen), &is_member, &of(&population), GAMMA, &grid).ok()
        })
    }

    /// The scores of an attack on a system.
    pub(crate) fn scores(&self, attack: Attack, target: &Signals) -> Result<Scores, AttackError> {
        let examples = self.examples();
        let scaled = &target.scaled[..examples];
        let of_texts = |score: &dyn Fn(usize) -> Result<f64, AttackError>| {
            (0..examples).map(score).collect::<Result<Vec<f64>, AttackError>>()
        };
        let scores: Vec<f64> = match attack {
            Attack::LiraOffline { deviation } => {
                let scores = offline(scaled, &self.scaled(Role::Outside), deviation)?;
                scores.into_iter().map(|score| score.deviations).collect()
            }
            Attack::LiraOnline { deviation } => {
                let shadows = Shadows { inside: self.scaled(Role::Inside), outside: self.scaled(Role::Outside) };
                online(scaled, &shadows, deviation)?
            }
            Attack::Rmia { marginal, gamma } => {
                let of = |records: std::ops::Range<usize>| Confidences {
                    target: target.confidence[records.clone()].to_vec(),
                    references: records
                        .map(|at| self.references.of(at, Role::Outside, |signals, at| signals.confidence[at]))
                        .collect(),
                };
                rmia::scores(&of(0..examples), &of(examples..self.all), marginal, gamma)?
            }
            Attack::LossRatio => of_texts(&|at| {
                let base = self.base.map(|base| base.log_probabilities(at)).unwrap_or_default();
                match loss_ratio(&target.log_probabilities(at), &base) {
                    // Of a text that the target knows by heart no ratio is larger.
                    Err(AttackError::Undefined { .. }) => Ok(f64::MAX),
                    ratio => ratio,
                }
            })?,
            Attack::MinK { share } => of_texts(&|at| min_k(&target.log_probabilities(at), share))?,
            Attack::ErrorZone { shift } => of_texts(&|at| {
                let zone = self.base.map(|base| target.zone(base, at)).unwrap_or_default();
                error_zone(&zone, shift)
            })?,
        };
        Ok(self.split(&scores))
    }

    /// The mean scaled logit of each example by models that never saw it; of language models by the base model.
    pub(crate) fn ease(&self) -> Option<Vec<f64>> {
        let mean = |values: &Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
        let outside = self.scaled(Role::Outside);
        match self.base {
            Some(base) => Some(base.scaled[..self.examples()].to_vec()),
            None if outside.iter().all(|values| !values.is_empty()) => Some(outside.iter().map(mean).collect()),
            None => None,
        }
    }
}
