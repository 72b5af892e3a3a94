//! A digest of the results of a machine's arithmetic: the self-test of an arithmetic that is promised to be the same everywhere, and a
//! part of the numeric environment of one that is not.
//!
//! A few fixed computations are run, and the digest of their bits is compared. Two machines with one digest may still differ in something
//! that was not computed; two with different digests certainly do.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use s3t_core::digest::DigestBuilder;
use s3t_kernels::{Activation, AttentionShape, Norm, Targets, Visible, Weight};

/// The lengths of sums: below and above where products are cut into parts.
const LENGTHS: [usize; 4] = [64, 544, 768, 3072];

/// The digest of the bits that some products, activations and normalisations give on a device, in one thread as training
/// has it, and of elementary functions. With `has_forms` products with every form of frozen weights are among them: devices other than
/// `flex` do not have all.
pub(crate) fn digest(device: &Device, has_forms: bool) -> String {
    let one = || rayon::ThreadPoolBuilder::new().num_threads(1);
    // Where the machine starts no thread, the caller's is the one. Bits do not depend on whose it is.
    match one().build().or_else(|_| one().use_current_thread().build()) {
        Ok(pool) => pool.install(|| compute(device, has_forms)),
        Err(_) => compute(device, has_forms),
    }
}

fn compute(device: &Device, has_forms: bool) -> String {
    const ROWS: usize = 34;
    const COLUMNS: usize = 48;
    let mut state = 1u64;
    let mut tensor = |shape: [usize; 2]| {
        let values: Vec<f32> = (0..shape[0] * shape[1])
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect();
        Tensor::<2>::from_data(TensorData::new(values, shape), device)
    };
    let mut digest = DigestBuilder::new("probe");
    let take = |digest: &mut DigestBuilder, tensor: Tensor<2>| {
        let values = tensor.into_data().convert::<f32>().try_into_vec::<f32>().expect("the data was converted to f32");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_bits().to_le_bytes()).collect();
        digest.bytes(&bytes);
    };
    for length in LENGTHS {
        let (rows, columns) = (tensor([ROWS, length]), tensor([length, COLUMNS]));
        let product = s3t_kernels::matmul(rows.clone(), columns.clone());
        // The same product, of weights that are laid out for it; the product itself is in the losses below.
        take(&mut digest, s3t_kernels::linear(rows.clone(), &Weight::packed(&columns), None));
        // As in the gradient of a weight: the same lengths in the other layout.
        take(&mut digest, s3t_kernels::matmul(tensor([length, ROWS]).transpose(), tensor([length, COLUMNS])));
        // A few rows, and weights that lie the other way round.
        let few = rows.clone().slice([0..3, 0..length]);
        take(&mut digest, s3t_kernels::linear_by_row(&few, &columns.into(), None, &[None]));
        take(
            &mut digest,
            s3t_kernels::linear_by_row(&few, &tensor([COLUMNS, length]).transpose().into(), None, &[None]),
        );
        // Their products have instructions of their own.
        if has_forms {
            let weight = tensor([length, COLUMNS]);
            for weight in [Weight::halved(&weight), Weight::in_bytes(&weight), Weight::in_nibbles(&weight)] {
                take(&mut digest, s3t_kernels::linear(rows.clone(), &weight, None));
            }
        }
        let classes = Arc::new(Targets::Classes((0..ROWS as u32).collect()));
        take(&mut digest, s3t_kernels::loss(product.clone(), &classes).unsqueeze());
        let labels = Arc::new(Targets::Labels(vec![1.0; ROWS * COLUMNS]));
        take(&mut digest, s3t_kernels::loss(product, &labels).unsqueeze());
        let ones = Tensor::<1>::ones([length], device);
        for norm in [Norm::Layer { weight: &ones, bias: &ones }, Norm::Rms { weight: &ones }] {
            take(&mut digest, s3t_kernels::normalise(rows.clone(), Some(rows.clone()), norm, 1e-6));
        }
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Tanh] {
            take(&mut digest, s3t_kernels::activate(rows.clone(), kind));
        }
        let visible = Visible::Causal(1);
        let (heads, queries, keys) = (4, ROWS, ROWS);
        let shape = AttentionShape {
            batch: 1,
            heads,
            kv_heads: heads,
            head_dim: length / heads,
            queries,
            keys,
            visible,
            window: None,
        };
        take(&mut digest, s3t_kernels::attention(rows.clone(), rows.clone(), rows, &Arc::new(shape)));
    }
    // The functions that positions, learning rates and answers are computed with.
    let scalars = (1..64u32).flat_map(|step| {
        let x = f64::from(step) * 0.37;
        let single = f64::from(libm::expf(-x as f32));
        [libm::sin(x), libm::cos(x), libm::log(x), libm::exp(x), libm::pow(1e4, -x / 24.0), x.sqrt(), single]
    });
    let scalars: Vec<u8> = scalars.flat_map(|value| value.to_bits().to_le_bytes()).collect();
    digest.bytes(&scalars);
    digest.finish().to_string()[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "flex")]
    #[test]
    fn the_digest_is_always_the_same_and_does_not_depend_on_threads_around_it() {
        let first = digest(&Device::flex(), true);
        assert_eq!(first.len(), 16);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(pool.install(|| digest(&Device::flex(), true)), first);
    }
}
