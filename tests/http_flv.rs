//! What an HTTP client sees: status codes, headers, the FLV header, and refusals.

mod support;

use std::io::Write;
use std::process::Command;

use support::ffmpeg::{Pace, publish};
use support::http;
use support::media::{Media, SHORT};
use support::process::Process;
use support::server::Server;
use support::wait::SOON;

const TARGET: &str = "/live/cam.flv";
const STREAM: &str = "live/cam";
/// FLV header flag: the file has audio.
const FLAG_AUDIO: u8 = 4;
/// FLV header flag: the file has video.
const FLAG_VIDEO: u8 = 1;

#[test]
fn the_flv_header_says_which_tracks_there_are() {
    let cases = [
        (SHORT, FLAG_AUDIO | FLAG_VIDEO),
        (Media { video: None, ..SHORT }, FLAG_AUDIO),
        (Media { audio: false, ..SHORT }, FLAG_VIDEO),
    ];
    let server = Server::start(&[]);
    let mut publishers = Vec::new();
    for (number, (media, flags)) in cases.into_iter().enumerate() {
        let stream = format!("live/tracks{number}");
        publishers.push(publish_endless(&server, &stream, media));
        let mut response = http::get(server.http(), &format!("/{stream}.flv"));
        assert_eq!(response.status, 200, "{media:?}");
        assert_eq!(response.header("Content-Type"), Some("video/x-flv"));
        // Signature, version 1, flags, header size, size of the tag before the first.
        let expected = [b'F', b'L', b'V', 1, flags, 0, 0, 0, 9, 0, 0, 0, 0];
        assert_eq!(response.read_body(13), expected, "{media:?}");
    }
    server.stop();
}

#[test]
fn the_first_tags_are_metadata_and_codec_headers() {
    let server = Server::start(&[]);
    let _publisher = publish_endless(&server, STREAM, SHORT);
    let mut response = http::get(server.http(), TARGET);
    response.read_body(13);
    let mut seen = Vec::new();
    for _ in 0..3 {
        let head = response.read_body(11);
        let size = u32::from_be_bytes([0, head[1], head[2], head[3]]);
        let payload = response.read_body(size as usize);
        let trailer = response.read_body(4);
        assert_eq!(trailer, (size + 11).to_be_bytes(), "size of the tag before");
        seen.push((head[0], payload));
    }
    let (script, video, audio) = (18, 9, 8);
    let kinds: Vec<u8> = seen.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds[0], script, "metadata goes first: {kinds:?}");
    let name = [2, 0, 10].iter().copied().chain(*b"onMetaData");
    assert!(seen[0].1.iter().copied().take(13).eq(name));
    let header_of = |kind: u8| {
        seen.iter()
            .find(|(known, _)| *known == kind)
            .map(|(_, payload)| payload)
            .unwrap_or_else(|| panic!("a header of kind {kind} among {kinds:?}"))
    };
    assert_eq!(header_of(video)[..2], [0x17, 0], "AVC sequence header");
    assert_eq!(header_of(audio)[..2], [0xAF, 0], "AAC sequence header");
    server.stop();
}

#[test]
fn head_answers_without_a_body() {
    let server = Server::start(&[]);
    let _publisher = publish_endless(&server, STREAM, SHORT);
    let mut response = http::request(server.http(), "HEAD", TARGET, &[]);
    assert_eq!(response.status, 200);
    assert_eq!(response.header("Content-Type"), Some("video/x-flv"));
    assert!(response.is_closed_by_server());
    let missing = http::request(server.http(), "HEAD", "/live/nobody.flv", &[]);
    assert_eq!(missing.status, 404);
    server.stop();
}

#[test]
fn what_is_not_there_is_404() {
    let server = Server::start(&[]);
    for target in ["/live/nobody.flv", "/", "/live/cam", "/favicon.ico", "/a/b/c/d.flv"] {
        let mut response = http::get(server.http(), target);
        assert_eq!(response.status, 404, "{target}");
        response.read_to_end();
        assert!(response.is_closed_by_server(), "{target}");
    }
    server.stop();
}

#[test]
fn other_origins_may_read() {
    let server = Server::start(&[]);
    let _publisher = publish_endless(&server, STREAM, SHORT);
    let origin = "Origin: https://player.example";
    for target in [TARGET, "/live/nobody.flv"] {
        let response = http::request(server.http(), "GET", target, &[origin]);
        assert_eq!(
            response.header("Access-Control-Allow-Origin"),
            Some("*"),
            "{target}: a page may read the answer"
        );
        assert_eq!(response.header("Access-Control-Allow-Credentials"), None);
    }
    let preflight = http::request(
        server.http(),
        "OPTIONS",
        TARGET,
        &[origin, "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: range"],
    );
    assert!(matches!(preflight.status, 200 | 204), "{}", preflight.status_line);
    let methods =
        preflight.header("Access-Control-Allow-Methods").expect("a preflight names methods");
    assert!(methods.contains("GET"), "{methods}");
    assert_eq!(preflight.header("Access-Control-Allow-Origin"), Some("*"));
    server.stop();
}

#[test]
fn one_origin_can_be_named() {
    let server = Server::start(&[("http.cors", "https://player.example")]);
    let answer = |origin: &str| {
        let line = format!("Origin: {origin}");
        http::request(server.http(), "GET", "/live/nobody.flv", &[&line])
            .header("Access-Control-Allow-Origin")
            .map(str::to_owned)
    };
    assert_eq!(answer("https://player.example").as_deref(), Some("https://player.example"));
    assert_eq!(answer("https://elsewhere.example"), None);
    server.stop();
}

#[test]
fn http_1_0_gets_a_plain_body() {
    let server = Server::start(&[]);
    let _publisher = publish_endless(&server, STREAM, SHORT);
    let request = format!("GET {TARGET} HTTP/1.0\r\n\r\n");
    let mut response = http::send_raw(server.http(), request.as_bytes());
    assert_eq!(response.status, 200);
    assert_eq!(response.header("Transfer-Encoding"), None);
    assert_eq!(response.read_body(4), *b"FLV\x01");
    server.stop();
}

#[test]
fn other_methods_are_refused() {
    let server = Server::start(&[]);
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        let response = http::request(server.http(), method, TARGET, &["Content-Length: 0"]);
        assert_eq!(response.status, 405, "{method}");
        let allow = response.header("Allow").expect("405 names what is allowed");
        assert!(allow.contains("GET"), "{method}: {allow}");
    }
    server.stop();
}

#[test]
fn garbage_is_400_and_costs_only_its_own_connection() {
    let server = Server::start(&[]);
    let _publisher = publish_endless(&server, STREAM, SHORT);
    let mut viewer = http::get(server.http(), TARGET);
    let requests: [&[u8]; 7] = [
        b"\x03\x00\x01\x02\x80\xff\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /live/cam.flv\r\n\r\n",
        b"GET /live/cam.flv HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET /live/cam.flv HTTP/1.1\r\nHost: a\r\nbad\x00name: x\r\n\r\n",
        b"GET /live/%zz.flv HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /live/%00.flv HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for request in requests {
        let shown = String::from_utf8_lossy(request).into_owned();
        let mut response = http::send_raw(server.http(), request);
        assert_eq!(response.status, 400, "{shown:?}");
        response.read_to_end();
        assert!(response.is_closed_by_server(), "{shown:?}");
    }
    viewer.read_body(100_000);
    server.stop();
}

#[test]
fn a_head_that_is_too_large_is_431() {
    let server = Server::start(&[]);
    let long_line =
        format!("GET {TARGET} HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(64 * 1024));
    let many_lines =
        format!("GET {TARGET} HTTP/1.1\r\nHost: a\r\n{}\r\n", "X-Many: x\r\n".repeat(200));
    for request in [long_line, many_lines] {
        let response = http::send_raw(server.http(), request.as_bytes());
        assert_eq!(response.status, 431, "{} bytes", request.len());
    }
    server.stop();
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let server = Server::start(&[]);
    let _publisher = publish_endless(&server, STREAM, SHORT);
    let mut stream = http::connect(server.http());
    stream.set_nodelay(true).expect("TCP_NODELAY can be set");
    for byte in format!("GET {TARGET} HTTP/1.1\r\nHost: a\r\n\r\n").bytes() {
        stream.write_all(&[byte]).expect("the server reads on");
    }
    let mut response = http::read_response(stream);
    assert_eq!(response.status, 200);
    assert_eq!(response.read_body(3), *b"FLV");
    server.stop();
}

#[test]
fn the_body_ends_with_the_stream() {
    let server = Server::start(&[]);
    let mut publisher = publish(&SHORT.file(), &server.rtmp_url(STREAM), Pace::RealTime);
    server.api().wait_for_frames(STREAM, 400, 2 * SOON);
    let mut viewer = http::get(server.http(), TARGET);
    assert_eq!(viewer.status, 200);
    publisher.expect_success(2 * SOON);
    assert!(viewer.read_to_end().len() > 13, "media came before the end");
    server.stop();
}

#[test]
fn short_answers_leave_the_connection_open_and_come_in_order() {
    let server = Server::start(&[]);
    let _publisher = publish_endless(&server, STREAM, SHORT);
    let requests = [
        ("OPTIONS", TARGET, 204),
        ("GET", "/live/nobody.flv", 404),
        ("HEAD", TARGET, 200),
        ("GET", "/nothing", 404),
        ("HEAD", "/live/nobody.flv", 404),
        ("POST", TARGET, 405),
    ];
    let text = |(method, target, _): &(&str, &str, u16)| {
        format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n")
    };
    // One after the other, and all at once; the last is the stream, which ends the connection.
    let mut stream = http::connect(server.http());
    for request in &requests {
        stream.write_all(text(request).as_bytes()).expect("the server reads");
        let mut response = http::read_response(stream.try_clone().expect("a socket can be shared"));
        assert_eq!(response.status, request.2, "{request:?}");
        assert_eq!(response.header("Connection"), Some("keep-alive"), "{request:?}");
        if request.0 != "HEAD" && request.2 != 204 {
            response.read_to_end();
        }
    }
    let mut all: String = requests.iter().map(text).collect();
    all.push_str(&text(&("GET", TARGET, 200)));
    let mut response = http::send_raw(server.http(), all.as_bytes());
    for request in &requests {
        assert_eq!(response.status, request.2, "{request:?}");
        response = response.next(request.0 == "HEAD" || request.2 == 204);
    }
    assert_eq!((response.status, response.header("Connection")), (200, Some("close")));
    assert_eq!(response.read_body(4), *b"FLV\x01");
    server.api().wait_for_viewers(STREAM, 1, SOON);
    server.stop();
}

#[test]
fn an_answered_request_takes_no_place_in_the_app() {
    let server = Server::start(&[("apps.default.max_connections", "2")]);
    let _publisher = publish_endless(&server, STREAM, SHORT);
    let mut stream = http::connect(server.http());
    let head = format!("HEAD {TARGET} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("the server reads");
    let answered = http::read_response(stream);
    assert_eq!((answered.status, answered.header("Connection")), (200, Some("keep-alive")));
    let mut viewer = http::get(server.http(), TARGET);
    assert_eq!(viewer.status, 200, "one publisher and one viewer are two");
    viewer.read_body(13);
    let third = http::get(server.http(), TARGET);
    assert_eq!((third.status, third.header("Retry-After")), (503, Some("2")));
    server.stop();
}

#[test]
fn curl_asks_twice_on_one_connection() {
    let server = Server::start(&[]);
    let url = server.flv_url("live/nobody");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--verbose", &url, "--next", "--silent", "--verbose", "--head", &url]);
    let mut process = Process::spawn("curl", &mut curl);
    process.expect_success(SOON);
    let said = process.stderr();
    assert_eq!(said.matches("HTTP/1.1 404").count(), 2, "{said}");
    assert!(said.contains("Re-using existing"), "{said}");
    server.stop();
}

#[test]
fn a_connection_that_asks_nothing_more_is_closed() {
    let server = Server::start(&[("limits.idle_connection", "2s")]);
    let mut stream = http::connect(server.http());
    stream.write_all(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
    let mut response = http::read_response(stream);
    assert_eq!(response.status, 204);
    assert!(response.is_closed_by_server());
    server.process().wait_for_stderr("limits.idle_connection", SOON);
    server.stop();
}

fn publish_endless(server: &Server, stream: &str, media: Media) -> Process {
    let publisher = publish(&media.file(), &server.rtmp_url(stream), Pace::Endless);
    server.api().wait_for_frames(stream, 30, SOON);
    publisher
}
