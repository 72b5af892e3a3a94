//! The quickstart, composed in code: train, answer, forget a subject, verify.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::path::Path;

use s3t::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data");
    let labels = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot";
    let labels = Labels::new(labels.split(',').map(str::to_owned).collect())?;
    let images = |part: &str, subjects: Option<&str>| {
        Source::Idx(IdxSource {
            images: format!("{part}-images-idx3-ubyte.gz").into(),
            labels: format!("{part}-labels-idx1-ubyte.gz").into(),
            subjects: subjects.map(Into::into),
            id_prefix: "row-".into(),
        })
    };
    let folder = data.join("fashion-mnist-small");
    let train = images("train", Some("train-subjects.csv")).read(&folder, &Targets::classes(&labels))?;
    let test = images("test", None).read(&folder, &Targets::classes(&labels))?;

    // The store goes away with the temporary folder; a service keeps it where only it can read it.
    let store = tempfile::tempdir()?;
    let method =
        Lora { rank: 8, targets: ["query", "value", "up", "down"].map(str::to_owned).to_vec(), ..Lora::default() };
    let mut pipeline = Pipeline::new(data.join("vit-mnist"), store.path().join("store"), labels, method);
    pipeline.shape = PartitionShape { shards: 2, slices: 3 };
    pipeline.strategy = Box::new(Cyclic {});
    pipeline.budget = 3;
    // One epoch instead of the quickstart's five keeps the example short.
    pipeline.training = TrainingConfig { epochs: 1, learning_rate: 6e-3, ..TrainingConfig::default() };

    let system = System::create(pipeline, &train, None)?;
    let report = system.train(&Quiet)?;
    println!("{} stages trained; accuracy {:.3}", report.trained, evaluate(&system, &test)?.score);

    let deletion = system.delete(&[], &[SubjectId::new("owner-0042")?])?;
    for cut in &deletion.cuts {
        println!("{} was hit: served with {:?}, serves with {:?}", cut.address, cut.before, cut.after);
    }
    println!("accuracy after the deletion {:.3}", evaluate(&system, &test)?.score);

    let verified = system.verify(VerifyScope::Serving, &Quiet)?;
    println!("{} stages trained again; every bit equal: {}", verified.stages.len(), verified.passed());
    if verified.passed() { Ok(()) } else { Err("the verification found a difference".into()) }
}
