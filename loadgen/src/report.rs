//! The report: one structure, told to programs as JSON and to people as a table.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::check::Findings;
use crate::ffmpeg::FfmpegReport;
use crate::histogram::Summary;
use crate::viewer::ByteTally;

/// Lateness of our sends over this makes us suspect, milliseconds at the 99th percentile.
pub(crate) const LATENESS_SUSPECT_MS: f64 = 5.0;
/// The same for the turns of our viewer threads.
pub(crate) const TURN_SUSPECT_MS: f64 = 10.0;
/// A thread that is busier than this is suspect.
pub(crate) const THREAD_SHARE_SUSPECT: f64 = 0.9;

/// A server whose memory grows by more than this part, and this many bytes, while it is measured under
/// even load, grows.
pub(crate) const GROWTH_PART_MAX: f64 = 0.02;
/// See [`GROWTH_PART_MAX`].
pub(crate) const GROWTH_BYTES_MAX: f64 = (4 << 20) as f64;

/// What is a fault besides loss, doubles, damage and disorder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demands {
    /// Skips are none.
    pub(crate) allow_skips: bool,
    /// A larger latency of a track at the 99th percentile.
    pub(crate) p99_max_ms: Option<f64>,
    /// A server that grows while it is measured.
    pub(crate) memory_is_flat: bool,
}

/// Everything about a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Version of loadgen.
    pub(crate) version: &'static str,
    /// `run`, `publish`, `play` or `ffmpeg`.
    pub(crate) command: &'static str,
    /// What was addressed.
    pub(crate) url: String,
    /// Number of loadgen's own streams.
    pub(crate) streams: u32,
    /// How long was measured, seconds.
    pub(crate) window_s: f64,
    /// The publishers; none in `play`.
    pub(crate) publishers: Option<PublishersReport>,
    /// The viewers; none in `publish`.
    pub(crate) viewers: Option<ViewersReport>,
    /// ffmpegs beside them; only in `ffmpeg`.
    pub(crate) ffmpeg: Option<FfmpegReport>,
    /// The server process, if `--pid` was given.
    pub(crate) server: Option<ServerReport>,
    /// Ourselves.
    pub(crate) loadgen: OwnReport,
    /// What follows from it.
    pub(crate) verdict: Verdict,
}

/// The publishers.
#[derive(Debug, Serialize)]
pub(crate) struct PublishersReport {
    /// Frames published, both tracks.
    pub(crate) frames: u64,
    /// Frames per second of one stream, both tracks, in the window.
    pub(crate) frames_per_second: f64,
    /// Payload bits per second of one stream.
    pub(crate) bits_per_second: f64,
    /// How late frames left, after their intended time.
    pub(crate) lateness: Summary,
    /// The most bytes that one publisher had to keep because the server did not read.
    pub(crate) queue_bytes_max: u64,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
}

/// The viewers.
#[derive(Debug, Serialize)]
pub(crate) struct ViewersReport {
    /// Over RTMP, planned.
    pub(crate) rtmp: u32,
    /// Over HTTP-FLV, planned.
    pub(crate) http_flv: u32,
    /// Begun.
    pub(crate) started: u64,
    /// Received a keyframe.
    pub(crate) played: u64,
    /// Did not.
    pub(crate) without_media: u64,
    /// Joins up to the first frame, in the window, of viewers that leave with it; none otherwise.
    pub(crate) joins: Option<u64>,
    /// Disconnected by the server, or ended by it, before the run ended.
    pub(crate) ended_early: u64,
    /// Why viewers failed, and how many.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Bytes received in the window.
    pub(crate) bytes: u64,
    /// Received bits per second, in the window.
    pub(crate) bits_per_second: f64,
    /// How many read and checked every message.
    pub(crate) sampled: u64,
    /// What those found.
    pub(crate) sample: Findings,
    /// What the others found before they only counted bytes.
    pub(crate) others: Findings,
    /// Frames without a stamp: not ours, so not checked.
    pub(crate) unstamped: u64,
    /// Received against published bytes.
    pub(crate) byte_check: ByteTally,
    /// Silences over a second.
    pub(crate) stalls: u64,
    /// Viewers that had one.
    pub(crate) stalled_viewers: u64,
    /// The longest silence.
    pub(crate) longest_silence_s: f64,
    /// Intended send time to receive, of the sample, in the window.
    pub(crate) latency_video: Summary,
    /// The same for sound.
    pub(crate) latency_audio: Summary,
    /// Connect to first keyframe, of all viewers; with `--rejoin` of those that joined in the window.
    pub(crate) first_frame: Summary,
}

/// The server process.
#[derive(Debug, Serialize)]
pub(crate) struct ServerReport {
    /// Its id.
    pub(crate) pid: u32,
    /// CPU seconds in the window, user and system.
    pub(crate) cpu_s: f64,
    /// CPU seconds per second: 1 is a full core.
    pub(crate) cores: f64,
    /// CPU seconds per 10⁹ bytes that viewers received.
    pub(crate) cpu_s_per_gb: Option<f64>,
    /// CPU seconds per 10⁹ bytes of media that were published.
    pub(crate) cpu_s_per_published_gb: Option<f64>,
    /// CPU milliseconds per join, with `--rejoin`.
    pub(crate) cpu_ms_per_join: Option<f64>,
    /// Resident memory before the first publisher.
    pub(crate) rss_at_start_bytes: u64,
    /// Resident memory before the first viewer.
    pub(crate) rss_before_bytes: u64,
    /// At the end of the window.
    pub(crate) rss_bytes: u64,
    /// The largest seen.
    pub(crate) rss_max_bytes: u64,
    /// Median of a look a second in the first third of the window; none in a window of few seconds.
    pub(crate) rss_first_third_bytes: Option<u64>,
    /// The same in the last third.
    pub(crate) rss_last_third_bytes: Option<u64>,
    /// What a viewer added.
    pub(crate) rss_per_viewer_bytes: Option<f64>,
}

/// The load generator itself.
#[derive(Debug, Serialize)]
pub(crate) struct OwnReport {
    /// CPU seconds per second in the window.
    pub(crate) cores: f64,
    /// The same of the busiest thread.
    pub(crate) busiest_thread_cores: f64,
    /// How long a socket that was ready may have waited for us.
    pub(crate) turn: Summary,
    /// Whether the numbers may be ours rather than the server's.
    pub(crate) was_bottleneck: bool,
    /// Why.
    pub(crate) reasons: Vec<String>,
}

/// The conclusion.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// Exit code 0.
    pub(crate) passed: bool,
    /// `none`, `seen` or `not known`.
    pub(crate) loss: Loss,
    /// What went wrong, in sentences.
    pub(crate) faults: Vec<String>,
    /// What was not judged, in sentences.
    pub(crate) notes: Vec<String>,
}

/// Whether frames were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Loss {
    /// Both checks say so, for every viewer.
    None,
    /// Some were.
    Seen,
    /// Not everything could be checked.
    NotKnown,
}

impl Report {
    /// Judges what is filled in.
    pub(crate) fn judge(&mut self, demands: Demands) {
        let mut faults = Vec::new();
        let mut notes = Vec::new();
        if let Some(publishers) = &self.publishers {
            faults.extend(publishers.failures.iter().cloned());
        }
        let mut loss = Loss::NotKnown;
        if let Some(viewers) = &self.viewers {
            let knows_published = self.publishers.is_some();
            viewers.find_faults(knows_published, demands.allow_skips, &mut faults);
            loss = viewers.loss(knows_published);
            viewers.find_notes(knows_published, &mut notes);
            if let Some(limit_ms) = demands.p99_max_ms {
                self.judge_latency(viewers, limit_ms, &mut faults, &mut notes);
            }
        }
        if let Some(ffmpeg) = &self.ffmpeg {
            ffmpeg.find_faults(&mut faults);
            ffmpeg.find_notes(&mut notes);
        }
        if let Some(server) = self.server.as_ref().filter(|_| demands.memory_is_flat) {
            server.judge_growth(&mut faults, &mut notes);
        }
        self.verdict = Verdict { passed: faults.is_empty(), loss, faults, notes };
    }

    /// Latencies that may be our own are no fault of the server.
    fn judge_latency(
        &self,
        viewers: &ViewersReport,
        limit_ms: f64,
        faults: &mut Vec<String>,
        notes: &mut Vec<String>,
    ) {
        for (track, latency) in
            [("video", &viewers.latency_video), ("audio", &viewers.latency_audio)]
        {
            if latency.p99_ms <= limit_ms {
                continue;
            }
            let what = format!(
                "1 % of {track} came {:.1} ms after it was to be sent, or later; {limit_ms:.1} ms are \
                 allowed",
                latency.p99_ms
            );
            if self.loadgen.was_bottleneck {
                notes.push(format!("{what}. That is not judged, as loadgen may have been late"));
            } else {
                faults.push(what);
            }
        }
    }
}

impl ServerReport {
    fn judge_growth(&self, faults: &mut Vec<String>, notes: &mut Vec<String>) {
        let (Some(first), Some(last)) = (self.rss_first_third_bytes, self.rss_last_third_bytes)
        else {
            notes.push(
                "The window is too short to tell whether the server's memory grows".to_owned(),
            );
            return;
        };
        let growth = last as f64 - first as f64;
        if growth > GROWTH_BYTES_MAX.max(first as f64 * GROWTH_PART_MAX) {
            faults.push(format!(
                "the server's memory grew from {:.1} MiB to {:.1} MiB while it was measured",
                mebibytes(first),
                mebibytes(last)
            ));
        }
    }
}

impl ViewersReport {
    fn find_faults(&self, knows_published: bool, allow_skips: bool, faults: &mut Vec<String>) {
        let mut say = |count: u64, what: &str| {
            if count > 0 {
                faults.push(format!("{count} {what}"));
            }
        };
        for (reason, count) in &self.failures {
            say(*count, &format!("viewers failed: {reason}"));
        }
        if knows_published {
            say(self.ended_early, "viewers were disconnected before the end");
        }
        let failed: u64 = self.failures.values().sum();
        say(self.without_media.saturating_sub(failed), "viewers never received a keyframe");
        let mut found = self.sample;
        found.add(&self.others);
        say(found.lost, "frames were lost");
        say(found.doubled, "frames came twice");
        say(found.out_of_order, "frames came out of order");
        say(found.damaged, "frames were damaged");
        say(found.wrong_timestamps, "timestamps jumped");
        say(found.unknown, "frames came that were not published");
        if !allow_skips {
            say(found.skips, "times a viewer was moved on to a later keyframe");
        }
        // Skips explain missing and (headers) additional bytes, but not loss.
        if !allow_skips || found.lost > 0 {
            let bytes = &self.byte_check;
            say(
                bytes.short,
                &format!("viewers received too little, {} bytes in all", bytes.short_bytes),
            );
            say(
                bytes.over,
                &format!("viewers received too much, {} bytes in all", bytes.over_bytes),
            );
        }
    }

    fn loss(&self, knows_published: bool) -> Loss {
        let bytes = &self.byte_check;
        let skipped = self.sample.skips + self.others.skips;
        if self.sample.lost + self.others.lost + bytes.short + skipped > 0 {
            Loss::Seen
        } else if knows_published
            && self.sampled > 0
            && self.sample.frames > 0
            && bytes.at_least == 0
            && bytes.over == 0
            && self.without_media + self.ended_early == 0
        {
            Loss::None
        } else {
            Loss::NotKnown
        }
    }

    fn find_notes(&self, knows_published: bool, notes: &mut Vec<String>) {
        let unread = self.played.saturating_sub(self.sampled);
        if !knows_published && unread > 0 {
            notes.push(format!(
                "{unread} viewers outside the sample only counted bytes: what was published is \
                 known to `loadgen run` alone; --sample all checks every viewer"
            ));
        }
        if self.unstamped > 0 {
            notes.push(
                "The stream carries no stamps of loadgen: order, loss and latency cannot be told."
                    .to_owned(),
            );
        }
        if self.byte_check.at_least > 0 {
            notes.push(format!(
                "{} viewers received at least the published payload; this server's headers vary, \
                 so equality cannot be told",
                self.byte_check.at_least
            ));
        }
        if self.byte_check.with_pings > 0 {
            notes.push(format!(
                "{} viewers received pings of 18 bytes between the media",
                self.byte_check.with_pings
            ));
        }
        if self.stalls > 0 {
            notes.push(format!(
                "{} viewers were without data for more than a second, {} times in all",
                self.stalled_viewers, self.stalls
            ));
        }
    }
}

impl OwnReport {
    /// Says whether we may have been the bottleneck.
    pub(crate) fn judge(&mut self, lateness: Option<&Summary>) {
        if let Some(late) = lateness.filter(|late| late.p99_ms > LATENESS_SUSPECT_MS) {
            self.reasons.push(format!("1 % of frames left {:.1} ms late or more", late.p99_ms));
        }
        if self.turn.p99_ms > TURN_SUSPECT_MS {
            self.reasons.push(format!(
                "1 % of the turns of viewer threads took {:.1} ms or more",
                self.turn.p99_ms
            ));
        }
        if self.busiest_thread_cores > THREAD_SHARE_SUSPECT {
            self.reasons.push(format!(
                "its busiest thread used {:.0} % of a core",
                self.busiest_thread_cores * 100.0
            ));
        }
        self.was_bottleneck = !self.reasons.is_empty();
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:<24}{value}");
        row(
            &format!("loadgen {}", self.command),
            format!("{}, {} stream(s), {:.1} s measured", self.url, self.streams, self.window_s),
        )?;
        if let Some(publishers) = &self.publishers {
            row(
                "published",
                format!(
                    "{} frames, {:.2} Mbit/s per stream",
                    publishers.frames,
                    publishers.bits_per_second / 1e6
                ),
            )?;
            row("frames left late by", durations(&publishers.lateness))?;
            if publishers.queue_bytes_max > 0 {
                row("unread by server", format!("at most {} bytes", publishers.queue_bytes_max))?;
            }
        }
        if let Some(viewers) = &self.viewers {
            viewers.rows(&mut row)?;
            if let Some(joins) = viewers.joins {
                let per_s = joins as f64 / self.window_s;
                row("joins in the window", format!("{joins}, {per_s:.0} per second"))?;
            }
        }
        if let Some(ffmpeg) = &self.ffmpeg {
            ffmpeg.rows(&mut row)?;
        }
        if let Some(server) = &self.server {
            let mut cpu = format!("{:.3} s, {:.1} % of a core", server.cpu_s, server.cores * 100.0);
            if let Some(per_gb) = server.cpu_s_per_gb {
                let _ = write!(cpu, ", {per_gb:.3} s per GB");
            }
            if let Some(per_join) = server.cpu_ms_per_join {
                let _ = write!(cpu, ", {per_join:.3} ms per join");
            }
            row(&format!("server CPU (pid {})", server.pid), cpu)?;
            let mut memory = format!(
                "{:.1} MiB, {:.1} before viewers, {:.1} at most",
                mebibytes(server.rss_bytes),
                mebibytes(server.rss_before_bytes),
                mebibytes(server.rss_max_bytes)
            );
            if let Some(per_viewer) = server.rss_per_viewer_bytes {
                let _ = write!(memory, ", {:.1} KiB per viewer", per_viewer / 1024.0);
            }
            row("server memory", memory)?;
            let thirds = server.rss_first_third_bytes.zip(server.rss_last_third_bytes);
            if let Some((first, last)) = thirds {
                row(
                    "memory in the window",
                    format!(
                        "{:.1} MiB in its first third, {:.1} in its last",
                        mebibytes(first),
                        mebibytes(last)
                    ),
                )?;
            }
        }
        row(
            "loadgen itself",
            format!(
                "{:.1} % of a core, busiest thread {:.1} %{}",
                self.loadgen.cores * 100.0,
                self.loadgen.busiest_thread_cores * 100.0,
                if self.viewers.is_some() {
                    format!("; turns {}", durations(&self.loadgen.turn))
                } else {
                    String::new()
                }
            ),
        )?;
        row(
            "bottleneck",
            if self.loadgen.was_bottleneck {
                format!("loadgen may have been: {}", self.loadgen.reasons.join("; "))
            } else {
                "loadgen was not".to_owned()
            },
        )?;
        if self.viewers.is_some() {
            row(
                "loss",
                match self.verdict.loss {
                    Loss::None => "0 (bytes of every viewer, messages of the sample)".to_owned(),
                    Loss::Seen => "seen".to_owned(),
                    Loss::NotKnown => "not known".to_owned(),
                },
            )?;
        }
        for note in &self.verdict.notes {
            row("note", note.clone())?;
        }
        for fault in &self.verdict.faults {
            row("FAULT", fault.clone())?;
        }
        row("result", if self.verdict.passed { "passed" } else { "failed" }.to_owned())
    }
}

impl ViewersReport {
    fn rows(&self, row: &mut impl FnMut(&str, String) -> fmt::Result) -> fmt::Result {
        row(
            "viewers",
            format!(
                "{} RTMP, {} HTTP-FLV; {} started, {} played",
                self.rtmp, self.http_flv, self.started, self.played
            ),
        )?;
        row(
            "delivered",
            format!("{:.3} GB, {:.1} Mbit/s", self.bytes as f64 / 1e9, self.bits_per_second / 1e6),
        )?;
        let found = &self.sample;
        row(
            "sample",
            format!(
                "{} viewers, {} frames: {} lost, {} skipped ({} times), {} doubled, {} out of \
                 order, {} damaged, {} timestamps wrong, {} unknown",
                self.sampled,
                found.frames,
                found.lost,
                found.skipped_frames,
                found.skips,
                found.doubled,
                found.out_of_order,
                found.damaged,
                found.wrong_timestamps,
                found.unknown
            ),
        )?;
        let bytes = &self.byte_check;
        row(
            "bytes",
            format!(
                "{} viewers equal, {} short, {} over, {} at least, {} not compared",
                bytes.equal, bytes.short, bytes.over, bytes.at_least, bytes.not_compared
            ),
        )?;
        row(
            "stalls over 1 s",
            format!("{} (longest silence {:.3} s)", self.stalls, self.longest_silence_s),
        )?;
        row("latency video", durations(&self.latency_video))?;
        row("latency audio", durations(&self.latency_audio))?;
        row("first keyframe after", durations(&self.first_frame))
    }
}

fn durations(summary: &Summary) -> String {
    if summary.count == 0 {
        return "not measured".to_owned();
    }
    format!(
        "p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms",
        summary.p50_ms, summary.p90_ms, summary.p99_ms, summary.p999_ms, summary.max_ms
    )
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn growth(first: u64, last: u64) -> Vec<String> {
        let server = ServerReport {
            pid: 1,
            cpu_s: 1.0,
            cores: 1.0,
            cpu_s_per_gb: None,
            cpu_s_per_published_gb: None,
            cpu_ms_per_join: None,
            rss_at_start_bytes: 0,
            rss_before_bytes: 0,
            rss_bytes: last,
            rss_max_bytes: last,
            rss_first_third_bytes: Some(first),
            rss_last_third_bytes: Some(last),
            rss_per_viewer_bytes: None,
        };
        let mut faults = Vec::new();
        server.judge_growth(&mut faults, &mut Vec::new());
        faults
    }

    #[test]
    fn growth_is_more_than_what_memory_does_anyway() {
        assert!(growth(50 * MIB, 53 * MIB).is_empty());
        assert!(growth(1_000 * MIB, 1_019 * MIB).is_empty());
        assert!(growth(90 * MIB, 50 * MIB).is_empty());
        let faults = growth(50 * MIB, 55 * MIB);
        assert!(faults[0].contains("grew from 50.0 MiB to 55.0 MiB"), "{faults:?}");
        assert_eq!(growth(1_000 * MIB, 1_021 * MIB).len(), 1);
    }
}
