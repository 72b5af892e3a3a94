//! The processor's own instructions for looking up levels: a permutation of a vector that holds all sixteen, or of two that hold eight each.
//!
//! # Proof note
//!
//! *Before*: words, and scales that are [`plain`]. *After*: the lines that the steps one after the other write. *Why*: a level times
//! a plain scale is no NaN and 0 or a normal number, and so is its rounding, so that [`rounded`](crate::halves::rounded) is the addition of
//! its first line; 0 with a sign keeps it. Other scales are left to those steps. A test compares the bits of all sets of instructions.

use super::EIGHT;
use crate::Instructions;
use crate::halves::{LANES, Line, PAIR};
use crate::levels::{BLOCK, LEVELS};

/// The vectors that hold the levels.
#[derive(Clone, Copy)]
pub(super) enum Vectors {
    /// A vector of sixteen (AVX-512).
    Sixteen,
    /// Two vectors of eight (AVX2).
    Eight,
}

impl Vectors {
    /// The vectors that are used, if the processor has any.
    pub(super) fn used() -> Option<Self> {
        let chosen = Instructions::chosen();
        if chosen == Instructions::Native && std::arch::is_x86_feature_detected!("avx512f") {
            Some(Self::Sixteen)
        } else if chosen != Instructions::Scalar && std::arch::is_x86_feature_detected!("avx2") {
            Some(Self::Eight)
        } else {
            None
        }
    }

    /// Writes pairs of inputs of a block of a vector of outputs in bfloat16, if the scales are plain.
    pub(super) fn widen_block(self, words: &[Line], scales: &[f32; LANES], into: &mut [Line]) -> bool {
        assert!(words.len() <= BLOCK / EIGHT && into.len().div_ceil(EIGHT / PAIR) <= words.len(), "inputs of a block");
        let plain = scales.iter().all(|scale| self::plain(*scale));
        if plain {
            // SAFETY: the processor has the instructions: `used` is the only place that makes a value.
            #[allow(unsafe_code, reason = "see above")]
            unsafe {
                match self {
                    Self::Sixteen => sixteen::widen_block(words, scales, into),
                    Self::Eight => eight::widen_block(words, scales, into),
                }
            }
        }
        plain
    }

    /// Turns eights of inputs of two outputs, from `output` of a vector on, into a pair of outputs of inputs, if their scales are plain.
    pub(super) fn turn_pair(self, from: &[Line], scales: &[f32; LANES], output: usize, into: &mut Line) -> bool {
        let scales = [scales[output], scales[output + 1]];
        let plain = scales.into_iter().all(plain);
        if plain {
            let word = |eight: usize, output: usize| from.get(eight).map_or(0, |line| line.0[output]).cast_signed();
            let words = [0, 1].map(|at| [word(0, output + at), word(1, output + at)]);
            // SAFETY: as above.
            #[allow(unsafe_code, reason = "see above")]
            unsafe {
                match self {
                    Self::Sixteen => sixteen::turn_pair(words, scales, into),
                    Self::Eight => eight::turn_pair(words, scales, into),
                }
            }
            into.0[from.len() * EIGHT..].fill(0);
        }
        plain
    }
}

/// 0, or so far from the ends of the range that no level times it is NaN, infinite or, but for 0, below the normal range.
fn plain(scale: f32) -> bool {
    const SMALLEST: f32 = 1e-30;
    scale == 0.0 || (SMALLEST..=1.0 / SMALLEST).contains(&scale)
}

/// Half of the last place of bfloat16, less what a tie to even may add.
const HALF: i32 = 0x7fff;

/// With vectors of sixteen.
mod sixteen {
    use std::arch::x86_64::{
        __m512, __m512i, _mm512_add_epi32, _mm512_and_si512, _mm512_castps_si512, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_mask_mov_epi32, _mm512_mul_ps, _mm512_or_si512, _mm512_permutexvar_ps, _mm512_set1_epi32,
        _mm512_set1_ps, _mm512_setr_epi32, _mm512_srli_epi32, _mm512_srlv_epi32, _mm512_storeu_si512,
    };

    use super::{EIGHT, HALF, LANES, LEVELS, Line, PAIR};

    #[target_feature(enable = "avx512f")]
    pub(super) fn widen_block(words: &[Line], scales: &[f32; LANES], into: &mut [Line]) {
        // SAFETY: arrays of sixteen numbers.
        #[allow(unsafe_code, reason = "see above")]
        let (levels, scales) = unsafe { (_mm512_loadu_ps(LEVELS.as_ptr()), _mm512_loadu_ps(scales.as_ptr())) };
        for (words, lines) in words.iter().zip(into.chunks_mut(EIGHT / PAIR)) {
            // SAFETY: a line is a vector.
            #[allow(unsafe_code, reason = "see above")]
            let mut words = unsafe { _mm512_loadu_si512(words.0.as_ptr().cast()) };
            for line in lines {
                let second = _mm512_srli_epi32::<4>(words);
                put(line, value(levels, words, scales), value(levels, second, scales));
                words = _mm512_srli_epi32::<8>(words);
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn turn_pair(words: [[i32; 2]; 2], [of_first, of_second]: [f32; 2], into: &mut Line) {
        // SAFETY: an array of sixteen numbers.
        #[allow(unsafe_code, reason = "see above")]
        let levels = unsafe { _mm512_loadu_ps(LEVELS.as_ptr()) };
        let [first, second] = [spread(words[0]), spread(words[1])];
        let first = value(levels, first, _mm512_set1_ps(of_first));
        put(into, first, value(levels, second, _mm512_set1_ps(of_second)));
    }

    /// Sixteen numbers of two words, each in the lowest bits of a lane.
    #[target_feature(enable = "avx512f")]
    fn spread([lower, upper]: [i32; 2]) -> __m512i {
        let both = _mm512_mask_mov_epi32(_mm512_set1_epi32(lower), 0xff00, _mm512_set1_epi32(upper));
        _mm512_srlv_epi32(both, _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28))
    }

    /// The levels of the numbers in the lowest four bits, which are all that a permutation reads, times the scales: the bits.
    #[target_feature(enable = "avx512f")]
    fn value(levels: __m512, numbers: __m512i, scales: __m512) -> __m512i {
        let bits = _mm512_castps_si512(_mm512_mul_ps(_mm512_permutexvar_ps(numbers, levels), scales));
        let even = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(HALF)), even)
    }

    /// Writes the upper halves of the bits of both.
    #[target_feature(enable = "avx512f")]
    fn put(line: &mut Line, first: __m512i, second: __m512i) {
        let upper = _mm512_and_si512(second, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
        let pair = _mm512_or_si512(_mm512_srli_epi32::<16>(first), upper);
        // SAFETY: a line is a vector.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            _mm512_storeu_si512(line.0.as_mut_ptr().cast(), pair);
        }
    }
}

/// With vectors of eight.
mod eight {
    use std::arch::x86_64::{
        __m256, __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_blendv_ps, _mm256_castps_si256,
        _mm256_castsi256_ps, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_mul_ps, _mm256_or_si256,
        _mm256_permutevar8x32_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_slli_epi32,
        _mm256_srli_epi32, _mm256_srlv_epi32, _mm256_storeu_si256,
    };

    use super::{EIGHT, HALF, LANES, LEVELS, Line, PAIR};

    #[target_feature(enable = "avx2")]
    pub(super) fn widen_block(words: &[Line], scales: &[f32; LANES], into: &mut [Line]) {
        let levels = levels();
        for (words, lines) in words.iter().zip(into.chunks_mut(EIGHT / PAIR)) {
            for (half, scales) in scales.as_chunks::<EIGHT>().0.iter().enumerate() {
                let first = half * EIGHT;
                // SAFETY: half of a line, and an array, of eight numbers.
                #[allow(unsafe_code, reason = "see above")]
                let (mut words, scales) = unsafe {
                    (_mm256_loadu_si256(words.0[first..][..EIGHT].as_ptr().cast()), _mm256_loadu_ps(scales.as_ptr()))
                };
                for line in &mut *lines {
                    let second = _mm256_srli_epi32::<4>(words);
                    let values = [value(levels, words, scales), value(levels, second, scales)];
                    put(&mut line.0.as_chunks_mut().0[half], values);
                    words = _mm256_srli_epi32::<8>(words);
                }
            }
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn turn_pair(words: [[i32; 2]; 2], [of_first, of_second]: [f32; 2], into: &mut Line) {
        let levels = levels();
        let scales = (_mm256_set1_ps(of_first), _mm256_set1_ps(of_second));
        for (half, into) in into.0.as_chunks_mut().0.iter_mut().enumerate() {
            let (first, second) = (spread(words[0][half]), spread(words[1][half]));
            put(into, [value(levels, first, scales.0), value(levels, second, scales.1)]);
        }
    }

    /// The lower and the upper eight levels.
    #[target_feature(enable = "avx2")]
    fn levels() -> [__m256; 2] {
        let [lower, upper] = [&LEVELS[..EIGHT], &LEVELS[EIGHT..]];
        // SAFETY: slices of eight numbers.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            [_mm256_loadu_ps(lower.as_ptr()), _mm256_loadu_ps(upper.as_ptr())]
        }
    }

    /// The eight numbers of a word, each in the lowest bits of a lane.
    #[target_feature(enable = "avx2")]
    fn spread(word: i32) -> __m256i {
        _mm256_srlv_epi32(_mm256_set1_epi32(word), _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28))
    }

    /// As with sixteen: a permutation reads the lowest three bits, and the fourth, put where a sign is, chooses between two.
    #[target_feature(enable = "avx2")]
    fn value([lower, upper]: [__m256; 2], numbers: __m256i, scales: __m256) -> __m256i {
        let of_lower = _mm256_permutevar8x32_ps(lower, numbers);
        let of_upper = _mm256_permutevar8x32_ps(upper, numbers);
        let is_upper = _mm256_castsi256_ps(_mm256_slli_epi32::<28>(numbers));
        let bits = _mm256_castps_si256(_mm256_mul_ps(_mm256_blendv_ps(of_lower, of_upper, is_upper), scales));
        let even = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(HALF)), even)
    }

    /// Writes the upper halves of the bits of both.
    #[target_feature(enable = "avx2")]
    fn put(into: &mut [u32; EIGHT], [first, second]: [__m256i; 2]) {
        let upper = _mm256_and_si256(second, _mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
        let pair = _mm256_or_si256(_mm256_srli_epi32::<16>(first), upper);
        // SAFETY: an array of eight numbers.
        #[allow(unsafe_code, reason = "see above")]
        unsafe {
            _mm256_storeu_si256(into.as_mut_ptr().cast(), pair);
        }
    }
}
