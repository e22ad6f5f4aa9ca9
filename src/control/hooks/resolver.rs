//! Host names to addresses: the system's resolver on a thread of its own, its answers kept for
//! `hooks.dns_cache`. The system's call tells no time to live, but knows what /etc/hosts, nsswitch.conf and
//! the operator's resolver say; an answer that has become old is used on when a new one cannot be had, or
//! does not come.
//!
//! A look-up goes on when nobody waits for it any more: the system's call may take longer than a hook has,
//! and those who ask next have to know what came of it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::seats::{QueueFull, Seats};
use crate::limits;
use crate::media::Moment;
use crate::rt::clock;
use crate::rt::executor::{before, spawn_blocking, spawn_local};

/// For so long it is better than none.
const STALE_FOR: Duration = Duration::from_secs(600);
/// For so long a failure is not tried again.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// A look-up that has taken so long is not waited for when an old answer is known.
const PATIENCE: Duration = Duration::from_millis(250);
/// The system's call, or a test's.
type LookUp = fn(&str) -> io::Result<Vec<IpAddr>>;

/// The answers.
#[derive(Debug)]
pub(super) struct Resolver {
    hosts: RefCell<HashMap<String, Rc<Host>>>,
    under_way: Rc<Seats>,
    look_up: LookUp,
}

#[derive(Debug, Default)]
struct Host {
    /// Since when it is being looked up.
    began: Cell<Option<Moment>>,
    /// Who waits for that.
    wakers: RefCell<Vec<Waker>>,
    answer: RefCell<Answer>,
}

#[derive(Debug, Default)]
struct Answer {
    addresses: Vec<IpAddr>,
    at: Option<Moment>,
    failed: Option<(Moment, String)>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new(look_up)
    }
}

impl Resolver {
    fn new(look_up: LookUp) -> Self {
        let under_way =
            Rc::new(Seats::new(limits::HOOK_LOOK_UPS_MAX, limits::HOOK_CALLS_WAITING_MAX));
        Self { hosts: RefCell::default(), under_way, look_up }
    }

    /// The addresses of a host, best first; an answer is taken as it was for `fresh_for`. When no new one
    /// comes, an older one is there well before `deadline`.
    ///
    /// # Errors
    /// There is no such host, or nobody answers.
    pub(super) async fn addresses(
        &self,
        name: &str,
        fresh_for: Duration,
        deadline: Moment,
    ) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let host = Rc::clone(self.hosts.borrow_mut().entry(name.to_owned()).or_default());
        let asked = clock::now();
        if let Some(answer) = host.answer.borrow().current(asked, fresh_for) {
            return answer;
        }
        let began = self.begin(name, &host, asked);
        let old = host.answer.borrow().old(asked);
        let Some(old) = old else { return host.learnt(asked).await };
        let until = began + patience(fresh_for, deadline.since(asked));
        if until <= asked {
            return Ok(old);
        }
        before(until, host.learnt(asked)).await.unwrap_or(Ok(old))
    }

    /// Has a host looked up, unless it is being looked up; since when it is.
    fn begin(&self, name: &str, host: &Rc<Host>, now: Moment) -> Moment {
        if let Some(began) = host.began.get() {
            return began;
        }
        host.began.set(Some(now));
        let (name, host) = (name.to_owned(), Rc::clone(host));
        let (under_way, look_up) = (Rc::clone(&self.under_way), self.look_up);
        // A task of its own: who asks may give up.
        spawn_local(async move {
            let found = match under_way.take(true).await {
                Ok(_seat) => {
                    let found = spawn_blocking(move || look_up(&name)).await;
                    found.unwrap_or_else(|panic| Err(io::Error::other(panic.to_string())))
                }
                Err(QueueFull) => Err(io::Error::other("too many names are looked up")),
            };
            host.answer.borrow_mut().take(found, clock::now());
            host.began.set(None);
            for waker in host.wakers.take() {
                waker.wake();
            }
        });
        now
    }
}

/// The system's call.
fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs()?;
    let mut addresses: Vec<IpAddr> = found.map(|it: SocketAddr| it.ip()).collect();
    addresses.dedup();
    Ok(addresses)
}

/// How long a look-up may take until an old answer is used, when the call has `left`. Who wants no old ones
/// gives the look-up as much of its time as the call itself may need.
fn patience(fresh_for: Duration, left: Duration) -> Duration {
    if fresh_for.is_zero() { left / 2 } else { PATIENCE.min(left / 2) }
}

impl Host {
    /// Waits for what is learnt at `asked` or later.
    async fn learnt(&self, asked: Moment) -> io::Result<Vec<IpAddr>> {
        std::future::poll_fn(|context| {
            if let Some(answer) = self.answer.borrow().since(asked) {
                return Poll::Ready(answer);
            }
            self.wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await
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

    /// What was known before, while it is better than nothing.
    fn old(&self, now: Moment) -> Option<Vec<IpAddr>> {
        self.at.is_some_and(|at| now.since(at) < STALE_FOR).then(|| self.addresses.clone())
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
    use std::sync::atomic::{AtomicU8, Ordering};
    use std::thread;

    use super::*;
    use crate::rt::executor::{sleep, spawn_pinned};

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
    fn an_old_answer_is_used_for_ten_minutes_and_in_good_time() {
        let mut answer = Answer::default();
        assert!(answer.old(at(0)).is_none());
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        answer.take(Ok(vec![address]), at(0));
        assert_eq!(answer.old(at(599)).unwrap(), [address]);
        assert!(answer.old(at(600)).is_none());
        let second = Duration::from_secs(1);
        assert_eq!(patience(second, 3 * second), PATIENCE);
        assert_eq!(patience(second, second / 5), second / 10);
        assert_eq!(patience(Duration::ZERO, 3 * second), second * 3 / 2, "it wants a new one");
    }

    /// What the `number`-th look-up finds.
    fn numbered(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn the_address_goes_on_while_nobody_answers_and_what_comes_is_kept() {
        static ASKED: AtomicU8 = AtomicU8::new(0);
        fn slow(_: &str) -> io::Result<Vec<IpAddr>> {
            let number = ASKED.fetch_add(1, Ordering::Relaxed) + 1;
            if number > 1 {
                thread::sleep(Duration::from_secs(2));
            }
            Ok(vec![numbered(number)])
        }
        let (first, during, took, last) = spawn_pinned("test", None, || async {
            let resolver = Resolver::new(slow);
            let ask = async |fresh_ms: u64, left_ms: u64| {
                let deadline = clock::now() + Duration::from_millis(left_ms);
                let found = resolver.addresses("h", Duration::from_millis(fresh_ms), deadline);
                before(deadline, found).await.map(|found| found.unwrap()[0])
            };
            let first = ask(1, 10_000).await;
            sleep(Duration::from_millis(2)).await;
            let began = clock::now();
            // Each has less time than the look-up takes.
            let mut during = Vec::new();
            for fresh_ms in [1, 1, 0, 1] {
                during.push(ask(fresh_ms, 600).await);
            }
            let took = clock::now().since(began);
            // Nobody waits for it, and nobody asks again.
            let mut last = None;
            for _ in 0..1_000 {
                last = ask(60_000, 10_000).await;
                if last != first {
                    break;
                }
                sleep(Duration::from_millis(10)).await;
            }
            (first, during, took, last)
        })
        .unwrap()
        .join()
        .unwrap();
        assert_eq!(first, Some(numbered(1)));
        assert_eq!(during, [first; 4]);
        assert!(took < Duration::from_secs(1), "nobody waits long: {took:?}");
        assert_eq!(last, Some(numbered(2)));
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn who_gives_up_leaves_its_look_up_to_the_next() {
        static ASKED: AtomicU8 = AtomicU8::new(0);
        fn slow(_: &str) -> io::Result<Vec<IpAddr>> {
            thread::sleep(Duration::from_secs(1));
            Ok(vec![numbered(ASKED.fetch_add(1, Ordering::Relaxed) + 1)])
        }
        let (early, late) = spawn_pinned("test", None, || async {
            let resolver = Resolver::new(slow);
            let fresh_for = Duration::from_secs(60);
            let soon = clock::now() + Duration::from_millis(10);
            let early = before(soon, resolver.addresses("h", fresh_for, soon)).await;
            let late = resolver.addresses("h", fresh_for, Moment::MAX).await;
            (early.is_some(), late.unwrap())
        })
        .unwrap()
        .join()
        .unwrap();
        assert!(!early, "there is nothing to be used on");
        assert_eq!(late, [numbered(1)]);
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn without_a_cache_each_question_is_asked() {
        static ASKED: AtomicU8 = AtomicU8::new(0);
        fn quick(_: &str) -> io::Result<Vec<IpAddr>> {
            Ok(vec![numbered(ASKED.fetch_add(1, Ordering::Relaxed) + 1)])
        }
        let found = spawn_pinned("test", None, || async {
            let resolver = Resolver::new(quick);
            let mut found = Vec::new();
            for _ in 0..3 {
                let deadline = clock::now() + Duration::from_secs(60);
                let addresses = resolver.addresses("h", Duration::ZERO, deadline).await;
                found.extend(addresses.unwrap());
            }
            found
        });
        assert_eq!(found.unwrap().join().unwrap(), [1, 2, 3].map(numbered));
    }

    #[test]
    fn names_and_addresses_are_found() {
        let (local, literal) = spawn_pinned("test", None, || async {
            let resolver = Resolver::default();
            let fresh_for = Duration::ZERO;
            let local = resolver.addresses("localhost", fresh_for, Moment::MAX).await;
            let literal = resolver.addresses("::1", fresh_for, Moment::MAX).await;
            (local.map(|found| found[0].is_loopback()), literal)
        })
        .unwrap()
        .join()
        .unwrap();
        assert!(local.unwrap());
        assert_eq!(literal.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    }
}
