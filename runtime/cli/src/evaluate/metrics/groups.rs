//! Accuracy over the groups of a benchmark.

use std::collections::BTreeMap;

use seeward_models::sample::Group;
use serde::Serialize;

use super::accuracy::{self, Accuracy, Measured};

/// A set's accuracy, area by area.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Groups {
    /// Accuracy over all pairs.
    pub micro: Option<f64>,
    /// The mean over the areas.
    pub macro_mean: Option<f64>,
    /// The areas, sorted by name.
    pub areas: Vec<Area>,
}

/// One area.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Area {
    /// Its name.
    pub name: String,
    /// Its accuracy.
    #[serde(flatten)]
    pub accuracy: Measured,
    /// Its parts sorted by name, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Area>,
}

/// Acc+: the share of questions with all pairs ordered right.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Questions {
    /// The number of questions, and the share. A tie is not right.
    #[serde(flatten)]
    pub acc_plus: Measured,
}

impl Groups {
    /// Accuracies of margins with the group of each; `None` if no pair has a group.
    pub fn of(margins: &[f64], groups: &[Option<Group>]) -> Option<Self> {
        let mut by_group: BTreeMap<&Group, Vec<f64>> = BTreeMap::new();
        for (margin, group) in margins.iter().zip(groups) {
            by_group.entry(group.as_ref()?).or_default().push(*margin);
        }
        let names: Vec<&str> = by_group.keys().map(|group| group.area.as_str()).collect();
        let areas = names
            .chunk_by(|a, b| a == b)
            .map(|names| area(names[0], &by_group));
        let areas: Vec<Area> = areas.collect();
        Some(Self {
            micro: Accuracy::of(margins).share(),
            macro_mean: macro_mean(areas.iter().map(|area| area.accuracy)),
            areas,
        })
        .filter(|groups| !groups.areas.is_empty())
    }
}

impl Questions {
    /// Acc+ of margins with the question of each; `None` if no pair has a question.
    pub fn of(margins: &[f64], questions: &[Option<String>]) -> Option<Self> {
        let mut all_right: BTreeMap<&str, bool> = BTreeMap::new();
        for (margin, question) in margins.iter().zip(questions) {
            *all_right.entry(question.as_deref()?).or_insert(true) &= *margin > 0.0;
        }
        let right = all_right.values().filter(|right| **right).count();
        let accuracy = Accuracy {
            right: right as f64,
            pairs: all_right.len(),
        };
        (!all_right.is_empty()).then(|| Self {
            acc_plus: accuracy.measured(),
        })
    }
}

/// The mean of those that there are; `None` without any.
pub fn macro_mean(accuracies: impl Iterator<Item = Measured>) -> Option<f64> {
    accuracy::mean(
        &accuracies
            .filter_map(|measured| measured.accuracy)
            .collect::<Vec<_>>(),
    )
}

fn area(name: &str, by_group: &BTreeMap<&Group, Vec<f64>>) -> Area {
    let of_area = || by_group.iter().filter(|(group, _)| group.area == name);
    let all: Vec<f64> = of_area().flat_map(|(_, margins)| margins.clone()).collect();
    let part = |(group, margins): (&&Group, &Vec<f64>)| {
        Some(Area {
            name: group.part.clone()?,
            accuracy: Accuracy::of(margins).measured(),
            parts: Vec::new(),
        })
    };
    let parts: Vec<Area> = of_area().filter_map(part).collect();
    Area {
        name: name.to_owned(),
        accuracy: Accuracy::of(&all).measured(),
        parts: if parts.len() > 1 { parts } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(area: &str, part: Option<&str>) -> Option<Group> {
        Some(Group {
            area: area.to_owned(),
            part: part.map(str::to_owned),
        })
    }

    #[test]
    fn micro_counts_pairs_and_macro_areas() {
        let groups = [
            group("b", Some("x")),
            group("a", None),
            group("b", Some("y")),
            group("b", Some("y")),
        ];
        let groups = Groups::of(&[1.0, -1.0, 1.0, 0.0], &groups).unwrap();
        assert_eq!(
            (groups.micro, groups.macro_mean),
            (Some(2.5 / 4.0), Some(2.5 / 6.0))
        );
        let names: Vec<_> = groups.areas.iter().map(|area| area.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let parts: Vec<_> = groups.areas[1]
            .parts
            .iter()
            .map(|part| part.accuracy.accuracy)
            .collect();
        assert_eq!(parts, [Some(1.0), Some(0.75)]);
        assert!(groups.areas[0].parts.is_empty());
        assert_eq!(Groups::of(&[1.0], &[None]), None);
    }

    #[test]
    fn acc_plus_wants_every_pair_of_a_question_right() {
        let question = |name: &str| Some(name.to_owned());
        let questions = [question("a"), question("b"), question("a"), question("c")];
        let right = Questions::of(&[1.0, 1.0, -1.0, 0.0], &questions).unwrap();
        assert_eq!(
            (right.acc_plus.pairs, right.acc_plus.accuracy),
            (3, Some(1.0 / 3.0))
        );
        assert_eq!(Questions::of(&[1.0], &[None]), None);
    }
}
