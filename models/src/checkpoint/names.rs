//! The names of tensors in a folder's files, where they differ from those of the network.

/// A tensor of the network, and what a file holds in its place: a tensor of another name, or several that lie one below
/// the other in it. Names are beginnings up to a dot; `*` stands for the number of a block.
pub(crate) struct Rename {
    pub(crate) ours: &'static str,
    pub(crate) theirs: &'static [&'static str],
}

/// Names of a file that begin with `within`, which the network's do not.
#[derive(Clone, Copy)]
pub(crate) struct Table {
    pub(crate) within: &'static str,
    pub(crate) renames: &'static [Rename],
}

/// The names of a folder's tensors: those of the network, but for the renamed ones of each prefix.
#[derive(Clone, Default)]
pub struct Names(Vec<(String, Vec<Table>)>);

/// The place of a stored tensor in the network.
pub(super) struct Part {
    /// The tensor of the network.
    pub(super) ours: String,
    /// Its part, counted from 0, and the number of its parts.
    pub(super) index: (usize, usize),
}

impl Names {
    /// The same with these names for tensors that begin with `prefix`; an earlier prefix comes first.
    pub(crate) fn with(mut self, prefix: String, tables: Vec<Table>) -> Self {
        self.0.push((prefix, tables));
        self
    }

    /// The names in a file of the network's tensor `ours`: several if a file holds it in parts.
    pub fn stored(&self, ours: &str) -> Vec<String> {
        let (prefix, local, tables) = self.split(ours);
        let found = tables.iter().find_map(|table| table.stored(local));
        let names = found.unwrap_or_else(|| vec![local.to_owned()]);
        names.iter().map(|name| format!("{prefix}{name}")).collect()
    }

    pub(super) fn part(&self, stored: &str) -> Part {
        let (prefix, local, tables) = self.split(stored);
        let found = tables.iter().find_map(|table| table.part(local));
        let (ours, index) = found.unwrap_or_else(|| (local.to_owned(), (0, 1)));
        Part {
            ours: format!("{prefix}{ours}"),
            index,
        }
    }

    /// The prefix, the rest of the name, and the tables for it.
    fn split<'a>(&self, name: &'a str) -> (&'a str, &'a str, &[Table]) {
        let found = self.0.iter().find_map(|(prefix, tables)| {
            let local = name.strip_prefix(prefix.as_str())?;
            Some((&name[..prefix.len()], local, tables.as_slice()))
        });
        found.unwrap_or(("", name, &[]))
    }
}

impl Table {
    fn stored(&self, ours: &str) -> Option<Vec<String>> {
        self.renames.iter().find_map(|rename| {
            let theirs = rename.theirs.iter();
            let names = theirs.map(|theirs| {
                let name = renamed(ours, rename.ours, theirs)?;
                Some(format!("{}{name}", self.within))
            });
            names.collect()
        })
    }

    fn part(&self, stored: &str) -> Option<(String, (usize, usize))> {
        let local = stored.strip_prefix(self.within)?;
        self.renames.iter().find_map(|rename| {
            let mut theirs = rename.theirs.iter().enumerate();
            theirs.find_map(|(index, theirs)| {
                let ours = renamed(local, theirs, rename.ours)?;
                Some((ours, (index, rename.theirs.len())))
            })
        })
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(prefix, _)| prefix))
            .finish()
    }
}

/// `name` with the beginning `to` in the place of `from`, if it begins so.
fn renamed(name: &str, from: &str, to: &str) -> Option<String> {
    let (mut rest, mut number) = (name.split('.'), "*");
    for expected in from.split('.') {
        let got = rest.next()?;
        match expected {
            "*" => number = got,
            _ if expected == got => {}
            _ => return None,
        }
    }
    let begin = to
        .split('.')
        .map(|part| if part == "*" { number } else { part });
    Some(begin.chain(rest).collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENAMES: [Rename; 2] = [
        Rename {
            ours: "a.*.qkv",
            theirs: &["b.*.q", "b.*.k"],
        },
        Rename {
            ours: "a",
            theirs: &["c.d"],
        },
    ];

    #[test]
    fn names_are_found_in_both_directions() {
        let table = |within| Table {
            within,
            renames: &RENAMES,
        };
        let names = Names::default()
            .with("twin.".to_owned(), Vec::new())
            .with("inner.".to_owned(), vec![table("module.")])
            .with(String::new(), vec![table("")]);
        for (ours, stored) in [
            ("a.7.qkv.bias", &["b.7.q.bias", "b.7.k.bias"][..]),
            ("a.7.norm", &["c.d.7.norm"]),
            ("ab.weight", &["ab.weight"]),
            ("twin.a.7.qkv", &["twin.a.7.qkv"]),
            ("inner.a.7.norm", &["inner.module.c.d.7.norm"]),
            ("inner.other", &["inner.other"]),
        ] {
            assert_eq!(names.stored(ours), stored);
            for (index, name) in stored.iter().enumerate() {
                let part = names.part(name);
                assert_eq!((&*part.ours, part.index), (ours, (index, stored.len())));
            }
        }
    }
}
