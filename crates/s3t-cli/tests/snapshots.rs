//! Texts that people read, kept as files: the help of every command, every table, refusals of the command line, and the output that the
//! README and the quickstart show.
//!
//! A change of these texts is made on purpose: `INSTA_UPDATE=always cargo test -p s3t-cli --test snapshots` writes the files in
//! `tests/snapshots` anew, and the difference is part of the commit. Figures that differ from machine to machine are written as
//! their names in brackets.

#[path = "snapshots/pipeline_page.rs"]
mod pipeline_page;
#[path = "snapshots/readme.rs"]
mod readme;
#[path = "all/workspace/mod.rs"]
#[allow(dead_code, reason = "this program uses a part of it")]
mod workspace;

use workspace::Workspace;

/// Figures of the machine, of the moment and of the folder, each with the name that stands for it. In this order.
const FIGURES: [(&str, &str); 9] = [
    (r"(/private)?/(tmp|var/folders)/[^ `:,;]*/\.tmp[A-Za-z0-9]+", "[folder]"),
    (r"s3t/[0-9a-f]{12,}\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+", "[public key]"),
    (r"\b[0-9a-f]{12,64}\b", "[key]"),
    (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[moment]"),
    (r"\b\d+(\.\d+)? (us|ms|s|min)\b", "[time]"),
    (r" *[+-]?\d+\.\d points", " [points]"),
    (r"(accuracy|ensemble[^\n]*records?|depth \d|epochs|ensemble) +\d+\.\d %", "$1 [score]"),
    (r"\[score\] +\d+\.\d %", "[score] [score]"),
    (r"(?m) +$", ""),
];

/// The widths of tables, for those whose columns are as wide as a figure of the machine.
const WIDTHS: [(&str, &str); 3] = [("─+", "───"), (r"  +", "   "), (r"(?m)^ +", " ")];

/// Compares a text with its file in `tests/snapshots`.
fn hold(name: &str, text: &str, filters: &[(&str, &str)]) {
    let mut text = text.to_owned();
    for (pattern, figure) in filters {
        text = regex::Regex::new(pattern).unwrap().replace_all(&text, *figure).into_owned();
    }
    // Stages stand in the order of their keys, which are others on another machine.
    let mut lines: Vec<&str> = text.lines().collect();
    let is_stage = |line: &str| line.trim_start().starts_with("[key]");
    lines.chunk_by_mut(|one, other| is_stage(one) && is_stage(other)).for_each(<[&str]>::sort_unstable);
    hold_as_it_stands(name, &lines.join("\n"));
}

fn hold_as_it_stands(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Everything that a command printed, and its exit code.
fn told(workspace: &Workspace, args: &[&str]) -> String {
    let ran = workspace.run(args);
    let mut text = format!("$ s3t {}\n{}", args.join(" "), ran.stdout);
    if !ran.stderr.is_empty() {
        text.push_str(&format!("--- standard error\n{}", ran.stderr));
    }
    if ran.code != 0 {
        text.push_str(&format!("--- exit code {}\n", ran.code));
    }
    text
}

/// Runs several commands and keeps what they told in one file. Figures of the machine are masked.
fn hold_all(name: &str, workspace: &Workspace, filters: &[(&str, &str)], commands: &[&[&str]]) {
    let texts: Vec<String> = commands.iter().map(|args| told(workspace, args)).collect();
    hold(name, &texts.join("\n"), filters);
}

/// Both masks.
fn figures_and_widths() -> Vec<(&'static str, &'static str)> {
    [&FIGURES[..], &WIDTHS].concat()
}

#[test]
fn the_help_of_every_command() {
    let workspace = Workspace::new();
    let mut waiting: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(path) = waiting.pop() {
        let mut command = &s3t_cli::command();
        for name in &path {
            command = command.find_subcommand(name).unwrap();
        }
        let children = command.get_subcommands().map(clap::Command::get_name);
        // A hidden command's help is for whoever knows it, and is kept too.
        waiting.extend(children.filter(|name| *name != "help").map(|name| [&path[..], &[name.to_owned()]].concat()));
        let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
        let ran = workspace.run(&args);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
        let name = if path.is_empty() { "help".to_owned() } else { format!("help-{}", path.join("-")) };
        // Help is the same everywhere, at the width of 100 columns that clap takes without a terminal.
        hold_as_it_stands(&name, &ran.stdout);
    }
}

#[test]
fn refusals_of_the_command_line() {
    hold_all(
        "refusals",
        &Workspace::new(),
        &FIGURES,
        &[
            &["--version"],
            &["trian", "pipeline.toml"],
            &["train"],
            &["train", "pipeline.toml", "--yes"],
            &["train", "nothing.toml"],
            &["verify", "pipeline.toml", "--scope", "everything"],
            &["predict", "pipeline.toml", "--model", "model"],
            &["predict"],
            &["plan", "--shards", "many"],
            &["plan", "--shards", "0", "--slices", "6"],
            &["plan", "--shards", "2", "--slices", "3", "--budget", "7"],
            &["repair", "pipeline.toml", "--below-depth", "2"],
            &["status", "pipeline.toml"],
            &["status", "pipeline.toml", "--json"],
            &["receipt", "show", "train.jsonl"],
        ],
    );
}

#[test]
fn tables_of_planning() {
    let workspace = Workspace::new();
    let shape = ["--shards", "5", "--slices", "6", "--budget", "6"];
    let with = |command: &'static str, more: &[&'static str]| [&[command], &shape[..], more].concat();
    hold_all(
        "planning",
        &workspace,
        &FIGURES,
        &[
            &["plan", "pipeline.toml"],
            &["plan", "pipeline.toml", "--utility", "0.3,0.6,0.9"],
            &with("plan", &["--records", "50000", "--prior", "0.3,0.2,0.2,0.1,0.1,0.1"]),
            &["advise", "--records", "50000", "--goal", "depth", "--after", "50"],
            &["advise", "pipeline.toml", "--requests-per-day", "2", "--days", "90", "--min-slice-records", "10"],
            &["advise", "pipeline.toml"],
            &with("simulate", &["--trials", "1000"]),
            &with("simulate", &["--trials", "200", "--stream", "adversarial"]),
        ],
    );
    let compare =
        ["compare-sequences", "--shards", "5", "--slices", "4", "--budget", "2", "--prior", "0.4,0.3,0.2,0.1"];
    hold_all("compare-sequences", &workspace, &figures_and_widths(), &[&compare]);
}

#[test]
fn tables_of_a_store_from_training_to_audit() {
    let workspace = Workspace::new();
    // The same partition every time.
    workspace.edit("pipeline.toml", "[store]\n", "[store]\nsecret = \"from-seed\"\n");
    std::fs::create_dir(workspace.path("exports")).unwrap();
    hold_all(
        "store",
        &workspace,
        &figures_and_widths(),
        &[
            &["init", "new.toml"],
            &["train", "pipeline.toml"],
            &["train", "pipeline.toml"],
            &["status", "pipeline.toml"],
            &["eval", "pipeline.toml"],
            &["export", "pipeline.toml", "--to", "exports/first"],
            &[
                "delete",
                "pipeline.toml",
                "--record",
                "record-3",
                "--request-id",
                "ticket-1",
                "--receipt",
                "receipt.json",
            ],
            &["delete", "pipeline.toml", "--record", "record-3", "--request-id", "ticket-1"],
            &["delete", "pipeline.toml", "--record", "record-4", "--request-id", "ticket-1"],
            &["delete", "pipeline.toml", "--subject", "subject-1", "--record", "record-5"],
            &["delete", "pipeline.toml", "--record", "record-3"],
            &["receipt", "show", "receipt.json"],
            &["receipt", "verify", "receipt.json", "--key", "store/ledger/key.pub", "--record", "record-3"],
            &["receipt", "verify", "receipt.json", "--key", "store/ledger/key.pub", "--record", "record-4"],
            &["status", "pipeline.toml"],
            &["store", "check", "pipeline.toml"],
            &["repair", "pipeline.toml", "--below-depth", "0.1"],
            &["repair", "pipeline.toml"],
            &["verify", "pipeline.toml", "--scope", "lineages"],
            &["verify", "pipeline.toml", "--scope", "all"],
            &["audit", "pipeline.toml", "--receipt", "receipt.json", "--absent-record", "record-3"],
            &["audit", "pipeline.toml", "--absent-record", "record-0", "--scope", "lineages"],
        ],
    );
}

#[test]
fn the_list_of_plugins() {
    hold_all("plugins", &Workspace::new(), &[], &[&["plugins"]]);
}

#[test]
fn every_command_has_a_manual_page_and_every_shell_a_script() {
    let workspace = Workspace::new();
    let ran = workspace.run(&["manual", "--to", "pages"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let read = |name: &str| std::fs::read_to_string(workspace.path("pages").join(name)).unwrap();
    for name in ["s3t.1", "s3t-train.1", "s3t-receipt-verify.1"] {
        assert!(read(name).contains(".SH DESCRIPTION"), "{name}");
    }
    for name in ["s3t.bash", "_s3t", "s3t.fish", "_s3t.ps1", "s3t.elv"] {
        assert!(read(name).contains("compare-sequences"), "{name}");
    }
}
