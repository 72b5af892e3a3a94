//! The result of a check.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Answers, Description, Guarantee, Law, Observation, Settings, TwoSample};

/// The verdict on a law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// No counterexample was found.
    Held,
    /// A counterexample was found.
    Broken {
        /// The counterexample in words.
        counterexample: String,
        /// The seed of the round; `--seed SEED --rounds 1` shows it again.
        seed: u64,
    },
    /// Only of [`Law::Power`]: no answer depended on the records that are forgotten.
    Powerless {
        /// The observation in words.
        counterexample: String,
    },
    /// The system failed on the way.
    Failed {
        /// The failure in words.
        error: String,
        /// The seed of the round.
        seed: u64,
    },
    /// The law cannot be tested on this system.
    NotTested {
        /// The reason.
        reason: String,
    },
}

impl Verdict {
    /// `true` if further rounds cannot change the verdict.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Broken { .. } | Self::Failed { .. })
    }

    /// `true` for verdicts that a check does not pass with.
    pub fn is_bad(&self) -> bool {
        self.is_final() || matches!(self, Self::Powerless { .. })
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken { .. } => "BROKEN",
            Self::Powerless { .. } => "NO POWER",
            Self::Failed { .. } => "FAILED",
            Self::NotTested { .. } => "not tested",
        }
    }

    fn detail(&self) -> &str {
        match self {
            Self::Held => "",
            Self::Broken { counterexample, .. } | Self::Powerless { counterexample } => counterexample,
            Self::Failed { error, .. } => error,
            Self::NotTested { reason } => reason,
        }
    }
}

/// A two-sample test of a law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The first life in words.
    pub left: String,
    /// The second life in words.
    pub right: String,
    /// The result.
    #[serde(flatten)]
    pub test: TwoSample,
}

/// The result of one law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LawReport {
    /// The law.
    pub law: Law,
    /// The law in a sentence.
    pub statement: String,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Rounds in which the law was checked.
    pub rounds: u32,
    /// Comparisons made in all rounds.
    pub comparisons: usize,
    /// The two-sample tests, for systems that promise a distribution.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Comparison>,
}

impl LawReport {
    pub(crate) fn new(law: Law) -> Self {
        let verdict = Verdict::NotTested { reason: "not reached".into() };
        Self { law, statement: law.statement().into(), verdict, rounds: 0, comparisons: 0, tests: Vec::new() }
    }
}

/// The result of a check: [`Display`](fmt::Display) for people, serde for machines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this form.
    pub version: u32,
    /// The system, with the promise that it was held to.
    pub system: Description,
    /// Rounds.
    pub rounds: u32,
    /// Records that a system was trained on in the first round.
    pub records: usize,
    /// The seed.
    pub seed: u64,
    /// Runs of each life, for systems that promise a distribution.
    pub runs: Option<usize>,
    /// The probability that any law is reported as broken for a system that keeps them all; `None` if bits were compared, where it is 0.
    pub error_rate: Option<f64>,
    /// The laws.
    pub laws: Vec<LawReport>,
    /// `true` if a law was held, nothing was broken, nothing failed, and the laws had power.
    pub passed: bool,
}

impl Report {
    pub(crate) fn new(
        system: Description,
        settings: &Settings,
        rounds: u32,
        records: usize,
        laws: Vec<LawReport>,
    ) -> Self {
        let statistical = system.guarantee == Guarantee::Distribution;
        let is_held = |law: &LawReport| law.law != Law::Power && law.verdict == Verdict::Held;
        let passed = !laws.iter().any(|law| law.verdict.is_bad()) && laws.iter().any(is_held);
        Self {
            version: 1,
            system,
            rounds,
            records,
            seed: settings.seed,
            runs: statistical.then_some(settings.runs),
            error_rate: statistical.then_some(settings.error_rate),
            laws,
            passed,
        }
    }

    /// `true` if a law was held, nothing was broken, nothing failed, and the laws had power.
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// The laws that were broken.
    pub fn broken(&self) -> Vec<Law> {
        let broken = self.laws.iter().filter(|law| matches!(law.verdict, Verdict::Broken { .. }));
        broken.map(|law| law.law).collect()
    }

    /// The verdict on a law, if it was checked.
    pub fn verdict(&self, law: Law) -> Option<&Verdict> {
        self.laws.iter().find(|report| report.law == law).map(|report| &report.verdict)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compared = match self.runs {
            None => format!("bits compared in {} rounds", self.rounds),
            Some(runs) => {
                format!("{runs} runs a life, false alarms below {:.1} %", 100.0 * self.error_rate.unwrap_or_default())
            }
        };
        writeln!(formatter, "{}: {} records, {compared}, seed {}", self.system.name, self.records, self.seed)?;
        for report in &self.laws {
            writeln!(formatter, " {:<17} {:<11} {}", report.law, report.verdict.word(), report.statement)?;
            for line in report.verdict.detail().lines() {
                writeln!(formatter, " {:<17} {:<11}   {line}", "", "")?;
            }
            if let Verdict::Broken { seed, .. } | Verdict::Failed { seed, .. } = &report.verdict {
                writeln!(formatter, " {:<17} {:<11}   again: --seed {seed} --rounds 1 --only {}", "", "", report.law)?;
            }
        }
        let count = |word: &str| self.laws.iter().filter(|law| law.verdict.word() == word).count();
        write!(
            formatter,
            "{}: {} laws held, {} broken, {} failed, {} not tested",
            if self.passed { "passed" } else { "NOT PASSED" },
            count("held"),
            count("BROKEN"),
            count("FAILED"),
            count("not tested")
        )?;
        if count("NO POWER") > 0 {
            write!(formatter, "; the laws had no power")?;
        }
        Ok(())
    }
}

/// The first difference of two observations in words; files and traces are not compared.
pub(crate) fn first_difference(left: &Observation, right: &Observation) -> Option<String> {
    let (left_answers, right_answers) = match (&left.answers, &right.answers) {
        (Answers::Unavailable, Answers::Unavailable) => return state_difference(left, right),
        (Answers::Given(_), Answers::Unavailable) => return Some("the first answers, the second does not".into()),
        (Answers::Unavailable, Answers::Given(_)) => return Some("the second answers, the first does not".into()),
        (Answers::Given(left), Answers::Given(right)) => (left, right),
    };
    let mut first = None;
    let mut different = 0_usize;
    for (question, (one, other)) in left_answers.iter().zip(right_answers).enumerate() {
        if one.len() != other.len() {
            return Some(format!("question {question} has {} and {} numbers in its answers", one.len(), other.len()));
        }
        for (place, (one, other)) in one.iter().zip(other).enumerate() {
            if one.to_bits() != other.to_bits() {
                different += 1;
                first.get_or_insert((question, place, *one, *other));
            }
        }
    }
    let Some((question, place, one, other)) = first else { return state_difference(left, right) };
    let all: usize = left_answers.iter().map(Vec::len).sum();
    Some(format!(
        "{different} of {all} numbers differ, the first is {one:?} and {other:?} (question {question}, number {place})"
    ))
}

fn state_difference(left: &Observation, right: &Observation) -> Option<String> {
    (left.state != right.state).then(|| "equal answers, but the dumped states differ".into())
}
