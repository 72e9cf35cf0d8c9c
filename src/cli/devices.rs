//! `devices`: what this binary and this machine can compute on.

use clap::Args;
use serde_json::{Value, json};

use super::output::{self, Failure};
use crate::compute::{DeviceName, Family, self_test};

#[derive(Args)]
pub(super) struct DevicesArgs {
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// A line of the table.
struct Found {
    name: DeviceName,
    /// The self-test's error, or why there was none.
    tested: Result<f64, String>,
}

pub(super) fn devices(args: &DevicesArgs) -> Result<(), Failure> {
    let found: Vec<Found> = Family::ALL.into_iter().flat_map(look).collect();
    let auto = DeviceName::Auto.family();
    if args.json {
        let devices: Vec<Value> = found.iter().map(json).collect();
        return output::data(&json!({ "auto": auto.name(), "devices": devices }).to_string());
    }
    let rows: Vec<[String; 3]> = found.iter().map(row).collect();
    output::data(&format!("{}\n`auto` is `{auto}` here", output::table(&["device", "usable", "self-test"], &rows)))
}

/// The devices of a family; where there is none, why.
fn look(family: Family) -> Vec<Found> {
    let count = family.count().unwrap_or(0).max(1);
    let found = |index| {
        let tested = family.open(index).and_then(|device| self_test(&device)).map_err(|error| format!("{error:#}"));
        Found { name: DeviceName::Of(family, index), tested }
    };
    (0..count).map(found).collect()
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
