//! Every recipe in `recipes/` loads; every bad recipe in `bad_recipes/` is refused with a message that was read by a
//! person (the snapshots).

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use runner::recipe::diagnostics::Severity;
use runner::recipe::{Recipe, load, render, to_toml};

/// All TOML files below `folder`, in order.
fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    entries.sort();
    entries
        .into_iter()
        .flat_map(|path| if path.is_dir() { toml_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect()
}

/// What a person sees of `path` under `overrides`: faults, else warnings.
fn shown(path: &Path, overrides: &[&str]) -> String {
    let overrides: Vec<_> = overrides.iter().map(|argument| (*argument).to_owned()).collect();
    match load(path, &overrides) {
        Ok(loaded) => format!("loaded `{}`\n\n{}", loaded.experiment.name, render(&loaded.warnings, false)),
        Err(faults) => faults.to_string(),
    }
}

/// Public datasets are not in the repository: a recipe that only lacks its dataset is loaded with another file.
#[test]
fn every_recipe_loads() {
    let files = toml_files(Path::new("recipes"));
    assert!(files.len() >= 3, "found only {files:?}");
    for path in files {
        let Err(faults) = load(&path, &[]) else { continue };
        let mut errors = faults.0.iter().filter(|fault| fault.severity() == Severity::Error);
        assert!(errors.all(|fault| fault.message().starts_with("cannot read `datasets/")), "{faults}");
        if let Err(faults) = load(&path, &["dataset.path=Cargo.toml".to_owned()]) {
            panic!("{faults}");
        }
    }
}

#[test]
fn every_bad_recipe_is_refused_with_a_message_worth_reading() {
    let files = toml_files(Path::new("tests/bad_recipes"));
    assert!(files.len() >= 12, "found only {files:?}");
    for path in files {
        let name = path.file_stem().expect("a stem").to_string_lossy().into_owned();
        assert!(load(&path, &[]).is_err(), "{name} loads");
        insta::assert_snapshot!(name, shown(&path, &[]));
    }
}

#[test]
fn bad_set_arguments_are_refused_with_the_same_messages() {
    let arguments = [
        "ppo.kl_coeff=0.05",
        "ppo.gamma=1.5",
        "ppo.steps=ten",
        "dataset.path=nowhere.json",
        "evaluation.confidence=0",
        "judge=\"oracle\"",
        "extends=\"other.toml\"",
    ];
    insta::assert_snapshot!("set", shown(Path::new("recipes/finegrained.toml"), &arguments));
    insta::assert_snapshot!(
        "set_syntax",
        shown(Path::new("recipes/finegrained.toml"), &["ppo.steps", "seeds=[1", "=3"])
    );
    insta::assert_snapshot!(
        "set_entry",
        shown(Path::new("recipes/finegrained.toml"), &["variants.tokens.credit=\"per_token\""])
    );
}

#[test]
fn misfits_of_loss_and_credit_are_warned_of() {
    insta::assert_snapshot!("token_losses", shown(Path::new("recipes/sweeps/token_losses.toml"), &[]));
}

#[test]
fn a_set_argument_changes_exactly_its_key() {
    let path = Path::new("recipes/finegrained.toml");
    let text = |overrides: &[&str]| {
        let overrides: Vec<_> = overrides.iter().map(|argument| (*argument).to_owned()).collect();
        to_toml(&load(path, &overrides).expect("a recipe").experiment.points.remove(0).recipe)
    };
    let plain = text(&[]);
    assert_eq!(text(&["ppo.kl_coef=0.05"]), plain.replace("kl_coef = [0.03, 0.1, 0.3]", "kl_coef = [0.05]"));
    assert_eq!(
        text(&["variants.token.credit=per_token_over_length"]),
        plain.replace("\"per_token\"", "\"per_token_over_length\"")
    );
    assert_eq!(
        text(&["variants.2.credit=per_token_over_length"]),
        plain.replace("\"per_token\"", "\"per_token_over_length\"")
    );
    assert_eq!(text(&["dataset.path=Cargo.toml"]), plain.replace("datasets/restaurants.toml", "Cargo.toml"));
    let both = "[judge]\nprimary = \"oracle\"\n\n[judge.oracle]\n\n[judge.reward_model]";
    assert_eq!(text(&["judge.reward_model={}", "judge.primary=oracle"]), plain.replace("[judge.oracle]", both));
}

#[test]
fn a_later_recipe_overrides_what_it_extends() {
    let recipe = |path: &str| load(Path::new(path), &[]).expect("a recipe").experiment.points.remove(0).recipe;
    let (base, full) = (recipe("recipes/finegrained.toml"), recipe("recipes/finegrained_full.toml"));
    assert!(full.seeds.len() >= 5);
    assert_eq!(full.variants, base.variants);
    assert_eq!(full.model, base.model);
    assert_eq!(full.dataset.path, base.dataset.path);
}

#[test]
fn a_mark_of_encoding_at_the_start_of_a_file_says_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let base = Path::new("recipes/finegrained.toml").canonicalize().expect("a recipe");
    let path = dir.path().join("marked.toml");
    fs::write(&path, format!("\u{feff}extends = {:?}\nppo.steps = 70\n", base.display().to_string())).expect("written");
    let loaded = load(&path, &[]).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.experiment.points[0].recipe.ppo.steps.get(), 70);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Writing a recipe out and reading it again gives the same recipe, whatever was set.
    #[test]
    fn a_resolved_recipe_loads_again(
        seeds in proptest::collection::btree_set(0..1_000_000_u64, 1..5),
        learning_rate in 1e-9..1.0_f64,
        kl_coef in proptest::collection::vec(0.0..10.0_f64, 1..4),
        adaptive in proptest::option::of((1e-3..100.0_f64, 1.0..1e5_f64)),
        clip in proptest::option::of(1e-6..1e6_f64),
        description in "\\PC{0,40}",
    ) {
        let mut overrides = vec![
            format!("seeds={:?}", seeds.into_iter().collect::<Vec<_>>()),
            format!("sft.optimizer.learning_rate={learning_rate:?}"),
            format!("ppo.kl_coef={kl_coef:?}"),
            format!("description={}", toml::Value::String(description)),
        ];
        overrides.extend(adaptive.map(|(target, horizon)| {
            format!("ppo.kl_control.adaptive={{target={target:?},horizon={horizon:?}}}")
        }));
        overrides.extend(clip.map(|clip| format!("ppo.value_clip_range={clip:?}")));
        let loaded = match load(Path::new("recipes/finegrained.toml"), &overrides) {
            Ok(loaded) => loaded,
            Err(faults) => return Err(TestCaseError::fail(faults.to_string())),
        };
        let text = to_toml(&loaded.experiment.points[0].recipe);
        let again: Recipe = toml::from_str(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(format!("{:?}", &again), format!("{:?}", &loaded.experiment.points[0].recipe));
        prop_assert_eq!(to_toml(&again), text);
    }

    /// Whatever is set to whatever, the answer is a recipe or a message that points at a `--set` argument.
    #[test]
    fn any_set_argument_is_taken_or_refused_at_its_place(
        key in prop::sample::select(vec![
            "seeds", "device", "ppo", "ppo.kl_coef", "ppo.kl_control", "ppo.kl_control.adaptive.target", "ppo.gamma",
            "judge", "judge.oracle", "judge.other", "tokenizer", "tokenizer.file.path", "dataset.path", "variants",
            "variants.0", "variants.token.reward", "variants.x.y", "model.hidden_size", "labels", "nothing", "ppo.steps.more",
            "launch.stages.ppo.memory", "launch.stages.ppo.time", "launch.slurm.partition", "sweep", "sweep.seeds",
        ]),
        value in prop::sample::select(vec![
            "1", "0", "-1", "1.5", "nan", "inf", "1e400", "99999999999999999999", "true", "word", "", "\"\"", "[]", "{}", "[{}]",
            "[[]]", "[-1, 2]", "{a = 1}", "1979-05-27", "[1, 1]", "{oracle = {}, reward_model = {}}", "{oracle = 3}",
        ]),
    ) {
        if let Err(faults) = load(Path::new("recipes/finegrained.toml"), &[format!("{key}={value}")]) {
            let nowhere = faults.to_string().contains("--> recipes/finegrained.toml\n");
            prop_assert!(!nowhere && faults.to_string().contains("--set:1:"), "{}={}: {}", key, value, faults);
        }
    }
}
