//! A viewer's place in a stream log, and the drop policy for the viewer that is too slow.
//!
//! Always true: what a viewer is sent is a sequence of whole messages; it begins with headers and
//! a join point; it skips only forward, only to a join point, and with the headers it missed.

use std::rc::Rc;

use super::{Log, Moment};

/// A place in a log.
#[derive(Debug)]
pub struct Cursor {
    /// The next byte to send after the lead; without meaning while waiting.
    position: u64,
    waiting: bool,
    /// Bytes that go first: headers, or the rest of a message that was cut short by a skip.
    lead: Option<Lead>,
}

#[derive(Debug)]
struct Lead {
    bytes: Rc<[u8]>,
    sent: usize,
    /// Begins inside a message.
    is_rest: bool,
}

/// What became of a viewer that had fallen behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// It goes on at the newest join point.
    ToJoinPoint,
    /// It waits for the next join point.
    Waits,
}

impl Cursor {
    /// A viewer that waits for a join point.
    pub fn waiting() -> Self {
        Self { position: 0, waiting: true, lead: None }
    }

    /// Whether it waits for a join point.
    pub fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Begins at the log's newest join point, headers first. False when there is none.
    pub fn join(&mut self, log: &Log) -> bool {
        let Some(join) = log.join_point() else { return false };
        let lead = join.lead(log.wire());
        if !lead.is_empty() {
            self.lead = Some(match self.lead.take() {
                // The rest of a message that was cut short comes before the headers.
                Some(rest) => Lead {
                    bytes: [rest.rest(), lead].concat().into(),
                    sent: 0,
                    is_rest: rest.is_rest || rest.sent > 0,
                },
                None => Lead { bytes: Rc::clone(lead), sent: 0, is_rest: false },
            });
        }
        self.position = join.position;
        self.waiting = false;
        true
    }

    /// The bytes to send next, at most `bytes_max`; empty when there is nothing.
    pub fn next<'a>(&'a self, log: &'a Log, bytes_max: usize) -> &'a [u8] {
        match &self.lead {
            Some(lead) => &lead.rest()[..lead.rest().len().min(bytes_max)],
            None if self.waiting => &[],
            None => log.bytes_at(self.position, bytes_max),
        }
    }

    /// The same, but not beyond the message that was begun: for making room for a command.
    pub fn next_within_message<'a>(&'a self, log: &'a Log, bytes_max: usize) -> &'a [u8] {
        if self.lead.is_some() || self.waiting {
            return self.next(log, bytes_max);
        }
        let (end, start) = log.message_end(self.position);
        if start == self.position {
            return &[];
        }
        let left = usize::try_from(end - self.position).unwrap_or(usize::MAX);
        self.next(log, bytes_max.min(left))
    }

    /// Bytes were accepted by the socket.
    pub fn advance(&mut self, bytes: usize) {
        match &mut self.lead {
            Some(lead) => {
                lead.sent += bytes;
                debug_assert!(lead.sent <= lead.bytes.len());
                if lead.sent >= lead.bytes.len() {
                    self.lead = None;
                }
            }
            None => self.position += bytes as u64,
        }
    }

    /// Whether a command may be sent now: no message is half sent.
    pub fn at_boundary(&self, log: &Log) -> bool {
        match &self.lead {
            Some(lead) => lead.sent == 0 && !lead.is_rest,
            None => self.waiting || log.is_boundary(self.position),
        }
    }

    /// What has to be sent of the message that was begun, when the viewer leaves the log now.
    pub fn take_rest(&mut self, log: &Log) -> Vec<u8> {
        if self.at_boundary(log) {
            return Vec::new();
        }
        if !self.waiting {
            self.skip(log);
        }
        self.lead.take().map_or_else(Vec::new, |lead| lead.rest().to_vec())
    }

    /// Whether everything up to the log's end is sent.
    pub fn is_caught_up(&self, log: &Log) -> bool {
        self.lead.is_none() && (self.waiting || self.position == log.end())
    }

    /// Whether it stands before `limit` (see [`Log::position_of`]).
    pub fn is_before(&self, limit: u64) -> bool {
        !self.waiting && self.position < limit
    }

    /// The position that the log has to keep for it; `None` when none.
    pub fn needs(&self) -> Option<u64> {
        (!self.waiting).then_some(self.position)
    }

    /// Bytes not yet sent.
    pub fn lag_bytes(&self, log: &Log) -> u64 {
        let lead = self.lead.as_ref().map_or(0, |lead| lead.rest().len() as u64);
        lead + if self.waiting { 0 } else { log.end() - self.position }
    }

    /// When the oldest message that is not wholly sent arrived.
    pub fn behind_since(&self, log: &Log) -> Option<Moment> {
        if self.waiting { None } else { log.arrival_at(self.position) }
    }

    /// Gives up what lies between: keeps the rest of the message that was begun (copied aside, so
    /// that the log need not hold it), then goes on at the newest join point or waits for the next.
    pub fn skip(&mut self, log: &Log) -> Skipped {
        debug_assert!(!self.waiting);
        let (end, start) = log.message_end(self.position);
        let left_at = self.position;
        if self.lead.is_none() && start != self.position {
            let mut rest = Vec::with_capacity((end - self.position) as usize);
            let mut at = self.position;
            while at < end {
                let part = log.bytes_at(at, (end - at) as usize);
                rest.extend_from_slice(part);
                at += part.len() as u64;
            }
            self.lead = Some(Lead { bytes: rest.into(), sent: 0, is_rest: true });
        }
        self.waiting = true;
        match log.join_point() {
            Some(join) if join.position > left_at => {
                if join.has_headers_after(left_at) {
                    self.join(log);
                } else {
                    self.position = join.position;
                    self.waiting = false;
                }
                Skipped::ToJoinPoint
            }
            _ => Skipped::Waits,
        }
    }
}

impl Lead {
    fn rest(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }
}
