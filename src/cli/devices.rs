//! `devices`: what this binary and this machine can compute on.

use std::env;
use std::process::{Command, ExitStatus};

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};

use super::output::{self, Failure};
use crate::compute::{DeviceName, Family, self_test};

#[derive(Args)]
pub(super) struct DevicesArgs {
    /// Only this one
    name: Option<DeviceName>,
    /// One JSON document
    #[arg(long)]
    json: bool,
    /// Test in this process, whatever a driver does to it
    #[arg(long, hide = true)]
    here: bool,
}

/// A line of the table.
struct Found {
    name: DeviceName,
    /// The self-test's error, or why there was none.
    tested: Result<f64, String>,
}

pub(super) fn devices(args: &DevicesArgs) -> Result<(), Failure> {
    let names = match args.name {
        Some(name) => vec![name],
        None => Family::ALL.into_iter().flat_map(all_of).collect(),
    };
    let tested = |name| if args.here { tested_here(name) } else { tested(name) };
    let found: Vec<Found> = names.into_iter().map(|name| Found { name, tested: tested(name) }).collect();
    let auto = DeviceName::Auto.family();
    if args.json {
        let devices: Vec<Value> = found.iter().map(json).collect();
        return output::data(&json!({ "auto": auto.name(), "devices": devices }).to_string());
    }
    let rows: Vec<[String; 3]> = found.iter().map(row).collect();
    output::data(&format!("{}\n`auto` is `{auto}` here", output::table(&["device", "usable", "self-test"], &rows)))
}

/// Refuses devices that are not here, and those whose driver fails the self-test, where drivers are known to: those that are
/// software among them crash.
pub(super) fn require(devices: &[DeviceName]) -> anyhow::Result<()> {
    for &name in devices {
        if matches!(name.family(), Family::Vulkan | Family::Wgpu) && is_here(name.family()) {
            tested(name).map_err(|why| anyhow!("device `{name}` cannot be used: {why}"))?;
        } else {
            name.open()?;
        }
    }
    Ok(())
}

/// The devices of a family; the first of them where there is none.
fn all_of(family: Family) -> Vec<DeviceName> {
    (0..family.count().unwrap_or(0).max(1)).map(|index| DeviceName::Of(family, index)).collect()
}

/// The self-test's error, or why there is none. Devices with drivers are tested in a process of their own, since one that crashes
/// takes its process along.
fn tested(name: DeviceName) -> Result<f64, String> {
    let family = name.family();
    if matches!(family, Family::Flex | Family::LibTorch) || !is_here(family) {
        return tested_here(name);
    }
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let said = Command::new(program).args(["devices", "--json", "--here", &name.to_string()]).output();
    let said = said.map_err(|error| error.to_string())?;
    if !said.status.success() {
        return Err(format!("the self-test ended with {}: its driver fails", ending(said.status)));
    }
    let document: Value = serde_json::from_slice(&said.stdout).map_err(|error| error.to_string())?;
    let found = &document["devices"][0];
    found["self_test_error"].as_f64().ok_or_else(|| found["reason"].as_str().unwrap_or("no answer").to_owned())
}

fn is_here(family: Family) -> bool {
    family.count().is_ok_and(|count| count > 0)
}

fn tested_here(name: DeviceName) -> Result<f64, String> {
    name.open().and_then(|device| self_test(&device)).map_err(|error| format!("{error:#}"))
}

fn ending(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("signal {signal}");
    }
    status.code().map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"))
}

fn row(found: &Found) -> [String; 3] {
    let (usable, said) = match &found.tested {
        Ok(error) => ("yes", format!("differs from `flex` by {error:.1e} at most, forwards and backwards")),
        Err(why) => ("no", why.clone()),
    };
    [found.name.to_string(), usable.to_owned(), said]
}

fn json(found: &Found) -> Value {
    let Found { name, tested } = found;
    let family = name.family();
    json!({
        "device": name,
        "built": family.is_built(),
        "feature": family.feature(),
        "usable": tested.is_ok(),
        "self_test_error": tested.as_ref().ok(),
        "reason": tested.as_ref().err(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_crash_is_told_by_its_signal() {
        let ended = |script: &str| ending(Command::new("sh").args(["-c", script]).status().unwrap());
        assert_eq!(ended("kill -SEGV $$"), "signal 11");
        assert_eq!(ended("exit 3"), "exit code 3");
    }
}
