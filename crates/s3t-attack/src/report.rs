//! The report of an attack: everything that a reader needs to judge it, as types. Of scores it holds the largest and the mean of some
//! subjects only.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::AttackError;
use crate::area::auc;
use crate::benchmarks::{KolmogorovSmirnov, forget_quality, priv_leak};
use crate::epsilon::EpsilonBound;
use crate::interval::Estimate;
use crate::language::Shift;
use crate::lira::Deviation;
use crate::power::Power;
use crate::rmia::Marginal;
use crate::roc::{Roc, RocPoint, Scores, TprAtFpr};
use crate::subjects::SubjectScore;

/// The false positive rates of a report.
pub const RATES: [f64; 2] = [0.01, 0.001];

/// An attack with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Attack {
    /// [`lira::online`](crate::lira::online).
    LiraOnline {
        /// The deviation of the shadow values.
        deviation: Deviation,
    },
    /// [`lira::offline`](crate::lira::offline).
    LiraOffline {
        /// The deviation of the shadow values.
        deviation: Deviation,
    },
    /// [`rmia::scores`](crate::rmia::scores).
    Rmia {
        /// The estimate of the marginal.
        marginal: Marginal,
        /// The factor of domination.
        gamma: f64,
    },
    /// [`language::loss_ratio`](crate::language::loss_ratio).
    LossRatio,
    /// [`language::min_k`](crate::language::min_k).
    MinK {
        /// The share of tokens.
        share: f64,
    },
    /// [`language::error_zone`](crate::language::error_zone).
    ErrorZone {
        /// The unit of shifts.
        shift: Shift,
    },
}

impl Attack {
    /// The name as people read it, with the parameters that matter.
    pub fn title(self) -> String {
        let of = |deviation: Deviation| match deviation {
            Deviation::PerExample => "a deviation for each record",
            Deviation::Pooled => "one deviation",
            Deviation::Shrunk { .. } => "deviations with a prior (BaVarIA-n)",
            Deviation::Predictive { .. } => "Student's t with a prior (BaVarIA-t)",
        };
        match self {
            Self::LiraOnline { deviation } => format!("LiRA online, {}", of(deviation)),
            Self::LiraOffline { deviation } => format!("LiRA offline, {}", of(deviation)),
            Self::Rmia { marginal: Marginal::Online, .. } => "RMIA online".to_owned(),
            Self::Rmia { marginal: Marginal::Offline { a }, .. } => format!("RMIA offline, a = {a:.1}"),
            Self::LossRatio => "loss ratio".to_owned(),
            Self::MinK { share } => format!("Min-K %, K = {:.0}", 100.0 * share),
            Self::ErrorZone { .. } => "error zone (EZ-MIA)".to_owned(),
        }
    }
}

/// The origin of reference models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReferenceKind {
    /// Members of other shards.
    OtherShards,
    /// Prefixes of the same shard that never saw the slice.
    Prefixes,
    /// Trained for the audit.
    Trained,
    /// The frozen base model.
    Base,
}

/// Reference models of one origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct References {
    /// The origin.
    pub kind: ReferenceKind,
    /// Their number.
    pub number: u64,
}

/// The true positive rate at a false positive rate, or the number of non-members that it would need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum LowFpr {
    /// The rate.
    Measured(TprAtFpr),
    /// Too few non-members for the false positive rate.
    TooFewNonMembers {
        /// The false positive rate.
        fpr: f64,
        /// The number of non-members needed.
        needed: u64,
        /// The number of non-members.
        found: u64,
    },
}

/// The success of an attack on one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Performance {
    /// The number of members.
    pub members: u64,
    /// The number of non-members.
    pub non_members: u64,
    /// The area under the ROC with DeLong's interval.
    pub auc: Estimate,
    /// The true positive rates at [`RATES`].
    pub low_fpr: Vec<LowFpr>,
    /// The corners of the ROC, for a picture with both axes logarithmic. Thresholds are left out: they are scores of records.
    pub curve: Vec<CurvePoint>,
}

/// A point of a curve, as rates.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CurvePoint {
    /// The false positive rate.
    pub fpr: f64,
    /// The true positive rate.
    pub tpr: f64,
}

impl Performance {
    /// Measures scores.
    ///
    /// # Errors
    ///
    /// As [`auc`].
    pub fn measure(scores: &Scores, confidence: f64) -> Result<Self, AttackError> {
        let auc = auc(scores, confidence)?;
        let roc = Roc::new(&scores.members, &scores.non_members)?;
        let low = |fpr: f64| match roc.tpr_at_fpr(fpr, confidence) {
            Ok(measured) => Ok(LowFpr::Measured(measured)),
            Err(AttackError::TooFewNonMembers { rate, needed, found }) => {
                Ok(LowFpr::TooFewNonMembers { fpr: rate, needed, found })
            }
            Err(error) => Err(error),
        };
        let (members, non_members) = (roc.members(), roc.non_members());
        let rates = |point: RocPoint| CurvePoint {
            fpr: point.false_positives as f64 / non_members as f64,
            tpr: point.true_positives as f64 / members as f64,
        };
        let low_fpr = RATES.into_iter().map(low).collect::<Result<_, _>>()?;
        Ok(Self { members, non_members, auc, low_fpr, curve: roc.corners().into_iter().map(rates).collect() })
    }
}

/// The success of an attack on a leak that was planted to be found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PlantedLeak {
    /// The leak.
    pub name: String,
    /// The success after the deletion, with the leak.
    pub performance: Performance,
    /// The success as evidence.
    pub power: Power,
    /// The share of resamples of the records in which the leak is found ([`Power::detection`]).
    pub detection: f64,
    /// `true` if answers with the leak equal the oracle's, bit for bit: then it is no leak for these records.
    pub equals_oracle: bool,
}

/// The comparison of the unlearned system with one that never saw the records.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OracleComparison {
    /// `true` if every score is equal, bit for bit.
    pub equal: bool,
    /// MUSE's PrivLeak in percent; `None` where it has no value.
    pub priv_leak: Option<f64>,
    /// TOFU's forget quality over the scores of the forgotten records.
    pub forget_quality: KolmogorovSmirnov,
}

/// Scores of one attack on the same records: before the deletion, after it, and on a system that never saw the members.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Audited {
    /// Before the deletion.
    pub before: Scores,
    /// After the deletion.
    pub after: Scores,
    /// On the oracle, if there is one.
    pub oracle: Option<Scores>,
}

/// The report of an attack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AttackReport {
    /// The version of this form.
    pub version: u32,
    /// The attack.
    pub attack: Attack,
    /// The reference models by origin.
    pub references: Vec<References>,
    /// The confidence of intervals.
    pub confidence: f64,
    /// The success before the deletion.
    pub before: Performance,
    /// The success after the deletion.
    pub after: Performance,
    /// The success on the oracle.
    pub oracle: Option<Performance>,
    /// The unlearned system beside the oracle.
    pub comparison: Option<OracleComparison>,
    /// The success before the deletion as evidence that the attack can find something.
    pub power: Power,
    /// The success on the most vulnerable records before the deletion.
    pub most_vulnerable: Option<Performance>,
    /// The success on planted leaks.
    pub planted: Vec<PlantedLeak>,
    /// The success of a baseline that sees no model.
    pub blind: Option<Performance>,
    /// The largest scores of forgotten subjects after the deletion.
    pub subjects: Vec<SubjectScore>,
    /// A lower bound on epsilon from one run.
    pub epsilon: Option<EpsilonBound>,
    /// Limits of the report, in sentences.
    pub limits: Vec<String>,
}

impl AttackReport {
    /// A report of scores; optional parts are empty and can be filled in.
    ///
    /// # Errors
    ///
    /// As [`Performance::measure`].
    ///
    /// ```
    /// use s3t_attack::report::{Attack, AttackReport, Audited};
    /// use s3t_attack::roc::Scores;
    ///
    /// let numbers = |from: f64| (0..200).map(|i| from + f64::from(i)).collect::<Vec<_>>();
    /// let without = Scores { members: numbers(0.0), non_members: numbers(0.5) };
    /// let audited = Audited {
    ///     before: Scores { members: numbers(80.0), ..without.clone() },
    ///     after: without.clone(),
    ///     oracle: Some(without),
    /// };
    /// let report = AttackReport::new(Attack::LossRatio, &audited, 0.95)?;
    /// assert_eq!(report.first_line(), "The attack finds members before the deletion (AUC 0.819); after it every score equals the oracle's.");
    /// # Ok::<(), s3t_attack::AttackError>(())
    /// ```
    pub fn new(attack: Attack, audited: &Audited, confidence: f64) -> Result<Self, AttackError> {
        let measure = |scores: &Scores| Performance::measure(scores, confidence);
        let (before, after) = (measure(&audited.before)?, measure(&audited.after)?);
        let oracle = audited.oracle.as_ref().map(measure).transpose()?;
        let compare = |scores: &Scores, oracle: &Performance| {
            let forget_quality = forget_quality(&audited.after.members, &scores.members)?;
            let priv_leak = priv_leak(after.auc.value, oracle.auc.value).ok();
            Ok(OracleComparison { equal: same_bits(&audited.after, scores), priv_leak, forget_quality })
        };
        let comparison = audited.oracle.as_ref().zip(oracle.as_ref()).map(|(scores, oracle)| compare(scores, oracle));
        Ok(Self {
            version: 1,
            attack,
            references: Vec::new(),
            confidence,
            comparison: comparison.transpose()?,
            before,
            after,
            oracle,
            power: Power::measure(&audited.before, &RATES, confidence)?,
            most_vulnerable: None,
            planted: Vec::new(),
            blind: None,
            subjects: Vec::new(),
            epsilon: None,
            limits: Vec::new(),
        })
    }

    /// `true` if the attack has shown that it can find something: before the deletion, or on a planted leak.
    pub fn has_power(&self) -> bool {
        self.power.found || self.planted.iter().any(|leak| leak.power.found)
    }

    /// The first line that a reader must see.
    pub fn first_line(&self) -> String {
        if !self.has_power() {
            return format!(
                "NO POWER: the attack finds no members even before the deletion (AUC {}); this report shows nothing.",
                shown(&self.before.auc)
            );
        }
        if self.blind.as_ref().is_some_and(|blind| blind.auc.interval.low > 0.5) {
            return "MEMBERS AND NON-MEMBERS DIFFER without any model, so success of the attack is no sign of membership.".into();
        }
        let planted = self.planted.iter().find(|leak| leak.power.found);
        let found = match planted.filter(|_| !self.power.found) {
            Some(leak) => format!(
                "The attack finds no members before the deletion (AUC {}), but a planted leak, \"{}\" (AUC {:.3})",
                shown(&self.before.auc),
                leak.name,
                leak.performance.auc.value
            ),
            None => format!("The attack finds members before the deletion (AUC {:.3})", self.before.auc.value),
        };
        match &self.comparison {
            Some(comparison) if comparison.equal => format!("{found}; after it every score equals the oracle's."),
            Some(_) => format!("{found}; after it scores differ from the oracle's (AUC {}).", shown(&self.after.auc)),
            None => {
                format!("{found}; after it the AUC is {}, without an oracle to compare with.", shown(&self.after.auc))
            }
        }
    }
}

/// `true` if all scores have the same bits in the same order.
fn same_bits(one: &Scores, other: &Scores) -> bool {
    let bits = |scores: &Scores| -> (Vec<u64>, Vec<u64>) {
        let of = |scores: &[f64]| scores.iter().map(|score| score.to_bits()).collect();
        (of(&scores.members), of(&scores.non_members))
    };
    bits(one) == bits(other)
}

fn shown(estimate: &Estimate) -> String {
    format!("{:.3} [{:.3}, {:.3}]", estimate.value, estimate.interval.low, estimate.interval.high)
}

impl fmt::Display for AttackReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.first_line())?;
        let mut row = |name: &str, performance: &Performance| {
            write!(formatter, " {name:<16} AUC {}", shown(&performance.auc))?;
            for low in &performance.low_fpr {
                match low {
                    LowFpr::Measured(TprAtFpr { fpr, tpr, interval, .. }) => write!(
                        formatter,
                        "  TPR at {} % FPR {:.1} % [{:.1}, {:.1}]",
                        100.0 * fpr,
                        100.0 * tpr,
                        100.0 * interval.low,
                        100.0 * interval.high
                    )?,
                    LowFpr::TooFewNonMembers { fpr, needed, found } => {
                        write!(formatter, "  TPR at {} % FPR needs {needed} non-members, has {found}", 100.0 * fpr)?;
                    }
                }
            }
            writeln!(formatter)
        };
        row("before", &self.before)?;
        row("after", &self.after)?;
        self.oracle.iter().try_for_each(|oracle| row("oracle", oracle))?;
        self.most_vulnerable.iter().try_for_each(|performance| row("most vulnerable", performance))?;
        self.planted.iter().try_for_each(|leak| row(&leak.name, &leak.performance))?;
        self.blind.iter().try_for_each(|blind| row("without a model", blind))?;
        if let Some(comparison) = &self.comparison {
            let leak = comparison.priv_leak.map_or("no value".into(), |leak| format!("{leak:.2} %"));
            let quality = comparison.forget_quality.p_value;
            writeln!(formatter, " PrivLeak {leak}, forget quality p = {quality:.3}")?;
        }
        if let Some(bound) = &self.epsilon {
            let confidence = 100.0 * bound.confidence;
            writeln!(
                formatter,
                " epsilon is at least {:.3} at delta {} ({confidence} % confidence)",
                bound.epsilon, bound.delta
            )?;
        }
        self.limits.iter().try_for_each(|limit| writeln!(formatter, " limit: {limit}"))
    }
}
