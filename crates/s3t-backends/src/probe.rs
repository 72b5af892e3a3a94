//! A digest of the results of a machine's arithmetic.
//!
//! Names of instructions do not say everything that decides bits: matrix products also choose the lengths in which they add
//! up by the sizes of the processor's caches. So a few fixed computations are run, and the digest of their bits is part of
//! the numeric environment. Two machines with one digest may still differ in something that was not computed; two with
//! different ones certainly do.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData, activation, module};
use s3t_core::digest::DigestBuilder;
use s3t_kernels::{Activation, AttentionShape, Norm, Visible};

/// The lengths of sums: below and above where products are cut into parts.
const LENGTHS: [usize; 4] = [64, 544, 768, 3072];

/// The digest of the bits that some products, activations and normalisations give on a device, in one thread as training
/// has it, and of the system's elementary functions.
pub(crate) fn digest(device: &Device) -> String {
    let one = || rayon::ThreadPoolBuilder::new().num_threads(1);
    // Where the machine starts no thread, the caller's is the one. Bits do not depend on whose it is.
    match one().build().or_else(|_| one().use_current_thread().build()) {
        Ok(pool) => pool.install(|| compute(device)),
        Err(_) => compute(device),
    }
}

fn compute(device: &Device) -> String {
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
        let product = rows.clone().matmul(columns);
        take(&mut digest, product.clone());
        // As in the gradient of a weight: the same lengths in the other layout.
        take(&mut digest, tensor([length, ROWS]).transpose().matmul(tensor([length, COLUMNS])));
        take(&mut digest, activation::softmax(product.clone(), 1));
        take(&mut digest, activation::gelu(product.clone()));
        take(&mut digest, activation::silu(product.clone()));
        take(&mut digest, activation::log_softmax(product.clone(), 1));
        take(&mut digest, product.clone().tanh());
        take(&mut digest, product.clone().square().mean_dim(1).add_scalar(1e-6).sqrt());
        take(&mut digest, product.mul_scalar(0.01).exp());
        let ones = Tensor::<1>::ones([length], device);
        take(&mut digest, module::layer_norm(rows.clone(), ones.clone(), Some(ones.clone()), 1e-6));
        let norm = Norm::Layer { weight: &ones, bias: &ones };
        take(&mut digest, s3t_kernels::normalise(rows.clone(), Some(rows.clone()), norm, 1e-6));
        for kind in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
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
    // The functions that the standard library takes from the system's mathematics: positions and priors are computed with it.
    let scalars = (1..64u32).flat_map(|step| {
        let x = f64::from(step) * 0.37;
        [x.sin(), x.cos(), x.ln(), x.exp(), 1e4f64.powf(-x / 24.0), x.sqrt()]
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
        let first = digest(&Device::flex());
        assert_eq!(first.len(), 16);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(pool.install(|| digest(&Device::flex())), first);
    }
}
