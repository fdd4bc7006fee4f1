//! Rotary settings of `llm_config`, in either spelling: `rope_theta` and `rope_scaling`, or `rope_parameters`, which
//! transformers 5 writes in their place.

use super::fields::Fields;
use crate::family::TextFamily;
use crate::rope::{RopeScaling, RopeSections, RopeSettings};
use crate::{Error, Result};

const KEYS: [&str; 3] = [THETA, SCALING, PARAMETERS];
const THETA: &str = "rope_theta";
const SCALING: &str = "rope_scaling";
const PARAMETERS: &str = "rope_parameters";
const ORIGINAL: &str = "original_max_position_embeddings";
/// The base of all published classes.
const DEFAULT_THETA: f64 = 10000.0;

/// The defaults of a class whose positions have three axes.
pub(super) struct Axes {
    /// The base.
    pub(super) theta: f64,
    /// Pairs of each axis.
    pub(super) sizes: [usize; 3],
    /// Their order, which is that of all models of the class.
    pub(super) interleaved: bool,
}

const SECTIONS: &str = "mrope_section";
const INTERLEAVED: &str = "mrope_interleaved";
/// The keys of a model with axes.
const OF_AXES: [&str; 2] = [SECTIONS, INTERLEAVED];
/// The kind of an unscaled model with axes, in older files.
const MROPE: &str = "mrope";

/// The values of one spelling; `None` means the default.
struct Said {
    theta: Option<f64>,
    scaling: Option<RopeScaling>,
}

/// Reads the settings of a model with heads of `head_dim`.
///
/// # Errors
/// An unknown key that begins with `rope`, a kind of scaling or one of its keys that is not computed here, or two
/// spellings that contradict each other.
pub(super) fn settings(
    model: &Fields,
    head_dim: usize,
    family: TextFamily,
    axes: Option<&Axes>,
) -> Result<RopeSettings> {
    refuse_unknown(model)?;
    let scaling = |key: &str| match (model.get(key), axes) {
        (None, _) => Ok(None),
        (Some(_), Some(_)) => unscaled(&model.section(key)?).map_err(|e| e.at(key)),
        (Some(_), None) => {
            scaling(&model.section(key)?, model, family, head_dim / 2).map_err(|e| e.at(key))
        }
    };
    let theta = |fields: &Fields| match fields.get(THETA) {
        None => Ok(None),
        Some(_) => fields.positive(THETA).map(Some),
    };
    let mut said = Said {
        theta: theta(model)?,
        scaling: scaling(SCALING)?,
    };
    if model.get(PARAMETERS).is_some() {
        let own = theta(&model.section(PARAMETERS)?).map_err(|e| e.at(PARAMETERS))?;
        let parameters = Said {
            theta: own,
            scaling: scaling(PARAMETERS)?,
        };
        said = agreed(said, parameters)?;
    }
    let settings = RopeSettings {
        theta: said
            .theta
            .unwrap_or(axes.map_or(DEFAULT_THETA, |axes| axes.theta)),
        head_dim,
        scaling: said.scaling,
        sections: axes.map(|axes| sections(model, axes)).transpose()?,
    };
    settings.check_sections()?;
    Ok(settings)
}

/// Checks that a model with axes is not scaled by length.
fn unscaled(own: &Fields) -> Result<Option<RopeScaling>> {
    for key in ["rope_type", "type"] {
        match own.text(key)? {
            None | Some("default" | MROPE) => {}
            Some(kind) => {
                let problem = format!("{kind} is not supported (supported: default, {MROPE})");
                return Err(Error::invalid(problem));
            }
        }
    }
    known_keys(own, MROPE, &OF_AXES)?;
    Ok(None)
}

/// The axes of pairs, from either spelling.
fn sections(model: &Fields, axes: &Axes) -> Result<RopeSections> {
    let mut sizes = axes.sizes;
    for key in [SCALING, PARAMETERS] {
        if model.get(key).is_none() {
            continue;
        }
        let own = model.section(key)?;
        own.absent_or(INTERLEAVED, axes.interleaved)
            .map_err(|e| e.at(key))?;
        if own.get(SECTIONS).is_some() {
            let given = own.factors(SECTIONS, 3).map_err(|e| e.at(key))?;
            sizes = [given[0] as usize, given[1] as usize, given[2] as usize];
        }
    }
    Ok(RopeSections {
        sizes,
        interleaved: axes.interleaved,
    })
}

fn refuse_unknown(model: &Fields) -> Result<()> {
    let mut keys = model.keys();
    match keys.find(|key| key.starts_with("rope") && !KEYS.contains(key)) {
        None => Ok(()),
        Some(key) => Err(Error::invalid(format!(
            "{key}: unknown key (supported: {})",
            KEYS.join(", ")
        ))),
    }
}

/// The settings of a config that may have both spellings.
fn agreed(old: Said, new: Said) -> Result<Said> {
    let differ = |key: &str| {
        Error::invalid(format!(
            "{key} and {PARAMETERS} contradict each other: remove one of them"
        ))
    };
    if old.theta.is_some() && new.theta.is_some() && old.theta != new.theta {
        return Err(differ(THETA));
    }
    if old.scaling.is_some() && old.scaling != new.scaling {
        return Err(differ(SCALING));
    }
    Ok(Said {
        theta: new.theta.or(old.theta),
        scaling: new.scaling,
    })
}

fn scaling(
    own: &Fields,
    model: &Fields,
    family: TextFamily,
    pairs: usize,
) -> Result<Option<RopeScaling>> {
    let kind = match own.text("rope_type")? {
        Some(kind) => Some(kind),
        None => own.text("type")?,
    };
    match kind {
        Some("default") => {
            known_keys(own, "default", &[])?;
            Ok(None)
        }
        Some(kind) if family.scalings().contains(&kind) => {
            known_scaling(kind, model, own, pairs).map(Some)
        }
        // `rope_parameters` may hold the base alone.
        None if own.get(THETA).is_some() => {
            known_keys(own, "default", &[])?;
            Ok(None)
        }
        _ => {
            let kind = kind.unwrap_or("without a type");
            let scalings = family.scalings().join(", ");
            Err(Error::invalid(format!(
                "{kind} is not supported (supported for {}: {scalings})",
                family.architecture()
            )))
        }
    }
}

fn known_scaling(kind: &str, model: &Fields, own: &Fields, pairs: usize) -> Result<RopeScaling> {
    known_keys(own, kind, keys(kind))?;
    let factor = || own.positive("factor");
    Ok(match kind {
        "linear" => RopeScaling::Linear { factor: factor()? },
        "dynamic" => RopeScaling::Dynamic {
            factor: factor()?,
            max_positions: model.size("max_position_embeddings")?,
        },
        "llama3" => RopeScaling::Llama3 {
            factor: factor()?,
            low_frequency_factor: own.positive("low_freq_factor")?,
            high_frequency_factor: own.positive("high_freq_factor")?,
            original_positions: own.size(ORIGINAL)?,
        },
        _ => {
            let has_original = own.get(ORIGINAL).is_some();
            let original = if has_original { own } else { model };
            RopeScaling::LongRope {
                short_factors: own.factors("short_factor", pairs)?,
                long_factors: own.factors("long_factor", pairs)?,
                original_positions: original.size(ORIGINAL)?,
                max_positions: model.size("max_position_embeddings")?,
            }
        }
    })
}

/// The keys of this kind of scaling.
fn keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "linear" | "dynamic" => &["factor"],
        "llama3" => &["factor", "low_freq_factor", "high_freq_factor", ORIGINAL],
        _ => &["short_factor", "long_factor", ORIGINAL],
    }
}

/// # Errors
/// A key besides those of every kind and `of_kind`: its request would be ignored.
fn known_keys(own: &Fields, kind: &str, of_kind: &[&str]) -> Result<()> {
    own.absent_or("partial_rotary_factor", 1.0)?;
    let every = ["rope_type", "type", THETA, "partial_rotary_factor"];
    let mut keys = own.keys();
    match keys.find(|key| !every.contains(key) && !of_kind.contains(key)) {
        None => Ok(()),
        Some(key) => Err(Error::invalid(format!(
            "{key}: unknown key of a scaling of type {kind}"
        ))),
    }
}
