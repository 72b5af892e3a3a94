//! The output that the README and the quickstart show is what the program prints.

use std::fs;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use crate::workspace::{Workspace, repository};

/// Records that are kept of the quickstart's training data: the deleted subject's is among them.
const KEPT: usize = 240;

fn page(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap()
}

/// The first block of text in a page that has a line.
fn block(page: &str, with: &str) -> Vec<String> {
    let fenced = page.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("text\n"));
    let mut found = fenced.filter(|block| block.lines().any(|line| line == with));
    lines(found.next().unwrap_or_else(|| panic!("no block with the line {with}")))
}

/// Lines without padding; empty ones are left out.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// A line with each number as `#`, each key as `KEY`, and each run of spaces or of a rule as one.
fn masked(line: &str) -> String {
    let word = |word: &str| {
        let is_key = word.len() == 12 && word.chars().all(|c| c.is_ascii_hexdigit());
        let word = word.trim_start_matches(['+', '-']);
        match word.find(|c: char| c.is_ascii_digit()) {
            _ if is_key => "KEY".to_owned(),
            Some(_) => word.replace(|c: char| c.is_ascii_digit() || ",.".contains(c), "#"),
            None if word.starts_with('─') => "─".to_owned(),
            None => word.to_owned(),
        }
    };
    let mut text = line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    while text.contains("##") {
        text = text.replace("##", "#");
    }
    // A time has the unit that fits.
    for unit in ["us", "ms", "min"] {
        text = text.replace(&format!("# {unit}"), "# s");
    }
    text
}

/// Lines with their figures masked. Verified stages stand in the order of their keys, which are others for other records.
fn masked_lines(lines: &[String]) -> Vec<String> {
    let mut masked: Vec<String> = lines.iter().map(|line| masked(line)).collect();
    masked.chunk_by_mut(|one, other| one.starts_with("KEY") && other.starts_with("KEY")).for_each(<[String]>::sort);
    masked
}

#[test]
fn the_plan_on_the_page_is_the_plan_of_the_quickstart() {
    let pipeline = repository().join("examples/quickstart.toml");
    let plan = Workspace::new().run(&["plan", pipeline.to_str().unwrap()]);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    let shown = block(&page("docs/guide/quickstart.md"), "Plan");
    // Between the headings of `s3t run`: every figure is a function of the pipeline file and the data.
    let shown: Vec<String> = shown.into_iter().skip(1).take_while(|line| line != "Training").collect();
    let printed = lines(&plan.stdout);
    assert!(
        shown.len() > 10 && printed.starts_with(&shown),
        "the page shows\n{shown:#?}\nand the program\n{printed:#?}"
    );
}

#[test]
fn the_readme_shows_the_end_of_what_the_quickstart_shows() {
    let whole = block(&page("docs/guide/quickstart.md"), "Plan");
    let shown = block(&page("README.md"), "Verification");
    let mut rest = whole.iter();
    for line in &shown {
        assert!(rest.any(|other| other == line), "`{line}` is not in the quickstart, or not in this order");
    }
}

/// The quickstart itself takes minutes where dependencies alone are optimised: its first records, for one epoch, make the same output
/// with other figures.
#[test]
fn the_story_on_the_page_has_the_lines_that_the_program_prints() {
    let workspace = Workspace::new();
    let data = repository().join("data");
    fs::create_dir(workspace.path("examples")).unwrap();
    let text = page("examples/quickstart.toml").replace("epochs = 5", "epochs = 1");
    let text = text.replace("../data/", &format!("{}/", data.display()));
    let cut = |name: &str, header: usize, record: usize| {
        let mut bytes = Vec::new();
        let file = data.join(format!("fashion-mnist-small/train-{name}-ubyte.gz"));
        GzDecoder::new(fs::File::open(file).unwrap()).read_to_end(&mut bytes).unwrap();
        bytes.truncate(header + KEPT * record);
        bytes[4..8].copy_from_slice(&(KEPT as u32).to_be_bytes());
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&bytes).unwrap();
        workspace.write(&format!("{name}.gz"), encoder.finish().unwrap());
    };
    cut("images-idx3", 16, 28 * 28);
    cut("labels-idx1", 8, 1);
    let subjects = page("data/fashion-mnist-small/train-subjects.csv");
    let kept: String = subjects.lines().take(1 + KEPT).map(|line| format!("{line}\n")).collect();
    workspace.write("subjects.csv", kept);
    let folder = format!("{}/fashion-mnist-small/train-", data.display());
    let text = text.replace(&format!("{folder}images-idx3-ubyte.gz"), "../images-idx3.gz");
    let text = text.replace(&format!("{folder}labels-idx1-ubyte.gz"), "../labels-idx1.gz");
    let text = text.replace(&format!("{folder}subjects.csv"), "../subjects.csv");
    workspace.write("examples/quickstart.toml", text);

    let ran = workspace.run(&["run", "examples/quickstart.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let (shown, printed) = (block(&page("docs/guide/quickstart.md"), "Plan"), lines(&ran.stdout));
    assert_eq!(masked_lines(&shown), masked_lines(&printed), "{}", ran.stdout);
}
