//! A sweep on a real Slurm of one machine, started by the test: a task that fails, one that is stopped in mid-training and
//! goes back into the queue, work submitted twice; and in the end the bytes of a local run.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that panics is a test that fails")]

mod tiny;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tiny::{Lab, Said, assert_same, results};

/// Twelve points that share all but PPO, one that fails at once, one that takes its time.
const SWEEP: &str = r#"
extends = "tiny.toml"

[ppo]
steps = 2

[[variants]]
name = "token"
reward = { token = { loss = "pairwise_edited_anchored" } }
credit = "per_token"

[sweep.product]
ppo.gae_lambda = [0.9, 1.0]
ppo.gamma = [1.0, 0.99]
ppo.policy_optimizer.learning_rate = [1e-3, 1e-4, 1e-5]

[[sweep.cases]]
name = "diverges"
ppo.policy_optimizer.learning_rate = 1e30

[[sweep.cases]]
name = "long"
ppo.steps = 160

[launch.stages.ppo]
memory = "100M"
time = "10m"
slurm = { max_parallel = 3 }

[launch.slurm]
setup = ["export RUNNER_TEST='from the recipe'"]
"#;

/// Slurm on this machine, in a folder of its own.
struct Slurm {
    dir: tempfile::TempDir,
    daemons: Vec<Child>,
}

impl Slurm {
    /// None, with a notice, where Slurm is not installed or may not be started; a failure where it has to be there.
    fn start() -> Option<Self> {
        let missing = ["munged", "slurmctld", "slurmd", "sbatch"].into_iter().find(|name| find(name).is_none());
        let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        if let Some(reason) = missing.map(|name| format!("no `{name}`")).or((!is_root).then(|| "not root".to_owned())) {
            assert!(std::env::var_os("RUNNER_REQUIRE_SLURM").is_none(), "Slurm is required here, but: {reason}");
            eprintln!("skipped: {reason} (Debian: apt-get install slurm-wlm munge)");
            return None;
        }
        let mut slurm = Self { dir: tempfile::tempdir().unwrap(), daemons: Vec::new() };
        fs::set_permissions(slurm.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = |name: &str| slurm.dir.path().join(name).display().to_string();
        fs::write(path("key"), (0..=255).collect::<Vec<u8>>().repeat(4)).unwrap();
        fs::set_permissions(path("key"), fs::Permissions::from_mode(0o400)).unwrap();
        fs::write(path("slurm.conf"), slurm.config()).unwrap();
        let munge = ["socket", "key-file", "pid-file", "log-file", "seed-file"];
        let files = ["socket", "key", "munged.pid", "munged.log", "seed"];
        let mut munged: Vec<String> =
            munge.iter().zip(files).map(|(o, file)| format!("--{o}={}", path(file))).collect();
        munged.extend(["--foreground".to_owned(), "--force".to_owned()]);
        slurm.daemon("munged", &munged);
        slurm.daemon("slurmctld", &["-D".to_owned()]);
        slurm.daemon("slurmd", &["-D".to_owned(), "-N".to_owned(), "node".to_owned()]);
        slurm.until("the node is idle", || slurm.ask("sinfo", &["-h", "-o", "%T"]).trim() == "idle");
        Some(slurm)
    }

    fn config(&self) -> String {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let host = host.trim().split('.').next().unwrap().to_owned();
        let dir = self.dir.path().display();
        let ports = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [control, node] = ports.map(|listener| listener.local_addr().unwrap().port());
        format!(
            "ClusterName=test
            SlurmctldHost={host}(127.0.0.1)
            SlurmUser=root
            SlurmdUser=root
            AuthType=auth/munge
            AuthInfo=socket={dir}/socket
            CredType=cred/munge
            SlurmctldPort={control}
            SlurmdPort={node}
            StateSaveLocation={dir}/state
            SlurmdSpoolDir={dir}/spool
            SlurmctldPidFile={dir}/slurmctld.pid
            SlurmdPidFile={dir}/slurmd.pid
            SlurmctldLogFile={dir}/slurmctld.log
            SlurmdLogFile={dir}/slurmd.log
            ProctrackType=proctrack/linuxproc
            TaskPlugin=task/none
            SelectType=select/cons_tres
            SelectTypeParameters=CR_CPU
            JobAcctGatherType=jobacct_gather/none
            AccountingStorageType=accounting_storage/none
            SwitchType=switch/none
            MpiDefault=none
            ReturnToService=2
            SchedulerType=sched/backfill
            SchedulerParameters=bf_interval=1
            SlurmdParameters=config_overrides
            MaxArraySize=10
            NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=1000
            PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
            "
        )
        .lines()
        .flat_map(|line| [line.trim(), "\n"])
        .collect()
    }

    fn daemon(&mut self, name: &str, arguments: &[String]) {
        let log = fs::File::create(self.dir.path().join(format!("{name}.out"))).unwrap();
        let mut command = self.prepared(Command::new(find(name).unwrap()));
        let streams = command.args(arguments).stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null());
        self.daemons.push(streams.spawn().unwrap());
    }

    fn prepared(&self, mut command: Command) -> Command {
        command.env("SLURM_CONF", self.dir.path().join("slurm.conf"));
        command
    }

    /// What a command of Slurm's says; nothing when it fails.
    fn ask(&self, name: &str, arguments: &[&str]) -> String {
        let output = self.prepared(Command::new(name)).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let started = Instant::now();
        while !is_so() {
            if started.elapsed() > Duration::from_secs(150) {
                let queue = self.ask("squeue", &["--array"]);
                let log = fs::read_to_string(self.dir.path().join("slurmctld.log")).unwrap_or_default();
                panic!("waited in vain: {what}\n{queue}\n{log}");
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_empty(&self) -> bool {
        self.ask("squeue", &["-h"]).is_empty()
    }

    /// `runner run RECIPE --launcher slurm`.
    fn submit(&self, lab: &Lab, recipe: &str) -> Said {
        let output = self.prepared(lab.runner(&["run", recipe, "--launcher", "slurm"])).output().unwrap();
        Said::of(&output).fine()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        self.ask("scancel", &["--user=root"]);
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// Where a program is; daemons are not in everybody's `PATH`.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut folders = path.split(':').map(Path::new).chain(["/usr/sbin", "/usr/local/sbin"].map(Path::new));
    folders.find_map(|folder| Some(folder.join(name)).filter(|file| file.is_file()))
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

#[test]
fn a_sweep_on_slurm_ends_like_a_local_one() {
    let Some(slurm) = Slurm::start() else { return };
    let lab = Lab::new();
    lab.write("sweep.toml", SWEEP);
    let said = slurm.submit(&lab, "sweep.toml");
    // Eight shared stages, then PPO, responses and judgements of fourteen points in arrays of ten at most.
    assert!(said.err.contains("14 arrays with 50 tasks and a job for the report are submitted"), "{}", said.err);
    let run = lab.path(".runner/runs").join(said.out.trim());
    let again = slurm.submit(&lab, "sweep.toml");
    assert!(again.err.contains("nothing to submit: "), "{}", again.err);

    let plan = json(&run.join("run.json")).unwrap()["plan"]["nodes"].as_array().unwrap().clone();
    let key = |label: &str| {
        let node = plan.iter().find(|node| node["stage"] == "ppo" && node["label"].as_str().unwrap().contains(label));
        node.unwrap()["key"].as_str().unwrap().to_owned()
    };
    let (long, diverges) = (key("case=long"), key("case=diverges"));
    let status = |key: &str| json(&run.join(format!("tasks/{key}.json"))).unwrap_or_default();

    // Stopped twice in mid-training: by a person who puts it back into the queue, and because its time is nearly over.
    for (attempt, stop) in [(1, "scontrol requeue"), (2, "scancel --batch --signal=USR1")] {
        let partial = lab.path(".runner/partial").join(&long);
        let saved = || tiny::files(&partial).iter().any(|file| file.to_string_lossy().contains("checkpoint/step-"));
        let begun = |status: &Value| status["state"] == "running" && status["attempt"] == attempt;
        slurm.until("the long task trains", || begun(&status(&long)) && saved());
        let job = status(&long)["job"].as_str().unwrap().to_owned();
        let (program, arguments) = stop.split_once(' ').unwrap();
        slurm.ask(program, &arguments.split(' ').chain([job.as_str()]).collect::<Vec<_>>());
        let waits = ["-h", "--array", "--states=PENDING", "--jobs", &job];
        slurm.until("the long task is in the queue again", || !slurm.ask("squeue", &waits).is_empty());
        assert_eq!(status(&long)["state"], "interrupted", "{}", status(&long));
        // Slurm would wait two minutes; less than two seconds it takes for an old order to stop.
        slurm.ask("scontrol", &["update", &format!("JobId={job}"), "StartTime=now+3"]);
    }
    slurm.until("the queue is empty", || slurm.is_empty());

    let done = status(&long);
    assert_eq!((&done["state"], &done["attempt"]), (&"done".into(), &3.into()), "{done}");
    let failed = status(&diverges);
    assert_eq!(failed["state"], "failed", "{failed}");
    assert!(failed["error"].as_str().unwrap().contains(" at iteration "), "{failed}");
    let ends: Vec<Value> = plan.iter().map(|node| status(node["key"].as_str().unwrap())["state"].clone()).collect();
    let count = |state: &str| ends.iter().filter(|found| *found == state).count();
    assert_eq!((count("done"), count("failed"), count("skipped")), (47, 1, 2), "{ends:?}");

    let local = lab.said(&["run", "sweep.toml", "--store", "local", "--out", "reports/local"]);
    assert_eq!(local.code, Some(1), "{}", local.err);
    assert_same(&results(&lab.path("local")), &results(&lab.path(".runner")));
    let (submitted, local) = (report(&lab.path("reports/sweep")), report(&lab.path("reports/local")));
    assert_eq!(submitted.keys().collect::<Vec<_>>(), local.keys().collect::<Vec<_>>());
    let different: Vec<_> =
        local.iter().filter(|(name, bytes)| submitted[*name] != **bytes).map(|pair| pair.0).collect();
    assert_eq!(different, Vec::<&PathBuf>::new());

    submitted_again(&slurm, &lab, &run);
    a_single_recipe(&slurm, &lab);
}

/// What failed or is gone is submitted again, and nothing else; twice, if the list of jobs is lost, and that harms nothing.
fn submitted_again(slurm: &Slurm, lab: &Lab, run: &Path) {
    let before = results(&lab.path(".runner"));
    fs::remove_dir_all(lab.path(".runner/results/judgements")).unwrap();
    let said = slurm.submit(lab, "sweep.toml");
    assert!(said.err.contains("5 arrays with 16 tasks and a job for the report are submitted"), "{}", said.err);
    fs::remove_file(run.join("slurm.json")).unwrap();
    slurm.submit(lab, "sweep.toml");
    slurm.until("the queue is empty", || slurm.is_empty());
    assert_same(&before, &results(&lab.path(".runner")));

    let said = slurm.submit(lab, "sweep.toml");
    assert!(said.err.contains("3 arrays with 3 tasks"), "the failed one and what is made from it: {}", said.err);
    let cancel = slurm.prepared(lab.runner(&["cancel", said.out.trim()])).output().unwrap();
    assert!(Said::of(&cancel).fine().err.contains("jobs cancelled"));
    slurm.until("the queue is empty", || slurm.is_empty());
}

/// Every file of a sweep's report, without the log of the run.
fn report(out: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = tiny::files(out)
        .into_iter()
        // Names of TensorBoard's files hold when and by which process they were written.
        .filter(|name| !name.ends_with("events.jsonl") && !name.starts_with("tensorboard"));
    let files: BTreeMap<_, _> = names.map(|name| (name.clone(), fs::read(out.join(name)).unwrap())).collect();
    assert!(files.len() > 3, "{:?}", files.keys());
    files
}

fn a_single_recipe(slurm: &Slurm, lab: &Lab) {
    slurm.submit(lab, "tiny.toml");
    slurm.until("the queue is empty", || slurm.is_empty());
    let numbers = |out: &str| {
        let mut report = json(&lab.path(out).join("report.json")).unwrap();
        for key in ["provenance", "stages"] {
            report.as_object_mut().unwrap().remove(key);
        }
        report
    };
    lab.said(&["run", "tiny.toml", "--store", "local", "--out", "single"]).fine();
    assert_eq!(numbers("reports/tiny"), numbers("single"));
}
