//! `s3t attack`, `s3t audit --attack` and `s3t compare-methods` as their users run them.

use crate::workspace::Workspace;

#[test]
fn a_store_is_attacked_in_a_copy_and_the_report_is_a_page() {
    let workspace = Workspace::new();
    workspace.json(&["train", "pipeline.toml"]);
    let before = workspace.json(&["status", "pipeline.toml"]);
    let ran = workspace.run(&["attack", "pipeline.toml", "--html", "attack.html", "--members", "10"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for part in ["records (", "before", "after", "oracle", "planted leak", "Oracle: ", "equal, bit for bit"] {
        assert!(ran.stdout.contains(part), "no `{part}` in {}", ran.stdout);
    }
    let page = std::fs::read_to_string(workspace.path("attack.html")).unwrap();
    let first = ran.stdout.lines().next().unwrap();
    assert!(page.contains(&first.replace('"', "&quot;")), "the page has the first line of the report");
    for part in ["<svg", "PrivLeak", "forget quality", "planted leak", "What this does not say", "role=\"img\""] {
        assert!(page.contains(part), "no `{part}` in the page");
    }
    assert!(
        !page.contains("http://") || page.matches("http://").all(|_| page.contains("http://www.w3.org")),
        "nothing from elsewhere"
    );
    assert_eq!(workspace.json(&["status", "pipeline.toml"]), before, "the store was not changed");
    assert_eq!(workspace.run(&["attack", "pipeline.toml", "--html", "attack.html"]).code, 2, "a report is a new file");
}

#[test]
fn an_audit_attacks_by_the_settings_of_the_pipeline() {
    let workspace = Workspace::new();
    workspace.append("pipeline.toml", "\n[attack]\nmembers = 8\nreferences = 2\n");
    workspace.json(&["train", "pipeline.toml"]);
    workspace.json(&["delete", "pipeline.toml", "--subject", "subject-2"]);
    workspace.json(&["repair", "pipeline.toml"]);
    let plain = workspace.json(&["audit", "pipeline.toml"]);
    assert!(plain["audit"].get("attack").is_none());
    let answer = workspace.json(&["audit", "pipeline.toml", "--attack", "--html", "audit.html"]);
    let attack = &answer["audit"]["attack"];
    assert_eq!(answer["audit"]["passed"], true);
    assert_eq!((&attack["copy_equal"], &attack["oracle"]["answers_equal"]), (&true.into(), &true.into()));
    assert_eq!((&attack["settings"]["members"], &attack["settings"]["references"]), (&8.into(), &2.into()));
    let reports = attack["attacks"].as_array().unwrap();
    assert!(reports.iter().any(|report| report["attack"]["name"] == "rmia"), "{reports:?}");
    for report in reports {
        assert_eq!(report["after"], report["oracle"]);
        assert_eq!(report["comparison"]["forget_quality"]["p_value"], 1.0);
        assert!(report.get("scores").is_none());
    }
    let page = std::fs::read_to_string(workspace.path("audit.html")).unwrap();
    assert!(page.contains("Audit of store") && page.contains("<h2>Audit by attack</h2>") && page.contains("<svg"));
    assert_eq!(workspace.run(&["store", "check", "pipeline.toml"]).code, 0);
}

#[test]
fn without_a_store_a_copy_is_trained_and_named_subjects_are_attacked() {
    let workspace = Workspace::new();
    let answer = workspace.json(&["attack", "pipeline.toml", "--subject", "subject-1", "--subject", "subject-4"]);
    assert_eq!((&answer["attack"]["subjects"], &answer["attack"]["copy_equal"]), (&2.into(), &serde_json::Value::Null));
    assert!(!workspace.path("store").exists());
}

#[test]
fn methods_are_compared_and_drawn() {
    let workspace = Workspace::new();
    let args = [
        "compare-methods",
        "pipeline.toml",
        "--method",
        "s3t",
        "--method",
        "scrub",
        "--forget",
        "5",
        "--plot",
        "methods.svg",
    ];
    let ran = workspace.run(&args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for part in ["full-retraining", "s3t", "scrub", "equal bits", "nothing", "off in", "picture: methods.svg"] {
        assert!(ran.stdout.contains(part), "no `{part}` in {}", ran.stdout);
    }
    assert!(std::fs::read_to_string(workspace.path("methods.svg")).unwrap().starts_with("<svg"));
    let answer = workspace.json(&["compare-methods", "pipeline.toml", "--method", "sisa", "--forget", "5"]);
    assert_eq!(answer["comparison"]["methods"].as_array().unwrap().len(), 2);
    assert!(!workspace.path("store").exists());
}
