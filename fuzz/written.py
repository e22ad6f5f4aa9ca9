"""Inputs that no client at hand sends: old and rare forms, and what is wrong on purpose."""

import json
import pathlib
import struct

import wire

VECTORS = pathlib.Path(__file__).resolve().parent.parent / "tests/vectors"

NUMBER = b"\0" + struct.pack(">d", 5)


def save_all(save):
    for group in (amf0, amf3, aggregate, codec, chunks, http, http_response, websocket,
                  proxy_protocol, push, rooms, names, relays, flv, sessions):
        group(save)


def relays(save):
    """Addresses of other servers, refusals that ask for a login, and where a stream has been."""
    table = {
        "app": "rtmp://server2/livestreams",
        "instance": "rtmp://a:1936/app/instance/",
        "stream": "rtmp://user:p@ss@a/app/instance/s/t?k=v/w",
        "six": "rtmps://[::1]/app?k=v",
        "six-port": "rtmps://[::1]:444/app",
        "template": "rtmp://{vhost}/{app}/{stream}",
        "six-open": "rtmp://[::1/app",
        "no-host": "rtmp:///app",
        "no-app": "rtmp://host",
        "no-port": "rtmp://host:0/app",
        "space": "rtmp://host/a b",
        "http": "http://host/app",
        "login": "rtmp://h/a\n[ code=403 need auth; authmod=adobe ]",
        "adobe": "rtmp://h/a\n[ authmod=adobe ] : ?reason=needauth&user=user&salt=s&challenge=c&opaque=o"
                 "\nauthmod=adobe&user=user\nlive",
        "adobe-no-opaque": "rtmp://h/a\n[ authmod=adobe ] : ?reason=needauth&challenge=c\n\nlive",
        "llnw": "rtmp://h/a\n[ authmod=llnw ] : ?reason=needauth&nonce=n\nauthmod=llnw&user=user\nlive/i?q",
        "llnw-app": "rtmp://h/a\n?reason=needauth&nonce=n\nauthmod=llnw\nlive",
        "wrong": "rtmp://h/a\n[ authmod=adobe ] : ?reason=authfailed\nauthmod=adobe\nlive",
        "again": "rtmp://h/a\n[ code=403 need auth; authmod=llnw ]\nauthmod=llnw\nlive",
    }
    for name, text in table.items():
        save("addresses", f"written-{name}", text.encode())
    many = ",".join(f"n{number}" for number in range(40))
    bodies = {
        "plain": ("onMetaData", {"width": 640}),
        "one": ("onMetaData", {"shardcastNodes": "a"}),
        "two": ("onMetaData", {"shardcastNodes": "a,b", "height": 1}),
        "many": ("onMetaData", {"shardcastNodes": many}),
        "no-names": ("onMetaData", {"shardcastNodes": ",,\x07,"}),
        "number": ("onMetaData", {"shardcastNodes": 5}),
        "alone": ("onMetaData",),
        "text": ("onMetaData", "x"),
        "cue": ("onCuePoint", {"shardcastNodes": "a"}),
    }
    for name, body in bodies.items():
        save("node_path", f"written-{name}", wire.amf_text(*body))
    save("node_path", "written-junk", b"\x02\x00")


def amf0(save):
    """AMF0 by another implementation (py3amf), and what it would not write."""
    import datetime

    import pyamf

    class Thing:
        pass

    pyamf.register_class(Thing, "org.example.Thing")
    thing, shared = Thing(), {"a": 1}
    thing.name, thing.shared = "n", shared
    values = [thing, shared, shared, [1, "x", None, shared], datetime.datetime(2020, 1, 1),
              pyamf.MixedArray(a=1, b="c"), True, pyamf.Undefined]
    table = {
        "py3amf-all-kinds": bytes(pyamf.encode(*values, encoding=pyamf.AMF0).getvalue()),
        "py3amf-long-string": bytes(pyamf.encode("y" * 65536, encoding=pyamf.AMF0).getvalue()),
        "py3amf-xml": b"\x0f" + struct.pack(">I", 4) + b"<a/>",
        "written-unsupported": b"\x0d",
        "written-movie-clip": b"\x04",
        "written-record-set": b"\x0e",
        "written-unknown-marker": b"\x42",
        "written-bad-reference": b"\x07\0\1",
        "written-reference-to-itself": b"\x0a\0\0\0\1\x07\0\0",
        "written-too-deep": b"\x0a\0\0\0\1" * 17 + b"\5",
        "written-too-many": b"\5" * 4097,
        "written-references-too-large": b"\x03\0\1a" + wire.amf_bytes("z" * 900) + b"\0\0\x09"
                                        + b"\x07\0\0" * 80,
        "written-no-utf8": b"\2\0\2\xff\xfe",
        "written-cut": b"\2\0\x09abc",
        "written-nan": b"\0\x7f\xf8\0\0\0\0\0\1",
    }
    amf3 = bytes(pyamf.encode(*values, 3, -1, 2.5, "x", encoding=pyamf.AMF3).getvalue())
    one = bytes(pyamf.encode({"app": "live", "list": [1, 2]}, encoding=pyamf.AMF3).getvalue())
    table["py3amf-amf3-all-kinds"] = b"\x11" + amf3
    table["py3amf-amf3-object"] = wire.amf_text("call", 2) + b"\x11" + one
    for name, data in table.items():
        save("amf0", name, data)
        save("command", name, wire.amf_text("call", 2.0, None) + data)
    save("command", "py3amf-type-17", b"\0" + wire.amf_text("call", 2, None) + b"\x11" + one)
    for name in ("@setDataFrame", "@clearDataFrame"):
        save("command", f"written-{name[1:]}-alone", wire.amf_text(name))
        save("command", f"written-{name[1:]}-number", wire.amf_text(name) + NUMBER)
        save("command", f"written-{name[1:]}", wire.amf_text(name, "onMetaData", {"width": 1}))
    save("command", "written-without-a-name", NUMBER)
    codecs = {
        "list": {"fourCcList": ["av01", "hvc1", "Opus", "av01", "five5", 7]},
        "list-of-all": {"fourCcList": ["*"]},
        "list-with-names": {"fourCcList": {"0": "hvc1", "1": "*", "2": 5.0}},
        "list-without-end": {"fourCcList": [f"{number:04}" for number in range(70)]},
        "list-no-list": {"fourCcList": "hvc1"},
        "maps": {"videoFourCcInfoMap": {"hvc1": 1, "av01": 0, "*": 4},
                 "audioFourCcInfoMap": {"Opus": 2, "mp4a": "x"}, "capsEx": 15},
        "map-no-map": {"videoFourCcInfoMap": 5.0, "audioFourCcInfoMap": ["*"]},
    }
    for name, said in codecs.items():
        save("command", f"written-codecs-{name}", wire.amf_text("connect", 1, {"app": "live", **said}))
        save("rtmp_server", f"written-codecs-{name}", wire.handshake() + call_connect(said))


def amf3(save):
    """The vectors of the tests, which py3amf wrote; and what no writer would write."""
    for vector in json.loads((VECTORS / "amf3.json").read_text()):
        save("amf3", f"py3amf-{vector['name'].replace(' ', '-')}", bytes.fromhex(vector["bytes"])[1:])
    text = lambda word: bytes([len(word) << 1 | 1]) + word
    table = {
        "unknown-marker": b"\x42",
        "cut-u29": b"\4\x80\x80",
        "cut-double": b"\5\0\0",
        "cut-string": b"\6\x0bab",
        "xml": b"\x0b" + text(b"<a/>"),
        "xml-document": b"\7" + text(b"<a/>") + b"\x11\7\0",
        "date": b"\x08\1" + bytes(8) + b"\x11\x08\0",
        "byte-array": b"\x0c" + text(b"abc"),
        "vector-int": b"\x0d\5\0\xff\xff\xff\xff\0\0\0\1",
        "vector-uint": b"\x0e\3\1\xff\xff\xff\xff",
        "vector-double": b"\x0f\3\0" + struct.pack(">d", 2.5),
        "vector-object": b"\x10\5\0\1\4\1\6\3a",
        "vector-cut": b"\x0d\xff\xff\xff\xff\0",
        "dictionary": b"\x11\7\0\6\3a\4\1\4\7\6\3b\1\2",
        "array-with-names": b"\x09\5\3a\4\1\1\4\2\4\3",
        "dynamic-object": b"\x0a\x0b\1" + text(b"name") + b"\4\5\1",
        "typed-object-twice": b"\x09\5\1" + b"\x0a\x13" + text(b"Thing") + text(b"x") + b"\4\1"
                              + b"\x0a\1\4\2",
        "trait-of-nowhere": b"\x0a\5",
        "collection": b"\x0a\7" + text(b"flex.messaging.io.ArrayCollection") + b"\x09\3\1\4\1",
        "form-of-its-own": b"\x0a\7" + text(b"org.example.Thing") + b"\4\1",
        "string-of-nowhere": b"\6\4",
        "object-of-nowhere": b"\x09\6",
        "itself": b"\x09\3\1\x09\0",
        "too-deep": b"\x09\3\1" * 18,
        "too-many": b"\x09" + b"\xc1\3\1" + b"\1" * 4200,
        "traits-too-many": b"\x0a\xff\xff\xff\xf3\1" + b"\3a" * 4200,
        "references-too-large": b"\x09\x81\x43\1" + b"\6\x8f\x51" + b"z" * 1000 + b"\6\0" * 90,
        "objects-too-large": b"\x09\x81\x43\1" + b"\x09\3\1\6\x8f\x51" + b"z" * 1000 + b"\x09\2" * 90,
        "no-utf8": b"\6\5\xff\xfe",
    }
    for name, data in table.items():
        save("amf3", f"written-{name}", data)


def aggregate(save):
    """What Flash Media Server sent, and tags that break the rules."""
    rest, number = (VECTORS / "aggregate.bin").read_bytes(), 0
    while rest and number < 6:
        length = int.from_bytes(rest[4:8], "big")
        save("aggregate", f"fms-{number}", rest[8:8 + min(length, 4_000)])
        rest, number = rest[8 + length:], number + 1
    tag = lambda kind, at, body: (bytes([kind]) + len(body).to_bytes(3, "big")
                                  + (at & 0xFFFFFF).to_bytes(3, "big") + bytes([at >> 24, 0, 0, 0])
                                  + body + (len(body) + 11).to_bytes(4, "big"))
    table = {
        "three": tag(9, 1000, b"\x17\1\0\0\0a") + tag(8, 1020, b"\xaf\1b") + tag(18, 1040, b"\5"),
        "last-pointer-missing": (tag(9, 0, b"a") + tag(8, 20, b"b"))[:-4],
        "around-the-end-of-time": tag(9, 0xFFFFFFF0, b"a") + tag(8, 4, b"b"),
        "back-in-time": tag(9, 500, b"a") + tag(8, 400, b"b"),
        "other-kinds": tag(4, 0, b"\0\6") + tag(22, 5, b"x") + tag(8, 20, b"b") + tag(15, 30, b"\0\5"),
        "empty-bodies": tag(9, 0, b"") * 5,
        "cut": tag(9, 0, b"abcdef")[:-6],
        "length-huge": b"\x09\xff\xff\xff" + bytes(40),
        "too-many": tag(8, 0, b"") * 1025,
        "short": b"\x09\0\0",
    }
    for name, data in table.items():
        save("aggregate", f"written-{name}", data)


def codec(save):
    """Every codec id and FourCC, and Enhanced RTMP's rarer packets."""
    for number in range(16):
        save("codec", f"written-id-{number}", bytes([0x10 | number, 1, 0, 0, 5, 9]))
        save("codec", f"written-format-{number}", bytes([number << 4 | 2, 1, 0, 0, 5, 9]))
    for fourcc in (b"avc1", b"hvc1", b"vvc1", b"av01", b"vp08", b"vp09"):
        name = fourcc.decode()
        for packet in range(8):
            save("codec", f"written-{name}-{packet}",
                 bytes([0x90 | packet]) + fourcc + b"\0\0\5\1\2\3")
    for fourcc in (b"mp4a", b"Opus", b"fLaC", b"ac-3", b"ec-3", b".mp3", b"\0\1\2\3"):
        name = fourcc.hex()
        for packet in range(3):
            save("codec", f"written-{name}-{packet}", bytes([0x90 | packet]) + fourcc + b"\1\2\3")
    modifier = b"\2\0\0\7\x01"
    many = b"hvc1\0\0\0\2ab" + b"av01\1\0\0\2cd"
    table = {
        "mod-ex-video": b"\x97" + modifier + b"hvc1\0\0\5\1",
        "mod-ex-long": b"\x97\xff\1\0" + bytes(257) + b"\1hvc1\0\0\5\1",
        "mod-ex-audio": b"\x97" + modifier + b"Opus\1",
        "mod-ex-cut": b"\x97\xff\1",
        "multitrack-one": b"\x96\1hvc1\0\0\0\5abc",
        "multitrack-many": b"\x96\x11avc1\0\0\0\5\0\0\1ab\1\0\0\5\0\0\2cd",
        "multitrack-codecs": b"\x96\x20" + many,
        "multitrack-unknown": b"\x96\x31hvc1\0",
        "multitrack-in-itself": b"\x96\6hvc1\0",
        "multitrack-audio": b"\x95\1Opus\0abc",
        "multitrack-audio-many": b"\x95\x11mp4a\0\0\0\2ab\1\0\0\2cd",
        "multitrack-audio-codecs": b"\x95\x21mp4a\0\0\0\2abOpus\1\0\0\2cd",
        "command-frame": b"\x57\0", "command-extended": b"\xd0\0", "frame-type-0": b"\x07\1\0\0\0\1",
        "packet-type-9": b"\x17\x09\0\0\0", "aac-type-9": b"\xaf\x09", "avc-end": b"\x17\2\0\0\0",
        "negative-cts": b"\x27\1\xff\xff\xd8\1",
    }
    for name, data in table.items():
        save("codec", f"written-{name}", data)
    for profile in (66, 77, 88, 100, 110, 122, 244, 1):
        save("codec", f"written-avc-profile-{profile}",
             b"\x17\0\0\0\0\1" + bytes([profile, 0xC0, 31]) + b"\xff\xe1")
    for profile in range(5):
        save("codec", f"written-hevc-profile-{profile}",
             b"\x90hvc1\1" + bytes([profile]) + bytes(10) + b"\x7b")
    for profile in range(4):
        save("codec", f"written-av1-profile-{profile}", b"\x90av01\x81" + bytes([profile << 5 | 8]) + b"\0\0")

    def aac(*fields):
        """Fields of (value, bits), as bytes."""
        bits = "".join(f"{value:0{width}b}" for value, width in fields)
        return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")

    for kind in (1, 2, 3, 4, 6):
        save("codec", f"written-aac-{kind}", b"\xaf\0" + aac((kind, 5), (4, 4), (2, 4)))
    explicit = ((15, 4), (44_100, 24))
    table = {
        "he": ((5, 5), (7, 4), (2, 4), (4, 4), (2, 5)), "he-v2": ((29, 5), (7, 4), (1, 4), (4, 4), (2, 5)),
        "he-other": ((5, 5), (7, 4), (2, 4), (4, 4), (1, 5)), "explicit-rate": ((2, 5), *explicit, (7, 4)),
        "escape": ((31, 5), (10, 6), (4, 4), (9, 4)), "reserved-rate": ((2, 5), (13, 4), (2, 4)),
        "cut": ((2, 5),),
    }
    for name, fields in table.items():
        save("codec", f"written-aac-{name}", b"\xaf\0" + aac(*fields))
    save("codec", "written-aac-fourcc", b"\x90mp4a" + aac((2, 5), (3, 4), (2, 4)))
    save("codec", "written-one-byte", b"\x17")
    save("codec", "written-fourcc-cut", b"\x91hvc")


def chunks(save):
    """Every form of header, every message of the protocol, and chunks that break the rules."""
    audio = dict(kind=8, payload=bytes(200), stream=1, chunk_stream=4)
    late = wire.message(**audio, time_ms=0x1000000)
    repeated = bytes([0xC4]) + struct.pack(">I", 0x1000000)
    controls = [(1, b"\0\0\x10\0"), (2, b"\0\0\0\4"), (3, b"\0\0\1\0"), (5, b"\0\x26\x25\xa0"),
                *((6, b"\0\0\1\0" + bytes([kind])) for kind in range(4)),
                *((4, struct.pack(">HII", event, 1, 3000)) for event in (0, 1, 2, 3, 4, 6, 7, 31))]
    table = {
        "extended-repeated": late,
        "extended-not-repeated": late.replace(repeated, bytes([0xC4])),
        "extended-half-matched": late.replace(repeated, bytes([0xC4])) .replace(
            bytes([0xC4]) + bytes(72), bytes([0xC4, 1, 0, 7]) + bytes(69)),
        "type-3-again": wire.message(**audio, time_ms=20) + b"\xc4" + bytes(128) + b"\xc4" + bytes(72),
        "type-1-and-2": b"\x44\0\0\5\0\0\1\x08a" + b"\x84\0\0\5b" + b"\xc4c",
        "two-byte-id": b"\0\6\0\0\0\0\0\1\x08\1\0\0\0a" + b"\xc0\6b",
        "three-byte-id": b"\1\6\1\0\0\0\0\0\1\x08\1\0\0\0a" + b"\xc1\6\1b",
        "controls": b"".join(wire.message(kind, body, chunk_stream=2) for kind, body in controls),
        "abort": b"\4\0\0\0\0\0\xc8\x08\1\0\0\0" + bytes(128)
                 + wire.message(2, b"\0\0\0\4", chunk_stream=2) + wire.message(**audio),
        "abort-cut": wire.message(2, b"\0", chunk_stream=2),
        "chunk-size-0": wire.message(1, bytes(4), chunk_stream=2),
        "chunk-size-huge": wire.message(1, b"\x7f\xff\xff\xff", chunk_stream=2)
                           + wire.message(**audio, chunk_size=1 << 20),
        "claims-16-MiB": b"\4\0\0\0\xff\xff\xff\x09\1\0\0\0" + bytes(100),
        "claims-64-KiB-on-three": b"".join(bytes([id, 0, 0, 0, 1, 0, 0, 9, 1, 0, 0, 0])
                                          + bytes(128) for id in (4, 5, 6)),
        "no-message-before": b"\x84\0\0\5",
        "message-inside-message": b"\4\0\0\0\0\1\0\x08\1\0\0\0" + bytes(128)
                                  + b"\4\0\0\0\0\1\1\x08\1\0\0\0",
        "type-0-as-continuation": b"\4\0\0\0\0\1\0\x08\1\0\0\0" + bytes(128)
                                  + b"\4\0\0\0\0\1\0\x08\1\0\0\0" + bytes(128),
        "too-many-streams": b"".join(bytes([2 + id]) + b"\0\0\0\0\0\0\x08\1\0\0\0"
                                     for id in range(62)) + b"".join(
            bytes([0, id]) + b"\0\0\0\0\0\0\x08\1\0\0\0" for id in range(4)),
        "empty-messages": wire.message(8, b"", 1, 4) + b"\xc4\xc4",
    }
    for name, data in table.items():
        save("chunks", f"written-{name}", data)
        connect = call_connect()
        save("rtmp_server", f"written-{name}", wire.handshake() + connect + data)


def http(save):
    """Methods, versions, targets and heads, good and bad."""
    head = "Host: h.example:8080\r\nUser-Agent: t\r\n\r\n"
    table = {
        **{method.lower(): f"{method} /live/cam.flv HTTP/1.1\r\n{head}"
           for method in ("HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH")},
        "options-star": f"OPTIONS * HTTP/1.1\r\n{head}",
        "http-10": "GET /live/cam.flv HTTP/1.0\r\n\r\n",
        "http-10-keep-alive": "GET /live/cam.flv HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        "http-2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "http-9": f"GET / HTTP/1.9\r\n{head}",
        "close": f"GET /live/cam.flv HTTP/1.1\r\nConnection: close\r\n{head}",
        "absolute": f"GET http://h.example/live/cam.flv?vhost=v HTTP/1.1\r\n{head}",
        "absolute-bare": f"GET http://h.example?x=1 HTTP/1.1\r\n{head}",
        "escapes": f"GET /live/my%20cam%2f%E4%BD%A0.flv?a=%2&b=+&c=%zz&&d HTTP/1.1\r\n{head}",
        "bad-escape": f"GET /live/%g0.flv HTTP/1.1\r\n{head}",
        "no-utf8": f"GET /live/%ff.flv HTTP/1.1\r\n{head}",
        "dots": f"GET /live/../cam.flv HTTP/1.1\r\n{head}",
        "newline": f"GET /live/%0d%0aSet-Cookie:x.flv HTTP/1.1\r\n{head}",
        "instance": f"GET /live/one/cam/high.flv HTTP/1.1\r\n{head}",
        "no-stream": f"GET /favicon.ico HTTP/1.1\r\n{head}",
        "no-host": "GET / HTTP/1.1\r\n\r\n",
        "two-hosts": f"GET / HTTP/1.1\r\nHost: a\r\n{head}",
        "body": f"POST /x HTTP/1.1\r\nContent-Length: 5\r\n{head}12345",
        "lengths-differ": f"POST /x HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n{head}",
        "length-no-number": f"POST /x HTTP/1.1\r\nContent-Length: +5\r\n{head}",
        "length-huge": f"POST /x HTTP/1.1\r\nContent-Length: {'9' * 30}\r\n{head}",
        "length-and-chunked":
            f"POST /x HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n{head}",
        "chunked": f"POST /x HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n{head}0\r\n\r\n",
        "many-headers": "GET / HTTP/1.1\r\n" + "a: b\r\n" * 65 + head,
        "long-head": "GET / HTTP/1.1\r\nX: " + "x" * 17_000,
        "junk": "\3junk that is no HTTP\r\n\r\n",
        "origin": f"GET /live/cam.flv HTTP/1.1\r\nOrigin: http://p.example\r\nReferer: http://p/\r\n{head}",
        "websocket": "GET /live/cam.flv HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {'A' * 22}==\r\n{head}",
    }
    masked = lambda first, body: (bytes([first, 0x80 | len(body)]) + b"mask"
                                  + bytes(byte ^ b"mask"[at % 4] for at, byte in enumerate(body)))
    for name, text in table.items():
        data = text.encode()
        save("http_request", f"written-{name}", data)
        save("http_session", f"written-{name}", data)
    upgrade = table["websocket"].encode()
    frames = {
        "ping-pong-close": masked(0x89, b"hi") + masked(0x8A, b"") + masked(0x88, b"\x03\xe8bye"),
        "fragments": masked(0x01, b"a") + masked(0x80, b"b") + masked(0x02, b"c"),
        "unmasked": b"\x81\1a",
        "claims-2-63": b"\x82\xff" + b"\x7f" + b"\xff" * 7 + b"mask" + bytes(50),
        "long-ping": b"\x89\xfe\1\0mask" + bytes(256),
        "reserved-bits": masked(0xF1, b"a"),
        "old-version": b"",
    }
    for name, data in frames.items():
        request = upgrade.replace(b"Version: 13", b"Version: 8") if name == "old-version" else upgrade
        save("http_session", f"written-websocket-{name}", request + data)


def http_response(save):
    """Answers of endpoints, good and bad."""
    chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    table = {
        "length": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0",
        "more-than-asked": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0HTTP/1.1 200 OK\r\n",
        "cut": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n0",
        "http-10": "HTTP/1.0 403 no\r\n\r\nall of it",
        "http-10-keep-alive": "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",
        "close": "HTTP/1.1 200 OK\r\nConnection: x, close\r\nContent-Length: 0\r\n\r\n",
        "no-content": "HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n",
        "not-modified": "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "redirect": "HTTP/1.1 302 Found\r\nLocation: rtmp://h/live/other\r\nLocation: x\r\n"
                    "Content-Length: 0\r\n\r\n",
        "location-empty": "HTTP/1.1 302 Found\r\nLocation: \r\n\r\n",
        "interim": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                   "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0",
        "chunks": chunked + "3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nT: 1\r\n\r\n",
        "chunk-cut": chunked + "ff\r\nabc",
        "chunk-size-empty": chunked + "\r\n",
        "chunk-size-no-number": chunked + "+3\r\nabc\r\n",
        "chunk-size-huge": chunked + "f" * 17 + "\r\nabc",
        "chunk-end-missing": chunked + "3\r\nabcd\r\n0\r\n\r\n",
        "chunk-line-long": chunked + "3;" + "x" * 1100 + "\r\nabc",
        "body-too-long": "HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + "x" * 3000,
        "chunks-too-long": chunked + ("400\r\n" + "x" * 1024 + "\r\n") * 3,
        "until-end-too-long": "HTTP/1.0 200 OK\r\n\r\n" + "x" * 3000,
        "lengths-differ": "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n0",
        "length-no-number": "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n0",
        "many-headers": "HTTP/1.1 200 OK\r\n" + "a: b\r\n" * 70 + "\r\n",
        "long-head": "HTTP/1.1 200 OK\r\nX: " + "x" * 17_000,
        "head-cut": "HTTP/1.1 200",
        "no-http": "SSH-2.0-OpenSSH_9.2p1\r\n",
    }
    for name, text in table.items():
        save("http_response", f"written-{name}", text.encode())


def frame(first, body, mask=b"mask"):
    """A frame of a client."""
    length = (bytes([0x80 | len(body)]) if len(body) < 126
              else b"\xfe" + struct.pack(">H", len(body)) if len(body) < 65536
              else b"\xff" + struct.pack(">Q", len(body)))
    return bytes([first]) + length + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(body))


def websocket(save):
    """Frames behind the upgrade, good and bad."""
    table = {
        "texts": frame(0x81, b"a") + frame(0x81, b"") + frame(0x82, bytes(200)),
        "fragments": frame(0x01, b"a") + frame(0x89, b"between") + frame(0x00, b"b") + frame(0x80, b"c"),
        "pings": frame(0x89, b"1") + frame(0x89, b"2") + frame(0x8A, b"3"),
        "close": frame(0x88, b"\x03\xe8bye") + frame(0x81, b"too late"),
        "close-empty": frame(0x88, b""),
        "close-one-byte": frame(0x88, b"\3"),
        "close-code-999": frame(0x88, b"\x03\xe7"),
        "close-no-utf8": frame(0x88, b"\x03\xe8\xff"),
        "text-no-utf8": frame(0x81, b"\xff\xfe"),
        "fragments-no-utf8": frame(0x01, b"\xc3") + frame(0x80, b"\x28"),
        "too-long": frame(0x82, bytes(5000)),
        "fragments-too-long": frame(0x02, bytes(3000)) + frame(0x80, bytes(3000)),
        "claims-2-63": b"\x82\xff\x7f" + b"\xff" * 7 + b"mask",
        "unmasked": b"\x81\1a",
        "ping-too-long": frame(0x89, bytes(126)),
        "ping-in-fragments": frame(0x09, b"a"),
        "continuation-alone": frame(0x80, b"a"),
        "two-beginnings": frame(0x01, b"a") + frame(0x01, b"b"),
        "reserved-bits": frame(0xC1, b"a"),
        "reserved-opcode": frame(0x83, b"a"),
        "cut": frame(0x82, bytes(100))[:-1],
    }
    for name, data in table.items():
        save("websocket", f"written-{name}", data)


def proxy_protocol(save):
    """Headers of both versions, good and bad."""
    signature = b"\r\n\r\n\0\r\nQUIT\n"
    second = lambda command, family, body: (signature + bytes([command, family])
                                            + struct.pack(">H", len(body)) + body)
    four, six = bytes([192, 0, 2, 1, 10, 0, 0, 1, 4, 5, 7, 0x8F]), bytes(range(32)) + b"\4\5\7\x8f"
    table = {
        "1-tcp4": b"PROXY TCP4 192.0.2.1 10.0.0.1 56324 1935\r\n\3rest",
        "1-tcp6": b"PROXY TCP6 2001:db8::1 ::1 56324 1935\r\n",
        "1-mapped": b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n",
        "1-unknown": b"PROXY UNKNOWN\r\n",
        "1-unknown-longest": b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n",
        "1-too-long": b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
        "1-no-end": b"PROXY TCP4 " + b"1" * 100,
        "1-cut": b"PROXY TCP4 192.0.2.1",
        "1-family-differs": b"PROXY TCP4 ::1 ::1 1 2\r\n",
        "1-port-too-large": b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 1935\r\n",
        "1-words-missing": b"PROXY TCP4 192.0.2.1\r\n",
        "1-no-utf8": b"PROXY \xff\r\n",
        "2-tcp4": second(0x21, 0x11, four) + b"\3rest",
        "2-tcp6": second(0x21, 0x21, six),
        "2-mapped": second(0x21, 0x21, bytes(10) + b"\xff\xff" + four[:4] + six[16:]),
        "2-extras": second(0x21, 0x11, four + b"\4\0\3abc"),
        "2-local": second(0x20, 0, b""),
        "2-unix": second(0x21, 0x31, bytes(216)),
        "2-body-short": second(0x21, 0x11, four[:11]),
        "2-body-short-6": second(0x21, 0x21, six[:35]),
        "2-version-3": second(0x31, 0x11, four),
        "2-command-2": second(0x22, 0x11, four),
        "2-too-long": signature + b"\x21\x11\xff\xff",
        "2-cut": second(0x21, 0x11, four)[:-1],
        "rtmp": b"\3" + bytes(20),
    }
    for name, data in table.items():
        save("proxy_protocol", f"written-{name}", data)


def push(save):
    """Messages of the push channel, and tokens: those of the contract, and what may be wrong."""
    bodies = {
        "text": "hello", "quotes": 'he said "x"\n\r\\ \u2028 \U0001f40e', "json-text": '"\\u0041\\n"',
        "object": '{"from": {"id": 5, "name": "n"}, "text": "t", "list": [1, 2.5, -3e300, null, true]}',
        "array": "[1, [2, [3]], {}]", "number": "1e400", "null": "null", "false": "false", "empty": "",
        "empty-text": '""', "deep": "[" * 40 + "]" * 40, "long": "x" * 70_000, "id": "17-1",
        "name": "camera 1", "name-number": "-17", "name-quoted": '"a/b"', "name-long": "n" * 65,
        "name-float": "5.5", "name-unsigned": "18446744073709551615", "f64-whole": "@@\0\0\0\0\0\0",
        "id-too-large": "18446744073709551616-1", "half-an-id": "17-",
    }
    for name, text in bodies.items():
        save("push_message", f"written-{name}", text.encode() or b"\n")
    tokens = {
        "contract": "eyJjaGFubmVscyI6WzEwLDEyXSwidXNlcl9pZCI6NX0=--0123456789abcdef0123456789abcdef01234567",
        "unsigned": "eyJ1c2VyX2lkIjo1fQ==", "mac-short": "e30=--0123", "mac-no-hex": f"e30=--{'g' * 40}",
        "mac-upper-case": f"e30=--{'A' * 40}", "long": "a" * 20_000 + "--" + "0" * 40,
        "base64": "eyJ1c2VyX2lkIjo1fQ", "base64-lines": "eyJ1c2Vy\nX2lkIjo1\r\nfQ==", "base64-bad": "e*==",
        "base64-spaces": "eyJ1c2VyX2lkIjo1LCJhIjoiPz8+In0 ",
        "user": '{"user_id":5}', "channels": '{"channels":[12,10,10,-1],"user_id":5,"exp":1001}',
        "expired": '{"user_id":5,"exp":1000}', "exp-text": '{"user_id":5,"exp":"x"}', "no-user": "{}",
        "user-null": '{"user_id":null}', "user-text": '{"user_id":"5"}', "user-float": '{"user_id":5.5}',
        "channels-null": '{"channels":null,"user_id":1}', "channels-text": '{"channels":"x","user_id":1}',
        "channel-text": '{"channels":["x"],"user_id":1}', "array": "[1]", "no-json": "{",
        "channels-too-many": '{"user_id":1,"channels":[' + ",".join(map(str, range(3000))) + "]}",
    }
    for name, text in tokens.items():
        save("push_session", f"written-{name}", text.encode())


def rooms(save):
    """Texts of members of a room, good and bad."""
    table = {
        "info": {"event": "info"}, "ping": {"event": "ping"}, "leave": {"event": "leave_room"},
        "join": {"event": "join_room", "room_id": "abc", "status": {"name": "Ada", "user_agent": "chrome"},
                 "resume_token": "t"},
        "join-hidden-name": {"event": "join_room", "room_id": "ö" * 50, "status": {"name": "Zé"}},
        "join-no-room": {"event": "join_room", "room_id": ""},
        "join-room-number": {"event": "join_room", "room_id": 7},
        "join-long": {"event": "join_room", "room_id": "x" * 51},
        "update": {"event": "update_status", "status": {"name": None, "foo": 1}},
        "update-nothing": {"event": "update_status"},
        "update-text": {"event": "update_status", "status": "x"},
        "update-number": {"event": "update_status", "status": {"name": 5}},
        "update-blank": {"event": "update_status", "status": {"name": " \t"}},
        "update-long": {"event": "update_status", "status": {"name": "x" * 51}},
        "update-agent": {"event": "update_status", "status": {"user_agent": "netscape"}},
        "send": {"event": "send_to_peer", "peer_id": "00112233-4455-4677-8899-aabbccddeeff",
                 "data": {"event": "offer", "sdp": {"type": "offer"}, "sender_id": "x"}},
        "send-no-peer": {"event": "send_to_peer", "peer_id": 5, "data": {"event": "ice_candidate"}},
        "send-event": {"event": "send_to_peer", "peer_id": "x", "data": {"event": "joined_room"}},
        "send-raw": {"event": "send_to_peer", "peer_id": "x", "data": "raw"},
        "no-event": {}, "event-null": {"event": None}, "event-number": {"event": 1},
        "event-unknown": {"event": "x"}, "list": [], "text": "x",
    }
    for name, message in table.items():
        text = json.dumps(message, ensure_ascii=False).encode()
        save("rooms", f"written-{name}", text)
        save("room_texts", f"written-{name}", text)
    save("room_texts", "written-no-json", b"{\"event\":")
    save("room_texts", "written-peer", b"00112233-4455-4677-8899-aabbccddeeff")
    save("room_texts", "written-peer-upper-case", b"00112233-4455-4677-8899-AABBCCDDEEFF")
    save("room_texts", "written-peer-short", b"00112233-4455-4677-8899")


def names(save):
    """app, tcUrl, stream, HTTP path and host, one per line."""
    table = {
        "instance": ("live/one", "rtmp://h/live/one", "cam", "/live/one/cam.flv", "H.Example.:80"),
        "prefix": ("a/b/c/d/", "rtmp://u:p@h:1935/a", "mp4:x/y.mp4?k=1&vhost=known.example",
                   "/a/b/c/d.flv", "[::1]:8080"),
        "vhost-in-app": ("live?vhost=known.example&x=1", "rtmp://h/live?token=2", "flv:s", "/live//s.flv",
                         "known.example"),
        "vhost-in-url": ("live/_definst_", "rtmp://h/live?vhost=KNOWN.example.", "raw:/s/", "/live/s",
                         "::1"),
        "default": ("/live/", "rtmp://[::1]:1935/live", "s?", "live/s.flv", ""),
        "known-host": ("live", "rtmp://known.example:1935/live", "a/b", "/live/x/a/b.flv",
                       "known.example:8080"),
        "empty": ("", "", "", "", ""),
        "no-url": ("live", "live", "mp3:", "/.flv", "."),
        "control": ("li\7ve", "rtmp://h\7/live", "s\1", "/live/\2.flv", "h\3"),
        "dots": ("live/../x", "rtmp://h/", "../../etc", "/live/../s.flv", ".."),
        "dot-instance": ("live/..", "rtmp://h/", "a/./b", "/../s.flv", "h"),
        "long": ("a" * 513, "rtmp://" + "h" * 600, "s" * 513, "/" + "p" * 600 + "/s.flv", "h" * 600),
        "long-vhost": ("live?vhost=" + "v" * 600, "rtmp://h/live", "s?vhost=%0a", "/live/s.flv", "h"),
        "escaped-vhost": ("live?vhost=%6bnown.example", "rtmp://h/live", "s?vhost=", "/live/s.flv", "h"),
        "utf8": ("live", "rtmp://höst/live", "你好", "/live/你好.flv", "höst"),
    }
    for name, lines in table.items():
        save("names", f"written-{name}", "\n".join(lines).encode())


def flv(save):
    """Headers and tags, good and bad."""
    header = b"FLV\1\5\0\0\0\x09"
    tag = b"\0\0\0\0\x09\0\0\2\x12\x34\x56\x78\0\0\0\x17\1"
    table = {
        "longer-header": b"FLV\1\5\0\0\0\x0bxx" + tag,
        "no-header": b"GIF89a---",
        "version-2": b"FLV\2\5\0\0\0\x09",
        "offset-huge": b"FLV\1\5\xff\0\0\x09",
        "encrypted": header + b"\0\0\0\0\x29\0\0\2\0\0\0\0\0\0\0ab",
        "too-long": header + b"\0\0\0\0\x09\xff\xff\xff\0\0\0\0\0\0\0",
        "empty-tag": header + b"\0\0\0\0\x08\0\0\0\0\0\0\0\0\0\0" + tag,
        "cut": header + tag[:-1],
    }
    for name, data in table.items():
        save("flv", f"written-{name}", data)
    save("flv", "written-three-kinds", header + tag + tag.replace(b"\x09", b"\x08", 1)
         + tag.replace(b"\x09", b"\x12", 1))


def call_connect(extra=None):
    return wire.call("connect", 1, {"app": "live", "tcUrl": "rtmp://h/live", **(extra or {})})


def sessions(save):
    """Commands that other clients send, with their answers."""
    start = wire.handshake() + call_connect({"objectEncoding": 3, "capsEx": 15})
    create = wire.call("createStream", 2, None)
    play = wire.call("play", 0, None, "s", stream=1)
    publish = wire.call("publish", 0, None, "s", "live", stream=1)

    def dressed(name, transaction, *args, stream=0):
        return wire.message(17, b"\0" + wire.amf_text(name, transaction, *args), stream)

    tags = b"".join(bytes([kind]) + len(body).to_bytes(3, "big") + bytes([0, 0, at, 0, 0, 0, 0]) + body
                    + (len(body) + 11).to_bytes(4, "big")
                    for kind, at, body in ((9, 0, b"\x17\1\0\0\0a"), (8, 20, b"\xaf\1b"), (18, 40, b"\5")))
    table = {
        "amf3-commands": dressed("createStream", 2, None) + dressed("play", 0, None, "s", stream=1),
        "player-calls": create + play + b"".join((
            wire.call("pause", 3, None, True, 0, stream=1), wire.call("pauseRaw", 3, None, True, 0, stream=1),
            wire.call("receiveAudio", 0, None, False, stream=1),
            wire.call("receiveVideo", 0, None, False, stream=1), wire.call("seek", 4, None, 5000, stream=1),
            wire.call("receiveAudio", 0, None, True, stream=1),
            wire.call("receiveVideo", 0, None, True, stream=1),
            wire.call("pause", 3, None, False, 0, stream=1),
            wire.call("play2", 0, None, {"streamName": "t", "transition": "switch"}, stream=1),
            wire.call("FCSubscribe", 5, None, "s"), wire.call("getStreamLength", 6, None, "s"),
            wire.call("nothing", 7, None), wire.call("play", 0, None, False, stream=1))),
        "aggregate": create + publish + wire.message(22, tags, 1, 4, 1000),
        "aggregate-cut": create + publish + wire.message(22, tags[:-5], 1, 4, 1000),
        "publish-twice": create + publish + publish + wire.call("publish", 0, None, None, stream=1)
                         + wire.call("publish", 0, None, "r", "record", stream=1)
                         + wire.call("publish", 0, None, "a", "append", stream=1)
                         + wire.call("closeStream", 0, None, stream=1),
        "nine-streams": create * 9 + wire.call("deleteStream", 0, None, 3) + create,
        "goodbyes": create + publish + wire.call("FCUnpublish", 3, None, "s")
                    + wire.call("deleteStream", 4, None, "s"),
        "before-connect": b"",
        "two-connects": call_connect(),
        "stream-that-is-not": wire.call("play", 0, None, "s", stream=7),
        "bad-name": create + wire.call("publish", 0, None, "..", "live", stream=1),
        "shared-objects": wire.message(19, b"\0\1so", 0) + wire.message(16, b"\0\0\1so", 0),
        "windows": wire.message(5, b"\0\0\0\1", chunk_stream=2) + create * 3
                   + wire.message(4, b"\0\6\0\0\0\1", chunk_stream=2),
        "metadata": create + publish + wire.message(18, wire.amf_text("@setDataFrame", "onMetaData", {"a": 1}), 1)
                    + wire.message(15, b"\0" + wire.amf_text("onMetaData", {"a": 2}), 1)
                    + wire.message(18, wire.amf_text("@clearDataFrame", "onMetaData"), 1)
                    + wire.message(18, wire.amf_text("onTextData", {"text": "t"}), 1),
    }
    for name, data in table.items():
        beginning = wire.handshake() + create if name == "before-connect" else start
        save("rtmp_server", f"written-{name}", beginning + data)

    def status(level, code, stream=1):
        information = {"level": level, "code": code, "description": ""}
        return wire.call("onStatus", 0, None, information, stream=stream)

    accepted = wire.handshake() + wire.call("_result", 1, {"fmsVer": "FMS/3"}, {"level": "status"})
    created = accepted + wire.call("_result", 2, None, 1) + wire.call("_result", 4, None, 1)
    answers = {
        "connect-refused": wire.handshake() + wire.call("_error", 1, None, {"description": "no"}),
        "no-stream-id": accepted + wire.call("_result", 2, None, None) + wire.call("_result", 4, None, 0),
        "no-stream": accepted + wire.call("_error", 2, None, None) + wire.call("_error", 4, None, {}),
        "statuses": created + status("status", "NetStream.Publish.Start")
                    + status("status", "NetStream.Play.Start") + status("warning", "Other")
                    + status("error", "NetStream.Publish.BadName"),
        "pings": created + wire.message(4, b"\0\6\0\0\0\7", chunk_stream=2)
                 + wire.message(4, b"\0\1\0\0\0\1", chunk_stream=2)
                 + wire.message(5, b"\0\0\0\x10", chunk_stream=2)
                 + wire.message(6, b"\0\0\0\x10\2", chunk_stream=2) * 2 + wire.call("close", 0, None),
        "media": created + wire.message(9, b"\x17\1\0\0\0a", 1, 6) + wire.message(8, b"\xaf\1b", 1, 4)
                 + wire.message(18, wire.amf_text("onMetaData", {"a": 1}), 1, 5)
                 + wire.message(22, tags, 1, 4),
        "amf3": created + dressed("onStatus", 0, None, {"level": "error", "code": ""}, stream=1),
    }
    for name, data in answers.items():
        save("rtmp_client", f"written-{name}", data)
    save("handshake", "written-rtmpe", b"\6" + bytes(10))
    save("handshake", "written-http", b"GET / HTTP/1.1\r\n")
    save("handshake", "written-version-31", b"\x1f" + bytes(3072) + b"more")
