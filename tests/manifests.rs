//! Printed manifests: what they say, that they fit their schemas, and that carrying out what they say ends like a local run.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod tiny;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tiny::{Lab, Said, assert_same, results};

const LAUNCH: &str = r#"
extends = "tiny.toml"

[launch.stages.default]
memory = "1G"

[launch.stages.ppo]
cores = 2
memory = "2500M"
devices = 1

[launch.kubernetes]
image = "registry.example/runner:1"
claim = "results"
sub_path = "lab/.runner"
max_parallel = 1

[launch.skypilot]
volume = "results"
infra = "kubernetes"
image = "docker:registry.example/runner:1"
accelerator = "L4"
setup = ["nvidia-smi"]
"#;

/// With the recipe `launch.toml`, and all that it names in the folder.
fn lab() -> Lab {
    let lab = Lab::new();
    let world = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/restaurants.toml");
    fs::copy(&world, lab.path("world.toml")).unwrap();
    let recipe = fs::read_to_string(lab.path("tiny.toml")).unwrap();
    lab.write("tiny.toml", &recipe.replace(world.to_str().unwrap(), "world.toml"));
    lab.write("launch.toml", LAUNCH);
    lab
}

fn manifest(lab: &Lab, format: &str) -> Said {
    lab.said(&["plan", "launch.toml", "--manifest", format]).fine()
}

fn id(lab: &Lab) -> String {
    let entry = fs::read_dir(lab.path(".runner/runs")).unwrap().next().unwrap().unwrap();
    entry.file_name().into_string().unwrap()
}

fn jobs(manifest: &str) -> Vec<&str> {
    manifest.split("---\n").skip(1).collect()
}

/// The job of a manifest for the stages of that kind.
fn job<'a>(manifest: &'a str, stage: &str) -> &'a str {
    jobs(manifest).into_iter().find(|job| job.contains(&format!("component: {stage}\n"))).unwrap()
}

/// What a job's containers do.
fn command(job: &str) -> Vec<String> {
    let lines = job.split("command:\n").nth(1).unwrap().lines();
    let words = lines.map_while(|line| line.strip_prefix("            - "));
    // A text in quotation marks may have a comment behind it.
    let quoted = |word: &str| serde_json::Deserializer::from_str(word).into_iter::<String>().next()?.ok();
    words.map(|word| quoted(word).unwrap_or_else(|| word.to_owned())).collect()
}

/// How many pods a job has.
fn pods(job: &str) -> usize {
    let count = job.lines().find_map(|line| line.trim().strip_prefix("completions: ")).unwrap();
    count.parse().unwrap()
}

/// A shell line with the binary on its `PATH`, in a lab.
fn shell(lab: &Lab, words: &[String]) -> Command {
    let folder = Path::new(env!("CARGO_BIN_EXE_runner")).parent().unwrap();
    let mut command = Command::new(&words[0]);
    lab.prepare(command.args(&words[1..]).env("PATH", format!("{}:/usr/bin:/bin", folder.display())));
    command
}

/// Pods at work, which do not outlive the test.
#[derive(Default)]
struct Pods(Vec<Child>);

impl Drop for Pods {
    fn drop(&mut self) {
        for pod in &mut self.0 {
            // One that has ended cannot be killed.
            let _ = pod.kill();
            let _ = pod.wait();
        }
    }
}

#[test]
fn a_job_says_what_its_stages_need() {
    let lab = lab();
    let printed = manifest(&lab, "k8s");
    let id = id(&lab);
    let expected = format!("12 jobs with 16 tasks; `{id}` is written down in `.runner` and counts as queued");
    assert!(printed.err.contains(&expected), "{}", printed.err);
    let ppo = job(&printed.out, "ppo");
    insta::with_settings!({filters => vec![("[0-9a-f]{32}", "KEY"), ("launch-[0-9a-f]{8}", "launch-ID")]}, {
        insta::assert_snapshot!(ppo);
    });
    let listed = lab.said(&["ls", "--json"]).fine().out;
    assert!(listed.contains("\"queued\""), "{listed}");
    let cancelled = lab.said(&["cancel", &id]).fine();
    let expected = format!("`kubectl delete jobs --selector=app.kubernetes.io/instance={id}`");
    assert!(cancelled.err.contains(&expected), "{}", cancelled.err);
    let listed = lab.said(&["ls", "--json"]).fine().out;
    assert!(!listed.contains("\"queued\""), "{listed}");
}

#[test]
fn pods_that_begin_all_at_once_and_backwards_end_like_a_local_run() {
    let lab = lab();
    let printed = manifest(&lab, "k8s");
    let store = lab.path(".runner").display().to_string();
    let printed = printed.out.replace("--store /store", &format!("--store '{store}'"));
    let mut begun = Pods::default();
    for job in jobs(&printed).into_iter().rev() {
        for index in 0..pods(job) {
            let mut pod = shell(&lab, &command(job));
            pod.env("JOB_COMPLETION_INDEX", index.to_string()).stdout(Stdio::null()).stderr(Stdio::null());
            begun.0.push(pod.spawn().unwrap());
        }
    }
    assert_eq!(begun.0.len(), 16);
    let codes: Vec<_> = begun.0.iter_mut().map(|pod| pod.wait().unwrap().code()).collect();
    assert_eq!(codes, [Some(0); 16]);
    lab.said(&["run", "launch.toml", "--store", "local", "--out", "local"]).fine();
    assert_same(&results(&lab.path("local")), &results(&lab.path(".runner")));
    let again = manifest(&lab, "k8s");
    assert!(again.out.is_empty() && again.err.contains("nothing to do: all 16 stages are cached"), "{}", again.err);
}

#[test]
fn waiting_ends_when_it_takes_too_long_or_is_in_vain() {
    let lab = lab();
    let arguments = ["plan", "launch.toml", "--manifest", "k8s", "--set", "sft.optimizer.learning_rate=1e30"];
    let printed = lab.said(&arguments).fine().out;
    let id = id(&lab);
    let key = |stage: &str| command(job(&printed, stage))[4].clone();
    let early = lab.said(&["exec-stage", "--wait", "1", &id, &key("ppo")]);
    assert_eq!(early.code, Some(130));
    let expected = "gives its place away: it is made from what is not there: `data`, ";
    assert!(early.err.contains(expected), "{}", early.err);
    for stage in ["data", "tokenizer"] {
        lab.said(&["exec-stage", &id, &key(stage)]).fine();
    }
    assert_eq!(lab.said(&["exec-stage", &id, &key("sft")]).code, Some(1));
    let vain = lab.said(&["exec-stage", "--wait", "600", &id, &key("ppo")]);
    assert_eq!(vain.code, Some(1));
    assert!(vain.err.contains("is skipped: it is made from what is not there: `sft/seed=0` (failed: "), "{}", vain.err);
}

#[test]
fn a_machine_of_skypilots_does_a_local_run() {
    let lab = lab();
    let printed = lab.said(&["plan", "launch.toml", "--manifest", "skypilot", "--set", "ppo.steps=2"]).fine();
    assert!(!lab.path(".runner").exists(), "nothing is written down");
    insta::with_settings!({filters => vec![("launch-[0-9a-f]{8}", "launch-ID")]}, {
        insta::assert_snapshot!(printed.out);
    });
    let command = printed.out.lines().find_map(|line| line.strip_prefix("run: ")).unwrap();
    let command: String = serde_json::from_str(command).unwrap();
    let volume = lab.path("volume").display().to_string();
    let words = ["sh", "-c", &command.replace("/runner/", &format!("{volume}/"))].map(str::to_owned);
    let output = shell(&lab, &words).output().unwrap();
    Said::of(&output).fine();
    assert!(lab.path("volume/reports/launch/report.json").exists() && lab.path("volume/store/results/ppo").exists());
}

#[test]
fn what_a_manifest_lacks_is_said() {
    let lab = lab();
    fs::create_dir(lab.path("below")).unwrap();
    for (arguments, expected) in [
        (
            ["tiny.toml", "k8s", "seeds=[0]"],
            "expected `launch.kubernetes.image`, the image that stages run in, found none",
        ),
        (
            ["tiny.toml", "skypilot", "seeds=[0]"],
            "expected `launch.skypilot.volume`, the volume that the store lies on, found none",
        ),
        (
            ["tiny.toml", "skypilot", "launch={ skypilot = { volume = \"v\" }, local = { devices = 1 } }"],
            "expected `launch.skypilot.accelerator`, since stages need `devices`, found none",
        ),
    ] {
        let [recipe, format, set] = arguments;
        let said = lab.said(&["plan", recipe, "--manifest", format, "--set", set]);
        assert_eq!(said.code, Some(2), "{}", said.err);
        assert!(said.err.contains(expected), "{}", said.err);
        assert!(said.out.is_empty() && !lab.path(".runner").exists());
    }
    let mut outside = lab.runner(&["plan", "../launch.toml", "--manifest", "skypilot"]);
    let said = Said::of(&outside.current_dir(lab.path("below")).output().unwrap());
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains("in the working directory, which SkyPilot uploads; found `../launch.toml`"),
        "{}",
        said.err
    );
}

/// The Python of the environment that `RUNNER_PYTHON_ENV` names: it has `kubernetes-validate` and `skypilot`. None, with a
/// notice, where nothing is named.
fn python() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("RUNNER_PYTHON_ENV") else {
        eprintln!("skipped: `RUNNER_PYTHON_ENV` names no environment with `kubernetes-validate` and `skypilot`");
        return None;
    };
    Some(PathBuf::from(folder).join("bin/python"))
}

const KUBERNETES: &str = "
import sys, yaml, kubernetes_validate
for job in yaml.safe_load_all(open(sys.argv[1])):
    kubernetes_validate.validate(job, '1.29', strict=True)
";

const SKYPILOT: &str = "
import sys, sky
task = sky.Task.from_yaml(sys.argv[1])
[machine] = task.resources
assert machine.job_recovery['recover_on_exit_codes'] == [130], machine.job_recovery
assert (machine.cpus, machine.memory, machine.accelerators) == ('2+', '3+', {'L4': 1}), machine
";

#[test]
fn manifests_fit_their_schemas() {
    let Some(python) = python() else { return };
    let lab = lab();
    for (format, script, right, wrong) in [
        ("k8s", KUBERNETES, "parallelism:", "parallel:"),
        ("skypilot", SKYPILOT, "recover_on_exit_codes: [130]", "recover_on_exit_codes: [1300]"),
    ] {
        let printed = manifest(&lab, format).out;
        assert!(printed.contains(right));
        let validated = |text: &str| {
            lab.write("run.yaml", text);
            let mut python = Command::new(&python);
            // SkyPilot keeps files in its user's home.
            lab.prepare(python.args(["-c", script, "run.yaml"]).env("HOME", lab.path("")));
            Said::of(&python.output().unwrap())
        };
        validated(&printed).fine();
        let refused = validated(&printed.replace(right, wrong));
        assert_eq!(refused.code, Some(1), "the validator sees faults");
    }
}
