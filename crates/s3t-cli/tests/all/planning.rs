//! The commands that plan a system before it is trained.

use crate::workspace::Workspace;

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

#[test]
fn plan_works_from_flags_from_a_file_and_from_both() {
    let workspace = Workspace::new();
    let flags = workspace.json(&["plan", "--shards", "5", "--slices", "6", "--budget", "6"]);
    assert!((number(&flags["mean_deletions"]) - 119.85).abs() < 0.01);
    assert_eq!(flags["cost"]["shared"]["stages"], 180);
    assert_eq!(flags["lifetime"]["independent"]["adversary_all"], 30);
    assert_eq!(flags["upkeep"].as_array().unwrap().len(), 4);
    let file = workspace.json(&["plan", "pipeline.toml"]);
    assert_eq!((&file["shape"]["shards"], &file["cost"]["shared"]["stages"]), (&2.into(), &8.into()));
    let both = workspace.json(&["plan", "pipeline.toml", "--slices", "4", "--budget", "24", "--strategy", "all"]);
    // All orders of 4 slices: 4 + 12 + 24 + 24 prefixes for each of 2 shards.
    assert_eq!((&both["cost"]["shared"]["stages"], &both["cost"]["unshared"]["stages"]), (&128.into(), &192.into()));
    assert!(!workspace.path("store").exists());
    let people = workspace.run(&["plan", "pipeline.toml", "--utility", "0.3,0.6,0.9"]).stdout;
    for part in
        ["deletions it lasts", "expected best depth", "expected utility", "Lemma 2", "SISA, retrained when dead"]
    {
        assert!(people.contains(part), "no `{part}` in {people}");
    }
}

#[test]
fn plan_of_a_store_is_about_what_is_left() {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    workspace.json(&["delete", "pipeline.toml", "--subject", "subject-1"]);
    assert_eq!(workspace.json(&["plan", "pipeline.toml"])["records"], 58);
}

#[test]
fn a_prior_from_subjects_works_from_the_pipeline_and_survives_its_file() {
    let workspace = Workspace::new();
    workspace.edit("pipeline.toml", "type = \"cyclic\"", "type = \"auto\"");
    workspace.edit("pipeline.toml", "budget = 2", "budget = 1\nprior = \"prior.csv\"");
    let rows: Vec<String> = (0..20).map(|subject| format!("subject-{subject},0.{}\n", subject % 10)).collect();
    let rows = rows.concat();
    workspace.write("prior.csv", format!("subject,probability\n{rows}"));
    let plan = workspace.json(&["plan", "pipeline.toml"]);
    assert!(plan["reason"].as_str().unwrap().contains("one sequence"));
    workspace.json(&["train", "pipeline.toml"]);
    workspace.json(&["delete", "pipeline.toml", "--subject", "subject-9"]);
    // The person's number goes too; the sequences stay as they were chosen.
    workspace.write("prior.csv", format!("subject,probability\n{}", rows.replace("subject-9,0.9\n", "")));
    workspace.json(&["repair", "pipeline.toml"]);
    assert_eq!(workspace.json(&["verify", "pipeline.toml", "--scope", "all"])["verification"]["passed"], true);
}

#[test]
fn simulate_agrees_with_the_exact_figures_and_with_itself() {
    let workspace = Workspace::new();
    let args = ["simulate", "--shards", "5", "--slices", "4", "--budget", "2", "--trials", "20000", "--seed", "3"];
    let first = workspace.json(&args);
    let (mean, error) = (number(&first["mean_deletions"]), number(&first["standard_error"]));
    // 5 x 4 x H_10; five standard errors fail once in a million seeds, and the seed is fixed.
    assert!((mean - 58.579).abs() < 5.0 * error && error < 0.3, "{mean} {error}");
    assert!((number(&first["exact"]) - 58.579).abs() < 1e-3);
    let mut again = workspace.json(&args);
    let mut threads = workspace.command();
    let one = threads.args(args).arg("--json").env("RAYON_NUM_THREADS", "1").output().unwrap();
    let mut one: serde_json::Value = serde_json::from_slice(&one.stdout).unwrap();
    let mut first = first;
    for run in [&mut first, &mut again, &mut one] {
        run["seconds"] = 0.into();
    }
    assert_eq!((&first, &first), (&again, &one));

    let finite = workspace.json(&["simulate", "pipeline.toml", "--finite", "--trials", "4000"]);
    let (mean, error) = (number(&finite["mean_deletions"]), number(&finite["standard_error"]));
    assert!((mean - number(&finite["exact"])).abs() < 5.0 * error, "{finite}");
    let prior = workspace.json(&["simulate", "--shards", "2", "--slices", "2", "--prior", "0.9,0.1", "--budget", "1"]);
    let (mean, error) = (number(&prior["mean_deletions"]), number(&prior["standard_error"]));
    assert!((mean - number(&prior["exact"])).abs() < 5.0 * error);
}

#[test]
fn shards_get_their_own_sequences_and_immortal_systems_are_given_up() {
    let workspace = Workspace::new();
    // Two orders of two slices: shards that draw them alike by chance are no reason to take all for alike.
    for seed in ["1", "2", "3", "4"] {
        let plan = workspace.json(&[
            "plan",
            "--shards",
            "100",
            "--slices",
            "2",
            "--budget",
            "1",
            "--strategy",
            "random",
            "--prior",
            "0.9,0.1",
            "--seed",
            seed,
        ]);
        assert_eq!(plan["sequences"].as_array().unwrap().len(), 100);
        assert!((4000.0..5100.0).contains(&number(&plan["mean_deletions"])), "{}", plan["mean_deletions"]);
    }
    let immortal =
        workspace.json(&["simulate", "--shards", "2", "--slices", "2", "--prior", "1.0,0.0", "--budget", "2"]);
    assert_eq!(immortal["lifetimes"]["survived"], 10_000);
    let rare = workspace.json(&[
        "plan",
        "--shards",
        "1",
        "--slices",
        "4",
        "--budget",
        "4",
        "--prior",
        "1e-12,1e-12,1e-12,1e-12",
    ]);
    assert!(number(&rare["mean_deletions"]) > 1e12);
}

#[test]
fn advise_takes_what_is_given() {
    let workspace = Workspace::new();
    let advice = workspace.json(&["advise", "--shards", "3", "--slices", "4", "--budget", "2"]);
    assert_eq!(advice["recommended"]["shape"], serde_json::json!({ "shards": 3, "slices": 4 }));
    let deep =
        workspace.json(&["advise", "--goal", "depth", "--after", "10", "--requests-per-day", "1", "--days", "150"]);
    let cheap = workspace.json(&["advise", "--requests-per-day", "1", "--days", "150"]);
    assert_eq!(deep["recommended"]["cost"], cheap["recommended"]["cost"], "the cheapest is the same for either goal");
}

#[test]
fn every_stream_can_be_simulated() {
    let workspace = Workspace::new();
    workspace.write("trace.csv", "subject\nann\nbob\nann\ncleo\n");
    let system = ["simulate", "--shards", "3", "--slices", "4", "--budget", "3", "--trials", "200"];
    for (stream, more) in [
        ("uniform", &[][..]),
        ("prior", &[]),
        ("adversarial", &[]),
        ("bursty", &["--burst", "3"]),
        ("subjects", &["--subject-records", "2", "--scattered"]),
        ("trace", &["--trace", "trace.csv"]),
    ] {
        let found = workspace.json(&[&system[..], &["--stream", stream], more].concat());
        assert_eq!(found["stream"], stream);
        assert!(number(&found["mean_deletions"]) > 0.0);
        if stream == "trace" {
            assert_eq!(found["lifetimes"]["survived"], 200, "four requests kill nobody");
        }
    }
    let told = workspace.run(&[&system[..], &["--stream", "trace", "--trace", "trace.csv"]].concat()).stdout;
    assert!(told.contains("200 of 200 trials ended before every shard was dead"), "{told}");
}

#[test]
fn advise_recommends_what_lasts_and_compare_ranks_strategies() {
    let workspace = Workspace::new();
    let advice = workspace.json(&["advise", "--requests-per-day", "1", "--days", "60"]);
    assert!(number(&advice["mean_deletions"]) >= 60.0);
    assert!(advice["front"].as_array().unwrap().len() > 3);
    let small = workspace.json(&["advise", "pipeline.toml", "--min-slice-records", "5"]);
    assert_eq!(small["recommended"]["blocks_per_slice"], 2);

    let args = ["compare-sequences", "--shards", "5", "--slices", "4", "--budget", "2", "--prior", "0.4,0.3,0.2,0.1"];
    let compared = workspace.json(&args);
    let names: Vec<&str> =
        compared["strategies"].as_array().unwrap().iter().map(|one| one["strategy"].as_str().unwrap()).collect();
    // The two that search for the best depth lead; they choose alike here.
    assert_eq!(names[..2], ["auto", "greedy"]);
    assert_eq!(compared["refused"].as_array().unwrap().len(), 2, "`all` and `single` cannot make two");
    let tables =
        workspace.json(&[&args[..], &["--strategies", "bms,{ type = \"bms\", t = 3, score = \"depth\" }"]].concat());
    assert_eq!(tables["strategies"].as_array().unwrap().len(), 2);
    let one = workspace.run(&[&args[..], &["--strategies", "single"]].concat());
    assert_eq!(one.code, 2);
    assert!(one.stderr.contains("it makes exactly 1"), "{}", one.stderr);
}

#[test]
fn pictures_are_drawn_in_both_formats() {
    let workspace = Workspace::new();
    let system = ["--shards", "3", "--slices", "3", "--budget", "2"];
    for (command, against) in [
        ("plan", &["--against", "requests"][..]),
        ("plan", &["--against", "budget"]),
        ("plan", &["--against", "shards"]),
        ("plan", &["--against", "slices"]),
        ("plan", &["--against", "upkeep"]),
        ("simulate", &[]),
        ("compare-sequences", &[]),
        ("advise", &[]),
    ] {
        for (name, start) in [("figure.svg", &b"<svg"[..]), ("figure.png", b"\x89PNG")] {
            let told = workspace.run(&[&[command][..], &system[..], against, &["--plot", name]].concat());
            assert_eq!(told.code, 0, "{command}: {}", told.stderr);
            assert!(told.stdout.contains(&format!("drawn in {name}")), "{}", told.stdout);
            assert!(std::fs::read(workspace.path(name)).unwrap().starts_with(start), "{command} {against:?} {name}");
        }
    }
}
