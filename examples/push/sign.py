"""Signs a push session: push_session(secret, 5, [10, 12]) is the token for user 5 on channels 10, 12."""
import base64
import hashlib
import hmac
import json
import sys


def push_session(secret, user_id, channels, expires_at=None):
    session = {"channels": channels, "user_id": user_id}
    if expires_at is not None:
        session["exp"] = int(expires_at)
    text = base64.b64encode(json.dumps(session, separators=(",", ":")).encode()).decode()
    return f"{text}--{hmac.new(secret.encode(), text.encode(), hashlib.sha1).hexdigest()}"


if __name__ == "__main__":
    print(push_session(sys.argv[1], 5, [10, 12]))
