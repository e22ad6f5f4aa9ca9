//! What ffmpegs did, and what was wrong with it.

use std::fmt;

use serde::Serialize;

use super::follow::Flaws;
use super::table::FileTable;
use super::watch::Watched;
use crate::viewer::Protocol;

/// Lines of ffmpegs that are told; all are counted.
const LINES_MAX: usize = 20;

/// All ffmpegs.
#[derive(Debug, Serialize)]
pub(crate) struct FfmpegReport {
    /// Packets of both tracks in the longest group of pictures of the file.
    pub(crate) gop_packets: u64,
    /// Lines about errors, of all.
    pub(crate) error_lines: u64,
    /// Lines about anything less, of all.
    pub(crate) warning_lines: u64,
    /// Lines that say that the body of an HTTP answer has ended, of all.
    pub(crate) end_lines: u64,
    /// The first errors and warnings.
    pub(crate) lines: Vec<String>,
    /// In the order of their streams.
    pub(crate) publishers: Vec<PublisherReport>,
    /// In the order of their start.
    pub(crate) players: Vec<PlayerReport>,
}

/// A publisher.
#[derive(Debug, Serialize)]
pub(crate) struct PublisherReport {
    stream: String,
    /// Published, both tracks.
    packets: u64,
    /// How this differs from the file in a loop.
    flaws: Flaws,
    /// What was wrong with its end.
    fault: Option<String>,
    #[serde(skip)]
    said: Said,
}

/// A player.
#[derive(Debug, Serialize)]
pub(crate) struct PlayerReport {
    stream: String,
    protocol: Protocol,
    /// Received, both tracks.
    packets: u64,
    /// What its publisher published after its first packet had come.
    published: u64,
    /// Packets of its publisher after its last one.
    behind: u64,
    /// Packets that it should have received, and did not: by their content, or by their number.
    missing: u64,
    /// How what it received differs from the file in a loop.
    flaws: Flaws,
    /// What was wrong with its end.
    fault: Option<String>,
    #[serde(skip)]
    said: Said,
}

#[derive(Debug)]
struct Said {
    error_lines: u64,
    warning_lines: u64,
    end_lines: u64,
    lines: Vec<String>,
}

impl Said {
    fn of(watched: &Watched) -> Self {
        Self {
            error_lines: watched.error_lines,
            warning_lines: watched.warning_lines,
            end_lines: watched.end_lines,
            lines: watched.lines.clone(),
        }
    }
}

impl PublisherReport {
    pub(super) fn new(stream: String, watched: &Watched, fault: Option<String>) -> Self {
        Self {
            stream,
            packets: watched.follower.packets(),
            flaws: watched.follower.flaws(),
            fault,
            said: Said::of(watched),
        }
    }
}

impl PlayerReport {
    pub(super) fn new(
        stream: String,
        protocol: Protocol,
        watched: &Watched,
        publisher: Option<&Watched>,
        file: &FileTable,
        fault: Option<String>,
    ) -> Self {
        let packets = watched.follower.packets();
        let flaws = watched.follower.flaws();
        let published = publisher.map_or(0, |publisher| publisher.follower.packets());
        let published = published.saturating_sub(watched.published_before);
        let behind =
            publisher.map_or(0, |publisher| watched.follower.behind(&publisher.follower, file));
        Self {
            stream,
            protocol,
            packets,
            published,
            behind,
            missing: (flaws.lost + behind).max(published.saturating_sub(packets)),
            flaws,
            fault,
            said: Said::of(watched),
        }
    }
}

impl FfmpegReport {
    pub(super) fn new(
        publishers: Vec<PublisherReport>,
        players: Vec<PlayerReport>,
        gop_packets: u64,
    ) -> Self {
        let mut report = Self {
            gop_packets,
            error_lines: 0,
            warning_lines: 0,
            end_lines: 0,
            lines: Vec::new(),
            publishers: Vec::new(),
            players: Vec::new(),
        };
        for publisher in &publishers {
            report.note(&format!("publisher of {}", publisher.stream), &publisher.said);
        }
        for player in &players {
            report.note(&format!("player of {}", player.stream), &player.said);
        }
        Self { publishers, players, ..report }
    }

    fn note(&mut self, who: &str, said: &Said) {
        self.error_lines += said.error_lines;
        self.warning_lines += said.warning_lines;
        self.end_lines += said.end_lines;
        let room = LINES_MAX.saturating_sub(self.lines.len());
        self.lines.extend(said.lines.iter().take(room).map(|line| format!("{who}: {line}")));
    }

    /// Names what went wrong.
    pub(crate) fn find_faults(&self, faults: &mut Vec<String>) {
        for publisher in &self.publishers {
            let mut say = |what: String| {
                faults.push(format!("ffmpeg publisher of {} {what}", publisher.stream));
            };
            if !publisher.flaws.is_clean() {
                say(format!(
                    "did not publish the file as it is: {}; ffmpeg loops FLV and MP4 exactly",
                    publisher.flaws
                ));
            }
            publisher.fault.iter().cloned().for_each(say);
        }
        for player in &self.players {
            let mut say = |what: String| {
                faults.push(format!("ffmpeg player of {} {what}", player.stream));
            };
            if player.missing > self.gop_packets {
                say(format!(
                    "has {} packets less than its publisher; a group of pictures has {}; {}",
                    player.missing, self.gop_packets, player.flaws
                ));
            } else if !player.flaws.is_clean() {
                say(format!("did not receive the file as it is: {}", player.flaws));
            }
            player.fault.iter().cloned().for_each(say);
        }
        if self.error_lines > 0 {
            faults.push(format!("ffmpegs wrote {} lines about errors", self.error_lines));
        }
    }

    /// Names what is no fault.
    pub(crate) fn find_notes(&self, notes: &mut Vec<String>) {
        notes.extend(self.lines.iter().map(|line| format!("ffmpeg {line}")));
    }

    /// Rows of the table for people.
    pub(crate) fn rows(&self, row: &mut impl FnMut(&str, String) -> fmt::Result) -> fmt::Result {
        let published: u64 = self.publishers.iter().map(|publisher| publisher.packets).sum();
        row(
            "ffmpeg publishers",
            format!("{}, {published} packets published", self.publishers.len()),
        )?;
        let received: u64 = self.players.iter().map(|player| player.packets).sum();
        let over_rtmp =
            self.players.iter().filter(|player| player.protocol == Protocol::Rtmp).count();
        row(
            "ffmpeg players",
            format!(
                "{over_rtmp} RTMP, {} HTTP-FLV; {received} packets received",
                self.players.len() - over_rtmp
            ),
        )?;
        let missing = self.players.iter().map(|player| player.missing);
        row(
            "packets missing",
            format!(
                "{} in all, at most {} of a player; a group of pictures has {}",
                missing.clone().sum::<u64>(),
                missing.max().unwrap_or(0),
                self.gop_packets
            ),
        )?;
        row(
            "ffmpegs' lines",
            format!(
                "{} about errors, {} warnings, {} about the end of an HTTP body",
                self.error_lines, self.warning_lines, self.end_lines
            ),
        )
    }
}

impl fmt::Display for Flaws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} packets lost, {} out of order, {} unknown, {} at a wrong time",
            self.lost, self.out_of_order, self.unknown, self.wrong_timestamps
        )
    }
}
