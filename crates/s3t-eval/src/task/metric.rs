//! The measures of a task, by the names that lm-evaluation-harness and `rouge_score` give them.

use s3t_core::registry::unknown;

use crate::text::Scale;

/// A measure of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskMetric {
    /// The share of answers that are the target.
    ExactMatch,
    /// The mean F-measure of ROUGE-L.
    RougeL,
    /// Of `choice`: the share of questions whose right choice is the likeliest. Of `loglikelihood`: the share of targets that greedy
    /// decoding gives.
    Acc,
    /// The share of questions whose right choice is the likeliest for each of its characters.
    AccNorm,
    /// The share of questions whose right choice is the likeliest for each of its bytes.
    AccBytes,
    /// The perplexity of a target as a whole: the exponential of minus the mean log-likelihood of the targets.
    Perplexity,
    /// The perplexity by token.
    TokenPerplexity,
    /// The perplexity by word.
    WordPerplexity,
    /// The perplexity by byte of UTF-8.
    BytePerplexity,
    /// Bits by byte of UTF-8.
    BitsPerByte,
    /// The share of the targets' tokens that are predicted from those before.
    TokenAccuracy,
}

impl TaskMetric {
    /// The measures of answers that are generated.
    pub const GENERATED: [Self; 2] = [Self::ExactMatch, Self::RougeL];
    /// The measures of choices.
    pub const CHOSEN: [Self; 3] = [Self::Acc, Self::AccNorm, Self::AccBytes];
    /// The measures of targets by their likelihood.
    pub const LIKELIHOOD: [Self; 7] = [
        Self::Acc,
        Self::Perplexity,
        Self::TokenPerplexity,
        Self::WordPerplexity,
        Self::BytePerplexity,
        Self::BitsPerByte,
        Self::TokenAccuracy,
    ];

    /// The name in a task file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExactMatch => "exact_match",
            Self::RougeL => "rougeL",
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
            Self::Perplexity => "perplexity",
            Self::TokenPerplexity => "token_perplexity",
            Self::WordPerplexity => "word_perplexity",
            Self::BytePerplexity => "byte_perplexity",
            Self::BitsPerByte => "bits_per_byte",
            Self::TokenAccuracy => "token_accuracy",
        }
    }

    /// True if more is better.
    pub const fn higher_is_better(self) -> bool {
        matches!(self.scale(), Scale::Mean)
    }

    /// The scale on which it is reported.
    pub const fn scale(self) -> Scale {
        match self {
            Self::Perplexity | Self::TokenPerplexity | Self::WordPerplexity | Self::BytePerplexity => Scale::Perplexity,
            Self::BitsPerByte => Scale::Bits,
            _ => Scale::Mean,
        }
    }

    /// The measure of a name among those that are allowed; otherwise the problem, in words.
    pub(super) fn among(allowed: &[Self], name: &str) -> Result<Self, String> {
        let known: Vec<&str> = allowed.iter().map(|metric| metric.name()).collect();
        let found = allowed.iter().copied().find(|metric| metric.name() == name);
        found.ok_or_else(|| format!("names an {}", unknown(&format!("measure `{name}`"), name, &known)))
    }
}
