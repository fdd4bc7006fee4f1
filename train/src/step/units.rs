//! Units: trainable tensors that several processes reduce together. A unit's tensors lie one after another, padded to
//! equal parts, one for each process, which has the gradients and moments of its part only.

use std::collections::BTreeMap;

use anyhow::Result;
use tch::{Device, Kind, Tensor};

use crate::libtorch::parameters::Parameters;
use crate::world::environment::Ranks;

/// The tensors of one block, or a single tensor outside all blocks.
pub(crate) struct Unit {
    pub(crate) members: Vec<Member>,
    /// Elements of each process's part.
    part: i64,
    ranks: Ranks,
    device: Device,
}

/// A tensor of a unit.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) shape: Vec<i64>,
}

impl Member {
    /// Number of elements.
    pub(crate) fn size(&self) -> i64 {
        self.shape.iter().product()
    }

    /// Whether weight decay applies: not to norms and biases, in either branch.
    pub(crate) fn decays(&self) -> bool {
        self.shape.len() >= 2
    }
}

/// The stretch of a tensor that lies in this process's part.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) member: &'a Member,
    /// First element within the tensor.
    within: i64,
    /// First element within the part.
    at: i64,
    length: i64,
}

impl Piece<'_> {
    /// The stretch of the member's `tensor`; it shares the storage.
    pub(crate) fn of_tensor(&self, tensor: &Tensor) -> Tensor {
        tensor.detach().view(-1).narrow(0, self.within, self.length)
    }

    /// The stretch of a part; it shares the storage.
    pub(crate) fn of_part(&self, part: &Tensor) -> Tensor {
        part.narrow(0, self.at, self.length)
    }
}

impl Unit {
    /// The units of all trainable tensors, in the order of names. A process that trains alone has one for each tensor, so
    /// that nothing is copied.
    pub(crate) fn all(parameters: &Parameters, ranks: Ranks) -> Vec<Self> {
        let mut units: BTreeMap<&str, Vec<(&str, &Tensor)>> = BTreeMap::new();
        for (name, tensor) in parameters.trainable() {
            let unit = if ranks.size == 1 { name } else { block(name) };
            units.entry(unit).or_default().push((name, tensor));
        }
        units
            .into_values()
            .map(|tensors| Self::new(tensors, ranks))
            .collect()
    }

    fn new(tensors: Vec<(&str, &Tensor)>, ranks: Ranks) -> Self {
        let member = |(name, tensor): &(&str, &Tensor)| Member {
            name: (*name).to_owned(),
            shape: tensor.size(),
        };
        let members: Vec<_> = tensors.iter().map(member).collect();
        let total: i64 = members.iter().map(Member::size).sum();
        Self {
            members,
            part: (total as u64).div_ceil(ranks.size as u64) as i64,
            ranks,
            device: tensors[0].1.device(),
        }
    }

    /// The device of its tensors.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// A part of zeros.
    pub(crate) fn zeros(&self) -> Tensor {
        Tensor::zeros([self.part], (Kind::Float, self.device))
    }

    /// The pieces of this process's part.
    pub(crate) fn pieces(&self) -> Vec<Piece<'_>> {
        let start = self.part * self.ranks.rank as i64;
        let mut pieces = Vec::new();
        let mut first = 0;
        for member in &self.members {
            let last = first + member.size();
            let (from, to) = (first.max(start), last.min(start + self.part));
            if from < to {
                pieces.push(Piece {
                    member,
                    within: from - first,
                    at: from - start,
                    length: to - from,
                });
            }
            first = last;
        }
        pieces
    }

    /// The members' tensors one after another, `[processes · part]`; zeros for a member without one.
    pub(crate) fn flat(&self, tensor: impl Fn(&Member) -> Option<Tensor>) -> Tensor {
        let zeros = |size| Tensor::zeros([size], (Kind::Float, self.device));
        let of = |member: &Member| match tensor(member) {
            Some(tensor) => tensor.detach().reshape([-1]),
            None => zeros(member.size()),
        };
        let mut all: Vec<Tensor> = self.members.iter().map(of).collect();
        match (self.padding(), &all[..]) {
            (0, [_]) => all.remove(0),
            (padding, _) => {
                all.push(zeros(padding));
                Tensor::cat(&all, 0)
            }
        }
    }

    /// This process's part of the members' tensors.
    pub(crate) fn part(
        &self,
        tensor: impl Fn(&Member) -> Result<Option<Tensor>>,
    ) -> Result<Tensor> {
        let part = self.zeros();
        for piece in self.pieces() {
            if let Some(tensor) = tensor(piece.member)? {
                piece.of_part(&part).copy_(&piece.of_tensor(&tensor));
            }
        }
        Ok(part)
    }

    /// The members with their tensors in `flat`, as [`flat`](Self::flat) returns it; they share the storage.
    pub(crate) fn split(&self, flat: &Tensor) -> Vec<(&Member, Tensor)> {
        let mut at = 0;
        let mut next = |member: &Member| {
            let tensor = flat.narrow(0, at, member.size()).view(&member.shape[..]);
            at += member.size();
            tensor
        };
        let members = self.members.iter();
        members.map(|member| (member, next(member))).collect()
    }

    /// Elements of all members.
    fn total(&self) -> i64 {
        self.members.iter().map(Member::size).sum()
    }

    fn padding(&self) -> i64 {
        self.part * self.ranks.size as i64 - self.total()
    }
}

/// The name of a tensor's block, which ends with the block's number; without one, the tensor's own name.
fn block(name: &str) -> &str {
    let mut end = 0;
    for segment in name.split('.') {
        end += segment.len();
        if segment.bytes().all(|byte| byte.is_ascii_digit()) {
            return &name[..end];
        }
        end += 1;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libtorch::precision::Precision;

    const SHAPES: [(&str, &[i64]); 5] = [
        ("blocks.0.bias", &[3]),
        ("blocks.0.weight", &[5, 7]),
        ("blocks.10.weight", &[2, 2]),
        ("norm.weight", &[1]),
        ("score.weight", &[1, 11]),
    ];

    fn parameters() -> Parameters {
        let mut parameters = Parameters::new(Precision::Fp32);
        for (number, (name, shape)) in (1..).zip(SHAPES) {
            let size = shape.iter().product::<i64>();
            let values = Tensor::arange(size, (Kind::Float, Device::Cpu)) + number as f64 * 100.0;
            parameters.insert(name.to_owned(), values.view(shape));
        }
        parameters.train_where(|_| true);
        parameters
    }

    #[test]
    fn a_block_is_a_unit_of_several_processes() {
        let names = |size| {
            let units = Unit::all(&parameters(), Ranks { rank: 0, size });
            let of = |unit: &Unit| unit.members.len();
            units.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(names(1), [1, 1, 1, 1, 1]);
        assert_eq!(names(2), [2, 1, 1, 1]);
        assert_eq!(block("text.layers.3.mlp.gate.weight"), "text.layers.3");
        assert_eq!(block("norm.weight"), "norm.weight");
    }

    /// At every number of processes, the parts of all of them have every element once, in the order of the members.
    #[test]
    fn parts_make_the_tensors_again() {
        let parameters = parameters();
        let tensor = |member: &Member| parameters.find(&member.name).map(Tensor::shallow_clone);
        for size in 1..=9 {
            for index in 0..Unit::all(&parameters, Ranks { rank: 0, size }).len() {
                let part = |rank| {
                    let unit = Unit::all(&parameters, Ranks { rank, size }).remove(index);
                    unit.part(|member| Ok(tensor(member))).unwrap()
                };
                let joined = Tensor::cat(&(0..size).map(part).collect::<Vec<_>>(), 0);
                let unit = Unit::all(&parameters, Ranks { rank: 0, size }).remove(index);
                assert_eq!(joined, unit.flat(tensor), "{size} processes");
                for (member, got) in unit.split(&joined) {
                    assert_eq!(got, parameters.get(&member.name).unwrap().detach());
                }
            }
        }
    }
}
