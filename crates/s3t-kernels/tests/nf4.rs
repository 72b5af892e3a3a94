//! Weights in 4 bits beside `bitsandbytes`, which made the golden file (`xtask/golden/nf4.py`).

use burn::tensor::{Device, Tensor, TensorData};
use s3t_kernels::Weight;

const SHAPE: [usize; 2] = [24, 192];

#[test]
fn values_are_those_of_bitsandbytes() {
    let bytes = include_bytes!("golden/nf4.bin");
    let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let (weights, values) = numbers.split_at(SHAPE[0] * SHAPE[1]);
    assert_eq!(weights.len(), values.len());
    let weights = Tensor::<2>::from_data(TensorData::new(weights.to_vec(), SHAPE), &Device::default());
    let rounded = Weight::in_nibbles(&weights.transpose()).full().transpose();
    let found = rounded.into_data().try_to_vec::<f32>().unwrap();
    for (place, (found, expected)) in found.iter().zip(values).enumerate() {
        assert!(found == expected, "output {}, input {}: {found} and {expected}", place / SHAPE[1], place % SHAPE[1]);
    }
}
