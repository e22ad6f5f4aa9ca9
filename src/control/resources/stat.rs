//! nginx-rtmp's `/stat` (contract hooks 1.9): the same elements in the same order, one `server` per
//! vhost. Dashboards made for `rtmp_stat all` read it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::control::answer::Answer;
use crate::control::api::Shared;
use crate::control::census::{Census, Pace, Stream};
use crate::proto::name::{DEFAULT_VHOST, StreamName};
use crate::rt::clock;
use crate::session::ClientInfo;
use crate::shard::{ClientReport, ClientStream, MediaInfo};

/// Who does what with a stream.
type Clients<'a> = BTreeMap<u64, Vec<(&'a ClientReport, &'a ClientStream)>>;

/// The streams of a vhost by application, with their numbers.
type Apps<'a> = BTreeMap<String, Vec<(u64, &'a Stream)>>;

/// Applications by vhost, in the order in which they are shown.
pub(super) fn vhosts(shared: &Shared) -> Vec<String> {
    let settings = shared.parts.settings.get();
    let mut names = vec![DEFAULT_VHOST.to_owned()];
    names.extend(settings.vhosts().filter(|name| *name != DEFAULT_VHOST).map(str::to_owned));
    names
}

/// `GET /stat`
pub(super) async fn answer(shared: &Shared) -> Answer {
    let census = Census::of_clients(&shared.parts.reports).await;
    let mut clients: Clients<'_> = BTreeMap::new();
    let (mut bits_in, mut bits_out) = (0, 0);
    let mut pace = Pace::default();
    for client in census.clients() {
        bits_in += client.bits_per_second_in;
        bits_out += client.bits_per_second_out;
        for does in &client.streams {
            clients.entry(does.stream.0).or_default().push((client, does));
        }
        pace.step().await;
    }
    for list in clients.values_mut() {
        // The newest first.
        list.sort_unstable_by_key(|(client, _)| std::cmp::Reverse(client.id));
    }
    let used = by_app(&census.streams, &mut pace).await;
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n<rtmp>\n");
    let bytes_in: u64 = census.shards().iter().map(|shard| shard.read_bytes).sum();
    let bytes_out: u64 = census.shards().iter().map(|shard| shard.sent_bytes()).sum();
    let version = concat!("shardcast ", env!("CARGO_PKG_VERSION"));
    for (key, value) in [
        ("nginx_version", version.to_owned()),
        ("nginx_rtmp_version", version.to_owned()),
        ("built", version.to_owned()),
        ("pid", std::process::id().to_string()),
        ("uptime", clock::now().since(shared.started).as_secs().to_string()),
        ("naccepted", shared.parts.accepted.accepted.load(Ordering::Relaxed).to_string()),
        ("bw_in", bits_in.to_string()),
        ("bytes_in", bytes_in.to_string()),
        ("bw_out", bits_out.to_string()),
        ("bytes_out", bytes_out.to_string()),
    ] {
        element(&mut out, key, value);
    }
    for vhost in vhosts(shared) {
        out.push_str("<server>\n");
        let used = used.get(vhost.as_str());
        for app in apps(shared, &vhost, used) {
            let _ = write!(out, "<application>\n<name>{}</name>\n<live>\n", Escaped(&app));
            let mut count = 0;
            let streams = used.and_then(|used| used.get(&app)).map(Vec::as_slice);
            for (number, stream) in streams.unwrap_or_default() {
                let of_stream = clients.get(number).map(Vec::as_slice).unwrap_or_default();
                count += of_stream.len();
                open_stream(&mut out, stream);
                for (client, does) in of_stream {
                    client_line(&mut out, &census, stream, client, does);
                    pace.step().await;
                }
                close_stream(&mut out, stream, of_stream.len());
                pace.step().await;
            }
            let _ = write!(out, "<nclients>{count}</nclients>\n</live>\n</application>\n");
            pace.step().await;
        }
        out.push_str("</server>\n");
    }
    out.push_str("</rtmp>\n");
    Answer::plain(200, out).of_kind("text/xml")
}

/// Streams by vhost and application: each is looked at once, however many applications there are.
async fn by_app<'a>(
    streams: &'a BTreeMap<u64, Stream>,
    pace: &mut Pace,
) -> BTreeMap<&'a str, Apps<'a>> {
    let mut used: BTreeMap<&str, Apps<'_>> = BTreeMap::new();
    for (number, stream) in streams {
        if let Some(name) = &stream.name {
            let of_vhost = used.entry(name.vhost()).or_default();
            of_vhost.entry(name.app_text()).or_default().push((*number, stream));
        }
        pace.step().await;
    }
    used
}

/// Those that are configured, and those with a stream.
fn apps(shared: &Shared, vhost: &str, used: Option<&Apps<'_>>) -> BTreeSet<String> {
    let settings = shared.parts.settings.get();
    let of_vhost = settings.config.vhosts.get(vhost);
    let configured = of_vhost.map_or(&settings.config.apps, |table| &table.apps);
    let used = used.into_iter().flat_map(BTreeMap::keys);
    configured.keys().filter(|app| *app != "default").chain(used).cloned().collect()
}

fn open_stream(out: &mut String, stream: &Stream) {
    let published = stream.published.as_ref();
    let name = stream.name.as_ref().map(StreamName::stream).unwrap_or_default();
    let (video, audio) =
        published.map_or((0, 0), |it| (it.video_bits_per_second, it.audio_bits_per_second));
    let _ = write!(out, "<stream>\n<name>{}</name>\n", Escaped(name));
    let bytes_in = published.map_or(0, |it| it.publication.bytes_in);
    for (key, value) in [
        ("time", published.map_or(0, |it| it.published_ms)),
        ("bw_in", video + audio),
        ("bytes_in", bytes_in),
        ("bw_out", stream.sent_bits_per_second),
        ("bytes_out", stream.sent_bytes),
        ("bw_audio", audio),
        ("bw_video", video),
    ] {
        element(out, key, value);
    }
}

fn client_line(
    out: &mut String,
    census: &Census,
    stream: &Stream,
    client: &ClientReport,
    does: &ClientStream,
) {
    let published = stream.published.as_ref();
    let address = client.peer.ip().to_canonical();
    let time = census.at.since(client.since).as_millis();
    let _ = write!(
        out,
        "<client><id>{}</id><address>{address}</address><time>{time}</time>",
        client.id
    );
    let info = client.info.as_deref();
    let said = |value: fn(&ClientInfo) -> &String| info.map(value).filter(|it| !it.is_empty());
    for (key, value) in [
        ("flashver", said(|info| &info.flash_version)),
        ("pageurl", said(|info| &info.page_url)),
        ("swfurl", said(|info| &info.swf_url)),
    ] {
        if let Some(value) = value {
            let _ = write!(out, "<{key}>{}</{key}>", Escaped(value));
        }
    }
    let timestamp = published.map_or(stream.last_ms, |it| it.last_ms);
    let _ = write!(
        out,
        "<dropped>{}</dropped><avsync>{}</avsync><timestamp>{timestamp}</timestamp>",
        client.skips,
        published.map_or(0, |it| it.audio_ahead_ms)
    );
    if does.is_publisher {
        out.push_str("<publishing/>");
    }
    if published.is_some() {
        out.push_str("<active/>");
    }
    out.push_str("</client>\n");
}

fn close_stream(out: &mut String, stream: &Stream, clients: usize) {
    if let Some(media) = stream.media() {
        meta(out, media);
    }
    element(out, "nclients", clients);
    if stream.published.is_some() {
        out.push_str("<publishing/>\n<active/>\n");
    }
    out.push_str("</stream>\n");
}

fn meta(out: &mut String, media: &MediaInfo) {
    out.push_str("<meta><video>");
    if let Some(video) = &media.video {
        let rate = video.frame_rate.unwrap_or_default() as u64;
        let _ = write!(
            out,
            "<width>{}</width><height>{}</height><frame_rate>{rate}</frame_rate>\
             <codec>{}</codec>",
            video.width.unwrap_or_default(),
            video.height.unwrap_or_default(),
            Escaped(&video.codec)
        );
        if !video.profile.is_empty() {
            let _ = write!(out, "<profile>{}</profile>", video.profile);
        }
        if !video.level.is_empty() {
            let compat = video.compatibility;
            let _ = write!(out, "<compat>{compat}</compat><level>{}</level>", video.level);
        }
    }
    out.push_str("</video><audio>");
    if let Some(audio) = &media.audio {
        let _ = write!(out, "<codec>{}</codec>", Escaped(&audio.codec));
        if !audio.profile.is_empty() {
            let _ = write!(out, "<profile>{}</profile>", audio.profile);
        }
        if let Some(channels) = audio.channels {
            let _ = write!(out, "<channels>{channels}</channels>");
        }
        if let Some(rate) = audio.sample_rate {
            let _ = write!(out, "<sample_rate>{rate}</sample_rate>");
        }
    }
    out.push_str("</audio></meta>\n");
}

fn element(out: &mut String, key: &str, value: impl std::fmt::Display) {
    // Writing to a String does not fail.
    let _ = writeln!(out, "<{key}>{value}</{key}>");
}

/// Text between tags; characters that XML does not know become spaces.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\u{FFFE}' | '\u{FFFF}' => f.write_char(' ')?,
                c if c.is_control() => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::resources::testing::count_pauses;

    #[test]
    fn text_cannot_leave_its_element() {
        assert_eq!(Escaped("a<b>&\"c\"\0\u{FFFE}ü").to_string(), "a&lt;b&gt;&amp;&quot;c&quot;  ü");
    }

    #[test]
    fn streams_are_sorted_by_app_once_and_in_pieces() {
        let (pauses, found) = count_pauses(|| async {
            let mut streams = BTreeMap::new();
            for number in 0..2_000 {
                let vhost = if number < 1_000 { DEFAULT_VHOST } else { "v" };
                let instance = if number % 2 == 0 { "" } else { "i" };
                let name = StreamName::new(vhost, "a", instance, &format!("s{number}")).unwrap();
                streams.insert(number, Stream { name: Some(name), ..Stream::default() });
            }
            streams.insert(2_000, Stream::default());
            let mut found = Vec::new();
            for (vhost, apps) in by_app(&streams, &mut Pace::default()).await {
                for (app, streams) in apps {
                    let numbers: Vec<u64> = streams.iter().map(|(number, _)| *number).collect();
                    found.push((format!("{vhost} {app}"), numbers));
                }
            }
            found
        });
        assert!(pauses >= 4, "{pauses}");
        let expected = [
            (format!("{DEFAULT_VHOST} a"), (0..1_000).step_by(2).collect()),
            (format!("{DEFAULT_VHOST} a/i"), (1..1_000).step_by(2).collect()),
            ("v a".to_owned(), (1_000..2_000).step_by(2).collect::<Vec<u64>>()),
            ("v a/i".to_owned(), (1_001..2_000).step_by(2).collect()),
        ];
        assert_eq!(found, expected);
    }
}
