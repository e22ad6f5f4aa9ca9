//! Many sends at once: the bytes of a pass to all viewers that are behind.
//!
//! Two ways with the same answers: a loop of `send(2)`, or batches of SENDs on a private io_uring.
//! Every send is `MSG_DONTWAIT`, so the kernel answers each inside the call that submits it, and
//! [`Egress::send_batch`] returns only when all are answered: no buffer outlives the call.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::{IoUring, opcode, types};

use super::clock;
use super::probe::private_ring;
use super::socket;

/// Bytes for one socket.
#[derive(Clone, Copy, Debug)]
pub struct SendItem<'a> {
    /// The socket.
    pub fd: BorrowedFd<'a>,
    /// What it should take, the second piece after the first; it may take less. The second one is
    /// empty for most.
    pub bytes: [&'a [u8]; 2],
}

/// How the sends should reach the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EgressChoice {
    /// One `send(2)` each.
    Send,
    /// Batches on a private ring; plain sends where there is none.
    Ring,
    /// The ring, unless plain sends are clearly cheaper here, measured for some milliseconds.
    #[default]
    Auto,
}

/// How the sends reach the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One `send(2)` each.
    Send,
    /// Batches on a private ring.
    Ring,
}

/// CPU time per send of 8 KiB over loopback, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measurement {
    /// With `send(2)`.
    pub send_ns: f64,
    /// In batches on a private ring.
    pub ring_ns: f64,
}

/// The sending side of one shard. Belongs to the thread that made it.
#[derive(Debug)]
pub struct Egress {
    ring: Option<Ring>,
    note: String,
    measurement: Option<Measurement>,
    /// A private ring may be entered by the thread that made it only.
    _not_send: PhantomData<*const ()>,
}

/// Sends per submission: larger batches gain nothing and delay the shard's other work.
const BATCH_MAX: usize = 256;
/// Plain sends must be that much cheaper to be taken: less is noise, and under load the ring is the cheaper
/// way (tuning.md, Egress), which a measurement at start with nothing else in the caches does not see.
const SEND_GAIN_MIN: f64 = 0.1;

struct Ring {
    ring: IoUring,
    /// For items in two pieces: what the kernel reads of them, by the item's index.
    messages: Box<[Message]>,
}

/// Two pieces of bytes as the kernel takes them.
#[derive(Clone, Copy)]
struct Message {
    header: libc::msghdr,
    parts: [libc::iovec; 2],
}

impl Egress {
    /// With `Auto` this takes some milliseconds of CPU time: measure once with [`measure`] and give
    /// every shard the choice. Never fails: without a ring it sends plainly, and
    /// [`note`](Self::note) says why.
    pub fn new(choice: EgressChoice) -> Self {
        match choice {
            EgressChoice::Send => Self::with(None, None, "plain sends, as configured".to_owned()),
            EgressChoice::Ring => match Ring::new() {
                Ok(ring) => Self::with(Some(ring), None, "private ring, as configured".to_owned()),
                Err(error) => {
                    Self::with(None, None, format!("plain sends: no private ring ({error})"))
                }
            },
            EgressChoice::Auto => match measure() {
                Ok(measured) => {
                    let mut egress = Self::new(measured.choice());
                    egress.note = format!(
                        "{}: {:.0} ns per send with send(2), {:.0} ns in batches on a private ring",
                        match egress.backend() {
                            Backend::Send => "plain sends",
                            Backend::Ring => "private ring",
                        },
                        measured.send_ns,
                        measured.ring_ns
                    );
                    egress.measurement = Some(measured);
                    egress
                }
                Err(error) => {
                    Self::with(None, None, format!("plain sends: not measured ({error})"))
                }
            },
        }
    }

    fn with(ring: Option<Ring>, measurement: Option<Measurement>, note: String) -> Self {
        Self { ring, note, measurement, _not_send: PhantomData }
    }

    /// What is in use now. It may change from `Ring` to `Send` when the ring misbehaves.
    pub fn backend(&self) -> Backend {
        if self.ring.is_some() { Backend::Ring } else { Backend::Send }
    }

    /// One line for the log: the choice and its reason.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// What `Auto` measured.
    pub fn measurement(&self) -> Option<Measurement> {
        self.measurement
    }

    /// Sends every item once and replaces `results` by what the kernel took of each, in the order of
    /// the items: less than all or `WouldBlock` when the socket is full, `BrokenPipe` or
    /// `ConnectionReset` when the peer is gone. Allocates only until `results` has room.
    pub fn send_batch(&mut self, items: &[SendItem<'_>], results: &mut Vec<io::Result<usize>>) {
        results.clear();
        results.resize_with(items.len(), || Err(io::Error::from_raw_os_error(UNANSWERED)));
        if let Some(ring) = &mut self.ring {
            for (items, results) in items.chunks(BATCH_MAX).zip(results.chunks_mut(BATCH_MAX)) {
                if let Err(error) = ring.send_batch(items, results) {
                    self.note = format!("plain sends: the private ring failed ({error})");
                    self.ring = None;
                    break;
                }
            }
        }
        // All of them without a ring; with one, those that it did not answer as send(2) would.
        for (item, result) in items.iter().zip(results.iter_mut()) {
            if is_unanswered(result) {
                *result = match item.bytes {
                    [bytes, []] => socket::send_now(item.fd, bytes),
                    parts => socket::send_parts_now(item.fd, parts),
                };
            }
        }
    }
}

/// Empties a list and gives it back for other borrows, with its memory: a shard keeps one list over its
/// passes although the items of each borrow something else. `A` and `B` differ in lifetimes only.
pub fn recycle<A, B>(mut items: Vec<A>) -> Vec<B> {
    items.clear();
    // Collecting in place keeps the allocation.
    items.into_iter().map(|_| unreachable!("the list is empty")).collect()
}

/// Marks an item without an answer. `send(2)` on a connected socket never gives this error.
const UNANSWERED: i32 = libc::EINPROGRESS;

fn is_unanswered(result: &io::Result<usize>) -> bool {
    matches!(result, Err(error) if error.raw_os_error() == Some(UNANSWERED))
}

impl Ring {
    fn new() -> io::Result<Self> {
        let messages = vec![Message::EMPTY; BATCH_MAX].into_boxed_slice();
        private_ring(BATCH_MAX as u32).map(|ring| Self { ring, messages })
    }

    /// Answers the items (at most [`BATCH_MAX`]) in `results`. On an error some may stay unanswered;
    /// none is in the kernel's hands any more, and the ring must not be used again.
    fn send_batch(
        &mut self,
        items: &[SendItem<'_>],
        results: &mut [io::Result<usize>],
    ) -> io::Result<()> {
        let mut submitted = 0;
        for (index, (item, message)) in items.iter().zip(&mut self.messages).enumerate() {
            let fd = types::Fd(item.fd.as_raw_fd());
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let entry = match item.bytes {
                [bytes, []] => {
                    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    opcode::Send::new(fd, bytes.as_ptr(), len).flags(flags).build()
                }
                parts => {
                    let header = message.set(parts);
                    opcode::SendMsg::new(fd, header).flags(flags as u32).build()
                }
            };
            let entry = entry.user_data(index as u64);
            // SAFETY: the descriptor and the bytes are borrowed by `items`, the message is not touched
            // again, and this function does not return before the kernel has answered every entry
            // that it took.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                break;
            }
            submitted += 1;
        }
        let mut answered = 0;
        let mut misbehaved = None;
        let mut failures = 0;
        loop {
            let entered = self.ring.submit_and_wait(submitted - answered);
            for completion in self.ring.completion() {
                answered += 1;
                let code = completion.result();
                let Some(result) =
                    usize::try_from(completion.user_data()).ok().and_then(|i| results.get_mut(i))
                else {
                    continue;
                };
                match usize::try_from(code) {
                    Ok(taken) => *result = Ok(taken),
                    Err(_) if is_answer_of_send(-code) => {
                        *result = Err(io::Error::from_raw_os_error(-code));
                    }
                    Err(_) => misbehaved = Some(io::Error::from_raw_os_error(-code)),
                }
            }
            if answered == submitted {
                return misbehaved.map_or(Ok(()), Err);
            }
            match entered {
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    // What is still in the submission queue was never seen by the kernel.
                    let unseen = self.ring.submission().len();
                    if answered + unseen == submitted {
                        return Err(error);
                    }
                    failures += 1;
                    if failures == 1_000 {
                        // The kernel holds borrowed buffers and cannot be asked for them: going on
                        // could send other clients' bytes.
                        tracing::error!("the private ring does not answer: {error}");
                        std::process::abort();
                    }
                }
            }
        }
    }
}

impl Message {
    const EMPTY: Self = {
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: all zeros is a message without address, parts and control data.
        Self { header: unsafe { std::mem::zeroed() }, parts: [part; 2] }
    };

    /// Makes it a message of these bytes; they are only read.
    fn set(&mut self, parts: [&[u8]; 2]) -> *const libc::msghdr {
        self.parts = parts.map(|part| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        });
        self.header.msg_iov = self.parts.as_mut_ptr();
        self.header.msg_iovlen = self.parts.len();
        &raw const self.header
    }
}

/// Errors of the call that submits which pass by themselves.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// Errors that are about the socket. Others (a cancelled or an unknown operation) are about the ring,
/// and the item is sent again plainly.
fn is_answer_of_send(code: i32) -> bool {
    !matches!(
        code,
        libc::EINVAL | libc::EOPNOTSUPP | libc::ECANCELED | libc::ENOMEM | libc::EINTR | UNANSWERED
    )
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl Measurement {
    /// The way to take.
    pub fn choice(&self) -> EgressChoice {
        if self.send_ns < self.ring_ns * (1.0 - SEND_GAIN_MIN) {
            EgressChoice::Send
        } else {
            EgressChoice::Ring
        }
    }
}

/// Compares both ways on 256 loopback connections, 8 KiB each, for about 15 ms of CPU time; with few
/// descriptors on 64 connections. Many viewers are what the choice is for: below some sixteen sends per
/// pass the ways cost the same. Fails when there is no private ring, no loopback or no room for 129
/// descriptors.
pub fn measure() -> io::Result<Measurement> {
    measure_with(BATCH_MAX, 8 * 1024).or_else(|_| measure_with(64, 8 * 1024))
}

/// [`measure`] with so many connections (at most 256) and bytes per send (at most 64 KiB).
pub fn measure_with(connections: usize, bytes: usize) -> io::Result<Measurement> {
    const ROUNDS: usize = 9;
    let (connections, bytes) = (connections.clamp(1, BATCH_MAX), bytes.clamp(1, 64 * 1024));
    let mut ways =
        [Egress::new(EgressChoice::Send), Egress::with(Some(Ring::new()?), None, String::new())];
    let listener = socket::listen((std::net::Ipv4Addr::LOCALHOST, 0).into(), false)?;
    let address = socket::local_addr(&listener)?;
    let mut receivers = Vec::with_capacity(connections);
    let mut senders = Vec::with_capacity(connections);
    for _ in 0..connections {
        receivers.push(std::net::TcpStream::connect(address)?);
        let sender = socket::accept(&listener)?.0;
        // As viewers have it; else the bytes would wait for the receiver's acknowledgement.
        socket::set_nodelay(&sender, true)?;
        senders.push(sender);
    }
    let content = vec![0_u8; bytes];
    let items: Vec<SendItem<'_>> =
        senders.iter().map(|fd| SendItem { fd: fd.as_fd(), bytes: [&content, &[]] }).collect();
    let mut results = Vec::with_capacity(connections);
    let mut costs = [Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)];
    // The first round of each warms caches and congestion windows up and does not count.
    for round in 0..=ROUNDS {
        for turn in 0..2 {
            let way = (round + turn) % 2;
            let start = clock::thread_cpu();
            ways[way].send_batch(&items, &mut results);
            let cost = clock::thread_cpu().saturating_sub(start);
            if results.iter().any(|result| !matches!(result, Ok(taken) if *taken == bytes)) {
                return Err(io::Error::other("loopback did not take the test bytes"));
            }
            if round > 0 {
                costs[way].push(cost.as_nanos() as f64 / connections as f64);
            }
            for receiver in &receivers {
                while matches!(socket::discard(receiver, bytes), Ok(1..)) {}
            }
        }
    }
    let [send, ring] = costs.map(|mut costs| {
        costs.sort_by(f64::total_cmp);
        costs[costs.len() / 2]
    });
    if ways[1].backend() != Backend::Ring {
        return Err(io::Error::other("the private ring failed"));
    }
    Ok(Measurement { send_ns: send, ring_ns: ring })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    const WAYS: [EgressChoice; 2] = [EgressChoice::Send, EgressChoice::Ring];

    fn egress(choice: EgressChoice) -> Egress {
        let egress = Egress::new(choice);
        let wanted = if choice == EgressChoice::Ring { Backend::Ring } else { Backend::Send };
        assert_eq!(egress.backend(), wanted, "{}", egress.note());
        egress
    }

    fn error_code(result: &io::Result<usize>) -> Option<i32> {
        result.as_ref().err().and_then(io::Error::raw_os_error)
    }

    #[test]
    fn every_item_arrives_whole_and_in_order_for_any_number_of_items() {
        let pairs: Vec<_> = (0..600).map(|_| UnixStream::pair().unwrap()).collect();
        let texts: Vec<String> = (0..600).map(|n| format!("viewer {n};")).collect();
        for way in WAYS {
            let mut egress = egress(way);
            let mut results = Vec::new();
            for count in [0, 1, 2, 255, 256, 257, 511, 512, 513, 600] {
                // In reverse, so that an answer in the order of completion by descriptor is caught.
                let items: Vec<_> = (0..count)
                    .rev()
                    .map(|n| {
                        // In one piece and in two, in turn.
                        let (first, second) = texts[n].as_bytes().split_at(if n % 2 == 0 {
                            texts[n].len()
                        } else {
                            n % 8
                        });
                        SendItem { fd: pairs[n].0.as_fd(), bytes: [first, second] }
                    })
                    .collect();
                egress.send_batch(&items, &mut results);
                assert_eq!(results.len(), count);
                for (result, item) in results.iter().zip(&items) {
                    assert_eq!(*result.as_ref().unwrap(), item.bytes.concat().len());
                }
                for (pair, text) in pairs.iter().zip(&texts).take(count) {
                    let mut buffer = vec![0; text.len()];
                    (&pair.1).read_exact(&mut buffer).unwrap();
                    assert_eq!(buffer, text.as_bytes());
                }
            }
            for (_, far) in &pairs {
                far.set_nonblocking(true).unwrap();
                assert!((&*far).read(&mut [0]).is_err(), "more bytes than were sent");
                far.set_nonblocking(false).unwrap();
            }
        }
    }

    #[test]
    fn full_sockets_and_gone_peers_are_answered_in_their_place() {
        for way in WAYS {
            let mut egress = egress(way);
            let mut results = Vec::new();
            let (full, _full_far) = UnixStream::pair().unwrap();
            full.set_nonblocking(true).unwrap();
            while io::Write::write(&mut &full, &[0; 4096]).is_ok() {}
            let (gone, gone_far) = UnixStream::pair().unwrap();
            drop(gone_far);
            let (good, mut good_far) = UnixStream::pair().unwrap();
            let items = [&full, &gone, &good]
                .map(|socket| SendItem { fd: socket.as_fd(), bytes: [&b"text"[..], &[]] });
            // Often enough that every kind passes the boundary of a batch.
            let items: Vec<_> = items.iter().copied().cycle().take(300).collect();
            egress.send_batch(&items, &mut results);
            for three in results.chunks(3) {
                assert_eq!(error_code(&three[0]), Some(libc::EAGAIN));
                assert_eq!(error_code(&three[1]), Some(libc::EPIPE));
                assert_eq!(three[2].as_ref().ok(), Some(&4));
            }
            let mut text = vec![0; 400];
            good_far.read_exact(&mut text).unwrap();
            assert_eq!(text, b"text".repeat(100));
            assert_eq!(egress.note(), Egress::new(way).note(), "the way did not change");
        }
    }

    #[test]
    fn partial_sends_add_up_to_the_same_bytes() {
        let bytes: Vec<u8> =
            (0..2_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for way in WAYS {
            let mut egress = egress(way);
            let mut results = Vec::new();
            let listener = socket::listen("127.0.0.1:0".parse().unwrap(), false).unwrap();
            let address = socket::local_addr(&listener).unwrap();
            let viewers: Vec<(OwnedFd, std::net::TcpStream)> = (0..3)
                .map(|_| {
                    let far = std::net::TcpStream::connect(address).unwrap();
                    let near = socket::accept(&listener).unwrap().0;
                    socket::set_send_buffer(&near, 20_000).unwrap();
                    (near, far)
                })
                .collect();
            let mut cursors = [0; 3];
            let mut received = [(); 3].map(|()| Vec::new());
            let mut partial = 0;
            while received.iter().any(|got| got.len() < bytes.len()) {
                let items: Vec<_> = viewers
                    .iter()
                    .zip(cursors)
                    .map(|((fd, _), cursor)| {
                        let left = &bytes[cursor..];
                        let (first, second) = left.split_at(left.len().min(10_000));
                        SendItem { fd: fd.as_fd(), bytes: [first, second] }
                    })
                    .collect();
                egress.send_batch(&items, &mut results);
                for ((cursor, result), item) in cursors.iter_mut().zip(&results).zip(&items) {
                    match result {
                        Ok(taken) => {
                            partial +=
                                usize::from(*taken > 0 && *taken < item.bytes.concat().len());
                            *cursor += taken;
                        }
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                }
                for ((_, far), got) in viewers.iter().zip(&mut received) {
                    let mut buffer = [0; 70_000];
                    if let Ok(count) = socket::recv(far, &mut buffer) {
                        got.extend_from_slice(&buffer[..count]);
                    }
                }
            }
            assert!(partial > 3, "{partial} partial sends");
            assert!(received.iter().all(|got| *got == bytes));
        }
    }

    #[test]
    fn a_closed_or_foreign_descriptor_costs_its_own_item_only() {
        let file = std::fs::File::open("/proc/self/stat").unwrap();
        let (good, _far) = UnixStream::pair().unwrap();
        for way in WAYS {
            let mut egress = egress(way);
            let mut results = Vec::new();
            let items =
                [file.as_fd(), good.as_fd()].map(|fd| SendItem { fd, bytes: [&b"a"[..], &[]] });
            egress.send_batch(&items, &mut results);
            assert_eq!(error_code(&results[0]), Some(libc::ENOTSOCK));
            assert_eq!(results[1].as_ref().ok(), Some(&1));
        }
    }

    #[test]
    fn auto_measures_both_and_says_so() {
        let egress = Egress::new(EgressChoice::Auto);
        let measured = egress.measurement().unwrap();
        assert!(measured.send_ns > 100.0 && measured.ring_ns > 100.0, "{measured:?}");
        assert!(egress.note().contains("ns per send"), "{}", egress.note());
        let fifty_fifty = Measurement { send_ns: 99.0, ring_ns: 100.0 };
        assert_eq!(fifty_fifty.choice(), EgressChoice::Ring);
        let clear = Measurement { send_ns: 80.0, ring_ns: 100.0 };
        assert_eq!(clear.choice(), EgressChoice::Send);
    }

    #[test]
    fn a_recycled_list_keeps_its_memory() {
        let (near, _far) = UnixStream::pair().unwrap();
        let mut items = Vec::with_capacity(100);
        items.push(SendItem { fd: near.as_fd(), bytes: [&b"a"[..], &[]] });
        let recycled: Vec<SendItem<'static>> = recycle(items);
        assert!(recycled.is_empty());
        assert_eq!(recycled.capacity(), 100);
    }
}
