//! The next token from the ensemble's scores.
//!
//! # Proof note
//!
//! *Before*: the combined scores of all tokens, and the tokens so far. *After*: the chosen token is a function of these, the settings and
//! the number of draws before. *Why*: each draw takes the next number of a generator (`ChaCha12Rng`) with the text's seed, and the token is
//! where that number falls among the probabilities, laid side by side in the order of the tokens' numbers.
//!
//! The steps are those of `transformers` 5, in its order: bias, repetition, temperature, `top_k`, `top_p`, `min_p`; the penalties on
//! frequency and presence, which it lacks, follow repetition.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use s3t_core::aggregate::argmax;

use crate::{GenerateError, Sampling};

/// A token with its natural log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenScore {
    /// The token.
    pub id: u32,
    /// Its log-probability.
    pub logprob: f32,
}

/// The state of the choices for one text.
#[derive(Debug, Clone)]
pub struct Sampler {
    settings: Sampling,
    random: ChaCha12Rng,
    /// The tokens of the text, and how many times each was made.
    seen: BTreeMap<u32, u32>,
}

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// The token.
    pub id: u32,
    /// Its natural log-probability before any setting changed it, if these were asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens, the likeliest first, if these were asked for.
    pub top: Vec<TokenScore>,
}

impl Sampler {
    /// The choices for a text with this prompt.
    pub fn new(settings: Sampling, prompt: &[u32]) -> Self {
        let random = ChaCha12Rng::seed_from_u64(settings.seed);
        let seen = prompt.iter().map(|id| (*id, 0)).collect();
        Self { settings, random, seen }
    }

    /// Chooses the next token from logits.
    ///
    /// # Errors
    ///
    /// [`GenerateError::NotFinite`] if no token has a score that is a number.
    pub fn choose(&mut self, logits: &[f32]) -> Result<Chosen, GenerateError> {
        let changed = self.changed(logits);
        // Biases and penalties are finite, so that a score which was no number is none now either; they can make one.
        if changed.iter().any(|logit| logit.is_nan() || *logit == f32::INFINITY)
            || changed.iter().all(|logit| *logit == f32::NEG_INFINITY)
        {
            return Err(GenerateError::NotFinite);
        }
        let id = if self.settings.temperature == 0.0 { argmax(&changed) as u32 } else { self.draw(changed) };
        *self.seen.entry(id).or_default() += 1;
        let (logprob, top) = match self.settings.logprobs {
            Some(told) => {
                let logprobs = log_softmax(logits);
                (Some(logprobs[id as usize]), likeliest(&logprobs, told))
            }
            None => (None, Vec::new()),
        };
        Ok(Chosen { id, logprob, top })
    }

    /// The logits with bias and penalties.
    fn changed(&self, logits: &[f32]) -> Vec<f32> {
        let settings = &self.settings;
        let mut logits = logits.to_vec();
        for (id, bias) in &settings.logit_bias {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit += bias;
            }
        }
        let is_plain =
            settings.repetition_penalty == 1.0 && settings.frequency_penalty == 0.0 && settings.presence_penalty == 0.0;
        if !is_plain {
            for (id, made) in &self.seen {
                let Some(logit) = logits.get_mut(*id as usize) else { continue };
                let penalty = settings.repetition_penalty;
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
                if *made > 0 {
                    *logit -= settings.frequency_penalty * *made as f32 + settings.presence_penalty;
                }
            }
        }
        logits
    }

    /// Draws a token.
    fn draw(&mut self, logits: Vec<f32>) -> u32 {
        let kept = kept(logits, &self.settings);
        let total: f64 = kept.iter().map(|(_, probability)| probability).sum();
        let mut left = self.random.random::<f64>() * total;
        for (id, probability) in &kept {
            left -= probability;
            if left < 0.0 {
                return *id;
            }
        }
        // Rounding left a remainder behind the last token.
        kept.last().map_or(0, |(id, _)| *id)
    }
}

/// The tokens that are drawn from with their unnormalised probabilities, in the order of their numbers.
fn kept(logits: Vec<f32>, settings: &Sampling) -> Vec<(u32, f64)> {
    let temperature = f64::from(settings.temperature);
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut tokens: Vec<(u32, f32)> = (0..).zip(logits).filter(|(_, logit)| *logit > f32::NEG_INFINITY).collect();
    if settings.top_k > 0 && settings.top_k < tokens.len() {
        // All that are as likely as the last one stay.
        let mut order: Vec<f32> = tokens.iter().map(|(_, logit)| *logit).collect();
        let (_, last, _) = order.select_nth_unstable_by(settings.top_k - 1, |a, b| b.total_cmp(a));
        let last = *last;
        tokens.retain(|(_, logit)| *logit >= last);
    }
    let weight = |logit: f32| libm::exp(f64::from(logit - top) / temperature);
    let mut tokens: Vec<(u32, f64)> = tokens.into_iter().map(|(id, logit)| (id, weight(logit))).collect();
    if settings.top_p < 1.0 {
        tokens.sort_by(|(one, a), (other, b)| b.total_cmp(a).then(one.cmp(other)));
        let enough = f64::from(settings.top_p) * tokens.iter().map(|(_, weight)| weight).sum::<f64>();
        let mut sum = 0.0;
        let needed = tokens.iter().take_while(|(_, weight)| {
            let goes_on = sum < enough;
            sum += weight;
            goes_on
        });
        let needed = needed.count();
        tokens.truncate(needed.max(1));
    }
    if settings.min_p > 0.0 {
        // The likeliest token's weight is 1.
        let least = f64::from(settings.min_p) * tokens.iter().map(|(_, weight)| *weight).fold(0.0, f64::max);
        tokens.retain(|(_, weight)| *weight >= least);
    }
    tokens.sort_by_key(|(id, _)| *id);
    tokens
}

/// Natural log-probabilities from logits.
pub(crate) fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let top = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total = libm::log(logits.iter().map(|logit| libm::exp(f64::from(*logit) - top)).sum::<f64>());
    logits.iter().map(|logit| (f64::from(*logit) - top - total) as f32).collect()
}

/// So many of the likeliest tokens, the likeliest first, of equally likely ones the one with the lower number.
pub(crate) fn likeliest(logprobs: &[f32], count: usize) -> Vec<TokenScore> {
    let count = count.min(logprobs.len());
    if count == 0 {
        return Vec::new();
    }
    let mut order: Vec<u32> = (0..logprobs.len() as u32).collect();
    let by_score =
        |one: &u32, other: &u32| logprobs[*other as usize].total_cmp(&logprobs[*one as usize]).then(one.cmp(other));
    order.select_nth_unstable_by(count - 1, by_score);
    order.truncate(count);
    order.sort_by(by_score);
    order.into_iter().map(|id| TokenScore { id, logprob: logprobs[id as usize] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, -1.0, 3.0];

    fn probabilities(settings: &Sampling) -> Vec<(u32, f64)> {
        let mut kept = kept(LOGITS.to_vec(), settings);
        let total: f64 = kept.iter().map(|(_, weight)| weight).sum();
        kept.iter_mut().for_each(|(_, weight)| *weight /= total);
        kept
    }

    fn ids(settings: &Sampling) -> Vec<u32> {
        probabilities(settings).into_iter().map(|(id, _)| id).collect()
    }

    #[test]
    fn each_setting_keeps_the_tokens_of_its_definition() {
        let all = Sampling { temperature: 1.0, ..Sampling::default() };
        assert_eq!(ids(&all), [0, 1, 2, 3, 4]);
        // Both likeliest tokens stay where one is asked for: they are equally likely.
        assert_eq!(ids(&Sampling { top_k: 1, ..all.clone() }), [1, 4]);
        assert_eq!(ids(&Sampling { top_k: 3, ..all.clone() }), [1, 2, 4]);
        // e^0 + e^0 + e^-1 + e^-2 + e^-4 = 2.52; the two likeliest have 0.79 of it, the three likeliest 0.94.
        assert_eq!(ids(&Sampling { top_p: 0.7, ..all.clone() }), [1, 4]);
        assert_eq!(ids(&Sampling { top_p: 0.9, ..all.clone() }), [1, 2, 4]);
        assert_eq!(ids(&Sampling { top_p: 0.01, ..all.clone() }), [1]);
        // e^-1 = 0.37, e^-2 = 0.14.
        assert_eq!(ids(&Sampling { min_p: 0.3, ..all.clone() }), [1, 2, 4]);
        assert_eq!(ids(&Sampling { min_p: 0.3, temperature: 2.0, ..all.clone() }), [0, 1, 2, 4]);
        assert_eq!(ids(&Sampling { min_p: 1.0, ..all }), [1, 4]);
    }

    #[test]
    fn draws_have_the_distribution_of_the_definition() {
        let settings = Sampling { temperature: 0.8, top_k: 4, top_p: 0.97, seed: 7, ..Sampling::default() };
        let expected = probabilities(&settings);
        let mut sampler = Sampler::new(settings, &[]);
        let draws = 200_000;
        let mut counts = BTreeMap::<u32, u32>::new();
        for _ in 0..draws {
            *counts.entry(sampler.choose(&LOGITS).unwrap().id).or_default() += 1;
        }
        // Pearson's statistic; 27.9 is the quantile of 1 in 100,000 for 4 degrees of freedom and more than for fewer.
        let statistic: f64 = expected
            .iter()
            .map(|(id, probability)| {
                let expected = probability * f64::from(draws);
                (f64::from(counts.get(id).copied().unwrap_or(0)) - expected).powi(2) / expected
            })
            .sum();
        assert!(statistic < 27.9, "{statistic}");
        assert_eq!(counts.values().sum::<u32>(), draws);
        assert!(counts.keys().eq(expected.iter().map(|(id, _)| id)));
    }

    #[test]
    fn penalties_and_bias_change_the_choice_and_log_probabilities_do_not() {
        let greedy = Sampling { logprobs: Some(2), ..Sampling::default() };
        let chosen = Sampler::new(greedy.clone(), &[]).choose(&LOGITS).unwrap();
        assert_eq!(chosen.id, 1, "the first of two");
        assert!((chosen.logprob.unwrap() - (-(2.0 + (-1f32).exp() + (-2f32).exp() + (-4f32).exp()).ln())).abs() < 1e-6);
        assert_eq!(chosen.top.iter().map(|token| token.id).collect::<Vec<_>>(), [1, 4]);
        let repetition = Sampling { repetition_penalty: 2.0, ..greedy.clone() };
        assert_eq!(Sampler::new(repetition, &[1, 4]).choose(&LOGITS).unwrap().id, 2);
        let mut presence =
            Sampler::new(Sampling { presence_penalty: 0.5, frequency_penalty: 0.2, ..greedy.clone() }, &[1]);
        let made: Vec<u32> = (0..4).map(|_| presence.choose(&LOGITS).unwrap().id).collect();
        // 3, 3; then 2.3, 3; then 2.3, 2.3; then 2.1, 2.3.
        assert_eq!(made, [1, 4, 1, 4]);
        let bias = Sampling { logit_bias: BTreeMap::from([(3, 50.0), (99, 1.0)]), ..greedy };
        let biased = Sampler::new(bias, &[]).choose(&LOGITS).unwrap();
        assert_eq!((biased.id, biased.top[0].id), (3, 1));
    }

    #[test]
    fn scores_that_are_no_numbers_are_refused() {
        let mut sampler = Sampler::new(Sampling::default(), &[]);
        assert!(matches!(sampler.choose(&[0.0, f32::NAN]), Err(GenerateError::NotFinite)));
        assert!(matches!(sampler.choose(&[f32::NEG_INFINITY; 2]), Err(GenerateError::NotFinite)));
        assert_eq!(sampler.choose(&[f32::NEG_INFINITY, 0.0]).unwrap().id, 1);
    }
}
