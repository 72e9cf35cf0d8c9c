//! What a `config.json` says of rotary embeddings, in the older way (`rope_theta`, `rope_scaling`) and the newer
//! (`rope_parameters`).

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::family::Family;
use super::keys::Keys;
use crate::model::architecture::{Rope, Scaling};

/// What a rope is made for, unless its table says otherwise.
#[derive(Clone, Copy)]
pub(super) struct Dimensions {
    /// Width of a head.
    pub(super) head_dim: usize,
    /// The share of it that turns.
    pub(super) partial: f64,
    /// Base of the wavelengths.
    pub(super) theta: f64,
    /// Tokens that a sequence has at most.
    pub(super) positions: usize,
}

/// The rotary embedding of layers that see everything, and that of layers with a window where it differs.
pub(super) fn ropes(family: Family, keys: &Keys, dimensions: Dimensions) -> Result<(Rope, Option<Rope>)> {
    let table = keys.raw("rope_parameters");
    if let (Family::Gemma3, Some(table)) = (family, table.filter(|table| table.get("full_attention").is_some())) {
        let each = Keys::new(table, "rope_parameters.")?;
        let rope = |key, theta| -> Result<Rope> {
            let dimensions = Dimensions { theta, ..dimensions };
            each.raw(key).map_or_else(|| unscaled(dimensions), |table| rope(table, "rope_parameters.", dimensions))
        };
        let ropes = (rope("full_attention", 1e6)?, Some(rope("sliding_attention", 1e4)?));
        each.finish()?;
        return Ok(ropes);
    }
    let dimensions = Dimensions { theta: keys.or("rope_theta", dimensions.theta)?, ..dimensions };
    let global = match (table, keys.raw("rope_scaling")) {
        (Some(table), None) => rope(table, "rope_parameters.", dimensions)?,
        (None, Some(table)) => rope(table, "rope_scaling.", dimensions)?,
        (Some(_), Some(_)) => bail!("expected `rope_parameters` or `rope_scaling`, found both"),
        (None, None) => unscaled(dimensions)?,
    };
    if family == Family::Phi3 {
        keys.find::<usize>("original_max_position_embeddings")?;
    }
    let local = if family == Family::Gemma3 {
        Some(unscaled(Dimensions { theta: keys.or("rope_local_base_freq", 1e4)?, ..dimensions })?)
    } else {
        None
    };
    Ok((global, local))
}

fn unscaled(dimensions: Dimensions) -> Result<Rope> {
    let dims = turned(dimensions.head_dim, dimensions.partial)?;
    Ok(Rope { theta: dimensions.theta, dims, scaling: Scaling::None })
}

/// The whole part of `head_dim * share`, as in `transformers`.
fn turned(head_dim: usize, share: f64) -> Result<usize> {
    ensure!(
        share > 0.0 && share <= 1.0,
        "`partial_rotary_factor`: expected a share above 0 and at most 1, found {share}"
    );
    Ok((1..=head_dim).rfind(|&d| d as f64 <= head_dim as f64 * share).unwrap_or(0))
}

fn rope(table: &Value, prefix: &'static str, dimensions: Dimensions) -> Result<Rope> {
    let keys = Keys::new(table, prefix)?;
    let own: Option<String> = keys.find("rope_type")?;
    let old: Option<String> = keys.find("type")?;
    let kind = own.or(old).unwrap_or_else(|| "default".to_owned());
    let theta = keys.or("rope_theta", dimensions.theta)?;
    let partial = keys.or("partial_rotary_factor", dimensions.partial)?;
    let factor = || -> Result<f64> {
        let factor = keys.need("factor")?;
        ensure!(factor >= 1.0, "`{prefix}factor`: expected at least 1, found {factor}");
        Ok(factor)
    };
    let scaling = match kind.as_str() {
        "default" => {
            keys.raw("factor");
            Scaling::None
        }
        "linear" => Scaling::Linear(factor()?),
        "dynamic" => {
            let original = keys.or("original_max_position_embeddings", dimensions.positions)?;
            Scaling::Dynamic { factor: factor()?, original: original.min(dimensions.positions) }
        }
        "llama3" => Scaling::Llama3 {
            factor: factor()?,
            low: keys.need("low_freq_factor")?,
            high: keys.need("high_freq_factor")?,
            original: keys.need("original_max_position_embeddings")?,
        },
        other => bail!(
            "`{prefix}rope_type`: expected `default`, `linear`, `dynamic` or `llama3`, found `{other}`, which is not supported"
        ),
    };
    keys.finish()?;
    Ok(Rope { theta, dims: turned(dimensions.head_dim, partial)?, scaling })
}
