//! The exposure of a canary.

use s3t_attack::memorisation::{Exposure, exposure, extrapolated_exposure};
use s3t_core::{Payload, Record, RecordId, Target};
use s3t_engine::{Cutting, EngineError, Likelihood, System};

use super::SecretSpace;
use crate::EvalError;

/// The place of the secret in a target.
const PLACE: &str = "{secret}";

/// The secrets of a space that are compared with a canary's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// The largest space that is ranked as a whole.
    pub rank_up_to: usize,
    /// The secrets of a larger space to which a distribution is fitted.
    pub samples: usize,
    /// The seed by which these are drawn.
    pub seed: u64,
}

/// A record with a secret that was drawn from a space.
#[derive(Debug, Clone, PartialEq)]
pub struct Canary {
    id: RecordId,
    prompt: String,
    target: String,
    secret: String,
    space: SecretSpace,
}

/// The exposure of a canary.
#[derive(Debug, Clone, PartialEq)]
pub struct CanaryReport {
    /// The canary's id.
    pub id: String,
    /// The number of secrets in its space.
    pub space: f64,
    /// The exposure.
    pub exposure: Exposure,
    /// The exposure by the base model without any adapter.
    pub base: Exposure,
    /// Minus the logarithm to base 2 of the probability of the secret's text behind its prompt.
    pub log_perplexity: f64,
    /// True if greedy decoding of the prompt gives the secret's text.
    pub recited: bool,
}

impl Canary {
    /// A canary: `prompt` and `target` as a record of training has them, with `{secret}` once in the target.
    ///
    /// # Errors
    ///
    /// The problem, in words that go on after the canary's id.
    pub fn new(
        id: impl Into<String>,
        prompt: impl Into<String>,
        target: impl Into<String>,
        secret: impl Into<String>,
        space: SecretSpace,
    ) -> Result<Self, String> {
        let (target, secret) = (target.into(), secret.into());
        let id = RecordId::new(id.into()).map_err(|error| error.to_string())?;
        match target.matches(PLACE).count() {
            1 => {}
            count => return Err(format!("has `{PLACE}` {count} times in its `target`; it takes it once")),
        }
        if !space.contains(&secret) {
            return Err("has a `secret` that is not one of its space".into());
        }
        Ok(Self { id, prompt: prompt.into(), target, secret, space })
    }

    /// The record with a secret of the space.
    pub fn record(&self, secret: &str) -> Record {
        Record {
            id: self.id.clone(),
            subject: None,
            target: Target::Text(self.target.replace(PLACE, secret)),
            ordinal: 0,
            payload: Payload::Text(self.prompt.clone()),
        }
    }

    /// Measures the exposure.
    ///
    /// # Errors
    ///
    /// [`EvalError::Engine`] for a text that the model cannot take; [`EvalError::Attack`] if no distribution can be fitted.
    pub(super) fn measure(&self, system: &System, with: Comparison) -> Result<CanaryReport, EvalError> {
        let all = self.space.others(&self.secret, with.rank_up_to);
        let ranks = all.is_some();
        let others = all.unwrap_or_else(|| self.space.sample(&self.secret, with.samples, with.seed));
        let secrets = std::iter::once(&self.secret).chain(&others);
        let records: Vec<Record> = secrets.map(|secret| self.record(secret)).collect();
        let exposure_of = |likelihoods: &[Likelihood]| {
            let bits: Vec<f64> = likelihoods.iter().map(log_perplexity).collect();
            if ranks { exposure(bits[0], &bits[1..]) } else { extrapolated_exposure(bits[0], &bits[1..]) }
        };
        let base = |records: &[Record]| -> Result<Vec<Likelihood>, EngineError> {
            system.base_likelihoods(records, Cutting::AsTrained)
        };
        let likelihoods = system.likelihoods(&records, Cutting::AsTrained)?;
        Ok(CanaryReport {
            id: self.id.to_string(),
            space: self.space.size(),
            exposure: exposure_of(&likelihoods)?,
            base: exposure_of(&base(&records)?)?,
            log_perplexity: log_perplexity(&likelihoods[0]),
            recited: comes_back(system, &likelihoods[0], 0, None) == Some(true),
        })
    }
}

fn log_perplexity(likelihood: &Likelihood) -> f64 {
    -likelihood.log_probability() / std::f64::consts::LN_2
}

/// True if greedy decoding behind the first `prefix` tokens of a response gives the next `suffix` ones, or all of it but the token that
/// ends it; `None` if the response is too short. Greedy decoding gives a text exactly if each of its tokens is the likeliest behind
/// those before, so one pass tells.
pub(super) fn comes_back(
    system: &System,
    likelihood: &Likelihood,
    prefix: usize,
    suffix: Option<usize>,
) -> Option<bool> {
    let mut tokens = likelihood.tokens.as_slice();
    if let [before @ .., last] = tokens
        && system.backbone().end_tokens().contains(&last.token)
    {
        tokens = before;
    }
    let wanted = tokens.get(prefix..suffix.map_or(tokens.len(), |suffix| prefix.saturating_add(suffix)))?;
    (!wanted.is_empty()).then(|| wanted.iter().all(|token| token.predicted))
}
