//! What happens on the server, for those who listen: connections, streams and relays, one event after the
//! other. `GET /api/v1/events` is one listener's way to them (`listener`).
//!
//! What must hold: before the first listener nothing is put into words; a listener that is too slow loses
//! events, is told how many, and holds nobody up; one that comes back sees from the numbers that nothing is
//! missing, or is told.

mod listener;
mod memory;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

pub(super) use self::listener::Listener;
use self::memory::Memory;
use crate::limits;

/// All listeners, and what they have not been sent yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    shared: Rc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Numbers begin behind it. Those of an earlier process are below.
    start: u64,
    last_event: Cell<u64>,
    /// Somebody has listened, and may come back.
    is_wanted: Cell<bool>,
    memory: RefCell<Memory>,
    last_listener: Cell<u64>,
    /// Events that had no room, of all listeners.
    lost: Cell<u64>,
    queues: RefCell<BTreeMap<u64, Queue>>,
}

/// What waits for one listener.
#[derive(Debug, Default)]
struct Queue {
    filter: Filter,
    /// Each as it is sent.
    events: VecDeque<Rc<str>>,
    bytes: usize,
    /// How many had no room.
    lost: u64,
    waker: Option<Waker>,
}

/// Which events a listener wants; what is empty is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Words for events.
    pub(super) events: Vec<String>,
    /// Applications, with their instance if it is not the default one.
    pub(super) apps: Vec<String>,
    /// Names of streams.
    pub(super) streams: Vec<String>,
}

/// Something that has happened.
#[derive(Debug)]
pub(super) struct Happening<'a> {
    /// The word for it.
    pub(super) event: &'static str,
    /// The virtual host.
    pub(super) vhost: &'a str,
    /// The application, with its instance if it is not the default one.
    pub(super) app: &'a str,
    /// The stream's name; empty when it is about none.
    pub(super) stream: &'a str,
    /// What else is to be said: an object.
    pub(super) more: Value,
}

/// The words for events.
pub(super) const WORDS: [&str; 14] = [
    "connect",
    "disconnect",
    "fenced",
    "leased",
    "play",
    "play_done",
    "publish",
    "publish_done",
    "redis_down",
    "redis_up",
    "refused",
    "relay",
    "unleased",
    "update",
];

impl Filter {
    fn fits(&self, event: &str, app: &str, stream: &str) -> bool {
        let fits =
            |list: &[String], value: &str| list.is_empty() || list.iter().any(|it| it == value);
        fits(&self.events, event) && fits(&self.apps, app) && fits(&self.streams, stream)
    }
}

impl Events {
    /// None yet. Numbers begin with the time, so that no other process of this server has used them.
    pub(super) fn new() -> Self {
        Self::behind(unix_time().as_micros() as u64)
    }

    fn behind(start: u64) -> Self {
        let shared = Shared { start, last_event: Cell::new(start), ..Shared::default() };
        Self { shared: Rc::new(shared) }
    }

    /// Whether anybody listens, or has done so and may want to know later.
    pub(super) fn is_wanted(&self) -> bool {
        self.shared.is_wanted.get()
    }

    /// How many listen.
    pub(super) fn listeners(&self) -> usize {
        self.shared.queues.borrow().len()
    }

    /// How many events listeners were too slow for.
    pub(super) fn lost(&self) -> u64 {
        self.shared.lost.get()
    }

    /// Tells the listeners.
    pub(super) fn say(&self, happening: Happening<'_>) {
        if !self.is_wanted() {
            return;
        }
        let id = self.shared.last_event.get() + 1;
        self.shared.last_event.set(id);
        let text = write(id, &happening);
        for queue in self.shared.queues.borrow_mut().values_mut() {
            if queue.filter.fits(happening.event, happening.app, happening.stream)
                && !queue.push(Rc::clone(&text))
            {
                self.shared.lost.set(self.shared.lost.get() + 1);
            }
        }
        self.shared.memory.borrow_mut().keep(id, text, &happening);
    }

    /// One more listener; `None` when there are as many as there may be. One that has heard all up to a
    /// number is sent first what came since then.
    pub(super) fn listen(&self, filter: Filter, last_heard: Option<u64>) -> Option<Listener> {
        if self.listeners() >= limits::EVENT_LISTENERS_MAX {
            return None;
        }
        let number = self.shared.last_listener.get() + 1;
        self.shared.last_listener.set(number);
        self.shared.is_wanted.set(true);
        let mut queue = Queue { filter, ..Queue::default() };
        if let Some(last) = last_heard {
            let (start, newest) = (self.shared.start, self.shared.last_event.get());
            for text in self.shared.memory.borrow().since(last, start, newest, &queue.filter) {
                queue.bytes += text.len();
                queue.events.push_back(text);
            }
        }
        self.shared.queues.borrow_mut().insert(number, queue);
        Some(Listener::new(Rc::clone(&self.shared), number))
    }
}

impl Queue {
    /// Says whether it had room.
    fn push(&mut self, text: Rc<str>) -> bool {
        let is_full = self.events.len() >= limits::EVENTS_WAITING_MAX
            || self.bytes + text.len() > limits::EVENT_BYTES_WAITING_MAX;
        // Once something is lost, so is all that comes before that is told: the order is kept.
        let has_room = !is_full && self.lost == 0;
        if has_room {
            self.bytes += text.len();
            self.events.push_back(text);
        } else {
            self.lost += 1;
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        has_room
    }

    /// What is to be sent next; at its end how many events are missing.
    fn take(&mut self) -> String {
        let mut out = String::with_capacity(self.bytes + 64);
        for text in self.events.drain(..) {
            out.push_str(&text);
        }
        self.bytes = 0;
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            out.push_str(&loss(Some(lost)));
        }
        out
    }
}

/// How many events are missing at this place, if that is known.
fn loss(count: Option<u64>) -> String {
    format!("event: lost\ndata: {}\n\n", json!({ "event": "lost", "count": count }))
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// An event as it is sent.
fn write(id: u64, happening: &Happening<'_>) -> Rc<str> {
    let time = unix_time();
    let Happening { event, vhost, app, stream, more } = happening;
    let mut object = json!({
        "id": id, "event": event, "time_ms": time.as_millis() as u64, "vhost": vhost, "app": app,
    });
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        if !stream.is_empty() {
            object.insert("stream".to_owned(), Value::from(*stream));
        }
        object.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    format!("id: {id}\nevent: {event}\ndata: {object}\n\n").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening<'a>(event: &'static str, app: &'a str, stream: &'a str) -> Happening<'a> {
        let more = json!({ "client": "7" });
        Happening { event, vhost: "v", app, stream, more }
    }

    fn list(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// The data of what a listener is sent.
    fn sent(listener: &Listener) -> Vec<Value> {
        let text = listener.take();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    #[test]
    fn listeners_are_sent_what_they_want() {
        let events = Events::default();
        events.say(happening("publish", "live", "nobody hears it"));
        let all = events.listen(Filter::default(), None).unwrap();
        let some = Filter { events: list("publish play"), apps: list("live"), ..Filter::default() };
        let some = events.listen(some, None).unwrap();
        let one = events.listen(Filter { streams: list("b"), ..Filter::default() }, None).unwrap();
        for (event, app, stream) in
            [("connect", "live", ""), ("publish", "live", "a"), ("play", "other", "b")]
        {
            events.say(happening(event, app, stream));
        }
        let ids = |listener: &Listener| -> Vec<u64> {
            sent(listener).iter().map(|it| it["id"].as_u64().unwrap()).collect()
        };
        assert_eq!((ids(&some), ids(&one)), (vec![2], vec![3]));
        let all = sent(&all);
        assert_eq!(all.len(), 3);
        assert!(all[0].get("stream").is_none());
        let second = &all[1];
        assert_eq!(
            (&second["event"], &second["app"], &second["stream"], &second["client"]),
            (&json!("publish"), &json!("live"), &json!("a"), &json!("7"))
        );
        drop((some, one));
        assert_eq!(events.listeners(), 1);
    }

    #[test]
    fn who_is_too_slow_loses_events_and_is_told_how_many() {
        let events = Events::default();
        let slow = events.listen(Filter::default(), None).unwrap();
        for _ in 0..limits::EVENTS_WAITING_MAX + 5 {
            events.say(happening("publish", "live", "a"));
        }
        let got = sent(&slow);
        assert_eq!(got.len(), limits::EVENTS_WAITING_MAX + 1);
        assert_eq!(got.last().unwrap(), &json!({ "event": "lost", "count": 5 }));
        events.say(happening("publish", "live", "a"));
        assert_eq!(sent(&slow).len(), 1, "and then it goes on");
        let long = "x".repeat(limits::EVENT_BYTES_WAITING_MAX / 2);
        for _ in 0..3 {
            events.say(happening("publish", "live", &long));
        }
        let got = sent(&slow);
        assert_eq!((got.len(), &got[1]["count"]), (2, &json!(2)));
        assert_eq!(events.lost(), 7);
    }

    #[test]
    fn there_is_an_end_to_listeners() {
        let events = Events::default();
        let all: Vec<_> = (0..limits::EVENT_LISTENERS_MAX)
            .map(|_| events.listen(Filter::default(), None).expect("room"))
            .collect();
        assert!(events.listen(Filter::default(), None).is_none());
        drop(all);
        assert!(events.listen(Filter::default(), None).is_some());
    }

    #[test]
    fn who_comes_back_hears_what_came_meanwhile_or_how_much_is_missing() {
        let events = Events::behind(100);
        let first = events.listen(Filter::default(), None).unwrap();
        events.say(happening("publish", "live", "a"));
        assert_eq!(sent(&first)[0]["id"], 101);
        drop(first);
        for stream in ["b", "c", "b"] {
            events.say(happening("play", "live", stream));
        }
        let come_back = |filter: Filter, last| {
            let listener = events.listen(filter, Some(last)).unwrap();
            let count = |it: &Value| it["count"].as_u64().map(|count| count + 9_000);
            let ids = |it: Value| it["id"].as_u64().or_else(|| count(&it));
            sent(&listener).into_iter().map(ids).collect::<Vec<_>>()
        };
        let all = Filter::default;
        assert_eq!(come_back(all(), 101), [Some(102), Some(103), Some(104)]);
        let some = Filter { streams: list("b"), ..all() };
        assert_eq!(come_back(some, 101), [Some(102), Some(104)], "by its own choice");
        assert_eq!(come_back(all(), 104), []);
        // Of another process, also of one before a clock was set back: nobody knows how many.
        let of_all = [None, Some(101), Some(102), Some(103), Some(104)];
        for of_another in [7, 999, u64::MAX] {
            assert_eq!(come_back(all(), of_another), of_all);
        }
        // More than are kept.
        for _ in 0..limits::EVENTS_KEPT_MAX + 3 {
            events.say(happening("play", "live", "b"));
        }
        let got = come_back(all(), 101);
        assert_eq!((got.len(), got[0]), (limits::EVENTS_KEPT_MAX + 1, Some(9_006)));
        let long = "x".repeat(limits::EVENT_BYTES_KEPT_MAX / 3);
        (0..3).for_each(|_| events.say(happening("play", "live", &long)));
        assert_eq!(come_back(all(), 104).len(), 1 + 2, "bytes are bounded as well");
    }
}
