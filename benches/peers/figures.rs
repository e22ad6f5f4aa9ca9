//! What is told of a variant, by kind of scenario: one column of the tables each.

use serde_json::Value;

use super::loadgen::{Load, Measured};

/// One number of a run.
pub(crate) struct Figure {
    /// In JSON.
    pub(crate) key: &'static str,
    /// Over its column.
    pub(crate) title: &'static str,
    /// Behind the decimal point.
    pub(crate) digits: usize,
    /// Whether it is compared with the first variant's, and told with its quartiles.
    pub(crate) is_compared: bool,
    /// Its value; none where a server or a run does not have it.
    pub(crate) value: fn(&Measured, &Load) -> Option<f64>,
}

/// What a scenario is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Delivering to viewers.
    Viewers,
    /// Taking what publishers send, without viewers.
    Publishers,
    /// Viewers that come, see a picture and go.
    Joins,
}

const fn compared(
    key: &'static str,
    title: &'static str,
    digits: usize,
    value: fn(&Measured, &Load) -> Option<f64>,
) -> Figure {
    Figure { key, title, digits, is_compared: true, value }
}

const fn told(
    key: &'static str,
    title: &'static str,
    digits: usize,
    value: fn(&Measured, &Load) -> Option<f64>,
) -> Figure {
    Figure { key, title, digits, is_compared: false, value }
}

const VIEWERS: &[Figure] = &[
    compared("cpu_s_per_gb", "CPU s per GB", 3, |it, _| number(it, "/server/cpu_s_per_gb")),
    told("cpu_us_per_message", "CPU µs per message", 2, |it, load| {
        let per_s = number(it, "/publishers/frames_per_second")? * load.all_viewers() as f64;
        Some(number(it, "/server/cores")? * 1e6 / per_s)
    }),
    told("cpu_percent", "CPU %", 1, cpu_percent),
    compared("kib_per_viewer", "KiB per viewer", 1, |it, _| {
        Some(number(it, "/server/rss_per_viewer_bytes")? / 1024.0)
    }),
    told("video_p50_ms", "video p50 ms", 1, |it, _| number(it, "/viewers/latency_video/p50_ms")),
    compared("video_p99_ms", "video p99 ms", 1, |it, _| {
        number(it, "/viewers/latency_video/p99_ms")
    }),
    told("video_p999_ms", "p99.9", 1, |it, _| number(it, "/viewers/latency_video/p999_ms")),
    told("video_max_ms", "max", 1, |it, _| number(it, "/viewers/latency_video/max_ms")),
    told("audio_p50_ms", "audio p50 ms", 1, |it, _| number(it, "/viewers/latency_audio/p50_ms")),
    compared("audio_p99_ms", "audio p99 ms", 1, |it, _| {
        number(it, "/viewers/latency_audio/p99_ms")
    }),
    told("sends_per_viewer_s", "sends per viewer and s", 1, |it, load| {
        let sends = it.sends.filter(|sends| sends.sends > 0)?;
        Some(sends.sends as f64 / load.all_viewers() as f64 / number(it, "/window_s")?)
    }),
    told("bytes_per_send", "bytes per send", 0, |it, _| {
        let sends = it.sends.filter(|sends| sends.sends > 0)?;
        Some(sends.bytes as f64 / sends.sends as f64)
    }),
];

const PUBLISHERS: &[Figure] = &[
    compared("cpu_s_per_published_gb", "CPU s per GB", 3, |it, _| {
        number(it, "/server/cpu_s_per_published_gb")
    }),
    told("cpu_us_per_message", "CPU µs per message", 2, |it, load| {
        let per_s = number(it, "/publishers/frames_per_second")? * load.streams as f64;
        Some(number(it, "/server/cores")? * 1e6 / per_s)
    }),
    told("cpu_percent", "CPU %", 1, cpu_percent),
    compared("kib_per_publisher", "KiB per publisher", 1, |it, load| {
        let grown = number(it, "/server/rss_bytes")? - number(it, "/server/rss_at_start_bytes")?;
        Some(grown / 1024.0 / load.streams as f64)
    }),
];

const JOINS: &[Figure] = &[
    compared("cpu_ms_per_join", "CPU ms per join", 3, |it, _| {
        number(it, "/server/cpu_ms_per_join")
    }),
    told("cpu_percent", "CPU %", 1, cpu_percent),
    compared("joins_per_s", "joins per s", 0, |it, _| {
        Some(number(it, "/viewers/joins")? / number(it, "/window_s")?)
    }),
    compared("first_frame_p50_ms", "first frame p50 ms", 1, |it, _| {
        number(it, "/viewers/first_frame/p50_ms")
    }),
    compared("first_frame_p99_ms", "first frame p99 ms", 1, |it, _| {
        number(it, "/viewers/first_frame/p99_ms")
    }),
];

impl Kind {
    /// Its columns.
    pub(crate) fn figures(self) -> &'static [Figure] {
        match self {
            Self::Viewers => VIEWERS,
            Self::Publishers => PUBLISHERS,
            Self::Joins => JOINS,
        }
    }
}

fn cpu_percent(measured: &Measured, _: &Load) -> Option<f64> {
    Some(number(measured, "/server/cores")? * 100.0)
}

fn number(measured: &Measured, pointer: &str) -> Option<f64> {
    measured.report.pointer(pointer).and_then(Value::as_f64)
}
