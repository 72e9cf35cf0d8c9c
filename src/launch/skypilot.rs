//! SkyPilot: a run as a printed task, one machine that does all of it as a local run.
//!
//! What SkyPilot offers many machines to share is buckets, and a store cannot lie on one: no rename there is atomic. So the
//! store lies on a volume, which outlives the machine: when that is taken away, SkyPilot starts another one, and the same
//! command goes on from what is there.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use minijinja::context;

use super::command::quoted;
use super::kubernetes::slug;
use super::template::render;
use super::{Frozen, resources};
use crate::recipe::Experiment;
use crate::recipe::launch::{Config, SkyPilot};
use crate::units::{Count, Line, Memory};

/// Where the machine sees the volume.
const VOLUME: &str = "/runner";

/// The task that does `runner run RECIPE` with `overrides`, which is `run`, on a machine of SkyPilot's. The working directory is
/// uploaded, and everything that the recipe names has to be in it.
///
/// # Errors
/// When something lies elsewhere, or the recipe does not say which volume or accelerator.
pub fn manifest(run: &Frozen, experiment: &Experiment, recipe: &Path, overrides: &[String]) -> Result<String> {
    let launch = experiment.points.first().map(|point| point.recipe.launch.clone()).unwrap_or_default();
    let SkyPilot { volume, infra, image, accelerator, setup } = &launch.skypilot;
    let said = |value: &Option<Line>| value.as_ref().map(|line| line.as_str().to_owned());
    let volume = said(volume);
    let volume = volume.context("expected `launch.skypilot.volume`, the volume that the store lies on, found none")?;
    let recipe = uploaded(recipe)?;
    run.files.keys().try_for_each(|file| uploaded(file).map(drop))?;
    let (cores, memory, devices) = machine(run, experiment, &launch);
    let accelerators = devices.filter(|&devices| devices > 0).map(|devices| {
        let name = said(accelerator)
            .context("expected `launch.skypilot.accelerator`, since stages need `devices`, found none")?;
        anyhow::Ok(format!("{name}:{devices}"))
    });
    let out = format!("{VOLUME}/reports/{}", run.experiment.name);
    let mut command = vec!["runner".to_owned(), "run".to_owned(), recipe];
    command.extend(overrides.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
    command.extend(["--store".to_owned(), format!("{VOLUME}/store"), "--out".to_owned(), out]);
    let view = context! {
        name => slug(&run.id),
        cores,
        gibibytes => memory.map(|mebibytes| mebibytes.div_ceil(1024)),
        accelerators => accelerators.transpose()?,
        infra => said(infra),
        image => said(image),
        mount => VOLUME,
        volume,
        setup => setup.iter().flatten().map(|line| line.as_str().to_owned()).collect::<Vec<_>>(),
        command => command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    };
    render(include_str!("templates/skypilot.yaml"), view, "SkyPilot")
}

/// Cores, mebibytes and devices of the machine.
fn machine(run: &Frozen, experiment: &Experiment, launch: &Config) -> (Option<usize>, Option<u64>, Option<usize>) {
    let needs: Vec<_> = run.plan.nodes.iter().map(|node| resources(experiment, node)).collect();
    let cores = launch.local.cores.or_else(|| needs.iter().filter_map(|needs| needs.cores).max());
    let own = launch.local.memory.as_ref().map(Memory::mebibytes);
    let memory = own.or_else(|| needs.iter().filter_map(|needs| needs.memory.as_ref().map(Memory::mebibytes)).max());
    let devices = launch.local.devices.or_else(|| needs.iter().filter_map(|needs| needs.devices).max());
    (cores.map(Count::get), memory, devices)
}

/// `path` as it is called from the working directory, which it has to be in.
fn uploaded(path: &Path) -> Result<String> {
    let real = |path: &Path| path.canonicalize().with_context(|| format!("cannot open `{}`", path.display()));
    let (file, directory) = (real(path)?, real(Path::new("."))?);
    let inside = file.strip_prefix(&directory).ok();
    ensure!(
        inside.is_some(),
        "expected everything that the recipe names in the working directory, which SkyPilot uploads; found `{}`",
        path.display()
    );
    let inside = inside.and_then(Path::to_str).with_context(|| format!("`{}` is not valid UTF-8", path.display()))?;
    Ok(inside.to_owned())
}
