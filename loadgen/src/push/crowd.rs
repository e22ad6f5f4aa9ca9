//! All members on one thread: opening them, and reading what comes.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use super::member::{Got, Kind, Reader, ends, hello};
use crate::clock::now_ns;
use crate::poll::{Poll, Ready};
use crate::socket;

/// Connections whose server has not answered yet: fewer than a listener's backlog, and than a shard of
/// the server takes at once.
const OPENING_MAX: usize = 200;
/// Longest wait of one call.
const WAIT_NS: u64 = 100_000_000;

/// The members.
#[derive(Debug)]
pub(super) struct Crowd {
    poll: Poll,
    members: Vec<Member>,
    ready: Vec<Ready>,
    buffer: Vec<u8>,
    /// What each next message ends with, over RTMP and as JSON.
    expected: (Vec<u8>, Vec<u8>),
    /// Messages that were posted.
    round: u32,
    /// Members that have not had the last of them.
    missing: usize,
    /// Members that were not answered yet.
    opening: usize,
    delivered: u64,
    wrong: u64,
    closed: u64,
}

#[derive(Debug)]
struct Member {
    stream: TcpStream,
    reader: Reader,
    /// To be sent when the connection is there.
    hello: Vec<u8>,
    received: u32,
    is_closed: bool,
}

impl Crowd {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            members: Vec::new(),
            ready: Vec::new(),
            buffer: vec![0; 64 * 1024],
            expected: (Vec::new(), Vec::new()),
            round: 0,
            missing: 0,
            opening: 0,
            delivered: 0,
            wrong: 0,
            closed: 0,
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.members.len() as u64
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(super) fn wrong(&self) -> u64 {
        self.wrong
    }

    pub(super) fn closed(&self) -> u64 {
        self.closed
    }

    /// Connects so many members and sends what they say first.
    pub(super) fn enter(
        &mut self,
        kind: Kind,
        address: SocketAddr,
        count: u32,
        token: &str,
        deadline_ns: u64,
    ) -> io::Result<()> {
        let hello = hello(kind, &address.to_string(), token);
        let mut left = count;
        while left > 0 || self.opening > 0 {
            let room = OPENING_MAX.saturating_sub(self.opening).min(left as usize);
            for _ in 0..room {
                let stream = socket::connect(address, None)?;
                self.poll.add(stream.as_raw_fd(), self.members.len() as u64, true)?;
                self.members.push(Member {
                    stream,
                    reader: Reader::new(kind),
                    hello: hello.clone(),
                    received: self.round,
                    is_closed: false,
                });
                left -= 1;
                self.opening += 1;
            }
            if now_ns() > deadline_ns {
                return Err(ErrorKind::TimedOut.into());
            }
            self.turn(WAIT_NS, &mut |_| {})?;
        }
        Ok(())
    }

    /// Says what everybody has to get next.
    pub(super) fn expect(&mut self, text: &str) {
        self.expected = ends(text);
        self.round += 1;
        self.missing = self.members.iter().filter(|member| !member.is_closed).count();
    }

    /// Reads until everybody has got the message; `at` is told the moment of each delivery. Gives the
    /// moment of the last one.
    pub(super) fn receive(&mut self, deadline_ns: u64, mut at: impl FnMut(u64)) -> io::Result<u64> {
        while self.missing > 0 && now_ns() < deadline_ns {
            self.turn(WAIT_NS, &mut at)?;
        }
        Ok(now_ns())
    }

    /// Reads for a while: whatever comes now is too much.
    pub(super) fn idle(&mut self, pause: Duration) -> io::Result<()> {
        let until_ns = now_ns() + pause.as_nanos() as u64;
        while now_ns() < until_ns {
            let left_ns = until_ns.saturating_sub(now_ns());
            self.turn(left_ns.min(WAIT_NS), &mut |_| {})?;
        }
        Ok(())
    }

    fn turn(&mut self, wait_ns: u64, at: &mut impl FnMut(u64)) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poll.wait(wait_ns, &mut ready)?;
        for event in ready.drain(..) {
            let index = event.token as usize;
            if event.writable {
                self.begin(index)?;
            }
            if event.readable {
                self.read(index, at);
            }
        }
        self.ready = ready;
        Ok(())
    }

    /// The connection is there, or has failed.
    fn begin(&mut self, index: usize) -> io::Result<()> {
        let Some(member) = self.members.get_mut(index) else { return Ok(()) };
        if let Some(error) = member.stream.take_error()? {
            return Err(error);
        }
        let hello = std::mem::take(&mut member.hello);
        // A new connection has room for a few kilobytes.
        if !hello.is_empty() {
            member.stream.write_all(&hello)?;
        }
        self.poll.change(member.stream.as_raw_fd(), index as u64, false)
    }

    fn read(&mut self, index: usize, at: &mut impl FnMut(u64)) {
        let Some(member) = self.members.get_mut(index) else { return };
        if member.is_closed {
            return;
        }
        let count = match member.stream.read(&mut self.buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => 0,
        };
        let was_in = member.reader.is_in();
        if count == 0 {
            member.is_closed = true;
            self.closed += 1;
            self.opening -= usize::from(!was_in);
            if member.received < self.round {
                self.missing = self.missing.saturating_sub(1);
            }
            // Fails only for what is not watched.
            let _ = self.poll.remove(member.stream.as_raw_fd());
            return;
        }
        let end = match member.reader.kind() {
            Kind::Rtmp => &self.expected.0,
            Kind::WebSocket => &self.expected.1,
        };
        let bytes = self.buffer.get(..count).unwrap_or_default();
        let (stream, received) = (&mut member.stream, &mut member.received);
        let (round, missing) = (self.round, &mut self.missing);
        let (delivered, wrong) = (&mut self.delivered, &mut self.wrong);
        member.reader.input(bytes, |got| match got {
            Got::Message(message) => {
                *received += 1;
                if *received == round && message.ends_with(end) {
                    *delivered += 1;
                    *missing -= 1;
                    at(now_ns());
                } else {
                    *wrong += 1;
                }
            }
            // Lost answers show as closed members.
            Got::Ping(answer) => drop(stream.write(&answer)),
        });
        self.opening -= usize::from(!was_in && member.reader.is_in());
    }
}
