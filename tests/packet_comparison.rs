//! The comparison that other tests rest on notices every kind of damage.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use support::media::{Media, SHORT};
use support::packets::{Packets, Source};

/// Changes a correct list.
type Damage = fn(&mut Packets);

#[test]
fn an_exact_tail_from_a_keyframe_passes() {
    let source = Source::of_file(&SHORT.file());
    let mut received = source.packets().clone();
    // Keyframes are 60 video packets apart; a video packet lasts 1.435 audio packets.
    received.video.packets.drain(..60);
    received.audio.packets.drain(..86);
    let joined = source.assert_played("a player", &received);
    assert_eq!((joined.video_skipped, joined.audio_skipped), (60, 86));
}

#[test]
fn damage_is_noticed() {
    let damages: [(&str, Damage); 10] = [
        ("a video packet is lost", |list| {
            list.video.packets.remove(100);
        }),
        ("an audio packet is lost", |list| {
            list.audio.packets.remove(100);
        }),
        ("the last packet is lost", |list| {
            list.video.packets.pop();
        }),
        ("a packet comes twice", |list| {
            let packet = list.audio.packets[100].clone();
            list.audio.packets.insert(100, packet);
        }),
        ("two packets change places", |list| {
            list.video.packets.swap(100, 101);
        }),
        ("a timestamp is one off", |list| {
            list.video.packets[100].dts += 1;
        }),
        ("a composition time is one off", |list| {
            list.video.packets[100].pts -= 1;
        }),
        ("a byte is different", |list| {
            list.audio.packets[100].md5.replace_range(0..1, "x");
        }),
        ("it starts between keyframes", |list| {
            list.video.packets.drain(..61);
        }),
        ("a track is missing", |list| list.audio.packets.clear()),
    ];
    let source = Source::of_file(&SHORT.file());
    for (what, damage) in damages {
        let mut received = source.packets().clone();
        damage(&mut received);
        assert!(!passes(&source, &received), "not noticed: {what}");
    }
}

#[test]
fn a_track_from_nowhere_is_noticed() {
    let silent = Media { audio: false, ..SHORT };
    let source = Source::of_file(&silent.file());
    let received = Source::of_file(&SHORT.file()).packets().clone();
    assert!(!passes(&source, &received));
}

fn passes(source: &Source, received: &Packets) -> bool {
    catch_unwind(AssertUnwindSafe(|| source.assert_played("a player", received))).is_ok()
}
