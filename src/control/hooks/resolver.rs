//! Host names to addresses: the system's resolver on a thread of its own, its answers kept for
//! `hooks.dns_cache`. The system's call tells no time to live, but knows what /etc/hosts, nsswitch.conf and
//! the operator's resolver say; an answer that has become old is used on when a new one cannot be had.

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
    /// The addresses of a host, best first; an answer is taken as it was for `fresh_for`.
    ///
    /// # Errors
    /// There is no such host, or nobody answers.
    pub(super) async fn addresses(
        &self,
        host: &str,
        fresh_for: Duration,
    ) -> io::Result<Vec<IpAddr>> {
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
        let asked = clock::now();
        if let Some(answer) = known.answer.borrow().current(asked, fresh_for) {
            return answer;
        }
        let turn = known.turn.take(true).await;
        let _turn = turn.map_err(|_| io::Error::other("too many wait for this name"))?;
        // Somebody may have asked meanwhile.
        if let Some(answer) = known.answer.borrow().since(asked) {
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
        known.answer.borrow_mut().take(found, clock::now());
        let answer = known.answer.borrow().since(asked);
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
    fn current(&self, now: Moment, fresh_for: Duration) -> Option<io::Result<Vec<IpAddr>>> {
        if self.at.is_some_and(|at| now.since(at) < fresh_for) {
            return Some(Ok(self.addresses.clone()));
        }
        let (at, _) = self.failed.as_ref()?;
        if now.since(*at) < FAILED_FOR { self.since(*at) } else { None }
    }

    /// What was learnt at `asked` or later.
    fn since(&self, asked: Moment) -> Option<io::Result<Vec<IpAddr>>> {
        if self.at.is_some_and(|at| at >= asked) {
            return Some(Ok(self.addresses.clone()));
        }
        let (failed_at, text) = self.failed.as_ref().filter(|(at, _)| *at >= asked)?;
        if self.at.is_some_and(|at| failed_at.since(at) < STALE_FOR) {
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
        let fresh_for = Duration::from_secs(30);
        let current = |answer: &Answer, seconds| answer.current(at(seconds), fresh_for);
        assert!(current(&answer, 0).is_none());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        answer.take(Ok(vec![address]), at(0));
        assert_eq!(current(&answer, 29).unwrap().unwrap(), [address]);
        assert!(current(&answer, 30).is_none(), "time to ask again");
        answer.take(Err(io::Error::other("no answer")), at(40));
        assert_eq!(current(&answer, 40).unwrap().unwrap(), [address]);
        assert!(current(&answer, 41).is_none());
        answer.take(Err(io::Error::other("no answer")), at(700));
        assert!(current(&answer, 700).unwrap().is_err());
        assert!(current(&answer, 701).is_none());
    }

    #[test]
    fn without_a_cache_each_question_has_an_answer_of_its_own() {
        let mut answer = Answer::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        answer.take(Ok(vec![address]), at(5));
        assert!(answer.current(at(5), Duration::ZERO).is_none());
        assert_eq!(answer.since(at(4)).unwrap().unwrap(), [address], "who waited takes it");
        assert!(answer.since(at(6)).is_none());
    }

    #[test]
    fn names_and_addresses_are_found() {
        let (local, literal) = spawn_pinned("test", None, || async {
            let resolver = Resolver::default();
            let fresh_for = Duration::ZERO;
            let local = resolver.addresses("localhost", fresh_for).await;
            let literal = resolver.addresses("::1", fresh_for).await;
            (local.map(|found| found[0].is_loopback()), literal)
        })
        .unwrap()
        .join()
        .unwrap();
        assert!(local.unwrap());
        assert_eq!(literal.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    }
}
