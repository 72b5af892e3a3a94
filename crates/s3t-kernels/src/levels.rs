//! The sixteen levels of 4-bit numbers (NF4: Dettmers et al. 2023, arXiv 2305.14314, section 3 and appendix E).

/// Inputs of an output that share a scale.
pub(crate) const BLOCK: usize = 64;

/// The levels: quantiles of the normal distribution, with 0 among them, from -1 to 1.
pub(crate) const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The number of the level 0.
#[cfg(feature = "flex")]
pub(crate) const ZERO: u32 = 7;

/// The number of the level that is nearest to a value from -1 to 1; of two as near the lower.
fn nearest(value: f32) -> u32 {
    LEVELS.windows(2).map(|levels| u32::from(value > f32::midpoint(levels[0], levels[1]))).sum()
}

/// The scale of a block, its largest absolute value, and the number of the level of each of its values.
pub(crate) fn numbers(block: &[f32]) -> (f32, impl Iterator<Item = u32>) {
    let scale = block.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    (scale, block.iter().map(move |value| nearest(value * factor)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_their_own_nearest_and_a_block_of_zeros_stays() {
        let (scale, found) = numbers(&LEVELS);
        assert_eq!((scale, found.collect::<Vec<_>>()), (1.0, (0..16).collect()));
        let (scale, mut found) = numbers(&[0.0; 3]);
        assert!(scale == 0.0 && found.all(|number| LEVELS[number as usize] == 0.0));
    }
}
