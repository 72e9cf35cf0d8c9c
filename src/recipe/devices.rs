//! Rules on devices: whether those of a list go together, in the numbers asked for.

use super::Recipe;
use super::rules::{Note, Verdict, text};
use crate::compute::{DeviceName, MOST_REPLICAS, Replicas};

/// Applies the rules to `recipe`.
pub fn judge(recipe: &Recipe, verdict: &mut Verdict) {
    if let Some(Err(error)) = recipe.devices().first().map(|device| recipe.precision.require(device.family())) {
        verdict.require(false, error.to_string(), &[("precision", text("")), ("device", text(""))]);
    }
    let replicas = if let Replicas::Of(count) = recipe.replicas { count.get() } else { 1 };
    let message = format!("`replicas` are threads: expected at most {MOST_REPLICAS}, found {replicas}");
    verdict.require(replicas <= MOST_REPLICAS, message, &[("replicas", Note::Value(replicas as f64))]);
    if let Some(devices) = &recipe.devices {
        list(devices, recipe.device, verdict);
    }
}

/// The rules on a list, which stands in place of `device`.
fn list(devices: &[DeviceName], device: DeviceName, verdict: &mut Verdict) {
    let Some(first) = devices.first() else {
        return verdict.require(false, "`devices` is empty", &[("devices", text("expected at least one device"))]);
    };
    let message = "`devices` names `auto`: expected devices, or `device = \"auto\"` in place of the list";
    verdict.require(!devices.contains(&DeviceName::Auto), message, &[("devices", text(""))]);
    verdict.require(
        device == DeviceName::Auto,
        format!("`device` and `devices` are both given: expected one of them, found `{device}` beside a list"),
        &[("devices", text("")), ("device", text(""))],
    );
    for (i, device) in devices.iter().enumerate().skip(1) {
        let at = format!("devices.{i}");
        verdict.require(
            device.family() == first.family(),
            format!("expected `devices` of one kind, since kinds differ in the last bits: `{first}`, found `{device}`"),
            &[(&at, text(""))],
        );
        let message = format!("`devices` names `{device}` twice: `replicas` says how many work on it");
        verdict.require(!devices[..i].contains(device), message, &[(&at, text("already in the list"))]);
    }
}
