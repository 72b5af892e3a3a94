//! Pictures as patches (Dosovitskiy et al. 2021, arXiv 2010.11929).

use burn::tensor::{Tensor, TensorData};
use s3t_peft::{Linear, Weight};

use super::Embedding;
use crate::pictures::PictureReader;
use crate::weights::Loader;
use crate::{Hidden, Input, ModelError};

/// The patches of pictures, by their modules in the file without the prefix.
#[derive(Debug, Clone)]
pub struct PatchSpec {
    /// The token before the patches, `[1, 1, hidden]`.
    pub class_token: &'static str,
    /// The positions of that token and of the patches, `[1, patches + 1, hidden]`.
    pub positions: &'static str,
    /// The projection of a patch, a convolution whose steps are as long as its patches.
    pub projection: &'static str,
    /// The side of a patch in pixels; the pictures' side is a multiple of it.
    pub patch: usize,
    /// The width of the residual stream.
    pub hidden: usize,
    /// The pictures.
    pub pictures: PictureReader,
}

/// Patches of a picture, with a class token before them and positions added.
#[derive(Debug)]
pub struct PatchEmbedding {
    spec: PatchSpec,
    /// `[1, hidden]`, with its position already added.
    class_token: Tensor<2>,
    /// `[patches, hidden]`.
    positions: Tensor<2>,
    projection: Linear,
}

impl PatchEmbedding {
    /// Takes the embedding out of the weights.
    ///
    /// # Errors
    ///
    /// The errors of [`Loader::tensor`].
    pub fn load(spec: PatchSpec, loader: &mut Loader<'_>) -> Result<Self, ModelError> {
        let (hidden, patches, side, channels) =
            (spec.hidden, spec.patches(), spec.patch, spec.pictures.shape().channels);
        let class_token = loader.tensor(spec.class_token, &[1, 1, hidden])?.reshape([1, hidden]);
        let positions = loader.tensor(spec.positions, &[1, patches + 1, hidden])?;
        let positions = positions.reshape([patches + 1, hidden]);
        let weight = loader.tensor(&format!("{}.weight", spec.projection), &[hidden, channels, side, side])?;
        let projection = Linear {
            weight: Weight::packed(&weight.reshape([hidden, spec.patch_values()]).transpose()),
            bias: Some(loader.tensor(&format!("{}.bias", spec.projection), &[hidden])?),
        };
        let first = positions.clone().slice([0..1, 0..hidden]);
        Ok(Self {
            class_token: class_token + first,
            positions: positions.slice([1..patches + 1, 0..hidden]),
            projection,
            spec,
        })
    }

    /// Appends a picture's patches, `[patches, channels * patch * patch]` in row-major order, to `values`.
    fn push_patches(&self, input: &Input<'_>, values: &mut Vec<f32>) {
        let side = self.spec.patch;
        let grid = self.spec.pictures.shape().side / side;
        let pixel = self.spec.pictures.pixels(input.record);
        for (patch_y, patch_x) in (0..grid).flat_map(|y| (0..grid).map(move |x| (y, x))) {
            for channel in 0..self.spec.pictures.shape().channels {
                for y in 0..side {
                    values.extend((0..side).map(|x| pixel(channel, patch_y * side + y, patch_x * side + x)));
                }
            }
        }
    }
}

impl PatchSpec {
    /// The number of patches of a picture.
    pub fn patches(&self) -> usize {
        (self.pictures.shape().side / self.patch).pow(2)
    }

    fn patch_values(&self) -> usize {
        self.pictures.shape().channels * self.patch * self.patch
    }
}

impl Embedding for PatchEmbedding {
    fn embed(&self, inputs: &[&Input<'_>], tokens: usize) -> Hidden {
        let (batch, patches, hidden) = (inputs.len(), self.spec.patches(), self.spec.hidden);
        debug_assert_eq!(tokens, patches + 1, "all pictures have as many tokens");
        let mut values = Vec::with_capacity(batch * patches * self.spec.patch_values());
        for input in inputs {
            self.push_patches(input, &mut values);
        }
        let device = self.positions.device();
        let pixels = Tensor::from_data(TensorData::new(values, [batch * patches, self.spec.patch_values()]), &device);
        let embedded = self.projection.forward(pixels).reshape([batch, patches, hidden]);
        let embedded = embedded + self.positions.clone().unsqueeze::<3>();
        let class = self.class_token.clone().unsqueeze::<3>().expand([batch, 1, hidden]);
        Hidden::new(Tensor::cat(vec![class, embedded], 1), vec![patches + 1; batch])
    }
}
