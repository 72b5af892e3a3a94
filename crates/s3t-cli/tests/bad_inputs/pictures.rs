//! The rows of picture files and of the image processor.

use super::workspace::Workspace;
use super::{Case, folder, planned};

/// A broken file of the golden pictures of `s3t-data`.
macro_rules! picture {
    ($name:literal) => {
        include_bytes!(concat!("../../../s3t-data/tests/golden-pictures/", $name))
    };
}

/// An image folder with this one picture.
fn one(w: &Workspace, name: &str, bytes: &[u8]) {
    folder(w, &format!("file,label\n{name},class-0\n"));
    w.write(&format!("images/{name}"), bytes);
}

/// An image folder with a sound picture of 30 x 24 pixels and one more setting.
fn setting(w: &Workspace, line: &str) {
    one(w, "plain.png", picture!("plain.png"));
    w.edit("pipeline.toml", "channels = 1", line);
}

/// A question for a sound picture of 30 x 24 pixels, to a model with this `preprocessor_config.json`.
fn processor(w: &Workspace, fields: &str) {
    w.write("plain.png", picture!("plain.png"));
    w.write("model/preprocessor_config.json", fields);
}

const ASK: &[&str] = &["predict", "--model", "model", "--image", "plain.png"];

const fn asked(situation: &'static str, spoil: fn(&Workspace), message: &'static str) -> Case {
    Case { part: "Pictures", situation, spoil, args: ASK, code: 2, message }
}

const fn read(situation: &'static str, spoil: fn(&Workspace), message: &'static str) -> Case {
    planned("Pictures", situation, spoil, message)
}

#[rustfmt::skip]
pub fn cases() -> Vec<Case> {
    vec![
        read("truncated JPEG", |w| one(w, "a.jpg", picture!("truncated-baseline-1.jpg")),
            "`list.csv` line 2: cannot read the image `images/a.jpg`: it is truncated; fetch it again"),
        read("truncated PNG", |w| one(w, "a.png", picture!("truncated-3.png")),
            "cannot read the image `images/a.png`: it is truncated; fetch it again"),
        read("truncated GIF", |w| one(w, "a.gif", picture!("truncated-2.gif")),
            "cannot read the image `images/a.gif`: it is truncated; fetch it again"),
        read("truncated WebP", |w| one(w, "a.webp", picture!("truncated-lossy-2.webp")),
            "cannot read the image `images/a.webp`: it is truncated; fetch it again"),
        read("truncated BMP", |w| one(w, "a.bmp", picture!("truncated-2.bmp")),
            "cannot read the image `images/a.bmp`: it is truncated; fetch it again"),
        read("truncated TIFF", |w| one(w, "a.tif", picture!("truncated-raw-2.tif")),
            "cannot read the image `images/a.tif`: it is truncated; fetch it again"),
        read("empty file", |w| one(w, "a.jpg", b""), "cannot read the image `images/a.jpg`: it is empty"),
        read("file of another kind", |w| one(w, "a.jpg", picture!("other.ppm")),
            "cannot read the image `images/a.jpg`: it is not a JPEG, PNG, WebP, GIF, BMP or TIFF file"),
        read("PNG with a wrong checksum", |w| one(w, "a.png", picture!("broken-data.png")),
            "cannot read the image `images/a.png`: the checksum of its `IDAT` is wrong; fetch it again"),
        read("PNG whose pixels are broken", |w| one(w, "a.png", picture!("broken-sum.png")),
            "cannot read the image `images/a.png`: it is not a sound PNG: Corrupt deflate stream"),
        read("PNG with a palette of 5 bytes", |w| one(w, "a.png", picture!("palette-of-5.png")),
            "cannot read the image `images/a.png`: its palette has 5 bytes; it takes 3 for each of 1 to 256 colours"),
        read("PNG without its palette", |w| one(w, "a.png", picture!("palette-missing.png")),
            "cannot read the image `images/a.png`: its palette is missing"),
        read("EXIF data that are none", |w| one(w, "a.png", picture!("exif-garbage.png")),
            "cannot read the image `images/a.png`: its EXIF data cannot be read"),
        read("run-length coded BMP", |w| one(w, "a.bmp", picture!("run-lengths.bmp")),
            "cannot read the image `images/a.bmp`: it is a run-length coded BMP, which is not supported; save it in another format"),
        read("TIFF with JPEG inside", |w| one(w, "a.tif", picture!("jpeg-inside.tif")),
            "cannot read the image `images/a.tif`: its `Compression` is 7; 1 (none), 5 (LZW), 8 and 32946 (deflate) and 32773 (PackBits) are supported"),
        read("TIFF of floating-point numbers", |w| one(w, "a.tif", picture!("f-samples.tif")),
            "cannot read the image `images/a.tif`: its `SampleFormat` is 3; 1 is supported"),
        read("more pixels than the limit", |w| setting(w, "max_pixels = 100"),
            "its 30x24 are 720 pixels, but the limit is 100; an image folder may set another in `max_pixels`"),
        read("more bytes than the limit", |w| setting(w, "max_bytes = 100"),
            "it has more than 100 bytes, which is the limit; an image folder may set another in `max_bytes`"),
        read("impossible limit of pixels", |w| setting(w, "max_pixels = 0"),
            "cannot be read with `max_pixels` = 0; it takes 1 to 268435456"),
        read("impossible limit of bytes", |w| setting(w, "max_bytes = 0"),
            "cannot be read with `max_bytes` = 0; it takes 1 to 4294967296"),
        read("other channels than the model's", |w| setting(w, "channels = 3"),
            "`list.csv`: cannot be read with `channels` = 3, because the model takes 1; leave `channels` out"),
        read("another size than the model's", |w| setting(w, "resize = [8, 8]"),
            "`list.csv`: cannot be read with `resize` = [8, 8], because the model takes 4x4 (height x width), and its own processor resizes pictures to that; leave `resize` out"),
        Case { part: "Pictures", situation: "a question's picture outside the folder of the questions",
            spoil: |w| w.write("questions.jsonl", "{\"image\": \"../plain.png\"}\n"),
            args: &["predict", "--model", "model", "--input", "questions.jsonl"], code: 2,
            message: "`questions.jsonl` line 1: `image` is `../plain.png`, which leads out of it; give a file below the folder of this file" },
        asked("a processor that leaves another size", |w| processor(w, r#"{"do_resize": false, "image_mean": 0.5, "image_std": 0.5}"#),
            "cannot use the image `plain.png`: the model's processor makes it 30x24, but the model takes 4x4; resize it before, or set `size`, `do_resize` and `do_center_crop` of `preprocessor_config.json`"),
        asked("a processor for a model of another size", |w| processor(w, r#"{"size": 8}"#),
            "`model/preprocessor_config.json`: `size` makes pictures of 8x8, but `image_size` of config.json is 4"),
        asked("a processor without a size", |w| processor(w, "{}"),
            "`model/preprocessor_config.json`: `size` is missing, which means 224 and makes pictures of 224x224, but `image_size` of config.json is 4"),
        asked("a crop of another size", |w| processor(w, r#"{"size": 4, "do_center_crop": true, "crop_size": 3}"#),
            "`model/preprocessor_config.json`: `crop_size` makes pictures of 3x3, but `image_size` of config.json is 4"),
        asked("a crop without a size", |w| processor(w, r#"{"size": 4, "do_center_crop": true}"#),
            "`model/preprocessor_config.json`: `crop_size` is missing; with `do_center_crop` it takes"),
        asked("an unknown size", |w| processor(w, r#"{"size": {"longest_edge": 4}}"#),
            "`model/preprocessor_config.json`: `size` is {\"longest_edge\":4}; it takes a side of 1 to 16384, or an object with"),
        asked("an unknown filter", |w| processor(w, r#"{"size": 4, "resample": 6}"#),
            "`model/preprocessor_config.json`: `resample` is 6; it takes 0 (nearest), 1 (lanczos), 2 (bilinear), 3 (bicubic), 4 (box) or 5 (hamming)"),
        asked("a switch that is no switch", |w| processor(w, r#"{"size": 4, "do_normalize": "yes"}"#),
            "`model/preprocessor_config.json`: `do_normalize` is \"yes\"; it takes true or false"),
        asked("padding", |w| processor(w, r#"{"size": 4, "do_pad": true}"#),
            "`model/preprocessor_config.json`: `do_pad` is true; padding of pictures is not supported"),
        asked("RGB for a model of grey pictures", |w| processor(w, r#"{"size": 4, "do_convert_rgb": true}"#),
            "`model/preprocessor_config.json`: `do_convert_rgb` is true, but the model takes 1 channels"),
        asked("a step of a processor that is not known", |w| processor(w, r#"{"size": 4, "do_flip_channel_order": true}"#),
            "`model/preprocessor_config.json`: `do_flip_channel_order` is true, a step that is not supported; known: crop_size,"),
        asked("a field that replaces a part of the processor", |w| processor(w, r#"{"size": 4, "auto_map": {"AutoImageProcessor": "a.B"}}"#),
            "`model/preprocessor_config.json`: `auto_map` is {\"AutoImageProcessor\":\"a.B\"}; it would replace a part of the image processor"),
        asked("a processor of another class", |w| processor(w, r#"{"size": 4, "image_processor_type": "CLIPImageProcessor"}"#),
            "`model/preprocessor_config.json`: `image_processor_type` is \"CLIPImageProcessor\"; supported: ViTImageProcessor, ViTImageProcessorFast, ViTImageProcessorPil, ViTFeatureExtractor"),
        asked("a scale of nothing", |w| processor(w, r#"{"size": 4, "rescale_factor": 0}"#),
            "`model/preprocessor_config.json`: `rescale_factor` is 0; it takes a positive number"),
        asked("means of other channels", |w| processor(w, r#"{"size": 4, "image_mean": [0.5, 0.4]}"#),
            "`model/preprocessor_config.json`: `image_mean` is [0.5,0.4]; it takes 1 usable numbers, one for each channel"),
    ]
}
