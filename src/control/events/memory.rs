//! The newest events, for listeners that come back.

use std::collections::VecDeque;
use std::rc::Rc;

use super::{Filter, Happening, loss};
use crate::limits;

/// What is kept, oldest first; numbers have no gaps.
#[derive(Debug, Default)]
pub(super) struct Memory {
    events: VecDeque<Kept>,
    bytes: usize,
}

#[derive(Debug)]
struct Kept {
    id: u64,
    /// As it is sent.
    text: Rc<str>,
    event: &'static str,
    app: Box<str>,
    stream: Box<str>,
}

impl Memory {
    /// Keeps an event, and forgets the oldest ones if need be.
    pub(super) fn keep(&mut self, id: u64, text: Rc<str>, happening: &Happening<'_>) {
        self.bytes += text.len();
        let (app, stream) = (happening.app.into(), happening.stream.into());
        self.events.push_back(Kept { id, text, event: happening.event, app, stream });
        while self.events.len() > limits::EVENTS_KEPT_MAX
            || self.bytes > limits::EVENT_BYTES_KEPT_MAX
        {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.text.len();
        }
    }

    /// What is to be sent to a listener that has heard all up to `last`, where numbers began behind `start`
    /// and have come to `newest`. First how many events are missing, if some are: of any kind, since what
    /// is not kept cannot be looked at.
    pub(super) fn since(
        &self,
        last: u64,
        start: u64,
        newest: u64,
        filter: &Filter,
    ) -> Vec<Rc<str>> {
        let oldest = self.events.front().map_or(newest + 1, |it| it.id);
        // A number from before the start, or from behind a clock that was set back, tells nothing.
        let is_known = (start..=newest).contains(&last);
        let last = if is_known { last } else { start };
        let missing = match (oldest - 1).saturating_sub(last) {
            _ if !is_known => Some(loss(None)),
            0 => None,
            count => Some(loss(Some(count))),
        };
        let fits = |it: &&Kept| it.id > last && filter.fits(it.event, &it.app, &it.stream);
        let events = self.events.iter().filter(fits).map(|it| Rc::clone(&it.text));
        missing.map(Rc::from).into_iter().chain(events).collect()
    }
}
