#!/usr/bin/env python3
"""Writes aggregate.bin and aggregate.txt from a session of Flash Media Server 5.0.3 with a player.

    git clone https://github.com/sile/erl-rtmpmsg && git -C erl-rtmpmsg checkout 8ab84ef
    tests/vectors/make_aggregate.py erl-rtmpmsg/data

Source: erl-rtmpmsg (MIT licence, Copyright (c) 2013-2014 Takeru Ohta), an RTMP library in Erlang. Its
data/aggregated.chunks is what the server sent, its media zeroed, and data/flat.chunks the same after
that library has split the aggregate messages.

aggregate.bin: per aggregate message its timestamp and length (32 bits each, big endian) and its payload.
aggregate.txt: the messages in them, one a line: type, timestamp, message stream, length.
"""
import sys
from pathlib import Path

AGGREGATE = 22
TAKEN = 4


def messages(data):
    """The messages of a chunk stream: (type, timestamp, message stream, payload)."""
    position, chunk_size, streams = 0, 128, {}
    while position < len(data):
        form, chunk_stream = data[position] >> 6, data[position] & 63
        assert chunk_stream >= 2, "the session uses short chunk stream ids only"
        position += 1
        state = streams.setdefault(chunk_stream, {"payload": b"", "time": 0, "delta": 0})
        if form < 3:
            time = int.from_bytes(data[position:position + 3], "big")
            assert time < 0xFFFFFF, "the session is short"
            position += 3
            if form < 2:
                state["length"] = int.from_bytes(data[position:position + 3], "big")
                state["type"] = data[position + 3]
                position += 4
            if form == 0:
                state["stream"] = int.from_bytes(data[position:position + 4], "little")
                position += 4
            state["delta"] = time
            state["time"] = time if form == 0 else state["time"] + time
        elif not state["payload"]:
            state["time"] += state["delta"]
        taken = min(chunk_size, state["length"] - len(state["payload"]))
        state["payload"] += data[position:position + taken]
        position += taken
        if len(state["payload"]) == state["length"]:
            yield state["type"], state["time"], state["stream"], state["payload"]
            if state["type"] == 1:
                chunk_size = int.from_bytes(state["payload"], "big")
            state["payload"] = b""


def count_tags(payload):
    position = count = 0
    while position < len(payload):
        position += 11 + int.from_bytes(payload[position + 1:position + 4], "big") + 4
        count += 1
    return count


source, target = Path(sys.argv[1]), Path(__file__).parent
flat = list(messages((source / "flat.chunks").read_bytes()))
place, taken, binary, lines = 0, 0, b"", []
for kind, time, stream, payload in messages((source / "aggregated.chunks").read_bytes()):
    if kind != AGGREGATE:
        assert flat[place] == (kind, time, stream, payload), "the two recordings are one session"
        place += 1
        continue
    parts = flat[place:place + count_tags(payload)]
    place += len(parts)
    if taken < TAKEN:
        taken += 1
        binary += time.to_bytes(4, "big") + len(payload).to_bytes(4, "big") + payload
        lines += [f"{kind} {at} {to} {len(body)}" for kind, at, to, body in parts]
assert place == len(flat), "every message was compared"
(target / "aggregate.bin").write_bytes(binary)
(target / "aggregate.txt").write_text("\n".join(lines) + "\n")
