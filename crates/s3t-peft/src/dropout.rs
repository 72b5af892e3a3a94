//! Dropout whose every bit comes from the stage's lineage.

use burn::tensor::{Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3t_core::digest::DigestBuilder;

/// Sets a share of the values to zero and scales the others up, in training only (Srivastava et al. 2014).
///
/// # Proof note
///
/// *Before*: a training step has a seed that the trainer drew from the stage's own generator. *After*: which values are
/// zeroed is a function of that seed, the parameter's name and the tensor's size, so training a stage again gives the same
/// bits. *Why*: the mask is drawn from a generator of its own, seeded with the digest of the three; nothing global is read.
#[derive(Debug, Clone)]
pub struct Dropout {
    share: f64,
    seed: Option<[u8; 32]>,
}

impl Dropout {
    /// Dropout of `share`, seeded by a step and a name; without a seed, or with share 0, nothing is dropped.
    pub(crate) fn new(share: f64, seed: Option<(u64, String)>) -> Self {
        let digest = |(step, name): (u64, String)| {
            *DigestBuilder::new("dropout").number(step).bytes(name.as_bytes()).finish().as_bytes()
        };
        Self { share, seed: seed.filter(|_| share > 0.0).map(digest) }
    }

    /// True if values are dropped: in a training step, with a share above 0.
    pub fn drops(&self) -> bool {
        self.seed.is_some()
    }

    /// The tensor with a share of its values zeroed and the rest scaled by `1 / (1 - share)`; as it is when answering.
    pub fn apply<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let Some(seed) = self.seed else { return x };
        let mut rng = ChaCha8Rng::from_seed(seed);
        // A value is dropped if its 32 random bits are below this.
        let threshold = (self.share * f64::from(u32::MAX)) as u32;
        let kept = (1.0 / (1.0 - self.share)) as f32;
        let shape = x.shape();
        let mask: Vec<f32> =
            (0..shape.num_elements()).map(|_| if rng.next_u32() < threshold { 0.0 } else { kept }).collect();
        let mask = Tensor::<D>::from_data(TensorData::new(mask, shape), &x.device());
        x * mask
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::tensors::to_host;

    fn dropped(share: f64, seed: Option<(u64, &str)>) -> Vec<f32> {
        let dropout = Dropout::new(share, seed.map(|(step, name)| (step, name.to_owned())));
        to_host(dropout.apply(Tensor::<2>::ones([100, 40], &Device::flex())))
    }

    #[test]
    fn a_share_is_dropped_and_the_mean_stays() {
        let values = dropped(0.25, Some((1, "query")));
        let zeros = values.iter().filter(|value| **value == 0.0).count() as f64 / values.len() as f64;
        // Five standard deviations of a binomial with 4,000 draws.
        assert!((zeros - 0.25).abs() < 0.035, "{zeros}");
        assert!(values.iter().all(|value| *value == 0.0 || (*value - 4.0 / 3.0).abs() < 1e-6));
    }

    #[test]
    fn the_mask_is_a_function_of_step_and_name() {
        let base = dropped(0.5, Some((1, "query")));
        assert_eq!(dropped(0.5, Some((1, "query"))), base);
        assert_ne!(dropped(0.5, Some((2, "query"))), base);
        assert_ne!(dropped(0.5, Some((1, "value"))), base);
    }

    #[test]
    fn answering_drops_nothing() {
        assert!(dropped(0.5, None).iter().all(|value| *value == 1.0));
        assert!(dropped(0.0, Some((1, "query"))).iter().all(|value| *value == 1.0));
    }
}
