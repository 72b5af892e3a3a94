//! The steps from a picture file to the pixels that a model takes.

use serde::{Deserialize, Serialize};

/// A picture as a model of images takes it, and the steps of the model's own processor that lead there.
///
/// The steps are constants of the base model: nothing in them comes from records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureInput {
    /// 1 for grey, 3 for RGB; other numbers are for features only.
    pub channels: u8,
    /// Height of the model's input in pixels.
    pub height: u32,
    /// Width of the model's input in pixels.
    pub width: u32,
    /// Resizing and cropping, in this order, before the numbers are scaled.
    pub steps: PictureSteps,
}

/// Resizing and cropping of 8-bit pixels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureSteps {
    /// The new size, if the picture is resized.
    pub resize: Option<Resize>,
    /// `[height, width]` of the middle part that is cut out, if the picture is cropped; a smaller picture is padded with
    /// zeros.
    pub crop: Option<[u32; 2]>,
}

/// Resizing of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// The size that the picture gets.
    pub size: PictureSize,
    /// The filter that weighs the old pixels.
    pub filter: Filter,
}

/// The size that a picture gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureSize {
    /// This height and width, whatever the proportions were.
    Exact {
        /// Height in pixels.
        height: u32,
        /// Width in pixels.
        width: u32,
    },
    /// The shorter edge gets this length, and the longer one keeps the proportions.
    ShortestEdge(u32),
    /// The shorter edge gets the first length, unless the longer one would then exceed the second.
    Edges {
        /// The length of the shorter edge.
        shortest: u32,
        /// The largest length of the longer edge.
        longest: u32,
    },
    /// As large as fits into a box, in the old proportions.
    Within {
        /// The height of the box.
        max_height: u32,
        /// The width of the box.
        max_width: u32,
    },
}

/// A filter of resizing, with the names and the mathematics of Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// The nearest pixel.
    Nearest,
    /// A windowed sinc over three pixels a side.
    Lanczos,
    /// A triangle.
    Bilinear,
    /// A cubic with a = -0.5.
    Bicubic,
    /// The mean of a box.
    Box,
    /// A Hamming window.
    Hamming,
}

impl PictureSize {
    /// `[height, width]` of a picture that had this height and width, computed as `transformers` computes it.
    pub fn of(self, height: u32, width: u32) -> [u32; 2] {
        let (high, wide) = (f64::from(height), f64::from(width));
        match self {
            Self::Exact { height, width } => [height, width],
            Self::ShortestEdge(edge) => {
                let (short, long) = if width <= height { (wide, high) } else { (high, wide) };
                let longer = (f64::from(edge) * long / short) as u32;
                if width <= height { [longer, edge] } else { [edge, longer] }
            }
            Self::Edges { shortest, longest } => {
                let (short, long) = (high.min(wide), high.max(wide));
                let mut size = f64::from(shortest);
                let mut raw = size;
                if long / short * size > f64::from(longest) {
                    raw = f64::from(longest) * short / long;
                    size = raw.round_ties_even();
                }
                if (height <= width && high == size) || (width <= height && wide == size) {
                    [height, width]
                } else if width < height {
                    [(raw * high / wide) as u32, size as u32]
                } else {
                    [size as u32, (raw * wide / high) as u32]
                }
            }
            Self::Within { max_height, max_width } => {
                let scale = (f64::from(max_height) / high).min(f64::from(max_width) / wide);
                [(high * scale) as u32, (wide * scale) as u32]
            }
        }
    }
}

impl PictureInput {
    /// The input of a model without a processor of its own: resized to the model's size, which is what a processor does by
    /// default.
    pub fn resized(channels: u8, height: u32, width: u32) -> Self {
        let resize = Resize { size: PictureSize::Exact { height, width }, filter: Filter::Bilinear };
        Self { channels, height, width, steps: PictureSteps { resize: Some(resize), crop: None } }
    }

    /// `[height, width]` after the steps, if it does not depend on the picture.
    pub fn fixed_size(&self) -> Option<[u32; 2]> {
        match (self.steps.crop, self.steps.resize) {
            (Some(size), _) => Some(size),
            (None, Some(Resize { size: PictureSize::Exact { height, width }, .. })) => Some([height, width]),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_transformers() {
        // From `get_resize_output_image_size`, `get_size_with_aspect_ratio` and `get_image_size_for_max_height_width`.
        for (size, height, width, expected) in [
            (PictureSize::Exact { height: 3, width: 5 }, 10, 10, [3, 5]),
            (PictureSize::ShortestEdge(10), 24, 30, [10, 12]),
            (PictureSize::ShortestEdge(10), 31, 24, [12, 10]),
            (PictureSize::ShortestEdge(10), 7, 7, [10, 10]),
            (PictureSize::Edges { shortest: 10, longest: 11 }, 24, 30, [9, 11]),
            (PictureSize::Edges { shortest: 10, longest: 40 }, 24, 30, [10, 12]),
            (PictureSize::Edges { shortest: 24, longest: 40 }, 24, 30, [24, 30]),
            (PictureSize::Within { max_height: 50, max_width: 50 }, 100, 200, [25, 50]),
            (PictureSize::Within { max_height: 200, max_width: 500 }, 100, 200, [200, 400]),
        ] {
            assert_eq!(size.of(height, width), expected, "{size:?} of {height}x{width}");
        }
    }
}
