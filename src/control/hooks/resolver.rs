//! Host names to addresses: the system's resolver on a thread of its own, its answers kept for a while.
//! The system's call tells no time to live, so the time is fixed; an answer that has become old is used
//! on when a new one cannot be had.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::time::Duration;

use super::seats::Seats;
use crate::limits;
use crate::media::Moment;
use crate::rt::clock;
use crate::rt::executor::spawn_blocking;

/// For so long an answer is taken as it was.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// For so long it is better than none.
const STALE_FOR: Duration = Duration::from_secs(600);
/// For so long a failure is not tried again.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    hosts: RefCell<HashMap<String, Rc<Host>>>,
}

#[derive(Debug)]
struct Host {
    /// One asks, the others wait for its answer.
    turn: Seats,
    answer: RefCell<Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    addresses: Vec<IpAddr>,
    at: Option<Moment>,
    failed: Option<(Moment, String)>,
}

impl Resolver {
    /// The addresses of a host, best first.
    ///
    /// # Errors
    /// There is no such host, or nobody answers.
    pub(super) async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let known =
            Rc::clone(self.hosts.borrow_mut().entry(host.to_owned()).or_insert_with(|| {
                Rc::new(Host {
                    turn: Seats::new(1, limits::HOOK_CALLS_WAITING_MAX),
                    answer: RefCell::default(),
                })
            }));
        if let Some(answer) = known.answer.borrow().current(clock::now()) {
            return answer;
        }
        let turn = known.turn.take(true).await;
        let _turn = turn.map_err(|_| io::Error::other("too many wait for this name"))?;
        // Somebody may have asked meanwhile.
        if let Some(answer) = known.answer.borrow().current(clock::now()) {
            return answer;
        }
        let name = host.to_owned();
        let found = spawn_blocking(move || {
            (name.as_str(), 0).to_socket_addrs().map(|found| {
                let mut addresses: Vec<IpAddr> = found.map(|it: SocketAddr| it.ip()).collect();
                addresses.dedup();
                addresses
            })
        });
        let found = found.await.unwrap_or_else(|panic| Err(io::Error::other(panic.to_string())));
        let now = clock::now();
        known.answer.borrow_mut().take(found, now);
        let answer = known.answer.borrow().current(now);
        answer.unwrap_or_else(|| Err(io::Error::other("the name has no address")))
    }
}

impl Answer {
    fn take(&mut self, found: io::Result<Vec<IpAddr>>, now: Moment) {
        match found {
            Ok(addresses) if !addresses.is_empty() => {
                *self = Self { addresses, at: Some(now), failed: None };
            }
            Ok(_) => self.failed = Some((now, "the name has no address".to_owned())),
            Err(error) => self.failed = Some((now, error.to_string())),
        }
    }

    /// What needs no question now.
    fn current(&self, now: Moment) -> Option<io::Result<Vec<IpAddr>>> {
        let age = self.at.map(|at| now.since(at));
        if age.is_some_and(|age| age < FRESH_FOR) {
            return Some(Ok(self.addresses.clone()));
        }
        let (at, text) = self.failed.as_ref()?;
        if now.since(*at) >= FAILED_FOR {
            return None;
        }
        if age.is_some_and(|age| age < STALE_FOR) {
            return Some(Ok(self.addresses.clone()));
        }
        Some(Err(io::Error::other(text.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::executor::spawn_pinned;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(1_000 + seconds)
    }

    #[test]
    fn answers_are_kept_and_used_on_while_no_new_one_comes() {
        let mut answer = Answer::default();
        assert!(answer.current(at(0)).is_none());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        answer.take(Ok(vec![address]), at(0));
        assert_eq!(answer.current(at(29)).unwrap().unwrap(), [address]);
        assert!(answer.current(at(30)).is_none(), "time to ask again");
        answer.take(Err(io::Error::other("no answer")), at(40));
        assert_eq!(answer.current(at(40)).unwrap().unwrap(), [address]);
        assert!(answer.current(at(41)).is_none());
        answer.take(Err(io::Error::other("no answer")), at(700));
        assert!(answer.current(at(700)).unwrap().is_err());
        assert!(answer.current(at(701)).is_none());
    }

    #[test]
    fn names_and_addresses_are_found() {
        let (local, literal) = spawn_pinned("test", None, || async {
            let resolver = Resolver::default();
            let local = resolver.addresses("localhost").await;
            (local.map(|found| found[0].is_loopback()), resolver.addresses("::1").await)
        })
        .unwrap()
        .join()
        .unwrap();
        assert!(local.unwrap());
        assert_eq!(literal.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    }
}
