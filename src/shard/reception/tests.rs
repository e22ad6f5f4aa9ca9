//! Viewers that choose tracks and pause, in virtual time: what they are sent, and which logs there are.

use std::time::Duration;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::media::StreamId;
use crate::proto::amf0::Value;
use crate::proto::name::StreamName;
use crate::proto::rtmp::client::Role;
use crate::shard::Attached;
use crate::shard::testing::{Client, Rig, run};

const REALTIME: &str = "[apps.default]\nlatency = \"realtime\"\n";
/// Frames from keyframe to keyframe.
const GOP: u32 = 25;

/// A stream in the making: each picture has two sounds beside it.
struct Source {
    publisher: Client,
    next: u32,
}

impl Source {
    async fn new(rig: &mut Rig) -> Self {
        let mut publisher = rig.client(0, Role::Publish, "s");
        rig.run(20, &mut [&mut publisher]).await;
        publisher.video_header(1);
        publisher.audio_header(1);
        Self { publisher, next: 1 }
    }

    /// Sends pictures, and lets the viewers take part.
    async fn send(&mut self, rig: &mut Rig, count: u32, viewers: &mut [&mut Client]) {
        for _ in 0..count {
            let number = self.next;
            self.next += 1;
            self.publisher.video(number % GOP == 1, number, 500);
            self.publisher.audio(2 * number);
            self.publisher.audio(2 * number + 1);
            self.publisher.pump();
            rig.run(2, viewers).await;
        }
    }

    async fn send_to(&mut self, rig: &mut Rig, number: u32, viewers: &mut [&mut Client]) {
        let count = (number + 1).checked_sub(self.next).expect("not yet sent");
        self.send(rig, count, viewers).await;
    }
}

/// The numbers of the pictures and of the sounds that came; each picture has what it needs, and nothing
/// came twice or in a wrong order.
fn received(labels: &[String]) -> (Vec<u32>, Vec<u32>) {
    let (mut pictures, mut sounds) = (Vec::new(), Vec::new());
    let (mut has_video_header, mut has_audio_header) = (false, false);
    for label in labels {
        if label.starts_with("ah") {
            has_audio_header = true;
        } else if label.starts_with('h') {
            has_video_header = true;
        } else if let Some(number) = label.strip_prefix('a') {
            let number = number.parse().unwrap();
            assert!(has_audio_header, "sound without its header");
            assert!(sounds.last().is_none_or(|last| *last < number), "{labels:?}");
            sounds.push(number);
        } else {
            let number: u32 = label.parse().unwrap();
            assert!(has_video_header, "pictures without their header");
            let last = pictures.last().copied();
            assert!(last.is_none_or(|last| last < number), "{labels:?}");
            let is_next = last.is_some_and(|last| last + 1 == number);
            assert!(is_next || number % GOP == 1, "{number} after {last:?} cannot be decoded");
            pictures.push(number);
        }
    }
    (pictures, sounds)
}

fn logs(rig: &Rig, shard: usize) -> usize {
    rig.shards[shard].viewers.values().map(|viewed| viewed.logs.len()).sum()
}

fn range(from: u32, to: u32) -> Vec<u32> {
    (from..=to).collect()
}

#[test]
fn without_pictures_the_sound_goes_on_and_pictures_come_back_at_a_keyframe() {
    for shard in 0..2 {
        run(move || async move {
            let mut rig = Rig::new(REALTIME, 2);
            let mut source = Source::new(&mut rig).await;
            let mut viewer = rig.client(shard, Role::Play, "s");
            let mut other = rig.client(shard, Role::Play, "s");
            rig.run(20, &mut [&mut viewer, &mut other]).await;
            source.send_to(&mut rig, 30, &mut [&mut viewer, &mut other]).await;
            viewer.flag("receiveVideo", false);
            source.send_to(&mut rig, 60, &mut [&mut viewer, &mut other]).await;
            assert_eq!(logs(&rig, shard), 2);
            viewer.flag("receiveVideo", true);
            source.send_to(&mut rig, 120, &mut [&mut viewer, &mut other]).await;
            assert_eq!(logs(&rig, shard), 1);
            let (pictures, sounds) = received(&viewer.media());
            let kept = [range(1, 30), range(76, 120)].concat();
            assert_eq!(pictures, kept, "from the first keyframe on");
            assert_eq!(sounds, range(2, 241), "without a gap");
            assert_eq!(received(&other.media()), (range(1, 120), range(2, 241)));
        });
    }
}

#[test]
fn without_sound_the_pictures_go_on_and_sound_comes_back_at_once() {
    run(|| async {
        let mut rig = Rig::new(REALTIME, 1);
        let mut source = Source::new(&mut rig).await;
        let mut viewer = rig.client(0, Role::Play, "s");
        rig.run(20, &mut [&mut viewer]).await;
        source.send_to(&mut rig, 30, &mut [&mut viewer]).await;
        viewer.flag("receiveAudio", false);
        rig.turn().await;
        source.send_to(&mut rig, 40, &mut [&mut viewer]).await;
        viewer.flag("receiveAudio", true);
        rig.turn().await;
        source.send_to(&mut rig, 60, &mut [&mut viewer]).await;
        let (pictures, sounds) = received(&viewer.media());
        assert_eq!(pictures, range(1, 60));
        assert_eq!(sounds, [range(2, 61), range(82, 121)].concat());
        assert_eq!(logs(&rig, 0), 1);
    });
}

#[test]
fn with_neither_there_is_silence_and_both_come_back_at_a_keyframe() {
    run(|| async {
        let mut rig = Rig::new(REALTIME, 1);
        let mut source = Source::new(&mut rig).await;
        let mut viewer = rig.client(0, Role::Play, "s");
        rig.run(20, &mut [&mut viewer]).await;
        source.send_to(&mut rig, 30, &mut [&mut viewer]).await;
        viewer.flag("receiveAudio", false);
        viewer.flag("receiveVideo", false);
        rig.turn().await;
        source.send_to(&mut rig, 40, &mut [&mut viewer]).await;
        let (pictures, sounds) = received(&viewer.media());
        assert_eq!((pictures.last(), sounds.last()), (Some(&30), Some(&61)));
        // The sound can begin before the pictures.
        viewer.flag("receiveAudio", true);
        rig.turn().await;
        source.send_to(&mut rig, 45, &mut [&mut viewer]).await;
        viewer.flag("receiveVideo", true);
        rig.turn().await;
        source.send_to(&mut rig, 60, &mut [&mut viewer]).await;
        let (pictures, sounds) = received(&viewer.media());
        assert_eq!(pictures, [range(1, 30), range(51, 60)].concat());
        assert_eq!(sounds, [range(2, 61), range(82, 121)].concat());
    });
}

#[test]
fn who_changes_from_sound_to_pictures_hears_nothing_meanwhile() {
    run(|| async {
        let mut rig = Rig::new(REALTIME, 1);
        let mut source = Source::new(&mut rig).await;
        let mut viewer = rig.client(0, Role::Play, "s");
        rig.run(20, &mut [&mut viewer]).await;
        viewer.flag("receiveVideo", false);
        rig.turn().await;
        source.send_to(&mut rig, 30, &mut [&mut viewer]).await;
        viewer.flag("receiveAudio", false);
        viewer.flag("receiveVideo", true);
        rig.turn().await;
        source.send_to(&mut rig, 60, &mut [&mut viewer]).await;
        let (pictures, sounds) = received(&viewer.media());
        assert_eq!(pictures, range(51, 60));
        assert_eq!(sounds, range(2, 61));
    });
}

#[test]
fn who_pauses_goes_on_at_a_keyframe_that_it_has_not_seen() {
    run(|| async {
        let mut rig = Rig::new(REALTIME, 2);
        let mut source = Source::new(&mut rig).await;
        let mut viewer = rig.client(1, Role::Play, "s");
        rig.run(20, &mut [&mut viewer]).await;
        source.send_to(&mut rig, 30, &mut [&mut viewer]).await;
        // Within one group of pictures: the next keyframe.
        viewer.flag("pause", true);
        source.send_to(&mut rig, 35, &mut [&mut viewer]).await;
        assert_eq!(logs(&rig, 1), 0, "who pauses needs no log");
        viewer.flag("pause", false);
        source.send_to(&mut rig, 60, &mut [&mut viewer]).await;
        // Over a keyframe: that one, at once.
        viewer.flag("pause", true);
        source.send_to(&mut rig, 80, &mut [&mut viewer]).await;
        viewer.flag("pause", false);
        rig.run(20, &mut [&mut viewer]).await;
        let (pictures, sounds) = received(&viewer.media());
        assert_eq!(pictures, [range(1, 30), range(51, 60), range(76, 80)].concat());
        assert_eq!(sounds, [range(2, 61), range(102, 121), range(152, 161)].concat());
        assert!(viewer.has("NetStream.Pause.Notify") && viewer.has("NetStream.Unpause.Notify"));
        let times: Vec<u32> = viewer.messages().map(|message| message.timestamp_ms).collect();
        assert!(times.is_sorted(), "{times:?}");
    });
}

#[test]
fn who_has_paused_is_told_of_the_end_and_of_the_next_publisher() {
    run(|| async {
        let mut rig = Rig::new(REALTIME, 2);
        let mut source = Source::new(&mut rig).await;
        let mut viewer = rig.client(1, Role::Play, "s");
        rig.run(20, &mut [&mut viewer]).await;
        source.send_to(&mut rig, 10, &mut [&mut viewer]).await;
        viewer.flag("pause", true);
        source.send_to(&mut rig, 15, &mut [&mut viewer]).await;
        source.publisher.close();
        rig.run(30, &mut [&mut source.publisher, &mut viewer]).await;
        assert!(viewer.has("NetStream.Play.UnpublishNotify"), "{:?}", viewer.codes());
        let mut source = Source::new(&mut rig).await;
        rig.run(30, &mut [&mut viewer]).await;
        assert!(viewer.has("NetStream.Play.PublishNotify"), "{:?}", viewer.codes());
        viewer.flag("pause", false);
        source.send_to(&mut rig, 10, &mut [&mut viewer]).await;
        let labels = viewer.media();
        let again = labels.iter().rposition(|label| label == "h1").unwrap();
        assert_eq!(received(&labels[again..]).0, range(1, 10));
    });
}

#[test]
fn a_choice_before_play_holds_from_the_first_frame() {
    run(|| async {
        let mut rig = Rig::new(REALTIME, 1);
        let mut source = Source::new(&mut rig).await;
        let mut viewer = rig.client(0, Role::Play, "other");
        rig.run(20, &mut [&mut viewer]).await;
        viewer.flag("receiveVideo", false);
        viewer.call(1, "play", &["s".into()]);
        rig.run(20, &mut [&mut viewer]).await;
        source.send_to(&mut rig, 30, &mut [&mut viewer]).await;
        assert_eq!(received(&viewer.media()), (vec![], range(2, 61)));
    });
}

#[test]
fn two_plays_on_one_connection_are_each_in_order() {
    run(|| async {
        let mut rig = Rig::new(REALTIME, 2);
        let mut source = Source::new(&mut rig).await;
        let mut second = rig.client(1, Role::Publish, "t");
        let mut viewer = rig.client(1, Role::Play, "s");
        rig.run(20, &mut [&mut viewer, &mut second]).await;
        second.video_header(7);
        viewer.call(0, "createStream", &[]);
        viewer.call(2, "play", &["t".into()]);
        viewer.call(0, "createStream", &[]);
        viewer.call(3, "play", &["s".into()]);
        rig.run(20, &mut [&mut viewer, &mut second]).await;
        for number in 1..=60 {
            // Larger than what the socket takes at once: messages of both are sent in pieces.
            second.video(number % GOP == 1, number, 300_000);
            source.send(&mut rig, 1, &mut [&mut viewer, &mut second]).await;
        }
        rig.run(50, &mut [&mut viewer, &mut second]).await;
        assert_eq!(received(&viewer.media_of(1)), (range(1, 60), range(2, 121)));
        assert_eq!(received(&viewer.media_of(2)).0, range(1, 60));
        assert_eq!(received(&viewer.media_of(3)), (range(1, 60), range(2, 121)));
        // One log for each message stream.
        assert_eq!(logs(&rig, 1), 3);
        viewer.call(0, "deleteStream", &[3.0.into()]);
        source.send(&mut rig, 5, &mut [&mut viewer, &mut second]).await;
        assert_eq!(received(&viewer.media_of(3)).0, range(1, 60), "no more");
        assert_eq!(received(&viewer.media_of(1)).0, range(1, 65));
        assert_eq!(logs(&rig, 1), 2);
    });
}

#[test]
fn one_connection_publishes_two_streams() {
    run(|| async {
        let mut rig = Rig::new(REALTIME, 2);
        let mut publisher = rig.client(0, Role::Publish, "s");
        let mut viewers = [rig.client(1, Role::Play, "s"), rig.client(0, Role::Play, "t")];
        let [first, second] = &mut viewers;
        rig.run(20, &mut [&mut publisher, first, second]).await;
        publisher.call(0, "createStream", &[]);
        publisher.call(2, "publish", &["t".into(), "live".into()]);
        rig.run(20, &mut [&mut publisher, first, second]).await;
        publisher.video_header(1);
        publisher.on_stream(2, |publisher| publisher.video_header(2));
        for number in 1..=30 {
            publisher.video(number % GOP == 1, number, 1_000);
            publisher.on_stream(2, |publisher| publisher.video(number % GOP == 1, number, 90));
            rig.run(2, &mut [&mut publisher, first, second]).await;
        }
        publisher.call(0, "deleteStream", &[2.0.into()]);
        publisher.video(false, 31, 1_000);
        rig.run(30, &mut [&mut publisher, first, second]).await;
        let expected = |header: &str, last: u32| {
            let numbers = (1..=last).map(|number| number.to_string());
            std::iter::once(header.to_owned()).chain(numbers).collect::<Vec<_>>()
        };
        assert_eq!(first.media(), expected("h1", 31));
        assert_eq!(second.media(), expected("h2", 30));
        assert!(second.has("EOF") && !first.has("EOF"));
    });
}

#[test]
fn play2_changes_to_the_other_stream() {
    run(|| async {
        let mut rig = Rig::new(REALTIME, 1);
        let mut source = Source::new(&mut rig).await;
        let mut other = rig.client(0, Role::Publish, "t");
        let mut viewer = rig.client(0, Role::Play, "s");
        rig.run(20, &mut [&mut viewer, &mut other]).await;
        other.video_header(9);
        source.send_to(&mut rig, 30, &mut [&mut viewer, &mut other]).await;
        let options = Value::object([
            ("streamName", Value::from("t")),
            ("transition", Value::from("switch")),
        ]);
        viewer.call(1, "play2", &[options]);
        for number in 1..=10 {
            other.video(number == 1, number, 700);
            source.send(&mut rig, 1, &mut [&mut viewer, &mut other]).await;
        }
        let labels = viewer.media();
        let from = labels.iter().position(|label| label == "h9").expect("the other stream");
        let numbers: Vec<String> = (1..=10).map(|number| number.to_string()).collect();
        assert_eq!(labels[from + 1..], numbers);
        assert!(viewer.has("NetStream.Play.Transition"), "{:?}", viewer.codes());
        assert_eq!(rig.shards[0].viewers.len(), 1, "nothing of the first is left");
    });
}

/// A stream with viewers that are known by a number.
struct Viewed {
    stream: ViewerStream,
    pool: SegmentPool,
}

impl Viewed {
    fn new(logs_max: usize) -> Self {
        let settings = crate::shard::testing::settings("").app("__defaultVhost__", "live", "");
        let name = StreamName::new("__defaultVhost__", "live", "", "cam").expect("a valid name");
        let stream =
            ViewerStream::new(StreamId(1), name, Arc::clone(&settings), logs_max, Moment::ZERO);
        Self { stream, pool: SegmentPool::default() }
    }

    fn attach(&mut self, slot: u32, wire: Wire) -> Attached {
        let connection = ConnKey { slot, generation: 0 };
        let viewer = Viewer::new(connection, 1, Duration::from_secs(10), Moment::ZERO);
        self.stream.attach(viewer, wire, true, Moment::ZERO, &mut self.pool)
    }

    fn receive(&mut self, slot: u32, tracks: Tracks) {
        let reception = Reception { tracks, is_paused: false };
        let key = ConnKey { slot, generation: 0 };
        self.stream.receive(key, 1, reception, Moment::ZERO, &mut self.pool);
    }

    fn wires(&self) -> Vec<Wire> {
        self.stream.logs.iter().map(|state| state.log.wire()).collect()
    }

    fn wire_of(&self, slot: u32) -> Option<Wire> {
        let has = |state: &&LogState| state.viewers.iter().any(|it| it.connection.slot == slot);
        self.stream.logs.iter().find(has).map(|state| state.log.wire())
    }
}

fn rtmp(message_stream_id: u32, tracks: Tracks) -> Wire {
    Wire::Rtmp { message_stream_id, chunk_size: 60_000, tracks }
}

const SOUND: Tracks = Tracks { audio: true, video: false };
const PICTURES: Tracks = Tracks { audio: false, video: true };
const NOTHING: Tracks = Tracks { audio: false, video: false };

#[test]
fn rare_wires_leave_room_for_the_common_ones() {
    let mut viewed = Viewed::new(7);
    for id in 2..=5 {
        assert_eq!(viewed.attach(id, rtmp(id, Tracks::BOTH)), Attached::Waits);
    }
    assert_eq!(viewed.attach(6, rtmp(6, Tracks::BOTH)), Attached::NoLog);
    assert_eq!(viewed.attach(7, rtmp(1, Tracks::BOTH)), Attached::Waits);
    assert_eq!(viewed.attach(8, Wire::Flv), Attached::Waits);
    let existing = viewed.attach(9, rtmp(5, Tracks::BOTH));
    assert_eq!(existing, Attached::Waits, "an existing log takes more viewers");
}

#[test]
fn a_viewer_that_would_need_one_log_more_gets_both_tracks() {
    let mut viewed = Viewed::new(7);
    for (slot, tracks) in [(1, Tracks::BOTH), (2, SOUND), (3, PICTURES), (4, NOTHING)] {
        assert_eq!(viewed.attach(slot, rtmp(1, tracks)), Attached::Waits);
    }
    // One place is left: it is kept for the log of both tracks of message stream 2.
    assert_eq!(viewed.attach(5, rtmp(2, SOUND)), Attached::Waits);
    assert_eq!(viewed.wire_of(5), Some(rtmp(2, Tracks::BOTH)));
    assert_eq!(viewed.stream.counters.log_fallbacks, 1);
    viewed.receive(5, PICTURES);
    assert_eq!(viewed.wire_of(5), Some(rtmp(2, Tracks::BOTH)));
    assert_eq!(viewed.stream.counters.log_fallbacks, 2);
    assert_eq!(viewed.attach(6, Wire::Flv), Attached::Waits);
    assert_eq!(viewed.wires().len(), 6);
    // Somebody leaves: now there is room.
    viewed.stream.detach(ConnKey { slot: 4, generation: 0 }, 1, &mut viewed.pool);
    viewed.stream.detach(ConnKey { slot: 3, generation: 0 }, 1, &mut viewed.pool);
    viewed.receive(5, PICTURES);
    assert_eq!(viewed.wire_of(5), Some(rtmp(2, PICTURES)));
}

#[test]
fn who_has_paused_keeps_room_for_a_log() {
    let mut viewed = Viewed::new(7);
    for id in 2..=5 {
        assert_eq!(viewed.attach(id, rtmp(id, Tracks::BOTH)), Attached::Waits);
        let reception = Reception { tracks: Tracks::BOTH, is_paused: true };
        let key = ConnKey { slot: id, generation: 0 };
        viewed.stream.receive(key, 1, reception, Moment::ZERO, &mut viewed.pool);
    }
    assert_eq!((viewed.wires().len(), viewed.stream.viewer_count()), (0, 4));
    assert_eq!(viewed.attach(6, rtmp(6, Tracks::BOTH)), Attached::NoLog);
    assert_eq!(viewed.attach(7, rtmp(1, SOUND)), Attached::Waits);
    assert_eq!(viewed.wire_of(7), Some(rtmp(1, Tracks::BOTH)), "no room for a choice");
    for id in 2..=5 {
        viewed.receive(id, SOUND);
        assert_eq!(viewed.wire_of(id), Some(rtmp(id, Tracks::BOTH)));
    }
    assert_eq!(viewed.wires().len(), 5);
}

#[derive(Clone, Debug)]
enum Step {
    Flag { viewer: usize, which: usize, value: bool },
    Stick { viewer: usize },
    Leave { viewer: usize },
    Frames { count: u32, len: usize },
    Wait { ms: u64 },
}

const VIEWERS: usize = 5;
const FLAGS: [&str; 3] = ["receiveAudio", "receiveVideo", "pause"];

fn step() -> impl Strategy<Value = Step> {
    let viewer = 0..VIEWERS;
    let len = prop_oneof![5 => 20_usize..2_000, 1 => 100_000_usize..400_000];
    prop_oneof![
        8 => (viewer.clone(), 0..FLAGS.len(), any::<bool>())
            .prop_map(|(viewer, which, value)| Step::Flag { viewer, which, value }),
        2 => viewer.clone().prop_map(|viewer| Step::Stick { viewer }),
        1 => viewer.prop_map(|viewer| Step::Leave { viewer }),
        8 => (1_u32..12, len).prop_map(|(count, len)| Step::Frames { count, len }),
        1 => (0_u64..1_500).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// Whatever viewers choose, and however slowly they read: what each is sent can be decoded, in order and
/// nothing twice, and at the end, with nobody choosing any more, there is one log on each shard.
async fn play_out(steps: Vec<Step>) {
    let toml = "[apps.default]\nlatency = \"realtime\"\nviewer.max_lag = \"1s\"\n\
                log_reach = \"2s\"\nviewer.socket_buffer = \"16KiB\"\nviewer.stall_timeout = \"0s\"\n";
    let mut rig = Rig::new(toml, 2);
    let mut source = Source::new(&mut rig).await;
    let mut viewers: Vec<Client> =
        (0..VIEWERS).map(|index| rig.client(index % 2, Role::Play, "s")).collect();
    rig.run(20, &mut viewers.iter_mut().collect::<Vec<_>>()).await;
    for step in steps {
        match step {
            Step::Flag { viewer, which, value } => viewers[viewer].flag(FLAGS[which], value),
            Step::Stick { viewer } => viewers[viewer].is_stuck = !viewers[viewer].is_stuck,
            Step::Leave { viewer } => {
                received(&viewers[viewer].media());
                viewers[viewer] = rig.client(viewer % 2, Role::Play, "s");
                rig.run(20, &mut viewers.iter_mut().collect::<Vec<_>>()).await;
            }
            Step::Frames { count, len } => {
                for _ in 0..count {
                    let number = source.next;
                    source.next += 1;
                    source.publisher.video(number % GOP == 1, number, len);
                    source.publisher.audio(2 * number);
                    source.publisher.audio(2 * number + 1);
                    source.publisher.pump();
                    rig.run(2, &mut viewers.iter_mut().collect::<Vec<_>>()).await;
                    rig.now = rig.now + Duration::from_millis(20);
                }
            }
            Step::Wait { ms } => {
                rig.wait(ms, &mut viewers.iter_mut().collect::<Vec<_>>()).await;
            }
        }
    }
    for viewer in &mut viewers {
        viewer.is_stuck = false;
        viewer.flag("pause", false);
        viewer.flag("receiveAudio", true);
        viewer.flag("receiveVideo", true);
    }
    rig.run(300, &mut viewers.iter_mut().collect::<Vec<_>>()).await;
    let first = source.next;
    // Who reads is given what it chose: within a few groups of pictures everybody is up to date.
    for _ in 0..8 * GOP {
        source.send(&mut rig, 1, &mut viewers.iter_mut().collect::<Vec<_>>()).await;
        let mut all: Vec<&mut Client> = viewers.iter_mut().collect();
        all.push(&mut source.publisher);
        rig.wait(100, &mut all).await;
        rig.run(5, &mut all).await;
        let newest = source.next - 1;
        let is_served = |viewer: &Client| {
            let (pictures, sounds) = received(&viewer.media());
            pictures.last() == Some(&newest) && sounds.last() == Some(&(2 * newest + 1))
        };
        if newest > GOP && viewers.iter().all(is_served) {
            break;
        }
        assert!(
            newest < first + 8 * GOP - 1,
            "at {newest}: {:?}",
            viewers
                .iter()
                .map(|viewer| (is_served(viewer), viewer.codes(), viewer.media()))
                .collect::<Vec<_>>()
        );
    }
    for shard in &rig.shards {
        for viewed in shard.viewers.values() {
            assert_eq!((viewed.logs.len(), viewed.paused.len()), (1, 0));
            assert_eq!(viewed.counters.log_fallbacks, 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn what_viewers_are_sent_can_always_be_decoded(
        steps in prop::collection::vec(step(), 1..80),
    ) {
        run(move || play_out(steps));
    }
}
