//! The accounts of all shards put together: streams with their publisher and viewers, and clients.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::reports::Reports;
use crate::media::Moment;
use crate::proto::name::StreamName;
use crate::rt::clock;
use crate::rt::executor::{sleep, yield_if_needed};
use crate::session::{ClientId, ClientInfo};
use crate::shard::{ClientReport, MediaInfo, ShardReport, StreamReport};

/// What is written for the API without looking at other work.
const SLICE_ITEMS: usize = 256;
/// The pause between two such slices: hooks and verdicts go first.
const SLICE_PAUSE: Duration = Duration::from_micros(100);

/// Everybody, at one moment.
pub(super) struct Census {
    /// When it was taken.
    pub(super) at: Moment,
    /// Streams by their number.
    pub(super) streams: BTreeMap<u64, Stream>,
    shards: Vec<Rc<ShardReport>>,
}

/// A stream on all shards together.
#[derive(Default)]
pub(super) struct Stream {
    /// Its parts. What has no name is no stream.
    pub(super) name: Option<StreamName>,
    /// The shard of its publisher.
    pub(super) shard: Option<usize>,
    /// The number of the publisher's connection.
    pub(super) publisher: Option<ClientId>,
    /// What the publisher said of itself.
    pub(super) publisher_info: Option<Arc<ClientInfo>>,
    /// What is known where it is published.
    pub(super) published: Option<StreamReport>,
    /// Viewers.
    pub(super) viewers: usize,
    /// Of these, those that have nothing to show yet.
    pub(super) waiting: usize,
    /// Of the viewers, those that have paused.
    pub(super) paused: usize,
    /// Bytes sent to those of today's viewers and their forerunners.
    pub(super) sent_bytes: u64,
    /// Bits of that per second.
    pub(super) sent_bits_per_second: u64,
    /// Timestamp of the newest frame that viewers have, in milliseconds.
    pub(super) last_ms: u64,
    /// Shards with viewers.
    pub(super) viewer_shards: Vec<usize>,
}

impl Stream {
    /// What its headers say.
    pub(super) fn media(&self) -> Option<&MediaInfo> {
        self.published.as_ref()?.media.as_deref()
    }

    fn add(&mut self, shard: usize, report: &StreamReport) {
        self.name = self.name.take().or_else(|| report.full_name.clone());
        self.viewers += report.viewers;
        self.waiting += report.waiting;
        self.paused += report.paused;
        self.sent_bytes += report.sent_bytes;
        self.sent_bits_per_second += report.sent_bits_per_second;
        self.last_ms = self.last_ms.max(report.last_ms);
        if report.viewers > 0 {
            self.viewer_shards.push(shard);
        }
        if report.publisher {
            self.shard = Some(shard);
            self.publisher = report.publisher_id;
            self.publisher_info.clone_from(&report.publisher_info);
            self.published = Some(report.clone());
        }
    }
}

impl Census {
    /// Of streams.
    pub(super) async fn of_streams(reports: &Reports) -> Self {
        Self::of(reports.gather().await).await
    }

    /// Of streams and clients.
    pub(super) async fn of_clients(reports: &Reports) -> Self {
        Self::of(reports.gather_with_clients().await).await
    }

    async fn of(shards: Vec<Rc<ShardReport>>) -> Self {
        let mut streams: BTreeMap<u64, Stream> = BTreeMap::new();
        let mut pace = Pace::default();
        for report in &shards {
            for stream in &report.streams {
                streams.entry(stream.id).or_default().add(report.shard, stream);
                pace.step().await;
            }
        }
        streams.retain(|_, stream| stream.name.is_some());
        Self { at: clock::now(), streams, shards }
    }

    /// All clients, in no order.
    pub(super) fn clients(&self) -> impl Iterator<Item = &ClientReport> {
        self.shards.iter().flat_map(|report| &report.clients)
    }

    /// A client.
    pub(super) fn client(&self, id: ClientId) -> Option<&ClientReport> {
        self.clients().find(|client| client.id == id)
    }

    /// The accounts of the shards.
    pub(super) fn shards(&self) -> &[Rc<ShardReport>] {
        &self.shards
    }
}

/// Lets the control shard's other work go on while a long answer is written.
#[derive(Default)]
pub(super) struct Pace {
    steps: usize,
}

impl Pace {
    /// To be called for each line of the answer.
    pub(super) async fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(SLICE_ITEMS) {
            yield_if_needed().await;
            sleep(SLICE_PAUSE).await;
        }
    }
}
