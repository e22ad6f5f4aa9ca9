//! A browser plays: the page of docs/play.md in Chromium, with mpegts.js, over HTTP-FLV and over
//! WebSocket-FLV. What counts is what the browser has decoded.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::browser::{Browser, Page, Site, cached_path};
use support::ffmpeg::{Pace, publish};
use support::media::SHORT;
use support::packets::Packets;
use support::process::Process;
use support::scratch::Scratch;
use support::server::Server;
use support::wait::SOON;

const STREAM: &str = "live/cam";
/// The version that `scripts/test-deps` fetches.
const MPEGTS: &str = "mpegts.js-1.8.2.js";
/// What a page tells of its player; stands behind mpegts.js.
const OBSERVER: &str = include_str!("support/observe_player.js");
/// The address in the page.
const DOCUMENTED: &str = "http://localhost:8080/live/cam.flv";
/// What a browser may need on a loaded machine for what takes a second or two on an idle one.
const PLAY_LIMIT: Duration = Duration::from_secs(60);
/// One playback at a time: four decoders have enough to do with two cores.
static ALONE: Mutex<()> = Mutex::new(());
/// What the types of a page's source buffers contain.
const H264_AAC: [&str; 2] = ["avc1.", "mp4a.40."];

/// Ten seconds of both, in one group of pictures. mpegts.js 1.8.2 does not read keyframes that have order
/// hints. At each keyframe but the first it begins a new segment, and what it still holds of the one before is
/// lost: a picture, or two when they came in one piece. Chromium goes on over a gap of one picture and waits for
/// ever at one of two.
const AV1_AND_OPUS: [&str; 29] = [
    "-f",
    "lavfi",
    "-i",
    "testsrc2=size=320x180:rate=30",
    "-f",
    "lavfi",
    "-i",
    "aevalsrc=0.4*sin(2*PI*(300+200*sin(t/3))*t):s=48000",
    "-c:v",
    "libaom-av1",
    "-usage",
    "realtime",
    "-cpu-used",
    "8",
    "-g",
    "300",
    "-b:v",
    "300k",
    "-aom-params",
    "enable-order-hint=0",
    "-pix_fmt",
    "yuv420p",
    "-c:a",
    "libopus",
    "-b:a",
    "64k",
    "-t",
    "10",
    "-y",
];

/// What is published, as far as a browser can tell.
struct Expected {
    codecs: [&'static str; 2],
    video_frames: usize,
    audio_bytes: u64,
    gop_frames: usize,
    /// Errors of mpegts.js that are its own and end nothing.
    complaints: &'static [&'static str],
}

#[test]
fn h264_and_aac_are_decoded() {
    let packets = Packets::of_file(&SHORT.file());
    let expected = Expected {
        codecs: H264_AAC,
        video_frames: packets.video.packets.len(),
        audio_bytes: packets.audio.packets.iter().map(|packet| packet.size).sum(),
        gop_frames: 60,
        complaints: &[],
    };
    let server = Server::start(&[("http.flv_missing", "wait")]);
    plays_to_the_end(&server, &expected, || {
        publish(&SHORT.file(), &server.rtmp_url(STREAM), Pace::RealTime)
    });
    server.stop();
}

#[test]
fn av1_and_opus_are_decoded() {
    let scratch = Scratch::new("browser-av1");
    let file = scratch.file("av1-opus.flv");
    Process::run(
        "ffmpeg 9 makes AV1 and Opus",
        ffmpeg9().args(AV1_AND_OPUS).arg(&file),
        PLAY_LIMIT,
    );
    let expected = Expected {
        codecs: ["av01.", "opus"],
        video_frames: 10 * 30,
        audio_bytes: 10 * 64_000 / 8,
        gop_frames: 10 * 30 * 98 / 100,
        complaints: &["Flv: Invalid video packet type 4"],
    };
    let server = Server::start(&[("http.flv_missing", "wait")]);
    plays_to_the_end(&server, &expected, || {
        let mut command = ffmpeg9();
        command.args(["-re", "-i"]).arg(&file).args(["-c", "copy", "-f", "flv"]);
        Process::spawn("ffmpeg 9 publishes", command.arg(server.rtmp_url(STREAM)))
    });
    server.stop();
}

#[test]
fn the_synthetic_stream_of_loadgen_is_decoded() {
    // The default shape: 30 pictures a second, a keyframe every two, sound of 128 kbit/s.
    let expected = Expected {
        codecs: H264_AAC,
        video_frames: 10 * 30,
        audio_bytes: 10 * 128_000 / 8,
        gop_frames: 60,
        complaints: &[],
    };
    let server = Server::start(&[("http.flv_missing", "wait")]);
    plays_to_the_end(&server, &expected, || {
        let mut loadgen = Command::new(loadgen());
        loadgen.args(["publish", &server.rtmp_url(STREAM), "--duration", "10s", "--quiet"]);
        Process::spawn("loadgen publish", &mut loadgen)
    });
    server.stop();
}

/// Plays what `publish` begins in four pages: two wait for it, two come in the middle.
fn plays_to_the_end(server: &Server, expected: &Expected, publish: impl FnOnce() -> Process) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let site = player_site(server);
    let mut browser = Browser::start();
    let urls = ["http", "ws"].map(|scheme| format!("{}/{scheme}.html", site.origin()));
    let mut pages = [browser.window(), browser.window(), browser.window(), browser.window()];
    let (early, late) = pages.split_at_mut(2);
    let load = |pages: &mut [Page]| {
        pages.iter_mut().zip(&urls).for_each(|(page, url)| page.load(url));
    };
    load(early);
    server.api().wait_for_viewers(STREAM, 2, SOON);
    let mut publisher = publish();
    // In the second group of pictures the stream is held, so that however slowly pages load, they do
    // not come after its end.
    server.api().wait_for_frames(STREAM, 200, 2 * SOON);
    publisher.signal(libc::SIGSTOP);
    load(late);
    server.api().wait_for_viewers(STREAM, 4, SOON);
    publisher.signal(libc::SIGCONT);
    publisher.expect_success(PLAY_LIMIT);
    for (number, page) in pages.iter_mut().enumerate() {
        let found = wait_for_end(page);
        println!("page {number}: {found}");
        let report = page.report();
        let errors = found["errors"].as_array().expect("a list");
        let is_known = |error: &Value| expected.complaints.iter().any(|known| error[2] == *known);
        assert!(errors.iter().all(is_known), "{found}\n{report}");
        assert_eq!((&found["error"], &found["corrupted"]), (&Value::Null, &0.into()), "{found}");
        assert_eq!(found["isComplete"], true, "{found}");
        assert!(found["steps"].as_u64() >= Some(10), "the pictures came in time: {found}");
        let types = found["codecs"].to_string();
        assert!(expected.codecs.iter().all(|codec| types.contains(codec)), "{found}");
        // A player that moves its place decodes a little twice, or leaves out a little. Who comes late
        // has missed some groups of pictures.
        let (frames, bytes) = match number {
            0 | 1 => (expected.video_frames * 98 / 100, expected.audio_bytes * 98 / 100),
            _ => (expected.gop_frames, expected.audio_bytes / 10),
        };
        assert!(found["decoded"].as_u64() >= Some(frames as u64), "{frames} of {found}");
        assert!(found["audioBytes"].as_u64() >= Some(bytes), "{bytes} of {found}");
    }
}

#[test]
fn a_page_hears_why_its_websocket_ends() {
    let server = Server::start(&[("http.flv_missing", "wait")]);
    let site = Site::start(vec![("/", "text/html", Vec::new())]);
    let mut browser = Browser::start();
    let mut page = browser.open(&format!("{}/", site.origin()));
    page.evaluate(&open_sockets(&server, &["live/ended", "live/draining"]));
    server.api().wait_for_viewers("live/draining", 1, SOON);
    let url = server.rtmp_url("live/ended");
    let mut publisher = publish(&SHORT.file(), &url, Pace::Unpaced);
    publisher.expect_success(SOON);
    assert_eq!(page.evaluate("ends[0]"), json!([1000, "the stream has ended", true]));
    assert_eq!(page.evaluate("opened(sockets[1])"), true);
    server.stop();
    assert_eq!(page.evaluate("ends[1]"), json!([1001, "the server is shutting down", true]));
}

#[test]
fn a_page_of_another_origin_is_kept_out() {
    let site = Site::start(vec![("/", "text/html", Vec::new())]);
    let mut browser = Browser::start();
    let origin = site.origin();
    for (overrides, may_open) in [
        ([("http.origins", origin.as_str()), ("http.cors", "*")], true),
        ([("http.origins", "https://app.example"), ("http.cors", "*")], false),
        ([("http.origins", "[]"), ("http.cors", "https://app.example")], false),
    ] {
        let server = Server::start(&[overrides[0], overrides[1], ("http.flv_missing", "wait")]);
        let mut page = browser.open(&format!("{origin}/"));
        page.evaluate(&open_sockets(&server, &[STREAM]));
        let opened = page.evaluate("opened(sockets[0])");
        assert_eq!(opened, may_open, "{overrides:?}: {}", page.report());
        if !may_open {
            // What a page hears of a refusal: nothing.
            assert_eq!(page.evaluate("ends[0]"), json!([1006, "", false]));
        }
        server.stop();
    }
}

/// A script that opens WebSockets; `ends` gets what their close events say, `opened` tells whether one
/// is opened.
fn open_sockets(server: &Server, streams: &[&str]) -> String {
    let urls = streams.iter().map(|stream| format!("ws://{}/{stream}.flv", server.http()));
    let urls = Value::from_iter(urls);
    format!(
        "globalThis.sockets = {urls}.map((url) => new WebSocket(url));
         globalThis.ends = sockets.map((socket) => new Promise((resolve) => {{
           socket.onclose = (event) => resolve([event.code, event.reason, event.wasClean]);
         }}));
         globalThis.opened = (socket) => new Promise((resolve) => {{
           if (socket.readyState !== WebSocket.CONNECTING) {{
             resolve(socket.readyState === WebSocket.OPEN);
           }}
           socket.addEventListener('open', () => resolve(true));
           socket.addEventListener('error', () => resolve(false));
         }});
         undefined"
    )
}

/// What a page tells when its player has come to the end.
fn wait_for_end(page: &mut Page) -> Value {
    let deadline = Instant::now() + PLAY_LIMIT;
    loop {
        let found = page.evaluate("observed()");
        if found["ended"] == true {
            return found;
        }
        assert!(Instant::now() < deadline, "not the end: {found}\n{}", page.report());
        thread::sleep(Duration::from_millis(100));
    }
}

/// The page of the documentation, once per scheme.
fn player_site(server: &Server) -> Site {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/play.md");
    let text = fs::read_to_string(page).expect("docs/play.md can be read");
    let html = text.split("```html\n").nth(1).and_then(|rest| rest.split("```").next());
    let html = html.expect("docs/play.md has a page");
    assert!(html.contains(DOCUMENTED), "the page plays {DOCUMENTED}");
    let page = |scheme: &str| {
        let url = format!("{scheme}://{}/{STREAM}.flv", server.http());
        html.replace(DOCUMENTED, &url).into_bytes()
    };
    let script =
        [fs::read(cached_path(MPEGTS)).expect("it can be read"), OBSERVER.as_bytes().to_vec()]
            .concat();
    Site::start(vec![
        ("/http.html", "text/html", page("http")),
        ("/ws.html", "text/html", page("ws")),
        ("/mpegts.js", "text/javascript", script),
    ])
}

/// The ffmpeg that `scripts/test-deps` fetches: Debian's writes no AV1 and no Opus into FLV.
fn ffmpeg9() -> Command {
    let mut command = Command::new(cached_path("ffmpeg-9.0.2"));
    command.args(["-nostdin", "-v", "error"]);
    command
}

/// The load generator that was built with the server.
fn loadgen() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_shardcast")).with_file_name("loadgen");
    assert!(
        program.exists(),
        "{} is not there: run cargo build --workspace --bins first",
        program.display()
    );
    program
}
