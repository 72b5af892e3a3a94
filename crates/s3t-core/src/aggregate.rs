//! Aggregation: one answer from the logits of all serving shards.

use std::fmt::Debug;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CoreError, ShardId};

/// The place of a member in the ensemble.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemberInfo {
    /// The shard that the member answers for.
    pub shard: ShardId,
    /// The number of its stages; 0 for the base model.
    pub depth: usize,
    /// The squared distance of the question's embedding from the [centroid](crate::tensors::StageTensors::centroid) of the member's records;
    /// `None` unless the aggregator [is routed](Aggregator::is_routed), and for the base model, which has no records.
    pub distance: Option<f32>,
}

impl MemberInfo {
    /// The place of a member of a depth, without a distance.
    pub fn new(shard: ShardId, depth: usize) -> Self {
        Self { shard, depth, distance: None }
    }
}

/// A way to combine the members' logits for one record.
///
/// # Contract
///
/// `members` is never empty and its rows have one length, the number of classes; the result has that length, and the
/// largest entry is the prediction. The result is a function of the rows and the places in order: no weights learnt from data. The one
/// exception is exact: a tensor that belongs to a stage and dies with it, which is what [`MemberInfo::distance`] is made from.
#[typetag::serde(tag = "type")]
pub trait Aggregator: Debug + Send + Sync {
    /// Combines `[members][classes]` logits into `[classes]` scores, of members of one depth.
    fn combine(&self, members: &[&[f32]]) -> Vec<f32>;

    /// Combines logits of members whose places are known: `places[i]` is that of `members[i]`. The default looks at no place.
    fn combine_placed(&self, members: &[&[f32]], _places: &[MemberInfo]) -> Vec<f32> {
        self.combine(members)
    }

    /// `true` if the result is on the scale of the members' outputs. Tasks other than classification need that: their outputs
    /// are numbers or independent scores, not shares of one whole.
    fn keeps_scale(&self) -> bool {
        false
    }

    /// Checks fields that have to agree.
    ///
    /// # Errors
    ///
    /// [`CoreError::InvalidField`] for the first that does not.
    fn check(&self) -> Result<(), CoreError> {
        Ok(())
    }

    /// `true` if the result depends on [`MemberInfo::distance`]. Then the stages need centroids, and each answer takes a pass of the base
    /// model more.
    fn is_routed(&self) -> bool {
        false
    }
}

/// Mean of the logits (S3T, section 3.1).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanLogits {}

#[typetag::serde(name = "mean-logits")]
impl Aggregator for MeanLogits {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        mean(members.iter().map(|row| row.to_vec()), members.len())
    }

    fn keeps_scale(&self) -> bool {
        true
    }
}

crate::plugin!(Aggregator, "mean-logits", MeanLogits);

/// The temperature of probabilities: logits are divided by it before the softmax. A constant of the pipeline, to be fitted on public data
/// only: one that is fitted on users' records, or on what a model says about them, would remember them after a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f32", into = "f32")]
pub struct Temperature(f32);

impl Temperature {
    /// Softmax of a row at this temperature.
    pub fn softmax(self, row: &[f32]) -> Vec<f32> {
        softmax_at(row, self.0)
    }
}

impl Default for Temperature {
    fn default() -> Self {
        Self(1.0)
    }
}

impl From<Temperature> for f32 {
    fn from(temperature: Temperature) -> Self {
        temperature.0
    }
}

impl TryFrom<f32> for Temperature {
    type Error = String;

    fn try_from(value: f32) -> Result<Self, String> {
        let problem = || format!("`temperature` is {value}; use a number from {MIN_TEMPERATURE} to {MAX_TEMPERATURE}");
        if (MIN_TEMPERATURE..=MAX_TEMPERATURE).contains(&value) { Ok(Self(value)) } else { Err(problem()) }
    }
}

/// Bounds of the temperature, within which finite logits give finite probabilities.
const MIN_TEMPERATURE: f32 = 0.01;
const MAX_TEMPERATURE: f32 = 100.0;

/// Mean of the softmax probabilities.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MeanProbabilities {
    /// Divides the logits before the softmax, 0.01 to 100. Fit it on public data only.
    #[schemars(with = "f32")]
    pub temperature: Temperature,
}

#[typetag::serde(name = "mean-probabilities")]
impl Aggregator for MeanProbabilities {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        mean(members.iter().map(|row| self.temperature.softmax(row)), members.len())
    }
}

crate::plugin!(Aggregator, "mean-probabilities", MeanProbabilities);

/// Share of the members that vote for each class; ties go to the lowest class.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MajorityVote {}

#[typetag::serde(name = "majority-vote")]
impl Aggregator for MajorityVote {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        let one_hot = |row: &&[f32]| {
            let mut vote = vec![0.0; row.len()];
            if let Some(slot) = vote.get_mut(argmax(row)) {
                *slot = 1.0;
            }
            vote
        };
        mean(members.iter().map(one_hot), members.len())
    }
}

crate::plugin!(Aggregator, "majority-vote", MajorityVote);

/// Mean of the members' logits, of each class without the largest and the smallest of them. Of two members or fewer, the mean.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrimmedMean {
    /// The number of logits that are left out at each end, as long as one or two are left.
    pub trim: usize,
}

impl Default for TrimmedMean {
    fn default() -> Self {
        Self { trim: 1 }
    }
}

#[typetag::serde(name = "trimmed-mean")]
impl Aggregator for TrimmedMean {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        let trim = self.trim.min(members.len().saturating_sub(1) / 2);
        let classes = members.first().map_or(0, |row| row.len());
        let of_class = |class: usize| {
            let mut values: Vec<f32> = members.iter().map(|row| row[class]).collect();
            values.sort_by(f32::total_cmp);
            let kept = &values[trim..values.len() - trim];
            kept.iter().sum::<f32>() / kept.len() as f32
        };
        (0..classes).map(of_class).collect()
    }

    fn keeps_scale(&self) -> bool {
        true
    }
}

crate::plugin!(Aggregator, "trimmed-mean", TrimmedMean);

/// The outputs whose mean is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MeanOf {
    /// The logits.
    #[default]
    Logits,
    /// The softmax probabilities.
    Probabilities,
}

impl MeanOf {
    /// Refuses a temperature that nothing would use.
    fn check(self, temperature: Temperature) -> Result<(), CoreError> {
        if self == Self::Logits && temperature != Temperature::default() {
            return Err(CoreError::field("temperature", "is for `of = \"probabilities\"`; leave it out, or set `of`"));
        }
        Ok(())
    }

    /// The mean of the members' outputs, weighted; the weights are finite, 0 or more, and not all 0.
    fn mean(self, members: &[&[f32]], weights: &[f32], temperature: Temperature) -> Vec<f32> {
        let total: f32 = weights.iter().sum();
        let mut sum = vec![0.0; members.first().map_or(0, |row| row.len())];
        for (row, weight) in members.iter().zip(weights) {
            let share = weight / total;
            let mut add = |row: &[f32]| sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += share * value);
            match self {
                Self::Logits => add(row),
                Self::Probabilities => add(&temperature.softmax(row)),
            }
        }
        sum
    }
}

/// Mean of the logits or of the probabilities, with a weight for each depth: a shallow member has seen less.
///
/// # Proof note
///
/// *Before*: rows and depths of live members. *After*: a weighted mean of the rows. *Why*: the weights are constants of the pipeline, and
/// a depth is the number of live stages.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DepthWeighted {
    /// The weights of members of depth 1, 2 and so on, each above 0; deeper members have the last. The base model weighs as depth 1.
    /// Without any, a member weighs its depth.
    #[serde(deserialize_with = "weights")]
    pub weights: Vec<f32>,
    /// The outputs whose mean is taken: `logits` or `probabilities`.
    pub of: MeanOf,
    /// Of `probabilities`: divides the logits before the softmax, 0.01 to 100. Fit it on public data only.
    #[schemars(with = "f32")]
    pub temperature: Temperature,
}

impl DepthWeighted {
    fn weight(&self, depth: usize) -> f32 {
        let depth = depth.max(1);
        match self.weights.len() {
            0 => depth as f32,
            len => self.weights[depth.min(len) - 1],
        }
    }
}

#[typetag::serde(name = "depth-weighted")]
impl Aggregator for DepthWeighted {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        self.of.mean(members, &vec![1.0; members.len()], self.temperature)
    }

    fn combine_placed(&self, members: &[&[f32]], places: &[MemberInfo]) -> Vec<f32> {
        let weights: Vec<f32> = places.iter().map(|place| self.weight(place.depth)).collect();
        self.of.mean(members, &weights, self.temperature)
    }

    fn check(&self) -> Result<(), CoreError> {
        self.of.check(self.temperature)
    }

    fn keeps_scale(&self) -> bool {
        self.of == MeanOf::Logits
    }
}

crate::plugin!(Aggregator, "depth-weighted", DepthWeighted);

/// Reads weights, which are numbers above 0.
fn weights<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    let weights = Vec::<f32>::deserialize(deserializer)?;
    match weights.iter().find(|weight| !(weight.is_normal() && **weight > 0.0 && **weight <= MAX_WEIGHT)) {
        Some(weight) => {
            let problem = format!("`weights` holds {weight}; a weight is a number above 0, at most {MAX_WEIGHT}");
            Err(serde::de::Error::custom(problem))
        }
        None => Ok(weights),
    }
}

/// The largest weight: sums of weights stay finite.
const MAX_WEIGHT: f32 = 1e6;

/// Mean of the logits or of the probabilities, in which a member weighs the more, the nearer the question is to the records that it has seen:
/// for shards that hold unlike data, such as one for each customer or source (partitioner `contiguous`). With slices by a keyed hash all
/// members have seen alike records, and it is little else than `depth-weighted`.
///
/// A member of depth `k` (the base model counts as 1) at the squared distance `d` weighs `k (smallest d / d)^sharpness`. A member without a
/// distance is as far as the farthest of the others.
///
/// # Sources
///
/// Routers that start from the mean embedding of each domain (`FlexOlmo`, arXiv 2507.07024), without what these learn across domains; weights that
/// fall with a power of the distance (Shepard 1968, <https://doi.org/10.1145/800186.810616>).
///
/// # Proof note
///
/// *Before*: rows, depths and distances of live members. *After*: a weighted mean of the rows. *Why*: a distance is a function of the
/// question, the frozen base model, and the centroid of a live stage's own records, which its lineage covers and which is erased with it;
/// the rest are constants of the pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StageRouted {
    /// The power by which a member that is farther weighs less, 0 to 1000: with 0.5 weights fall with the distance, with 0 only depths count.
    #[serde(deserialize_with = "sharpness")]
    pub sharpness: f32,
    /// The outputs whose mean is taken: `logits` or `probabilities`.
    pub of: MeanOf,
    /// Of `probabilities`: divides the logits before the softmax, 0.01 to 100. Fit it on public data only.
    #[schemars(with = "f32")]
    pub temperature: Temperature,
}

impl Default for StageRouted {
    fn default() -> Self {
        Self { sharpness: 0.5, of: MeanOf::default(), temperature: Temperature::default() }
    }
}

impl StageRouted {
    /// The weight of each member; the nearest has at least 1.
    fn weights(&self, places: &[MemberInfo]) -> Vec<f32> {
        let known = || places.iter().filter_map(|place| place.distance);
        let (nearest, farthest) = (known().fold(f32::INFINITY, f32::min), known().fold(0.0, f32::max));
        let weight = |place: &MemberInfo| {
            let distance = place.distance.unwrap_or(farthest);
            // Equal distances, 0 among them, and members without any.
            let share = if distance <= nearest { 1.0 } else { libm::powf(nearest / distance, self.sharpness) };
            place.depth.max(1) as f32 * share
        };
        places.iter().map(weight).collect()
    }
}

#[typetag::serde(name = "stage-routed")]
impl Aggregator for StageRouted {
    fn combine(&self, members: &[&[f32]]) -> Vec<f32> {
        self.of.mean(members, &vec![1.0; members.len()], self.temperature)
    }

    fn combine_placed(&self, members: &[&[f32]], places: &[MemberInfo]) -> Vec<f32> {
        self.of.mean(members, &self.weights(places), self.temperature)
    }

    fn check(&self) -> Result<(), CoreError> {
        self.of.check(self.temperature)
    }

    fn keeps_scale(&self) -> bool {
        self.of == MeanOf::Logits
    }

    fn is_routed(&self) -> bool {
        true
    }
}

crate::plugin!(Aggregator, "stage-routed", StageRouted);

/// Reads a power, which is a number from 0 on.
fn sharpness<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    let sharpness = f32::deserialize(deserializer)?;
    if (0.0..=MAX_SHARPNESS).contains(&sharpness) {
        return Ok(sharpness);
    }
    Err(serde::de::Error::custom(format!("`sharpness` is {sharpness}; use a number from 0 to {MAX_SHARPNESS}")))
}

/// The largest power: with it a member that is one hundredth farther weighs a 20,000th.
const MAX_SHARPNESS: f32 = 1000.0;

/// The index of the largest value, the first of them on a tie, 0 for an empty row.
///
/// ```
/// use s3t_core::aggregate::argmax;
///
/// assert_eq!(argmax(&[0.1, 2.0, 2.0]), 1);
/// assert_eq!(argmax(&[]), 0);
/// ```
pub fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &x)| if x > best.1 { (i, x) } else { best }).0
}

/// Softmax of one row, stable for large logits.
///
/// ```
/// use s3t_core::aggregate::softmax;
///
/// assert_eq!(softmax(&[3.0, 3.0]), [0.5, 0.5]);
/// // Logits whose exponentials would overflow.
/// assert_eq!(softmax(&[1e30, 1e30]), [0.5, 0.5]);
/// ```
pub fn softmax(row: &[f32]) -> Vec<f32> {
    softmax_at(row, 1.0)
}

fn softmax_at(row: &[f32], temperature: f32) -> Vec<f32> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = row.iter().map(|x| libm::expf((x - largest) / temperature)).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.into_iter().map(|x| x / sum).collect()
}

fn mean(rows: impl Iterator<Item = Vec<f32>>, count: usize) -> Vec<f32> {
    let mut sum: Vec<f32> = Vec::new();
    for row in rows {
        if sum.is_empty() {
            sum = row;
        } else {
            sum.iter_mut().zip(&row).for_each(|(total, value)| *total += value);
        }
    }
    for value in &mut sum {
        *value /= count as f32;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: [&[f32]; 3] = [&[2.0, 1.0, 0.0], &[0.0, 5.0, 0.0], &[3.0, 2.9, 0.0]];

    #[test]
    fn each_aggregator_combines_by_its_own_rule() {
        let means = MeanLogits {}.combine(&MEMBERS);
        assert!(means.iter().zip([5.0 / 3.0, 8.9 / 3.0, 0.0]).all(|(one, other)| (one - other).abs() < 1e-6));
        assert_eq!(argmax(&MajorityVote {}.combine(&MEMBERS)), 0);
        let probabilities = MeanProbabilities::default().combine(&MEMBERS);
        assert!((probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(argmax(&probabilities), 1);
    }

    fn places(depths: [usize; 3]) -> [MemberInfo; 3] {
        depths.map(|depth| MemberInfo::new(ShardId(0), depth))
    }

    #[test]
    fn depths_weigh_by_constants() {
        let by_depth = DepthWeighted::default();
        let cut = by_depth.combine_placed(&MEMBERS, &places([2, 2, 0]));
        assert!(cut.iter().zip([7.0 / 5.0, 14.9 / 5.0, 0.0]).all(|(one, other)| (one - other).abs() < 1e-6));
        // Members of one depth weigh the same.
        let (even, mean) = (by_depth.combine_placed(&MEMBERS, &places([3; 3])), MeanLogits {}.combine(&MEMBERS));
        assert!(even.iter().zip(mean).all(|(one, other)| (one - other).abs() < 1e-6));
        let given = DepthWeighted { weights: vec![1.0, 3.0], ..DepthWeighted::default() };
        assert_eq!(given.combine_placed(&MEMBERS[..2], &places([1, 7, 0])[..2]), [0.5, 4.0, 0.0]);
        let shares = DepthWeighted { of: MeanOf::Probabilities, ..DepthWeighted::default() };
        assert!((shares.combine_placed(&MEMBERS, &places([1, 2, 3])).iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn weights_that_are_no_weights_are_refused() {
        for weights in ["[0.0]", "[1.0, -2.0]", "[1e30]"] {
            let table = format!("{{\"type\": \"depth-weighted\", \"weights\": {weights}}}");
            let message = serde_json::from_str::<Box<dyn Aggregator>>(&table).unwrap_err().to_string();
            assert!(message.contains("a weight is a number above 0"), "{message}");
        }
    }

    #[test]
    fn the_nearer_member_weighs_more() {
        let at = |distance, depth| MemberInfo { distance, ..MemberInfo::new(ShardId(0), depth) };
        let routed = StageRouted { sharpness: 2.0, ..StageRouted::default() };
        // Ratios 1, 1/2 and 1/4, squared; then by depth.
        assert_eq!(routed.weights(&[at(Some(1.0), 1), at(Some(2.0), 1), at(Some(4.0), 4)]), [1.0, 0.25, 0.25]);
        // A member without a distance is as far as the farthest; without any distance depths alone count.
        assert_eq!(routed.weights(&[at(Some(1.0), 1), at(None, 0), at(Some(2.0), 1)]), [1.0, 0.25, 0.25]);
        assert_eq!(routed.weights(&[at(None, 2), at(None, 0), at(None, 3)]), [2.0, 1.0, 3.0]);
        // A question that is a centroid itself.
        assert_eq!(routed.weights(&[at(Some(0.0), 2), at(Some(0.0), 1), at(Some(1e-30), 3)]), [2.0, 1.0, 0.0]);
        let depths_only = StageRouted { sharpness: 0.0, ..StageRouted::default() };
        let places = [at(Some(1.0), 2), at(Some(9.0), 2), at(Some(3.0), 0)];
        let by_depth = DepthWeighted::default().combine_placed(&MEMBERS, &places);
        assert_eq!(depths_only.combine_placed(&MEMBERS, &places), by_depth);
    }

    #[test]
    fn a_temperature_divides_the_logits() {
        let of = |table: &str| serde_json::from_str::<Box<dyn Aggregator>>(table);
        let cooler = of("{\"type\": \"mean-probabilities\", \"temperature\": 2.0}").unwrap();
        assert_eq!(cooler.combine(&MEMBERS[..1]), softmax(&[1.0, 0.5, 0.0]));
        let by_depth = DepthWeighted { of: MeanOf::Probabilities, ..DepthWeighted::default() };
        let cooler = DepthWeighted { temperature: Temperature(2.0), ..by_depth };
        assert_eq!(cooler.combine(&MEMBERS[..1]), softmax(&[1.0, 0.5, 0.0]));
        for temperature in ["0.0", "-1.0", "1e9"] {
            let table = format!("{{\"type\": \"mean-probabilities\", \"temperature\": {temperature}}}");
            let message = of(&table).unwrap_err().to_string();
            assert!(message.contains("use a number from 0.01 to 100"), "{message}");
        }
        let message = of("{\"type\": \"stage-routed\", \"sharpness\": -1.0}").unwrap_err().to_string();
        assert!(message.contains("`sharpness` is -1; use a number from 0 to 1000"), "{message}");
    }

    #[test]
    fn trimming_leaves_the_ends_out() {
        let rows: [&[f32]; 4] = [&[1.0], &[2.0], &[4.0], &[100.0]];
        assert_eq!(TrimmedMean::default().combine(&rows), [3.0]);
        assert_eq!(TrimmedMean { trim: 9 }.combine(&rows[..3]), [2.0]);
        assert_eq!(TrimmedMean::default().combine(&rows[..2]), [1.5]);
    }

    #[test]
    fn one_member_is_passed_through() {
        assert_eq!(MeanLogits {}.combine(&[&[1.5, -2.0]]), [1.5, -2.0]);
        assert_eq!(MajorityVote {}.combine(&[&[1.0, 1.0]]), [1.0, 0.0]);
        assert_eq!(softmax(&[1e30, 1e30]), [0.5, 0.5]);
    }
}
