#!/usr/bin/env python3
"""Writes amf3.json: what py3amf 0.9.1 (PyPI), another implementation of AMF3, makes of values.

    python3 -m venv /tmp/py3amf && /tmp/py3amf/bin/pip install py3amf==0.9.1
    /tmp/py3amf/bin/python tests/vectors/make_amf3.py > tests/vectors/amf3.json

Each entry has a name, the bytes of an AMF0 message whose values stand behind the marker 0x11, and the
values in JSON. One encoder writes all values of a message, so references reach from one to another.
JSON has no name for some: {"date": ms}, {"xml": text}, {"class": name, "properties": {}}, "undefined",
and "unsupported" for a byte array, which AMF0 cannot hold.
"""
import datetime
import json

import pyamf
from pyamf import amf3
from pyamf.flex import ArrayCollection


class Point:
    class __amf__:
        static = ("x", "y")
        dynamic = False

    def __init__(self, x, y):
        self.x, self.y = x, y


class Options:
    class __amf__:
        static = ("streamName",)
        dynamic = True

    def __init__(self, streamName, **rest):
        self.streamName = streamName
        self.__dict__.update(rest)


pyamf.register_class(Point, "com.example.Point")
pyamf.register_class(Options, "flash.net.NetStreamPlayOptions")


def point(x, y):
    return {"class": "com.example.Point", "properties": {"x": x, "y": y}}


def obj(**properties):
    return pyamf.ASObject(properties)


shared = obj(codec="avc1", profile="high")
again = Point(3, 4)
list_shared = [1, "two", None]
info = {"videoWidth": 1920, "videoHeight": 1080.5, "encoder": "Lavf", "stereo": True}
noon = datetime.datetime(2021, 11, 21, 12, 0, 0, 250000)

CASES = [
    ("scalars", [None, pyamf.Undefined, True, False, "", "live", "žluťoučký 🐎"],
     [None, "undefined", True, False, "", "live", "žluťoučký 🐎"]),
    ("integers of every length", [0, 127, 128, 16383, 16384, 2097151, 2097152, 268435455],
     [0, 127, 128, 16383, 16384, 2097151, 2097152, 268435455]),
    ("negative integers", [-1, -2, -268435456], [-1, -2, -268435456]),
    ("numbers that are no 29-bit integers", [268435456, -268435457, 0.5, -1e300, 4294967295],
     [268435456, -268435457, 0.5, -1e300, 4294967295]),
    ("the same string three times", ["camera", "camera", {"camera": "camera"}],
     ["camera", "camera", {"camera": "camera"}]),
    ("an anonymous object", [obj(**info)], [info]),
    ("the same object twice", [shared, [shared, shared]],
     [dict(shared), [dict(shared), dict(shared)]]),
    ("objects of one class share its traits", [[Point(1, 2), again, again]],
     [[point(1, 2), point(3, 4), point(3, 4)]]),
    ("sealed and dynamic properties", [Options("cam", transition="switch", start=-2)],
     [{"class": "flash.net.NetStreamPlayOptions",
       "properties": {"streamName": "cam", "transition": "switch", "start": -2}}]),
    ("arrays", [[], list_shared, [list_shared, [list_shared]]],
     [[], list_shared, [list_shared, [list_shared]]]),
    ("an array with names", [pyamf.MixedArray(a=1, b="x")], [{"a": 1, "b": "x"}]),
    ("dates, the second one by reference", [noon, noon],
     [{"date": 1637496000250}, {"date": 1637496000250}]),
    ("a byte array between strings", ["a", amf3.ByteArray(b"\0\1\2\3" * 50), "a"],
     ["a", "unsupported", "a"]),
    ("a Flex collection", [ArrayCollection([Point(1, 2), "two"])], [[point(1, 2), "two"]]),
    ("metadata", ["onMetaData", pyamf.MixedArray(width=640, height=360, encoder="x")],
     ["onMetaData", {"width": 640, "height": 360, "encoder": "x"}]),
]


def encode(values):
    encoder = pyamf.get_encoder(pyamf.AMF0)
    for value in values:
        encoder.writeAMF3(value)
    return encoder.stream.getvalue()


cases = [{"name": name, "bytes": encode(values).hex(), "values": expected}
         for name, values, expected in CASES]
print(json.dumps(cases, indent=1, ensure_ascii=False))
