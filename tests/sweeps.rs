//! Sweeps: which points a `[sweep]` has, what they share, and that what is shared runs once.

#![allow(clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod tiny;

use std::collections::BTreeSet;

use proptest::prelude::*;
use runner::recipe::{Experiment, load};
use serde_json::{Value, json};
use tiny::{Lab, assert_same, results};

/// The experiment of `sweep`, laid over the tiny recipe.
fn experiment(sweep: &str) -> Experiment {
    let lab = Lab::new();
    lab.write("sweep.toml", &format!("extends = \"tiny.toml\"\n{sweep}"));
    load(&lab.path("sweep.toml"), &[]).unwrap_or_else(|faults| panic!("{faults}")).experiment
}

fn names(experiment: &Experiment) -> Vec<&str> {
    experiment.points.iter().map(|point| point.name.as_str()).collect()
}

#[test]
fn products_zips_and_cases_combine() {
    let found = experiment(
        r#"
        [sweep.product]
        ppo.gae_lambda = [0.9, 1.0]
        [sweep.product.size]
        small = { model.hidden_size = 8, "model.intermediate_size" = 16 }
        large = { model.hidden_size = 32 }
        [sweep.zip]
        ppo.steps = [4, 8]
        ppo.eval_every = [2, 4]
        [[sweep.cases]]
        [[sweep.cases]]
        name = "long"
        ppo.steps = 16
        variants.token.credit = "end_of_sequence"
        "#,
    );
    assert_eq!(
        names(&found),
        [
            "gae_lambda=0.9 size=small steps=4 eval_every=2",
            "gae_lambda=0.9 size=small steps=8 eval_every=4",
            "gae_lambda=0.9 size=large steps=4 eval_every=2",
            "gae_lambda=0.9 size=large steps=8 eval_every=4",
            "gae_lambda=1.0 size=small steps=4 eval_every=2",
            "gae_lambda=1.0 size=small steps=8 eval_every=4",
            "gae_lambda=1.0 size=large steps=4 eval_every=2",
            "gae_lambda=1.0 size=large steps=8 eval_every=4",
            "case=base",
            "case=long",
        ]
    );
    let recipe = |i: usize| serde_json::to_value(&found.points[i].recipe).unwrap();
    assert_eq!((&recipe(1)["model"]["hidden_size"], &recipe(1)["model"]["intermediate_size"]), (&json!(8), &json!(16)));
    assert_eq!((&recipe(7)["ppo"]["gae_lambda"], &recipe(7)["ppo"]["steps"]), (&json!(1.0), &json!(8)));
    assert_eq!((&recipe(8)["model"]["hidden_size"], &recipe(8)["ppo"]["steps"]), (&json!(16), &json!(4)));
    assert_eq!(recipe(9)["variants"][1]["credit"], "end_of_sequence");
    let axes: Vec<&str> = found.axes.iter().map(|axis| axis.name.as_str()).collect();
    assert_eq!(axes, ["gae_lambda", "size", "steps", "eval_every", "case"]);
    assert_eq!(found.points[4].levels, [Some(1), Some(0), Some(0), Some(0), None]);
    assert_eq!(found.points[9].levels, [None, None, None, None, Some(1)]);
}

#[test]
fn axes_are_lists_tables_and_entries_of_lists() {
    let found = experiment(
        r#"
        [sweep.product]
        budgets = [[16], [16, 24]]
        variants.token.reward = [{ token = { loss = "tlcr" } }, { token = { loss = "pairwise_mean", anchor = 2.0 } }]
        "#,
    );
    assert_eq!(
        names(&found),
        [
            "budgets=[16] reward=loss=tlcr",
            "budgets=[16] reward=anchor=2.0,loss=pairwise_mean",
            "budgets=[16,24] reward=loss=tlcr",
            "budgets=[16,24] reward=anchor=2.0,loss=pairwise_mean",
        ]
    );
    assert_eq!(json!(found.points[2].recipe.budgets), json!([16, 24]));
    assert_eq!(json!(found.points[0].recipe.variants[1].reward)["token"]["loss"], "tlcr");
}

#[test]
fn filters_keep_and_leave_out() {
    let grid = "[sweep.product]\nppo.gae_lambda = [0.9, 0.95, 1.0]\nppo.kl_coef = [0.1, 0.2]\n\
                size = { small = { model.hidden_size = 8 }, large = { model.hidden_size = 32 } }\n";
    let left = |filters: &str| experiment(&format!("{grid}{filters}")).points.len();
    assert_eq!(left(""), 12);
    assert_eq!(left("[sweep.exclude]\nppo.gae_lambda = 0.9"), 8);
    assert_eq!(left("[sweep.exclude]\nppo.gae_lambda = [0.9, 1.0]\nppo.kl_coef = 0.1"), 8);
    assert_eq!(left("[[sweep.exclude]]\nsize = \"large\"\n[[sweep.exclude]]\nppo.gae_lambda = 1"), 4);
    assert_eq!(left("[[sweep.when]]\nsize = \"small\"\n[[sweep.when]]\nppo.gae_lambda = 1.0"), 8);
    assert_eq!(left("[sweep.when]\nmodel.hidden_size = 8\n[sweep.exclude]\nppo.kl_coef = 0.2"), 3);
    // Not an axis: the value that the recipe has, or its default.
    assert_eq!(left("[sweep.when]\nppo.batch_size = 8\nppo.gamma = 1.0\nvariants.token.credit = \"per_token\""), 12);
}

#[test]
fn a_filter_that_meets_nothing_is_pointed_out() {
    let lab = Lab::new();
    let sweep = |filters: &str| {
        let grid = "extends = \"tiny.toml\"\n[sweep.product]\nppo.gamma = [0.9, 1.0]\nppo.kl_coef = [0.1, 0.2]\n";
        lab.write("sweep.toml", &format!("{grid}{filters}"));
        let loaded = load(&lab.path("sweep.toml"), &[]).unwrap();
        (loaded.experiment.points.len(), loaded.warnings.iter().map(ToString::to_string).collect::<String>())
    };
    let (points, warnings) = sweep(
        "[[sweep.exclude]]\nppo.gamma = 0.9\n[[sweep.exclude]]\nppo.gamma = 0.9\nppo.kl_coef = 0.1\n\
         [[sweep.exclude]]\nppo.kl_coef = 0.11\n",
    );
    assert_eq!(points, 2);
    assert_eq!(warnings.matches("no combination of this sweep has these values: nothing is left out").count(), 1);
    assert!(warnings.contains("ppo.kl_coef = 0.11"), "{warnings}");
    let (points, warnings) = sweep("[[sweep.when]]\nppo.gamma = 0.9\n[[sweep.when]]\nppo.gamma = 0.99\n");
    assert_eq!(points, 2);
    assert!(warnings.contains("nothing is kept for them") && warnings.contains("ppo.gamma = 0.99"), "{warnings}");
}

#[test]
fn random_points_stay_when_more_are_drawn() {
    let drawn = |count: usize| {
        experiment(&format!(
            "[sweep]\nseeds = \"3..5\"\n[sweep.random]\ncount = {count}\nseed = 7\n\
             ppo.policy_optimizer.learning_rate = {{ log_uniform = [1e-4, 1e-2] }}\n\
             ppo.epochs = {{ uniform = [1, 4] }}\nppo.kl_estimator = {{ choice = [\"k1\", \"k3\"] }}"
        ))
    };
    let (few, many) = (drawn(3), drawn(6));
    assert_eq!(names(&few), names(&many)[..3]);
    assert_eq!(names(&many).into_iter().collect::<BTreeSet<_>>().len(), 6);
    assert!(many.axes.iter().all(|axis| axis.sampled));
    for point in &many.points {
        let recipe = serde_json::to_value(&point.recipe).unwrap();
        let rate = recipe["ppo"]["policy_optimizer"]["learning_rate"].as_f64().unwrap();
        let epochs = recipe["ppo"]["epochs"].as_u64().unwrap();
        assert!((1e-4..1e-2).contains(&rate) && (1..=4).contains(&epochs), "{}", point.name);
        assert_eq!(recipe["seeds"], json!([3, 4]));
    }
}

#[test]
fn equal_points_are_one_with_a_warning() {
    let lab = Lab::new();
    lab.write("sweep.toml", "extends = \"tiny.toml\"\nsweep.cases = [{}, { name = \"same\", ppo.steps = 4 }]");
    let loaded = load(&lab.path("sweep.toml"), &[]).unwrap();
    assert_eq!(names(&loaded.experiment), ["case=base"]);
    assert_eq!(
        loaded.warnings.iter().map(runner::recipe::Fault::message).collect::<Vec<_>>(),
        ["the point `case=same` is left out: another one is the same recipe"]
    );
}

/// A sweep with shared stages that runs in seconds.
const SWEEP: &str = "extends = \"tiny.toml\"\n[sweep]\nseeds = \"0..2\"\n[sweep.product]\nppo.gae_lambda = [0.9, 1.0]\n\
                     reward.epochs = [1, 2]\n";

fn plan(lab: &Lab) -> Value {
    serde_json::from_str(&lab.said(&["plan", "sweep.toml", "--json"]).fine().out).unwrap()
}

fn to_run(plan: &Value) -> Vec<&str> {
    let nodes = plan["nodes"].as_array().unwrap().iter();
    nodes.filter(|node| node["status"] == "run").map(|node| node["label"].as_str().unwrap()).collect()
}

#[test]
fn what_points_share_runs_once_and_what_is_new_runs_alone() {
    let lab = Lab::new();
    lab.write("sweep.toml", SWEEP);
    let planned = plan(&lab);
    // By hand. Everything once: data, tokenizer. For each of 2 seeds: SFT, its responses, preferences, edits, labels = 5;
    // for each of 2 `reward.epochs` 2 reward models = 4; for each of 4 points 2 variants x (PPO, responses, judgements) = 24.
    let different = 2 + 2 * (5 + 4 + 24);
    // One by one, every point has 2 + 2 x (5 + 2 + 6) stages.
    let sharing = json!({ "needed": 4 * (2 + 2 * (5 + 2 + 6)), "different": different, "shared": 2 + 2 * (5 + 4) });
    assert_eq!(planned["sharing"], sharing);
    assert_eq!(planned["points"].as_array().unwrap().len(), 4);
    assert_eq!(planned["points"][1]["levels"], json!({ "gae_lambda": 0.9, "epochs": 2 }));
    let text = lab.said(&["plan", "sweep.toml"]).fine();
    assert!(
        text.err.contains("4 points with 2 seeds each: 112 stages one by one, 68 different ones, 20 of them shared")
    );

    lab.said(&["run", "sweep.toml", "--jobs", "3"]).fine();
    let store = lab.path(".runner");
    let done = results(&store);
    let folders: BTreeSet<_> = done.keys().map(|file| file.split('/').take(2).collect::<Vec<_>>().join("/")).collect();
    assert_eq!(folders.len(), different, "one result a stage");
    assert_eq!(to_run(&plan(&lab)), Vec::<&str>::new());

    // A level and a seed more: only what belongs to them.
    lab.write("sweep.toml", &SWEEP.replace("[0.9, 1.0]", "[0.9, 1.0, 0.5]"));
    let more = plan(&lab);
    assert_eq!(to_run(&more).len(), 2 * 2 * 6);
    assert!(to_run(&more).iter().all(|label| label.contains("gae_lambda=0.5")), "{:?}", to_run(&more));
    lab.write("sweep.toml", &SWEEP.replace("0..2", "0..3"));
    assert!(to_run(&plan(&lab)).iter().all(|label| label.contains("seed=2")));
    assert_eq!(to_run(&plan(&lab)).len(), 5 + 4 + 24);

    // Whatever the parallelism, and by whichever recipe: a point on its own finds all its stages done.
    let point = ["plan", "tiny.toml", "--set", "seeds=[0,1]", "--set", "ppo.gae_lambda=0.9", "--json"];
    let alone: Value = serde_json::from_str(&lab.said(&point).fine().out).unwrap();
    assert_eq!(to_run(&alone), ["report"]);
    let other = Lab::new();
    other.write("sweep.toml", SWEEP);
    other.said(&["run", "sweep.toml", "--jobs", "1"]).fine();
    assert_same(&done, &results(&other.path(".runner")));
}

#[test]
fn editing_the_recipe_or_its_dataset_changes_nothing_that_was_submitted() {
    use runner::launch::Frozen;
    use runner::store::Store;
    let lab = Lab::new();
    let world = std::fs::read_to_string("datasets/restaurants.toml").unwrap();
    lab.write("world.toml", &world);
    lab.write("own.toml", "extends = \"tiny.toml\"\n[dataset]\npath = \"world.toml\"\n");
    let store = Store::open(lab.path("store")).unwrap();
    let submit = || {
        let loaded = load(&lab.path("own.toml"), &[]).unwrap();
        Frozen::submit(loaded.experiment, &store).unwrap()
    };
    let run = submit();
    assert_eq!(submit().id, run.id, "the same submission is the same run");
    lab.write("world.toml", "not a world");
    lab.write("own.toml", "extends = \"tiny.toml\"\n[ppo]\nsteps = 8\n");
    let queued = Frozen::open(&run.id, &store).unwrap();
    let recipe = queued.recipe(&queued.plan.nodes[0], &store);
    assert_eq!(recipe.ppo.steps.get(), 4);
    assert_eq!(std::fs::read_to_string(recipe.dataset.path).unwrap(), world);
    assert_ne!(submit().id, run.id, "another recipe is another run");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the axes, every point is there once, and its recipe has its levels.
    #[test]
    fn a_product_is_every_combination_once(
        steps in proptest::collection::btree_set(4_usize..40, 1..4),
        gammas in proptest::collection::btree_set(1_u32..100, 1..4),
    ) {
        let gammas: Vec<f64> = gammas.into_iter().map(|g| f64::from(g) / 100.0).collect();
        let found = experiment(&format!(
            "[sweep.product]\nppo.steps = {:?}\nppo.gamma = {gammas:?}", steps.iter().collect::<Vec<_>>()
        ));
        let expected: Vec<(usize, u64)> =
            steps.iter().flat_map(|s| gammas.iter().map(|g| (*s, g.to_bits()))).collect();
        let points: Vec<(usize, u64)> = found.points.iter()
            .map(|point| (point.recipe.ppo.steps.get(), point.recipe.ppo.gamma.get().to_bits())).collect();
        prop_assert_eq!(points, expected);
    }
}
