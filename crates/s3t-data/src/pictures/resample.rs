//! Resizing as Pillow 13 does it: a convolution in each direction, in fixed-point numbers, with 8 bits between them.

use s3t_core::picture::Filter;

use super::Pixels;

/// Fraction bits of a weight: 32, less 8 for a pixel and 2 for sums of weights above 1.
const PRECISION: u32 = 32 - 8 - 2;

/// The pixels at another size.
pub(super) fn resize(pixels: Pixels, height: u32, width: u32, filter: Filter) -> Pixels {
    if (pixels.height, pixels.width) == (height, width) {
        return pixels;
    }
    if filter == Filter::Nearest {
        return nearest(&pixels, height, width);
    }
    let across = |pixels: Pixels| if pixels.width == width { pixels } else { across(&pixels, width, filter) };
    let down = |pixels: Pixels| if pixels.height == height { pixels } else { down(&pixels, height, filter) };
    if down_first(&pixels, height, width) { across(down(pixels)) } else { down(across(pixels)) }
}

/// `true` if columns are resized before rows. Since its version 13, Pillow does so for a picture that loses more than twice as
/// many rows as columns.
pub(super) fn down_first(pixels: &Pixels, height: u32, width: u32) -> bool {
    let (rows, columns) = (i64::from(pixels.height) - i64::from(height), i64::from(pixels.width) - i64::from(width));
    rows > 0 && rows > columns * 2
}

fn nearest(pixels: &Pixels, height: u32, width: u32) -> Pixels {
    let positions = |from: u32, to: u32| {
        let step = f64::from(from) / f64::from(to);
        // Added up, not multiplied, so that the roundings are Pillow's.
        let mut at = step * 0.5;
        let mut next = || {
            let position = (at as u32).min(from - 1) as usize;
            at += step;
            position
        };
        (0..to).map(|_| next()).collect::<Vec<_>>()
    };
    let (rows, columns) = (positions(pixels.height, height), positions(pixels.width, width));
    let (channels, line) = (pixels.channels, pixels.line());
    let mut values = Vec::with_capacity(rows.len() * columns.len() * channels);
    for row in rows {
        let row = &pixels.values[row * line..][..line];
        columns.iter().for_each(|column| values.extend_from_slice(&row[column * channels..][..channels]));
    }
    Pixels { width, height, channels, values }
}

/// The old pixels that a new one is made from, and their weights.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

fn windows(from: u32, to: u32, filter: Filter) -> Vec<Window> {
    let scale = f64::from(from) / f64::from(to);
    let stretch = scale.max(1.0);
    let support = support(filter) * stretch;
    let window = |position: u32| {
        let centre = (f64::from(position) + 0.5) * scale;
        let start = ((centre - support + 0.5) as i64).max(0);
        let end = ((centre + support + 0.5) as i64).min(i64::from(from));
        let weight = |at: i64| weight(filter, (at as f64 - centre + 0.5) * (1.0 / stretch));
        let mut weights: Vec<f64> = (start..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        if sum != 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= sum);
        }
        let fixed = |weight: &f64| (weight * f64::from(1 << PRECISION) + 0.5_f64.copysign(*weight)) as i32;
        Window { start: start as usize, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

fn support(filter: Filter) -> f64 {
    match filter {
        Filter::Nearest => 0.0,
        Filter::Box => 0.5,
        Filter::Bilinear | Filter::Hamming => 1.0,
        Filter::Bicubic => 2.0,
        Filter::Lanczos => 3.0,
    }
}

fn weight(filter: Filter, x: f64) -> f64 {
    const A: f64 = -0.5;
    let sinc = |x: f64| {
        let x = x * std::f64::consts::PI;
        if x == 0.0 { 1.0 } else { x.sin() / x }
    };
    let distance = x.abs();
    match filter {
        Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
        Filter::Bilinear => (1.0 - distance).max(0.0),
        Filter::Hamming if distance == 0.0 => 1.0,
        Filter::Hamming if distance >= 1.0 => 0.0,
        Filter::Hamming => {
            let x = distance * std::f64::consts::PI;
            // Pillow writes the window in single precision.
            x.sin() / x * (f64::from(0.54_f32) + f64::from(0.46_f32) * x.cos())
        }
        Filter::Bicubic if distance < 1.0 => ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0,
        Filter::Bicubic if distance < 2.0 => (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A,
        Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
        Filter::Nearest | Filter::Bicubic | Filter::Lanczos => 0.0,
    }
}

/// A sum in fixed-point numbers as 8 bits.
fn clipped(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn across(pixels: &Pixels, width: u32, filter: Filter) -> Pixels {
    let (channels, line) = (pixels.channels, pixels.line());
    let windows = windows(pixels.width, width, filter);
    let mut values = Vec::with_capacity(windows.len() * pixels.height as usize * channels);
    for row in pixels.values.chunks_exact(line) {
        for window in &windows {
            for channel in 0..channels {
                let old = row[window.start * channels + channel..].iter().step_by(channels);
                let sum = old.zip(&window.weights).map(|(pixel, weight)| i32::from(*pixel) * weight);
                values.push(clipped(sum.fold(1 << (PRECISION - 1), i32::wrapping_add)));
            }
        }
    }
    Pixels { width, values, ..*pixels }
}

fn down(pixels: &Pixels, height: u32, filter: Filter) -> Pixels {
    let line = pixels.line();
    let mut values = Vec::with_capacity(height as usize * line);
    let mut sums = vec![0_i32; line];
    for window in windows(pixels.height, height, filter) {
        sums.fill(1 << (PRECISION - 1));
        for (row, weight) in pixels.values[window.start * line..].chunks_exact(line).zip(&window.weights) {
            sums.iter_mut().zip(row).for_each(|(sum, pixel)| *sum = sum.wrapping_add(i32::from(*pixel) * weight));
        }
        values.extend(sums.iter().map(|sum| clipped(*sum)));
    }
    Pixels { height, values, ..*pixels }
}
