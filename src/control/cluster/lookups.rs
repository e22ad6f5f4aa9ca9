//! Which streams are looked for on other nodes, and who waits for what is found. No I/O and no clock.

use std::collections::BTreeMap;

use crate::limits;
use crate::proto::name::StreamName;
use crate::proto::rtmp::node_path::NodePath;

/// Look-ups that have no answer yet; `T` is a question that waits for one.
#[derive(Debug)]
pub(super) struct Lookups<T> {
    wanted: BTreeMap<StreamName, Wanted<T>>,
    waiting: usize,
}

/// One name.
#[derive(Debug)]
pub(super) struct Wanted<T> {
    /// Questions that are answered by what is found.
    pub(super) questions: Vec<T>,
    /// The nodes that the stream would pass next.
    pub(super) nodes: NodePath,
    is_asked: bool,
}

impl<T> Default for Lookups<T> {
    fn default() -> Self {
        Self { wanted: BTreeMap::new(), waiting: 0 }
    }
}

impl<T> Lookups<T> {
    /// A stream is wanted. A question that finds no room is given back.
    pub(super) fn want(
        &mut self,
        name: &StreamName,
        nodes: NodePath,
        question: Option<T>,
    ) -> Result<(), Option<T>> {
        if !self.wanted.contains_key(name) && self.wanted.len() >= limits::CLUSTER_LOOKUPS_MAX {
            return Err(question);
        }
        let wanted = self.wanted.entry(name.clone()).or_insert_with(|| {
            self.waiting += 1;
            Wanted { questions: Vec::new(), nodes, is_asked: false }
        });
        wanted.questions.extend(question);
        Ok(())
    }

    /// Names to ask Redis for now.
    pub(super) fn take_round(&mut self) -> Vec<StreamName> {
        let mut names = Vec::new();
        for (name, wanted) in &mut self.wanted {
            if names.len() == limits::CLUSTER_LOOKUPS_AT_ONCE || self.waiting == 0 {
                break;
            }
            if !wanted.is_asked {
                wanted.is_asked = true;
                self.waiting -= 1;
                names.push(name.clone());
            }
        }
        names
    }

    /// Redis has answered for this name: who waits for it.
    pub(super) fn answered(&mut self, name: &StreamName) -> Option<Wanted<T>> {
        let wanted = self.wanted.remove(name)?;
        self.waiting -= usize::from(!wanted.is_asked);
        Some(wanted)
    }

    /// Redis is away: who waited for which name.
    pub(super) fn take_all(&mut self) -> BTreeMap<StreamName, Wanted<T>> {
        self.waiting = 0;
        std::mem::take(&mut self.wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> StreamName {
        StreamName::new("__defaultVhost__", "live", "", &format!("s{number}")).unwrap()
    }

    #[test]
    fn many_who_want_a_stream_are_one_look_up() {
        let mut lookups = Lookups::default();
        for question in [None, Some(1), Some(2)] {
            assert!(lookups.want(&name(1), NodePath::default(), question).is_ok());
        }
        assert_eq!(lookups.take_round(), [name(1)]);
        assert!(lookups.take_round().is_empty());
        // One who comes before the answer gets the same.
        assert!(lookups.want(&name(1), NodePath::default(), Some(3)).is_ok());
        assert!(lookups.take_round().is_empty());
        assert_eq!(lookups.answered(&name(1)).unwrap().questions, [1, 2, 3]);
        assert!(lookups.answered(&name(1)).is_none());
    }

    #[test]
    fn names_are_bounded_and_asked_for_in_portions() {
        let mut lookups = Lookups::default();
        for number in 0..limits::CLUSTER_LOOKUPS_MAX {
            assert!(lookups.want(&name(number), NodePath::default(), Some(number)).is_ok());
        }
        assert_eq!(lookups.want(&name(99_999), NodePath::default(), Some(7)), Err(Some(7)));
        assert!(lookups.want(&name(0), NodePath::default(), Some(7)).is_ok());
        let first = lookups.take_round();
        assert_eq!(first.len(), limits::CLUSTER_LOOKUPS_AT_ONCE);
        lookups.answered(&first[0]).unwrap();
        let mut count = first.len();
        loop {
            let more = lookups.take_round().len();
            if more == 0 {
                break;
            }
            count += more;
        }
        assert_eq!(count, limits::CLUSTER_LOOKUPS_MAX);
        assert_eq!(lookups.take_all().len(), limits::CLUSTER_LOOKUPS_MAX - 1);
        assert!(lookups.take_round().is_empty());
    }
}
