#!/usr/bin/env python3
"""A back end for hooks in the SRS dialect: prints every event and lets everybody in.

    python3 server.py 8085

Answer anything but 0 to refuse: see `judge`.
"""
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What a line about an event shows, by action.
FIELDS = {
    "on_connect": ("pageUrl",),
    "on_close": (),
    "on_publish": ("stream",),
    "on_unpublish": ("stream",),
    "on_play": ("stream",),
    "on_stop": ("stream",),
}
ACTIONS = {
    "/api/v1/clients": ("on_connect", "on_close"),
    "/api/v1/streams": ("on_publish", "on_unpublish"),
    "/api/v1/sessions": ("on_play", "on_stop"),
}


def trace(text):
    print(time.strftime("[%Y-%m-%d %H:%M:%S]") + "[trace] " + text, flush=True)


def judge(event):
    """0 lets the client go on; any other number refuses."""
    return 0


class Handler(BaseHTTPRequestHandler):
    # Connections are kept: one serves many events.
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        path = self.path.split("?")[0]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path not in ACTIONS:
            return self.answer(404, "no such resource")
        try:
            event = json.loads(body)
            action = event["action"]
        except (ValueError, KeyError, TypeError):
            return self.answer(400, "not an event")
        if action not in ACTIONS[path]:
            return self.answer(400, "an event for another resource")
        trace("post to %s, req=%s" % (path.rsplit("/", 1)[1], body.decode()))
        names = ("client_id", "ip", "vhost", "app") + FIELDS[action]
        values = ", ".join("%s=%s" % (name.replace("_", " "), event.get(name)) for name in names)
        trace("srs %s: %s" % (action, values))
        self.answer(200, str(judge(event)))

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: server.py PORT")
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    trace("listen on 127.0.0.1:%d" % server.server_address[1])
    server.serve_forever()
