//! The processes that train together, as the rest of the program uses them. A process that trains alone opens no socket.

use std::time::Duration;

use anyhow::{Context, Result};
use prost::Message;
use tch::{Device, Kind, Tensor};

use crate::world::environment::{Environment, Ranks};
use crate::world::group::Group;

/// All processes of a run. Every process calls the same methods in the same order; each waits for all others.
pub struct World {
    ranks: Ranks,
    attempt: usize,
    group: Option<Group>,
}

impl Default for World {
    /// A process that trains alone.
    fn default() -> Self {
        Self {
            ranks: Ranks::default(),
            attempt: 0,
            group: None,
        }
    }
}

impl World {
    /// Waits until all processes of `environment` have come; each trains on its own `device`.
    ///
    /// # Errors
    /// A process does not come within `timeout`, or the program is built without NCCL and `device` is a GPU.
    pub fn open(environment: &Environment, timeout: Duration, device: Device) -> Result<Self> {
        let several = environment.ranks.size > 1;
        let open = || Group::open(environment, timeout, device);
        Ok(Self {
            ranks: environment.ranks,
            attempt: environment.attempt,
            group: several.then(open).transpose()?,
        })
    }

    /// The place of this process.
    pub fn ranks(&self) -> Ranks {
        self.ranks
    }

    /// Whether this process reports and writes for all.
    pub(crate) fn leads(&self) -> bool {
        self.ranks.rank == 0
    }

    /// Whether the launcher has restarted the processes after a failure.
    pub(crate) fn is_restarted(&self) -> bool {
        self.attempt > 0
    }

    /// The messages of all processes, in the order of ranks.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn exchange<M: Message + Default + Clone>(&self, message: &M) -> Result<Vec<M>> {
        if self.group.is_none() {
            return Ok(vec![message.clone()]);
        }
        let mut bytes = message.encode_to_vec();
        let lengths = self.all_gather(&Tensor::from_slice(&[bytes.len() as i64]))?;
        let lengths: Vec<i64> = Vec::try_from(lengths)?;
        let longest = lengths.iter().copied().max().unwrap_or(0).max(1);
        bytes.resize(longest as usize, 0);
        let all: Vec<u8> = Vec::try_from(self.all_gather(&Tensor::from_slice(&bytes))?)?;
        let of_rank = all.chunks(longest as usize).zip(&lengths);
        let decoded = of_rank.map(|(bytes, &length)| M::decode(&bytes[..length as usize]));
        let decoded: std::result::Result<_, _> = decoded.collect();
        decoded.context("a message of another process")
    }

    /// The message of the process that leads.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn leaders<M: Message + Default + Clone>(&self, message: &M) -> Result<M> {
        let mut messages = self.exchange(message)?;
        Ok(messages.swap_remove(0))
    }

    /// Waits for all processes.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn barrier(&self) -> Result<()> {
        self.exchange(&()).map(drop)
    }

    /// For each flag whether any process has set it.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn any(&self, flags: &[bool]) -> Result<Vec<bool>> {
        if self.group.is_none() || flags.is_empty() {
            return Ok(flags.to_vec());
        }
        let all: Vec<bool> = Vec::try_from(self.all_gather(&Tensor::from_slice(flags))?)?;
        let of_rank: Vec<&[bool]> = all.chunks(flags.len()).collect();
        let is_set = |index: usize| of_rank.iter().any(|flags| flags[index]);
        Ok((0..flags.len()).map(is_set).collect())
    }

    /// This process's part of the sum of all processes' `whole`, `[elements]`, a multiple of their number.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn reduce_scatter(&self, whole: &Tensor) -> Result<Tensor> {
        let Some(group) = &self.group else {
            return Ok(whole.shallow_clone());
        };
        let length = whole.numel() / self.ranks.size;
        let part = Tensor::empty([length as i64], (whole.kind(), whole.device()));
        group.reduce_scatter(&part, whole)?;
        Ok(part)
    }

    /// The `part` of all processes, `[elements]` of one length, concatenated.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub(crate) fn all_gather(&self, part: &Tensor) -> Result<Tensor> {
        let Some(group) = &self.group else {
            return Ok(part.shallow_clone());
        };
        // Gloo has no booleans.
        let is_flag = part.kind() == Kind::Bool;
        let sent = match is_flag {
            true => part.to_kind(Kind::Uint8),
            false => part.shallow_clone(),
        };
        let length = part.numel() * self.ranks.size;
        let whole = Tensor::empty([length as i64], (sent.kind(), sent.device()));
        group.all_gather(&whole, &sent)?;
        Ok(whole.to_kind(part.kind()))
    }

    /// An error message that names this process if there are others.
    pub fn named(&self, problem: &str) -> String {
        match self.group {
            Some(_) => format!("rank {}: {problem}", self.ranks.rank),
            None => problem.to_owned(),
        }
    }

    /// Ends all other processes with this error, unless one has failed before.
    pub fn fail(&self, problem: &str) {
        if let Some(group) = &self.group {
            group.fail(problem);
        }
    }

    /// Waits for all processes and leaves.
    ///
    /// # Errors
    /// Another process has ended or does not answer.
    pub fn close(self) -> Result<()> {
        self.group.map_or(Ok(()), Group::close)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::world::launcher::free_port;

    /// Runs `f` in `size` threads that train together. Returns their results in the order of ranks.
    fn together<T: Send>(size: usize, f: impl Fn(&World) -> T + Sync) -> Vec<T> {
        let port = free_port().unwrap();
        let run = |rank| {
            let environment = Environment {
                ranks: Ranks { rank, size },
                store: ("127.0.0.1".to_owned(), port),
                hosts_store: rank == 0,
                ..Environment::default()
            };
            let world = World::open(&environment, Duration::from_secs(60), Device::Cpu).unwrap();
            let result = f(&world);
            world.close().unwrap();
            result
        };
        thread::scope(|scope| {
            let run = &run;
            let threads: Vec<_> = (0..size)
                .map(|rank| scope.spawn(move || run(rank)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        })
    }

    #[derive(Clone, PartialEq, Message)]
    struct Note {
        #[prost(string, tag = "1")]
        text: String,
        #[prost(double, tag = "2")]
        value: f64,
    }

    #[test]
    fn every_process_gets_the_messages_of_all_in_the_order_of_ranks() {
        for size in 1..=9 {
            let note = |rank: usize| Note {
                text: "é".repeat(rank * rank),
                value: if rank == 1 { f64::INFINITY } else { 0.1 },
            };
            let expected: Vec<Note> = (0..size).map(note).collect();
            let got = together(size, |world| {
                let rank = world.ranks().rank;
                world.barrier().unwrap();
                let flags = [rank == 0, false, rank + 1 == size];
                let any = world.any(&flags).unwrap();
                assert_eq!(any, [true, false, true]);
                assert_eq!(world.leaders(&note(rank)).unwrap(), note(0));
                world.exchange(&note(rank)).unwrap()
            });
            assert!(got.iter().all(|messages| *messages == expected));
        }
    }

    /// Small integers add up without rounding, in any order.
    #[test]
    fn parts_of_a_sum_make_the_sum() {
        for size in 1..=9 {
            let whole = |rank: usize| {
                Tensor::arange(3 * size as i64, (Kind::Float, Device::Cpu)) * (rank + 1) as f64
            };
            let expected: Tensor = (0..size).map(whole).fold(whole(0) * 0.0, |sum, x| sum + x);
            let expected: Vec<f32> = Vec::try_from(expected).unwrap();
            for got in together(size, |world| {
                let part = world.reduce_scatter(&whole(world.ranks().rank)).unwrap();
                assert_eq!(part.size(), [3]);
                Vec::<f32>::try_from(world.all_gather(&part).unwrap()).unwrap()
            }) {
                assert_eq!(got, expected);
            }
        }
    }
}
