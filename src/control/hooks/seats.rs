//! A number of seats for calls under way, and two bounded queues for those that wait: who waits for a
//! verdict goes before who only tells. For tasks of one executor.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Seats, free or taken.
#[derive(Debug)]
pub(super) struct Seats {
    free: Cell<usize>,
    waiting_max: usize,
    /// Places in both queues whose owners are there and were not called.
    waiting: Cell<usize>,
    first: RefCell<VecDeque<Rc<Waiting>>>,
    second: RefCell<VecDeque<Rc<Waiting>>>,
}

/// A taken seat; dropped, it goes to the next who waits.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    seats: &'a Seats,
}

/// No place to wait is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueFull;

#[derive(Debug, Default)]
struct Waiting {
    is_called: Cell<bool>,
    is_gone: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

struct Wait<'a> {
    seats: &'a Seats,
    place: Rc<Waiting>,
    is_done: bool,
}

impl Seats {
    /// `seats` calls at a time; `waiting_max` may wait.
    pub(super) fn new(seats: usize, waiting_max: usize) -> Self {
        Self {
            free: Cell::new(seats),
            waiting_max,
            waiting: Cell::new(0),
            first: RefCell::default(),
            second: RefCell::default(),
        }
    }

    /// Takes a seat, or waits for one: before all that are not `urgent`, when this is.
    pub(super) async fn take(&self, urgent: bool) -> Result<Seat<'_>, QueueFull> {
        if self.free.get() > 0 {
            self.free.set(self.free.get() - 1);
            return Ok(Seat { seats: self });
        }
        if self.waiting() >= self.waiting_max {
            return Err(QueueFull);
        }
        let place = Rc::new(Waiting::default());
        let queue = if urgent { &self.first } else { &self.second };
        queue.borrow_mut().push_back(Rc::clone(&place));
        self.waiting.set(self.waiting.get() + 1);
        Wait { seats: self, place, is_done: false }.await;
        Ok(Seat { seats: self })
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.get()
    }

    fn give_back(&self) {
        loop {
            let next = {
                let first = self.first.borrow_mut().pop_front();
                first.or_else(|| self.second.borrow_mut().pop_front())
            };
            let Some(place) = next else {
                self.free.set(self.free.get() + 1);
                return;
            };
            if place.is_gone.get() {
                continue;
            }
            place.is_called.set(true);
            self.waiting.set(self.waiting.get() - 1);
            if let Some(waker) = place.waker.borrow_mut().take() {
                waker.wake();
            }
            return;
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.seats.give_back();
    }
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.place.is_called.get() {
            self.is_done = true;
            return Poll::Ready(());
        }
        *self.place.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.place.is_gone.set(true);
        if !self.place.is_called.get() {
            self.seats.waiting.set(self.seats.waiting.get() - 1);
        } else if !self.is_done {
            // Called, but given up before it sat down: the seat is the next one's.
            self.seats.give_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    #[test]
    fn seats_go_to_who_is_urgent_first_and_the_queue_has_an_end() {
        block_on(async {
            let seats = Seats::new(1, 2);
            let taken = seats.take(false).await.unwrap();
            let mut slow = Box::pin(seats.take(false));
            let mut urgent = Box::pin(seats.take(true));
            assert!(poll_once(&mut slow).await.is_none());
            assert!(poll_once(&mut urgent).await.is_none());
            assert_eq!(seats.waiting(), 2);
            assert_eq!(seats.take(true).await.unwrap_err(), QueueFull);
            drop(taken);
            assert!(poll_once(&mut slow).await.is_none());
            let taken = poll_once(&mut urgent).await.unwrap();
            drop(taken);
            drop(poll_once(&mut slow).await.unwrap());
            assert_eq!((seats.free.get(), seats.waiting()), (1, 0));
        });
    }

    #[test]
    fn who_gives_up_takes_no_seat_with_it() {
        block_on(async {
            let seats = Seats::new(1, 9);
            let taken = seats.take(true).await.unwrap();
            let mut gone = Box::pin(seats.take(true));
            let mut called = Box::pin(seats.take(true));
            let mut last = Box::pin(seats.take(true));
            assert!(poll_once(&mut gone).await.is_none());
            assert!(poll_once(&mut called).await.is_none());
            assert!(poll_once(&mut last).await.is_none());
            drop(gone);
            assert_eq!(seats.waiting(), 2);
            drop(taken);
            assert_eq!(seats.waiting(), 1);
            // It was called, and gives up before it looks.
            drop(called);
            assert_eq!(seats.waiting(), 0);
            drop(poll_once(&mut last).await.unwrap());
            assert_eq!((seats.free.get(), seats.waiting()), (1, 0));
        });
    }

    /// In no time: a count that looks at all who wait takes far longer.
    #[test]
    fn many_may_wait() {
        const COUNT: usize = 200_000;
        block_on(async {
            let seats = Seats::new(1, COUNT);
            let taken = seats.take(true).await.unwrap();
            let started = Instant::now();
            let mut waiting = Vec::with_capacity(COUNT);
            for number in 0..COUNT {
                let mut next = Box::pin(seats.take(number % 2 == 0));
                assert!(poll_once(&mut next).await.is_none());
                waiting.push(next);
            }
            assert_eq!(seats.waiting(), COUNT);
            assert_eq!(seats.take(true).await.unwrap_err(), QueueFull);
            assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
            drop(waiting);
            drop(taken);
            assert_eq!((seats.free.get(), seats.waiting()), (1, 0));
        });
    }
}
