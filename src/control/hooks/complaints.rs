//! Lines that would be written for every client while a back end is down: at most one a second for each
//! hook and kind of line, with the number of those left out before it. Counters have all of them. No
//! I/O and no clock.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::{HookEvent, HookTarget};
use crate::media::Moment;

/// Between two lines of a kind about one hook.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Complaint {
    /// A gating hook failed.
    Failed,
    /// A hook refused a client.
    Refused,
    /// An event was given up.
    GivenUp,
}

/// When which line was written last. As many as there are hooks, by kind.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    lines: HashMap<(Complaint, HookEvent, String), Line>,
}

#[derive(Debug)]
struct Line {
    at: Moment,
    left_out: u64,
}

impl Complaints {
    /// Whether a line may be written now; if so, how many like it were left out since the last one.
    pub(super) fn admit(
        &mut self,
        complaint: Complaint,
        event: HookEvent,
        target: &HookTarget,
        now: Moment,
    ) -> Option<u64> {
        let key = (complaint, event, target.url.text.clone());
        let Some(line) = self.lines.get_mut(&key) else {
            self.lines.insert(key, Line { at: now, left_out: 0 });
            return Some(0);
        };
        if now.since(line.at) < INTERVAL {
            line.left_out += 1;
            return None;
        }
        line.at = now;
        Some(std::mem::take(&mut line.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::tests::target;
    use super::*;

    #[test]
    fn a_line_a_second_for_each_hook_and_kind() {
        let mut complaints = Complaints::default();
        let at = |ms| Moment::ZERO + Duration::from_millis(ms);
        let play = target("on_play = \"http://h/\"", HookEvent::Play);
        let mut admit = |complaint, ms| complaints.admit(complaint, HookEvent::Play, &play, at(ms));
        assert_eq!(admit(Complaint::Failed, 0), Some(0));
        assert_eq!(admit(Complaint::Failed, 1), None);
        assert_eq!(admit(Complaint::Refused, 1), Some(0), "another kind");
        assert_eq!(admit(Complaint::Failed, 999), None);
        assert_eq!(admit(Complaint::Failed, 1000), Some(2));
        assert_eq!(admit(Complaint::Failed, 2000), Some(0));
        let other = target("on_play = \"http://other/\"", HookEvent::Play);
        let now = at(2001);
        assert_eq!(complaints.admit(Complaint::Failed, HookEvent::Play, &other, now), Some(0));
    }
}
