//! The supported combinations of target and precision.

use anyhow::{Result, bail};
use seeward_models::kinds::{Precision, Target};
use serde::Serialize;

use Precision::{Bf16, Fp16, Fp32, Int8};

/// Whether this version can write a bundle that a device could use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Support {
    Built,
    Planned,
}

use Support::{Built, Planned};

/// Every target with the precisions that its devices could use.
const SUPPORT_MATRIX: &[(Target, &[(Precision, Support)])] = &[
    (
        Target::Portable,
        &[(Fp32, Built), (Fp16, Built), (Bf16, Built)],
    ),
    (Target::Cpu, &[(Fp32, Built), (Bf16, Built), (Int8, Built)]),
    (
        Target::Cuda,
        &[(Fp32, Built), (Fp16, Built), (Bf16, Built), (Int8, Planned)],
    ),
    (
        Target::Tensorrt,
        &[(Fp32, Built), (Fp16, Built), (Bf16, Built)],
    ),
];

/// Checks that this version can write the combination.
///
/// # Errors
/// A combination that no device could use, or one that this version does not write yet.
pub(crate) fn check(target: Target, precision: Precision) -> Result<()> {
    match support(target, precision) {
        Some(Built) => Ok(()),
        Some(Planned) => {
            let built = listed(|support| support == Built);
            bail!(
                "{} {}: not built yet (built: {built})",
                name(target),
                name(precision)
            )
        }
        None => {
            let legal = listed(|_| true);
            bail!(
                "{} {}: no such bundle (legal: {legal})",
                name(target),
                name(precision)
            )
        }
    }
}

fn support(target: Target, precision: Precision) -> Option<Support> {
    let (_, row) = SUPPORT_MATRIX.iter().find(|row| row.0 == target)?;
    let entry = row.iter().find(|entry| entry.0 == precision)?;
    Some(entry.1)
}

/// The combinations whose support passes `filter`.
fn listed(filter: impl Fn(Support) -> bool) -> String {
    let line = |(target, row): &(Target, &[(Precision, Support)])| {
        let precisions = row.iter().filter(|entry| filter(entry.1));
        let precisions: Vec<String> = precisions.map(|entry| name(entry.0)).collect();
        format!("{} {}", name(target), precisions.join(", "))
    };
    let lines: Vec<String> = SUPPORT_MATRIX.iter().map(line).collect();
    lines.join("; ")
}

/// The name in the manifest and on the command line.
fn name(value: impl Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_built_or_refused_with_the_list() {
        for (target, row) in SUPPORT_MATRIX {
            for (precision, support) in *row {
                assert_eq!(check(*target, *precision).is_ok(), *support == Built);
            }
        }
        let refused = |target, precision| check(target, precision).unwrap_err().to_string();
        assert_eq!(
            refused(Target::Cuda, Int8),
            "cuda int8: not built yet (built: portable fp32, fp16, bf16; cpu fp32, bf16, int8; cuda fp32, fp16, bf16; \
             tensorrt fp32, fp16, bf16)"
        );
        assert_eq!(
            refused(Target::Tensorrt, Int8),
            "tensorrt int8: no such bundle (legal: portable fp32, fp16, bf16; cpu fp32, bf16, int8; \
             cuda fp32, fp16, bf16, int8; tensorrt fp32, fp16, bf16)"
        );
    }
}
