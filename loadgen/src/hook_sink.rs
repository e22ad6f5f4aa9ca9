//! A back end for hooks, to measure with: it answers after a set time, refuses a set part, understands
//! both dialects, and counts whether every start that it accepted had its end.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use shardcast::proto::http::{self, Query};
use signal_hook::consts::{SIGINT, SIGTERM};

/// How often a waiting thread looks whether the end has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Longest body that is taken; an event has a few hundred bytes.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// What the sink does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sink {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Before each answer.
    pub(crate) latency: Duration,
    /// Percent of the events that are answered 500.
    pub(crate) errors_percent: f64,
    /// How long; `None` until it is told to stop.
    pub(crate) duration: Option<Duration>,
}

/// What came in.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Time from the first event to the last, in seconds.
    pub(crate) seconds: f64,
    /// All events.
    pub(crate) events: u64,
    /// Events per second over that time.
    pub(crate) events_per_s: f64,
    /// Connections.
    pub(crate) connections: u64,
    /// Events answered 500.
    pub(crate) refused: u64,
    /// Requests that are no event.
    pub(crate) unknown: u64,
    /// Accepted publishes and plays.
    pub(crate) starts: u64,
    /// Their ends.
    pub(crate) ends: u64,
    /// Ends of what was never accepted, or had ended.
    pub(crate) ends_without_start: u64,
    /// Accepted publishes and plays of connections that have ended, without an end of their own.
    pub(crate) starts_without_end: u64,
    /// Accepted publishes and plays that go on.
    pub(crate) open: u64,
}

#[derive(Default)]
struct Shared {
    report: Report,
    /// By connection and kind: what was accepted and goes on.
    open: HashMap<(String, Kind), u64>,
    first: Option<Instant>,
    last: Option<Instant>,
    /// For the part that is refused.
    dice: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Publish,
    Play,
}

/// An event in either dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Start(Kind),
    End(Kind),
    Gone,
    Other,
}

impl Sink {
    /// Listens until the time is over or a signal comes, and gives what came in. `started` gets the
    /// address.
    pub(crate) fn run(self, started: impl FnOnce(SocketAddr)) -> io::Result<Report> {
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let listener = TcpListener::bind(self.listen)?;
        listener.set_nonblocking(true)?;
        started(listener.local_addr()?);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let until = self.duration.map(|duration| Instant::now() + duration);
        while !stop.load(Ordering::Relaxed) && until.is_none_or(|until| Instant::now() < until) {
            match listener.accept() {
                Ok((stream, _)) => {
                    lock(&shared).report.connections += 1;
                    let (shared, stop) = (Arc::clone(&shared), Arc::clone(&stop));
                    thread::Builder::new()
                        .spawn(move || self.serve(stream, &shared, &stop))
                        .map(drop)?;
                }
                // A blocking accept would not notice the end.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_micros(200));
                }
                Err(error) => return Err(error),
            }
        }
        stop.store(true, Ordering::Relaxed);
        let mut shared = lock(&shared);
        shared.finish();
        Ok(shared.report.clone())
    }

    fn serve(self, mut stream: TcpStream, shared: &Mutex<Shared>, stop: &AtomicBool) {
        let _ = stream.set_nonblocking(false);
        let _ = stream.set_nodelay(true);
        let _ = stream.set_read_timeout(Some(LOOK_INTERVAL));
        let (mut pending, mut block) = (Vec::new(), [0; 8192]);
        while !stop.load(Ordering::Relaxed) {
            let Ok(request) = http::parse_request(&pending) else { return };
            let whole = request.and_then(|request| {
                let body = request.content_length().ok().flatten().unwrap_or(0);
                let end = request.head_len + usize::try_from(body.min(BODY_BYTES_MAX)).ok()?;
                (pending.len() >= end).then_some((request, end))
            });
            let Some((request, end)) = whole else {
                match stream.read(&mut block) {
                    Ok(0) => return,
                    Ok(count) => pending.extend_from_slice(&block[..count]),
                    Err(error)
                        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    Err(_) => return,
                }
                continue;
            };
            let body = pending[request.head_len..end].to_vec();
            pending.drain(..end);
            let form = if body.is_empty() { request.query.as_bytes() } else { &body };
            let is_refused = lock(shared).take(form, self.errors_percent);
            if !self.latency.is_zero() {
                thread::sleep(self.latency);
            }
            let keeps = request.keep_alive();
            let connection = if keeps { "keep-alive" } else { "close" };
            let (status, body) = if is_refused { (500, "1") } else { (200, "0") };
            let mut out = Vec::new();
            http::write_head(
                status,
                &[("Content-Length", "1"), ("Connection", connection)],
                &mut out,
            );
            out.extend_from_slice(body.as_bytes());
            if stream.write_all(&out).is_err() || !keeps {
                return;
            }
        }
    }
}

impl Shared {
    /// Counts an event; says whether it is refused.
    fn take(&mut self, form: &[u8], errors_percent: f64) -> bool {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.report.events += 1;
        self.dice += errors_percent;
        let is_refused = self.dice >= 100.0;
        if is_refused {
            self.dice -= 100.0;
            self.report.refused += 1;
        }
        let Some((session, event)) = read_event(form) else {
            self.report.unknown += 1;
            return is_refused;
        };
        match event {
            Event::Start(kind) if !is_refused => {
                self.report.starts += 1;
                *self.open.entry((session, kind)).or_default() += 1;
            }
            Event::End(kind) => {
                let key = (session, kind);
                match self.open.get_mut(&key) {
                    Some(count) => {
                        self.report.ends += 1;
                        *count -= 1;
                        if *count == 0 {
                            self.open.remove(&key);
                        }
                    }
                    None => self.report.ends_without_start += 1,
                }
            }
            Event::Gone => {
                for kind in [Kind::Publish, Kind::Play] {
                    let left = self.open.remove(&(session.clone(), kind)).unwrap_or(0);
                    self.report.starts_without_end += left;
                }
            }
            Event::Start(_) | Event::Other => {}
        }
        is_refused
    }

    fn finish(&mut self) {
        self.report.open = self.open.values().sum();
        if let (Some(first), Some(last)) = (self.first, self.last) {
            self.report.seconds = (last - first).as_secs_f64();
            self.report.events_per_s = self.report.events as f64 / self.report.seconds.max(0.001);
        }
    }
}

impl Report {
    /// Whether starts and ends pair.
    pub(crate) fn is_paired(&self) -> bool {
        self.ends_without_start == 0 && self.starts_without_end == 0
    }
}

/// The session and the event of a form or a JSON object.
fn read_event(body: &[u8]) -> Option<(String, Event)> {
    let (session, word) = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(json) => {
            let id = json.get("client_id")?;
            let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            (id, json.get("action")?.as_str()?.trim_start_matches("on_").to_owned())
        }
        Err(_) => {
            let form = std::str::from_utf8(body).ok()?;
            let value = |key| Query::new(form).value(key).map(|it| it.into_owned());
            (value("clientid").unwrap_or_default(), value("call")?)
        }
    };
    let event = match word.as_str() {
        "publish" => Event::Start(Kind::Publish),
        "play" => Event::Start(Kind::Play),
        "publish_done" | "unpublish" => Event::End(Kind::Publish),
        "play_done" | "stop" => Event::End(Kind::Play),
        "disconnect" | "close" => Event::Gone,
        _ => Event::Other,
    };
    Some((session, event))
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(forms: &[&str], errors_percent: f64) -> Report {
        let mut shared = Shared::default();
        for form in forms {
            shared.take(form.as_bytes(), errors_percent);
        }
        shared.finish();
        shared.report
    }

    #[test]
    fn pairs_are_found_in_both_dialects() {
        let report = sink(
            &[
                "app=a&clientid=1&call=publish&name=s",
                "app=a&clientid=1&call=publish_done&name=s",
                "app=a&clientid=1&call=done&name=s",
                "app=a&clientid=1&call=disconnect&app=a",
                r#"{"action":"on_play","client_id":"2"}"#,
                r#"{"action":"on_stop","client_id":"2"}"#,
                r#"{"action":"on_play","client_id":2}"#,
            ],
            0.0,
        );
        assert_eq!((report.starts, report.ends, report.open), (3, 2, 1));
        assert!(report.is_paired());
    }

    #[test]
    fn what_does_not_pair_is_counted() {
        let report = sink(
            &[
                "clientid=1&call=publish",
                "clientid=1&call=disconnect",
                "clientid=2&call=play_done",
                "nonsense",
            ],
            0.0,
        );
        assert_eq!((report.starts_without_end, report.ends_without_start), (1, 1));
        assert_eq!((report.unknown, report.is_paired()), (1, false));
    }

    #[test]
    fn the_set_part_is_refused_and_starts_nothing() {
        let report = sink(&["clientid=1&call=play"; 8], 25.0);
        assert_eq!((report.refused, report.starts), (2, 6));
    }
}
