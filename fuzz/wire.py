"""RTMP as bytes, as far as the corpora need it: chunks, messages, AMF0."""

import struct

HANDSHAKE_BYTES = 1 + 2 * 1536


def messages(data):
    """The messages of a chunk stream: (type, payload); stops where the bytes end."""
    chunk_size, streams, at = 128, {}, 0
    while at < len(data):
        kind, stream_id, at = data[at] >> 6, data[at] & 63, at + 1
        if stream_id < 2:
            raise ValueError("no client at hand uses that many chunk streams")
        stream = streams.setdefault(stream_id, {"body": bytearray(), "long": False})
        head = data[at:at + (11, 7, 3, 0)[kind]]
        at += (11, 7, 3, 0)[kind]
        if kind < 3:
            stream["long"] = head[:3] == b"\xff\xff\xff"
        if kind < 2 and len(head) >= 7:
            stream["length"], stream["type"] = int.from_bytes(head[3:6], "big"), head[6]
        if stream["long"]:
            at += 4
        take = min(chunk_size, stream["length"] - len(stream["body"]))
        stream["body"] += data[at:at + take]
        at += take
        if at > len(data) or len(stream["body"]) < stream["length"]:
            continue
        payload, stream["body"] = bytes(stream["body"]), bytearray()
        if stream["type"] == 1:
            chunk_size = struct.unpack(">I", payload[:4])[0]
        yield stream["type"], payload


def amf_value(data, at):
    """One AMF0 value, as far as clients use them in commands."""
    kind, at = data[at], at + 1
    if kind == 0:
        return struct.unpack(">d", data[at:at + 8])[0], at + 8
    if kind == 1:
        return bool(data[at]), at + 1
    if kind == 2:
        end = at + 2 + int.from_bytes(data[at:at + 2], "big")
        return data[at + 2:end].decode(), end
    if kind in (3, 8):
        at += 4 if kind == 8 else 0
        found = {}
        while data[at:at + 3] != b"\0\0\x09":
            end = at + 2 + int.from_bytes(data[at:at + 2], "big")
            name = data[at + 2:end].decode()
            found[name], at = amf_value(data, end)
        return found, at + 3
    return None, at


def amf_values(data):
    values, at = [], 0
    while at < len(data):
        value, at = amf_value(data, at)
        values.append(value)
    return values


def amf_bytes(value):
    if isinstance(value, bool):
        return bytes([1, value])
    if isinstance(value, (int, float)):
        return b"\0" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"\2" + struct.pack(">H", len(value)) + value.encode()
    if isinstance(value, dict):
        pairs = (struct.pack(">H", len(key)) + key.encode() + amf_bytes(it)
                 for key, it in value.items())
        return b"\3" + b"".join(pairs) + b"\0\0\x09"
    if isinstance(value, list):
        return b"\x0a" + struct.pack(">I", len(value)) + b"".join(map(amf_bytes, value))
    return b"\5"


def amf_text(*values):
    return b"".join(map(amf_bytes, values))


def handshake():
    """C0, C1 and C2 of the simple kind; a server does not look at C2."""
    return b"\3" + bytes(8) + bytes(range(256)) * 5 + bytes(248) + bytes(1536)


def message(kind, payload, stream=0, chunk_stream=3, time_ms=0, chunk_size=128):
    """A message in type 0 and type 3 chunks."""
    is_long = time_ms >= 0xFFFFFF
    extended = struct.pack(">I", time_ms) if is_long else b""
    field = 0xFFFFFF if is_long else time_ms
    out = bytearray([chunk_stream])
    out += field.to_bytes(3, "big") + len(payload).to_bytes(3, "big") + bytes([kind])
    out += struct.pack("<I", stream) + extended
    for at in range(0, len(payload), chunk_size):
        out += bytes([0xC0 | chunk_stream]) + extended if at else b""
        out += payload[at:at + chunk_size]
    return bytes(out)


def call(name, transaction, *args, stream=0, chunk_size=128):
    """A command of AMF0 without a command object, or with one as the first argument."""
    body = amf_text(name, transaction, *args)
    return message(20, body, stream, chunk_size=chunk_size)
