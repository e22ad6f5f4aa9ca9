use std::os::unix::net::UnixStream;

use super::*;
use crate::proto::rtmp::client::Role;
use crate::shard::testing::{Client, Rig, run};
use crate::shard::{Notice, Protocol};

fn taken(rig: &mut Rig) -> Option<ShardReport> {
    let at = rig.heard.iter().position(|notice| matches!(notice, Notice::Report(_)))?;
    let Notice::Report(report) = rig.heard.remove(at) else { return None };
    Some(*report)
}

#[test]
fn many_clients_are_told_in_pieces() {
    run(|| async {
        let mut rig = Rig::new("", 1);
        let limit = limits::SURVEY_ITEMS_PER_TURN_MAX;
        let open: Vec<UnixStream> = std::iter::repeat_with(|| rig.connect(0, Protocol::Rtmp))
            .take(2 * limit + 10)
            .collect();
        rig.run(2, &mut []).await;
        rig.say(0, Notice::Survey(SurveyOrder { round: 1, with_clients: true }));
        // Two more come while the first is at work: the newest is drawn up, for both.
        rig.say(0, Notice::Survey(SurveyOrder { round: 2, with_clients: true }));
        rig.say(0, Notice::Survey(SurveyOrder { round: 3, with_clients: false }));
        rig.run(2, &mut []).await;
        assert!(rig.heard.is_empty(), "two turns look at {} of them", 2 * limit);
        assert_eq!(rig.shards[0].next_due(), Some(Moment::ZERO), "it goes on by itself");
        rig.run(1, &mut []).await;
        let first = taken(&mut rig).unwrap();
        assert_eq!((first.round, first.clients.len()), (1, open.len()));
        rig.run(4, &mut []).await;
        let last = taken(&mut rig).unwrap();
        assert_eq!((last.round, last.clients.len()), (3, open.len()));
        assert_eq!((last.surveys, last.survey_pieces), (2, 6));
        assert_ne!(rig.shards[0].next_due(), Some(Moment::ZERO));
    });
}

#[test]
fn an_account_says_what_streams_and_clients_do() {
    run(|| async {
        let mut rig = Rig::new("[apps.default]\nlatency = \"realtime\"\n", 2);
        let mut publisher = rig.client(0, Role::Publish, "s");
        let mut near = rig.client(0, Role::Play, "s");
        let mut far = rig.client(1, Role::Play, "s");
        let mut all: [&mut Client; 3] = [&mut publisher, &mut near, &mut far];
        rig.run(20, &mut all).await;
        all[0].video_header(1);
        for number in 1..=100 {
            all[0].video(number % 25 == 1, number, 1_000);
            rig.run(10, &mut all).await;
        }
        for shard in [0, 1] {
            rig.say(shard, Notice::Survey(SurveyOrder { round: 1, with_clients: true }));
        }
        rig.run(5, &mut all).await;
        let reports = [taken(&mut rig).unwrap(), taken(&mut rig).unwrap()];
        let [owner, other] = &reports;
        let published = &owner.streams[0];
        assert!(published.publisher && !other.streams[0].publisher);
        assert_eq!(published.publication.video_frames, 100);
        // A hundred frames of a thousand bytes and more in a second.
        assert!((80.0..=100.0).contains(&published.frames_per_second), "{published:?}");
        assert!(published.video_bits_per_second > 600_000, "{published:?}");
        let media = published.media.as_ref().unwrap();
        assert_eq!(media.video.as_ref().unwrap().codec, "H264");
        assert_eq!((owner.clients.len(), other.clients.len()), (2, 1));
        let does = |report: &ShardReport| -> Vec<bool> {
            let clients = report.clients.iter();
            clients.flat_map(|client| &client.streams).map(|it| it.is_publisher).collect()
        };
        assert_eq!((does(owner), does(other)), (vec![true, false], vec![false]));
        for report in &reports {
            let stream = &report.streams[0];
            assert!(stream.sent_bytes > 100_000, "{stream:?}");
            assert_eq!(report.egress.rtmp_bytes, report.egress.send_bytes);
            let viewer = report.clients.last().unwrap();
            assert!(viewer.bytes_out >= stream.sent_bytes, "{viewer:?}");
            let sends: u64 = report.frame_age.counts.iter().sum();
            assert!(sends >= 100, "a send per frame and viewer: {sends}");
        }
        // What a publication has counted stays when it is gone.
        drop(publisher);
        rig.run(5, &mut [&mut near, &mut far]).await;
        rig.say(0, Notice::Survey(SurveyOrder { round: 2, with_clients: false }));
        rig.run(3, &mut [&mut near, &mut far]).await;
        let after = taken(&mut rig).unwrap();
        assert_eq!((after.publishers, after.frames_in), (0, owner.frames_in));
        assert!(after.clients.is_empty());
    });
}

#[test]
fn a_redirect_takes_the_headers_along() {
    run(|| async {
        let mut rig = Rig::new("[apps.default]\nlatency = \"realtime\"\n", 1);
        let mut publisher = rig.client(0, Role::Publish, "s");
        let mut viewer = rig.client(0, Role::Play, "t");
        rig.run(20, &mut [&mut publisher, &mut viewer]).await;
        publisher.video_header(1);
        publisher.video(true, 1, 100);
        rig.run(20, &mut [&mut publisher, &mut viewer]).await;
        rig.say(0, Notice::Survey(SurveyOrder { round: 1, with_clients: true }));
        rig.run(3, &mut [&mut publisher, &mut viewer]).await;
        let report = taken(&mut rig).unwrap();
        let found = report.clients.iter().find(|it| it.streams[0].is_publisher).unwrap();
        let redirect = |to: &str| Notice::Redirect {
            connection: found.connection,
            message_stream_id: found.streams[0].message_stream_id,
            to: to.to_owned(),
        };
        // A name that no stream can have changes nothing.
        rig.say(0, redirect("a/../b"));
        rig.run(10, &mut [&mut publisher, &mut viewer]).await;
        assert!(!publisher.has("NetStream.Unpublish.Success"));
        rig.say(0, redirect("t"));
        rig.run(20, &mut [&mut publisher, &mut viewer]).await;
        assert!(publisher.has("NetStream.Unpublish.Success"));
        publisher.video(true, 2, 100);
        publisher.video(false, 3, 100);
        rig.run(20, &mut [&mut publisher, &mut viewer]).await;
        assert_eq!(viewer.media(), ["h1", "2", "3"]);
    });
}
