//! What a `config.json` says of rotary embeddings, in the older way (`rope_theta`, `rope_scaling`) and the newer
//! (`rope_parameters`).

use std::f64::consts::TAU;

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
    /// Tokens that one had at most in the first training, where the config says it outside the table.
    pub(super) original: Option<usize>,
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
    let original = if family == Family::Phi3 { keys.find("original_max_position_embeddings")? } else { None };
    let dimensions = Dimensions { theta: keys.or("rope_theta", dimensions.theta)?, original, ..dimensions };
    let global = match (table, keys.raw("rope_scaling")) {
        (Some(table), None) => rope(table, "rope_parameters.", dimensions)?,
        (None, Some(table)) => rope(table, "rope_scaling.", dimensions)?,
        (Some(_), Some(_)) => bail!("expected `rope_parameters` or `rope_scaling`, found both"),
        (None, None) => unscaled(dimensions)?,
    };
    let local = if family == Family::Gemma3 {
        Some(unscaled(Dimensions { theta: keys.or("rope_local_base_freq", 1e4)?, ..dimensions })?)
    } else {
        None
    };
    Ok((global, local))
}

fn unscaled(dimensions: Dimensions) -> Result<Rope> {
    let dims = turned(dimensions.head_dim, dimensions.partial)?;
    Ok(Rope { theta: dimensions.theta, dims, scaling: Scaling::None, attention_factor: 1.0 })
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
    let dims = turned(dimensions.head_dim, keys.or("partial_rotary_factor", dimensions.partial)?)?;
    let mut attention_factor = 1.0;
    let scaling = match kind.as_str() {
        "default" => {
            keys.raw("factor");
            Scaling::None
        }
        "linear" => Scaling::Linear(factor(&keys, prefix)?),
        "dynamic" => {
            keys.only("original_max_position_embeddings", &dimensions.positions)?;
            Scaling::Dynamic { factor: factor(&keys, prefix)?, original: dimensions.positions }
        }
        "llama3" => Scaling::Llama3 {
            factor: factor(&keys, prefix)?,
            low: keys.need("low_freq_factor")?,
            high: keys.need("high_freq_factor")?,
            original: keys.need("original_max_position_embeddings")?,
        },
        "yarn" => {
            let scaling;
            (scaling, attention_factor) = yarn(&keys, prefix, theta, dims, dimensions)?;
            scaling
        }
        // `su` is what the first configs of Phi-3 call it.
        "longrope" | "su" => {
            let scaling;
            (scaling, attention_factor) = long(&keys, prefix, dims, dimensions)?;
            scaling
        }
        other => bail!(
            "`{prefix}rope_type`: expected `default`, `linear`, `dynamic`, `llama3`, `yarn` or `longrope`, found `{other}`, \
             which is not supported"
        ),
    };
    keys.finish()?;
    Ok(Rope { theta, dims, scaling, attention_factor })
}

fn factor(keys: &Keys, prefix: &str) -> Result<f64> {
    let factor = keys.need("factor")?;
    ensure!(factor >= 1.0, "`{prefix}factor`: expected at least 1, found {factor}");
    Ok(factor)
}

/// Wavelengths that turn more than `beta_fast` times in the first training's length stay, those below `beta_slow` turns
/// are stretched in full [YARN].
fn yarn(keys: &Keys, prefix: &str, theta: f64, dims: usize, dimensions: Dimensions) -> Result<(Scaling, f64)> {
    let original = first_length(keys, dimensions)? as f64;
    let factor = match keys.raw("factor") {
        Some(_) => factor(keys, prefix)?,
        None => dimensions.positions as f64 / original,
    };
    let dimension = |turns: f64| dims as f64 * (original / (turns * TAU)).ln() / (2.0 * theta.ln());
    let (low, high) = (dimension(keys.or("beta_fast", 32.0)?), dimension(keys.or("beta_slow", 1.0)?));
    let (low, high) = if keys.or("truncate", true)? { (low.floor(), high.ceil()) } else { (low, high) };
    let (low, high) = (low.max(0.0), high.min(dims as f64 - 1.0));
    let high = if low.to_bits() == high.to_bits() { high + 0.001 } else { high };
    let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    let scales: [Option<f64>; 2] = [keys.find("mscale")?, keys.find("mscale_all_dim")?];
    let usual = match scales {
        [Some(one), Some(all)] if one != 0.0 && all != 0.0 => magnitude(one) / magnitude(all),
        _ => magnitude(1.0),
    };
    Ok((Scaling::Yarn { factor, low, high }, keys.or("attention_factor", usual)?))
}

/// A factor for every pair of dimensions, in sequences up to the first training's length and beyond [LONGROPE].
fn long(keys: &Keys, prefix: &str, dims: usize, dimensions: Dimensions) -> Result<(Scaling, f64)> {
    let original = first_length(keys, dimensions)?;
    let positions = original as f64;
    let factors = |key: &'static str| -> Result<Vec<f64>> {
        let factors: Vec<f64> = keys.need(key)?;
        ensure!(
            factors.len() == dims / 2,
            "`{prefix}{key}`: expected {} numbers (half of the rotary dimensions), found {}",
            dims / 2,
            factors.len()
        );
        Ok(factors)
    };
    let (short, long) = (factors("short_factor")?, factors("long_factor")?);
    let factor = keys.or("factor", dimensions.positions as f64 / positions)?;
    let usual = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / positions.ln()).sqrt() };
    Ok((Scaling::Long { short, long, original }, keys.or("attention_factor", usual)?))
}

/// Tokens that a sequence had at most in the first training: what the config says outside the table counts first.
fn first_length(keys: &Keys, dimensions: Dimensions) -> Result<usize> {
    let own = keys.find("original_max_position_embeddings")?;
    Ok(dimensions.original.or(own).unwrap_or(dimensions.positions))
}
