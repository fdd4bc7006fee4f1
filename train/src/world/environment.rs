//! The place of this process among those that train together, from the environment variables that torchrun, SLURM
//! scripts and Kubernetes operators set.

use std::env;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail, ensure};

/// One process among several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// The number of this process, from 0.
    pub rank: usize,
    /// The number of processes.
    pub size: usize,
}

impl Default for Ranks {
    /// A process that trains alone.
    fn default() -> Self {
        Self { rank: 0, size: 1 }
    }
}

impl Ranks {
    /// This process's share of the items: every `size`-th.
    pub(crate) fn share<T>(self, items: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        items.skip(self.rank).step_by(self.size)
    }

    /// The number among all items of the `index`-th one of this process's share.
    pub(crate) fn number(self, index: usize) -> usize {
        index * self.size + self.rank
    }
}

/// The variables of a run of several processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    /// All processes: `RANK` and `WORLD_SIZE`.
    pub ranks: Ranks,
    /// Those on this machine: `LOCAL_RANK` and `LOCAL_WORLD_SIZE`.
    pub local: Ranks,
    /// Address and port of the store through which the processes meet: `MASTER_ADDR` and `MASTER_PORT`.
    pub(crate) store: (String, u16),
    /// Whether this process hosts the store: rank 0 does, unless its launcher hosts it.
    pub(crate) hosts_store: bool,
    /// The number of restarts before: `TORCHELASTIC_RESTART_COUNT`.
    pub attempt: usize,
}

impl Environment {
    /// The environment of this process. Without `WORLD_SIZE`, or with 1, it trains alone.
    ///
    /// # Errors
    /// A variable is missing or is no number, or the rank is not below the number of processes.
    pub fn read() -> Result<Self> {
        Self::of(&|name| env::var(name).ok())
    }

    fn of(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let attempt = number(variable, "TORCHELASTIC_RESTART_COUNT")?.unwrap_or(0);
        let rank = number(variable, "RANK")?;
        let size = match number(variable, "WORLD_SIZE")? {
            Some(size) => size,
            None if rank.unwrap_or(0) == 0 => 1,
            None => bail!("RANK is set without WORLD_SIZE, the number of processes"),
        };
        if size <= 1 {
            return Ok(Self {
                attempt,
                ..Self::default()
            });
        }
        let missing = |name| anyhow!("WORLD_SIZE={size} without {name}");
        let rank = rank.ok_or_else(|| missing("RANK"))?;
        ensure!(
            rank < size,
            "RANK={rank}: expected less than WORLD_SIZE={size}"
        );
        let address = variable("MASTER_ADDR").ok_or_else(|| missing("MASTER_ADDR"))?;
        let port = number(variable, "MASTER_PORT")?.ok_or_else(|| missing("MASTER_PORT"))?;
        let launcher = variable("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|v| v == "True");
        let local = number(variable, "LOCAL_RANK")?.unwrap_or(0);
        Ok(Self {
            ranks: Ranks { rank, size },
            local: Ranks {
                rank: local,
                size: number(variable, "LOCAL_WORLD_SIZE")?.unwrap_or(local + 1),
            },
            store: (address, port),
            hosts_store: rank == 0 && !launcher,
            attempt,
        })
    }
}

fn number<T: FromStr>(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<Option<T>> {
    let parse = |text: String| {
        let parsed = text.parse();
        parsed.map_err(|_| anyhow!("{name}={text}: expected a number"))
    };
    variable(name).map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Environment> {
        Environment::of(&|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const FOUR: [(&str, &str); 4] = [
        ("WORLD_SIZE", "4"),
        ("RANK", "0"),
        ("MASTER_ADDR", "node"),
        ("MASTER_PORT", "29500"),
    ];

    #[test]
    fn a_process_trains_alone_unless_it_is_given_others() {
        for alone in [&[][..], &[("WORLD_SIZE", "1")], &[("RANK", "0")]] {
            assert_eq!(of(alone).unwrap(), Environment::default());
        }
        let four = of(&FOUR).unwrap();
        assert_eq!(four.ranks, Ranks { rank: 0, size: 4 });
        assert_eq!(
            (four.local, four.hosts_store),
            (Ranks { rank: 0, size: 1 }, true)
        );
        let agent = [&FOUR[..], &[("TORCHELASTIC_USE_AGENT_STORE", "True")]].concat();
        assert!(!of(&agent).unwrap().hosts_store);
    }

    #[test]
    fn half_an_environment_is_named() {
        for missing in 1..FOUR.len() {
            let mut half = FOUR.to_vec();
            let (name, _) = half.remove(missing);
            let error = of(&half).unwrap_err().to_string();
            assert_eq!(error, format!("WORLD_SIZE=4 without {name}"));
        }
        let error = |variables: &[_]| of(variables).unwrap_err().to_string();
        assert!(error(&[("RANK", "1")]).contains("without WORLD_SIZE"));
        let beyond = [("RANK", "4"), FOUR[0], FOUR[2], FOUR[3]];
        assert_eq!(error(&beyond), "RANK=4: expected less than WORLD_SIZE=4");
        let text = [("WORLD_SIZE", "four")];
        assert_eq!(error(&text), "WORLD_SIZE=four: expected a number");
    }

    #[test]
    fn shares_cover_all_items_once() {
        for size in 1..=9 {
            let mut all: Vec<usize> = (0..size)
                .flat_map(|rank| {
                    let ranks = Ranks { rank, size };
                    let share: Vec<usize> = ranks.share(0..20).collect();
                    let numbers = (0..share.len()).map(|index| ranks.number(index));
                    assert_eq!(share, numbers.collect::<Vec<_>>());
                    share
                })
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..20).collect::<Vec<_>>());
        }
    }
}
