//! The way between a client and its shard: bytes go in pieces of any size, stand still for a while, or
//! trickle.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::dice::Dice;
use crate::media::Moment;

/// One connection as the client sees it.
#[derive(Debug)]
pub(super) struct Link {
    /// None when one side has closed.
    socket: Option<UnixStream>,
    to_server: VecDeque<u8>,
    /// Bytes that the server can read.
    sent: u64,
    /// Bytes that were handed to the link.
    said: u64,
    /// Nothing moves before.
    stalled_until: Moment,
    /// Bytes per second towards the client; None is as fast as it can.
    rate: Option<u64>,
    allowance: u64,
    last_look: Moment,
    dice: Dice,
}

impl Link {
    pub(super) fn new(socket: UnixStream, now: Moment, dice: Dice) -> Self {
        Self {
            socket: Some(socket),
            to_server: VecDeque::new(),
            sent: 0,
            said: 0,
            stalled_until: Moment::ZERO,
            rate: None,
            allowance: 0,
            last_look: now,
            dice,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Takes bytes for the server; gives the count of all bytes so far.
    pub(super) fn say(&mut self, bytes: &[u8]) -> u64 {
        self.to_server.extend(bytes);
        self.said += bytes.len() as u64;
        self.said
    }

    /// How many bytes the server can have.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Everything that was said is on its way.
    pub(super) fn is_flushed(&self) -> bool {
        self.to_server.is_empty()
    }

    /// Nothing moves for a while; a stall is not made longer.
    pub(super) fn stall(&mut self, now: Moment, time: Duration) {
        if self.stalled_until <= now {
            self.stalled_until = now + time;
        }
    }

    pub(super) fn set_rate(&mut self, bytes_per_second: Option<u64>) {
        self.rate = bytes_per_second;
    }

    /// From now on as fast as it can.
    pub(super) fn heal(&mut self) {
        self.rate = None;
        self.stalled_until = Moment::ZERO;
    }

    /// The client is gone, with what the server has not read yet still to be read.
    pub(super) fn cut(&mut self) {
        self.socket = None;
    }

    /// Moves bytes in both directions; `hear` gets what came, piece by piece.
    pub(super) fn carry(&mut self, now: Moment, mut hear: impl FnMut(&[u8])) {
        let elapsed = now.since(self.last_look);
        self.last_look = now;
        if let Some(rate) = self.rate {
            let more = rate * elapsed.as_micros() as u64 / 1_000_000;
            // What was not used in time is lost, but a piece can always be saved up for.
            self.allowance = (self.allowance + more).min(64 * 1024);
        }
        if now < self.stalled_until {
            return;
        }
        self.carry_out();
        let mut buffer = vec![0; 64 * 1024];
        while let Some(socket) = &mut self.socket {
            let mut count = self.dice.piece().min(buffer.len());
            if self.rate.is_some() {
                count = count.min(self.allowance as usize);
            }
            if count == 0 {
                return;
            }
            match socket.read(&mut buffer[..count]) {
                Ok(0) => self.socket = None,
                Ok(count) => {
                    self.allowance = self.allowance.saturating_sub(count as u64);
                    hear(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.socket = None,
            }
        }
    }

    fn carry_out(&mut self) {
        // A few pieces at a time, so that the server sees messages grow.
        for _ in 0..self.dice.within(1..=6) {
            let Some(socket) = &mut self.socket else { return };
            let count = self.dice.piece().min(self.to_server.len());
            if count == 0 {
                return;
            }
            match socket.write(&self.to_server.make_contiguous()[..count]) {
                Ok(count) => {
                    self.to_server.drain(..count);
                    self.sent += count as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.socket = None,
            }
        }
    }
}
