//! What a bundle can be made for, and in which precision.

use anyhow::{Result, bail};
use seeward_models::kinds::{Precision, Target};
use serde::Serialize;

use Precision::{Bf16, Fp16, Fp32, Int4, Int8};

/// Targets and the precisions of each.
type Table = [(Target, &'static [Precision])];

const LEGAL: &Table = &[
    (Target::Portable, &[Fp32, Fp16, Bf16]),
    (Target::Cpu, &[Fp32, Int8, Int4]),
    (Target::Cuda, &[Fp32, Fp16, Bf16, Int8, Int4]),
    (Target::Tensorrt, &[Fp32, Fp16, Bf16]),
];
const BUILT: &Table = &[
    (Target::Portable, &[Fp32, Fp16, Bf16]),
    (Target::Cpu, &[Fp32, Int8, Int4]),
    (Target::Cuda, &[Fp32, Fp16, Bf16]),
    (Target::Tensorrt, &[Fp32, Fp16, Bf16]),
];

/// # Errors
/// A combination that no device could use, or one that this version does not write yet.
pub(crate) fn check(target: Target, precision: Precision) -> Result<()> {
    if !has(LEGAL, target, precision) {
        let (target, precision, legal) = (name(target), name(precision), listed(LEGAL));
        bail!("{target} {precision}: there is no such bundle (legal: {legal})");
    }
    if !has(BUILT, target, precision) {
        let (target, precision, built) = (name(target), name(precision), listed(BUILT));
        bail!("{target} {precision}: not built yet (built: {built})");
    }
    Ok(())
}

fn has(table: &Table, target: Target, precision: Precision) -> bool {
    let row = table.iter().find(|row| row.0 == target);
    row.is_some_and(|row| row.1.contains(&precision))
}

fn listed(table: &Table) -> String {
    let line = |(target, precisions): &(Target, &[Precision])| {
        let precisions: Vec<String> = precisions.iter().map(name).collect();
        format!("{} {}", name(target), precisions.join(", "))
    };
    table.iter().map(line).collect::<Vec<_>>().join("; ")
}

/// The name that the manifest and the command line use.
fn name(value: impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_built_or_refused_with_the_list() {
        for (target, precisions) in BUILT {
            for precision in *precisions {
                check(*target, *precision).unwrap();
            }
        }
        let refused = |target, precision| check(target, precision).unwrap_err().to_string();
        assert_eq!(
            refused(Target::Cuda, Int4),
            "cuda int4: not built yet (built: portable fp32, fp16, bf16; cpu fp32, int8, int4; cuda fp32, fp16, bf16; \
             tensorrt fp32, fp16, bf16)"
        );
        assert_eq!(
            refused(Target::Tensorrt, Int8),
            "tensorrt int8: there is no such bundle (legal: portable fp32, fp16, bf16; cpu fp32, int8, int4; \
             cuda fp32, fp16, bf16, int8, int4; tensorrt fp32, fp16, bf16)"
        );
    }
}
