//! The size and the strictness of a check.

use crate::{Case, Content, Guarantee, Law, LawsError, Record};

/// The size and the strictness of a check.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Rounds, each with records of its own; for systems that promise bits.
    pub rounds: u32,
    /// Records of a round, when the tester makes them.
    pub records: usize,
    /// Records that are forgotten in a round; `None`: 3 for systems that promise bits, otherwise a tenth of the records, at least 3.
    pub forget: Option<usize>,
    /// The seed of records, systems and permutations.
    pub seed: u64,
    /// Runs of each life, for systems that promise a distribution.
    pub runs: usize,
    /// The probability that any law is reported as broken for a system that keeps them all, for systems that promise a distribution.
    pub error_rate: f64,
    /// The laws to check; empty for all.
    pub only: Vec<Law>,
    /// The promise to hold the system to, in place of its own.
    pub guarantee: Option<Guarantee>,
    /// Records and questions of your own.
    pub data: Option<(Vec<Record>, Vec<Content>)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rounds: 3,
            records: 48,
            forget: None,
            seed: 1,
            runs: 20,
            error_rate: 0.01,
            only: Vec::new(),
            guarantee: None,
            data: None,
        }
    }
}

impl Settings {
    /// Refuses settings that cannot be used.
    pub(crate) fn checked(&self) -> Result<(), LawsError> {
        let invalid = |setting, problem: String| Err(LawsError::InvalidSetting { setting, problem });
        if self.rounds == 0 {
            return invalid("--rounds", "must be at least 1".into());
        }
        if self.runs < 5 {
            return invalid("--runs", format!("must be at least 5, not {}", self.runs));
        }
        if !(self.error_rate > 0.0 && self.error_rate < 1.0) {
            return invalid("--error-rate", format!("must be above 0 and below 1, not {}", self.error_rate));
        }
        if let Some((records, questions)) = &self.data {
            if questions.is_empty() {
                return invalid("--questions", "holds no question".into());
            }
            let mut ids: Vec<&str> = records.iter().map(|record| record.id.as_str()).collect();
            ids.sort_unstable();
            if let Some([twice, _]) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
                return invalid("--data", format!("holds the id `{twice}` twice; ids must be unique"));
            }
        }
        Ok(())
    }

    /// The laws to check, in their order. Whether answers depend on records at all is always among them: without that nothing was shown.
    pub(crate) fn laws(&self) -> Vec<Law> {
        Law::ALL
            .into_iter()
            .filter(|law| self.only.is_empty() || *law == Law::Power || self.only.contains(law))
            .collect()
    }

    /// The records of a round.
    pub(crate) fn case(&self, guarantee: Guarantee, round: u32) -> Result<Case, LawsError> {
        let seed = self.seed.wrapping_add(u64::from(round));
        let records = self.data.as_ref().map_or(self.records, |(records, _)| records.len() - records.len() / 3);
        let usual = match guarantee {
            Guarantee::Bits => 3,
            Guarantee::Distribution => (records / 10).max(3),
        };
        let forget = self.forget.unwrap_or(usual);
        match &self.data {
            None => Case::made(self.records, forget, seed),
            Some((records, questions)) => Case::of_records(records, questions, forget, seed),
        }
    }
}
