//! Pictures as a model takes them.

mod fields;
mod preprocessing;

use s3t_core::{Payload, PictureInput, Record};

use crate::{Input, ModelError};

pub use preprocessing::Preprocessing;
pub(crate) use preprocessing::read as read_preprocessing;

/// The size of the pictures that a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureShape {
    /// Height and width in pixels.
    pub side: usize,
    /// Colour channels.
    pub channels: usize,
}

impl PictureShape {
    /// The number of values of a picture.
    ///
    /// ```
    /// use s3t_models::pictures::PictureShape;
    ///
    /// assert_eq!(PictureShape { side: 224, channels: 3 }.values(), 150_528);
    /// ```
    pub fn values(self) -> usize {
        self.channels * self.side * self.side
    }
}

/// The reader of pictures: it checks their size and scales their pixels.
#[derive(Debug, Clone)]
pub struct PictureReader {
    shape: PictureShape,
    tokens: usize,
    preprocessing: Preprocessing,
    input: PictureInput,
}

impl PictureReader {
    /// A reader for a model that makes `tokens` tokens of a picture.
    pub fn new(shape: PictureShape, tokens: usize, preprocessing: Preprocessing) -> Self {
        Self { input: preprocessing.pictures(shape), shape, tokens, preprocessing }
    }

    /// The size of the pictures.
    pub fn shape(&self) -> PictureShape {
        self.shape
    }

    /// The tokens of a picture.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Pictures as the model takes them, with the steps of its own processor.
    pub fn input(&self) -> &PictureInput {
        &self.input
    }

    /// Checks that the model can take a record.
    pub(crate) fn prepare<'a>(&self, record: &'a Record) -> Result<Input<'a>, ModelError> {
        let PictureShape { side, channels: of_model } = self.shape;
        let fits = match &record.payload {
            Payload::Image { width, height, channels, pixels } => {
                (*width as usize, *height as usize, usize::from(*channels)) == (side, side, of_model)
                    && pixels.len() == self.shape.values()
            }
            Payload::Features(features) => {
                features.len() == self.shape.values() && features.iter().all(|value| value.is_finite())
            }
            Payload::Text(_) | Payload::TextPair(..) | Payload::Messages(_) => false,
        };
        if fits {
            let tokens = self.tokens;
            return Ok(Input {
                record,
                ids: Vec::new(),
                targets: Vec::new(),
                types: Vec::new(),
                cut: 0,
                tokens,
                length: tokens,
                padded: tokens,
            });
        }
        let expected = format!(
            "{side}x{side}x{of_model} images, or {} finite features as channel, row, column",
            self.shape.values()
        );
        Err(ModelError::WrongInput { record: record.id.to_string(), found: record.payload.describe(), expected })
    }

    /// The values of a record that was prepared, by channel, row and column: scaled pixels, or features as they are.
    pub(crate) fn pixels(&self, record: &Record) -> impl Fn(usize, usize, usize) -> f32 {
        let PictureShape { side, channels } = self.shape;
        let Preprocessing { rescale_factor, image_mean, image_std, .. } = &self.preprocessing;
        move |channel: usize, y: usize, x: usize| match &record.payload {
            Payload::Image { pixels, .. } => {
                let value = f64::from(pixels[(y * side + x) * channels + channel]);
                let scaled = value * rescale_factor - image_mean[channel];
                (scaled / image_std[channel]) as f32
            }
            Payload::Features(features) => features[(channel * side + y) * side + x],
            Payload::Text(_) | Payload::TextPair(..) | Payload::Messages(_) => {
                unreachable!("prepared records are images or features")
            }
        }
    }
}
