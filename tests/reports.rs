//! Reports as people use them: in a browser, in LaTeX, by a template of their own, beside each other, of runs that failed; and
//! what is written while training, read by who it is for.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

#[allow(dead_code, reason = "what compares whole stores is for other tests")]
mod tiny;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};
use tiny::{Lab, files};

/// Two seeds and two coefficients of the tiny recipe, run once.
fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        let lab = Lab::new();
        lab.write("two.toml", "extends = \"tiny.toml\"\nseeds = [0, 1]\nppo.kl_coef = [0.1, 0.3]\n");
        lab.write("other.toml", "extends = \"two.toml\"\nppo.gae_lambda = 0.5\n");
        lab.said(&["run", "two.toml", "--mlflow", "mlruns"]).fine();
        lab
    })
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&read(path)).unwrap()
}

/// The browser's look at the page in `folder`, or none where there is no browser.
fn looked_at(folder: &Path) -> Option<Value> {
    let place = std::env::var("RUNNER_BROWSER_ENV").unwrap_or_default();
    if place.is_empty() || !Path::new(&place).join("node_modules/playwright-core").is_dir() {
        eprintln!("skipped: no `playwright-core` and `axe-core` in the folder `RUNNER_BROWSER_ENV`");
        return None;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/page.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(folder.join("index.html")).arg(folder.join("report.json"));
    if let Some(pictures) = std::env::var_os("RUNNER_SCREENSHOTS") {
        let name = folder.file_name().unwrap_or_default();
        command.arg(PathBuf::from(pictures).join(name));
    }
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    Some(serde_json::from_slice(&stdout).unwrap())
}

#[test]
fn the_page_holds_in_a_browser() {
    let Some(seen) = looked_at(&lab().path("reports/two")) else { return };
    assert_eq!(seen["axe"].as_array().unwrap().len(), 4);
    assert!(
        seen["heatmapValues"].as_u64().unwrap() > 100 && seen["samples"] == 16 && seen["links"].as_u64() > Some(300),
        "{seen}"
    );
}

#[test]
fn the_page_of_a_sweep_holds_in_a_browser() {
    let lab = Lab::new();
    lab.write(
        "sweep.toml",
        "extends = \"tiny.toml\"\n[sweep.product]\nppo.gae_lambda = [0.9, 1.0]\nppo.epochs = [1, 2]\n",
    );
    lab.said(&["run", "sweep.toml", "--jobs", "2"]).fine();
    looked_at(&lab.path("reports/sweep"));
    let page = read(&lab.path("reports/sweep/index.html"));
    assert!(page.matches("class=\"spark\"").count() >= 8, "a small curve for each result");
}

/// Rows whose every text would do something where it is not shown as it is.
fn hostile() -> String {
    let row = |i: usize| {
        let prompt = format!("<img src=x onerror=alert({i})> </script><script>alert({i})</script> \u{1b}[31m {i} ?");
        let answer = format!("<b>{i}</b> \u{202e}abc </script> &amp; \u{1b}[2J `code` | {{{{ 7 * 7 }}}} \\input{{x}}");
        json!({ "prompt": prompt, "chosen": answer, "rejected": format!("{answer} <script>alert(1)</script> <!-- \u{200f} x") })
    };
    (0..40).map(|i| row(i).to_string()).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_strangers_write_is_shown_and_does_nothing() {
    let lab = Lab::without_oracle();
    lab.write("rows.jsonl", &hostile());
    lab.write(
        "records.toml",
        "extends = \"tiny.toml\"\nbudgets = [20]\n[dataset]\npath = \"rows.jsonl\"\nformat = \"records\"\ndemonstrations = 20\n\
         train_prompts = 20\nvalidation_prompts = 6\ntest_prompts = 6\nmax_prompt_tokens = 40\nmax_response_tokens = 40\n\
         [dataset.records]\nlayout = \"preference\"\n[sft]\nsteps = 120\n[tokenizer.byte_level_bpe]\nvocab_size = 600\n\
         [preferences.dataset]\n[edits.chosen]\nmax_share = 0.9\n",
    );
    lab.said(&["run", "records.toml"]).fine();
    let folder = lab.path("reports/records");
    let (page, text) = (read(&folder.join("index.html")), read(&folder.join("report.md")));
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (2, 2));
    assert!(page.contains("&lt;img src=x onerror=alert("), "the prompts are shown");
    assert!(page.contains("␛[31m") && text.contains("␛[31m"));
    for (name, text) in [("page", &page), ("report.md", &text)] {
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{200f}']), "{name}");
    }
    assert!(
        json(&folder.join("report.json"))["examples"][0]["prompt"].as_str().unwrap().contains('\u{1b}'),
        "data stays as it is"
    );
    looked_at(&folder);
}

#[test]
fn every_table_is_one_for_latex() {
    let folder = lab().path("reports/two/tables");
    let tables: Vec<PathBuf> = files(&folder).into_iter().map(|name| folder.join(name)).collect();
    let names: Vec<String> =
        tables.iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    for name in ["win-rates", "matrix-24", "comparisons", "reward-models", "grid", "ablation", "cost", "edits"] {
        assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
    }
    assert!(tables.iter().all(|path| read(path).contains("\\toprule")));
    let there = Command::new("kpsewhich").arg("booktabs.sty").output();
    if !there.is_ok_and(|output| output.status.success() && !output.stdout.is_empty()) {
        eprintln!("skipped: no TeX Live with `booktabs` to compile the tables with");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inputs: Vec<String> = tables.iter().map(|path| format!("\\input{{{}}}\n", path.display())).collect();
    let inputs = inputs.join("\n");
    let document = format!(
        "\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\\tiny\n{inputs}\\end{{document}}\n"
    );
    fs::write(dir.path().join("all.tex"), document).unwrap();
    let Output { status, stdout, .. } = Command::new("pdflatex")
        .args(["-interaction=nonstopmode", "-halt-on-error", "all.tex"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stdout));
}

#[test]
fn a_report_is_rendered_again_from_its_json() {
    let (lab, first) = (lab(), lab().path("reports/two"));
    lab.said(&["report", "reports/two/report.json", "--out", "again"]).fine();
    for name in files(&lab.path("again")) {
        assert!(
            fs::read(lab.path("again").join(&name)).unwrap() == fs::read(first.join(&name)).unwrap(),
            "{}",
            name.display()
        );
    }
    lab.write("no.json", "{\"a\": 1}");
    let said = lab.said(&["report", "no.json"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("expected a `report.json` of this program"), "{}", said.err);
}

#[test]
fn a_template_of_ones_own_is_rendered_over_the_fields() {
    let lab = lab();
    lab.write(
        "my.html.jinja",
        "<h1>{{ recipe }}</h1>{% for v in variants %}<p>{{ v.name }} {{ v.win_rate|percent }}</p>{% endfor %}",
    );
    lab.said(&["report", "two.toml", "--template", "my.html.jinja", "--out", "mine"]).fine();
    let (page, report) = (read(&lab.path("mine/my.html")), json(&lab.path("mine/report.json")));
    let rate = format!("{:.1}", 100.0 * report["variants"][0]["win_rate"].as_f64().unwrap());
    assert!(page.starts_with(&format!("<h1>two</h1><p>sequence {rate}</p>")), "{page}");
    lab.write("bad.html.jinja", "\n{{ nothing.here }}");
    let said = lab.said(&["report", "two.toml", "--template", "bad.html.jinja", "--out", "mine"]);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("bad.html.jinja:2"), "{}", said.err);
    let said = lab.said(&["report", "two.toml", "--template", "nowhere.jinja"]);
    assert!(said.code == Some(2) && said.err.contains("nowhere.jinja"), "{}", said.err);
}

#[test]
fn runs_and_recipes_are_compared() {
    let lab = lab();
    lab.said(&["run", "other.toml"]).fine();
    // A run by its recipe's name, and a recipe file.
    lab.said(&["report", "two", "other.toml", "--out", "beside"]).fine();
    let found = json(&lab.path("beside/report.json"));
    assert_eq!(found["axes"][0]["levels"].as_array().unwrap().len(), 2);
    let keys: Vec<&str> = found["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["ppo.gae_lambda"]);
    let effect =
        found["factors"].as_array().unwrap().iter().find(|f| f["level"] == "other" && f["variant"] == "token").unwrap();
    let rate = |name: &str| {
        let report = json(&lab.path(&format!("reports/{name}/report.json")));
        let variants = report["variants"].as_array().unwrap().clone();
        variants.iter().find(|v| v["name"] == "token").unwrap()["win_rate"].as_f64().unwrap()
    };
    let difference = 100.0 * (rate("other") - rate("two"));
    assert!((effect["effect"]["difference_points"].as_f64().unwrap() - difference).abs() < 1e-9);
    let said = lab.said(&["report", "two", "nobody"]);
    assert_eq!(said.code, Some(2));
}

#[test]
fn a_run_with_failures_has_a_report_of_what_is_complete() {
    let lab = Lab::new();
    // Far too fast: the loss of one variant's policy is no number, the other one has no such update.
    let recipe = "extends = \"tiny.toml\"\nbudgets = [24, 28]\n";
    lab.write("cut.toml", recipe);
    lab.said(&["run", "cut.toml"]).fine();
    let plan: Value = serde_json::from_str(&lab.said(&["plan", "cut.toml", "--json"]).fine().out).unwrap();
    let key = |label: &str| {
        let node = plan["nodes"].as_array().unwrap().iter().find(|node| node["label"] == label).unwrap();
        format!(".runner/results/{}/{}", node["stage"].as_str().unwrap(), node["key"].as_str().unwrap())
    };
    for label in ["judgements/token/kl=0.1/budget=28/seed=0", "report"] {
        fs::remove_dir_all(lab.path(&key(label))).unwrap();
    }
    let said = lab.said(&["report", "cut.toml", "--out", "part"]).fine();
    assert!(
        said.err.contains("have no result") && said.err.contains("judgements/token/kl=0.1/budget=28"),
        "{}",
        said.err
    );
    let found = json(&lab.path("part/report.json"));
    let missing: Vec<&str> =
        found["missing"].as_array().unwrap().iter().map(|m| m["label"].as_str().unwrap()).collect();
    assert_eq!(missing, ["judgements/token/kl=0.1/budget=28/seed=0"]);
    let variants: Vec<(&str, u64)> = found["variants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| (v["name"].as_str().unwrap(), v["budget"].as_u64().unwrap()))
        .collect();
    assert_eq!(variants, [("sequence", 24), ("token", 24), ("sequence", 28)]);
    assert!(read(&lab.path("part/index.html")).contains("Incomplete"));
}

#[test]
fn what_training_measures_is_read_by_tensorboard_and_mlflow() {
    let (lab, python) = (lab(), std::env::var("RUNNER_PYTHON_ENV").unwrap_or_default());
    let boards = lab.path("reports/two/tensorboard");
    let all = files(&boards);
    assert!(
        all.len() >= 2 + 4 + 8 && all.iter().all(|path| path.to_string_lossy().contains("events.out.tfevents.")),
        "{all:?}"
    );
    assert!(files(&lab.path("mlruns")).iter().any(|path| path.ends_with("metrics/kl_nats")));
    let script = "import sys, json\n\
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n\
        board = EventAccumulator(sys.argv[1]); board.Reload()\n\
        print(json.dumps([[e.step, e.value] for e in board.Scalars('kl_nats')]))\n";
    let folder = boards.join("ppo/token/kl=0.1/budget=24/seed=1");
    let read = Command::new(Path::new(&python).join("bin/python")).args(["-c", script]).arg(&folder).output();
    let Some(read) = read.ok().filter(|read| !String::from_utf8_lossy(&read.stderr).contains("No module named")) else {
        eprintln!("skipped: no `tensorboard` in the Python of `RUNNER_PYTHON_ENV` to read event files with");
        return;
    };
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let found: Vec<(usize, f64)> = serde_json::from_slice(&read.stdout).unwrap();
    let report = json(&lab.path("reports/two/report.json"));
    let curve = report["curves"].as_array().unwrap().iter().find(|curve| curve["variant"] == "token").unwrap();
    let stage = curve["seeds"][1]["stage"].as_str().unwrap();
    assert_eq!(found.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3, 4]);
    if stage == "ppo/token/kl=0.1/budget=24/seed=1" {
        for ((_, value), point) in found.iter().zip(curve["seeds"][1]["training"].as_array().unwrap()) {
            assert!((value - point["kl_nats"].as_f64().unwrap()).abs() < 1e-5);
        }
    }
}
