//! What all that speaks to Redis has in common: connections with deadlines, scripts, the reading of values,
//! and the pauses between attempts.

use std::time::{Duration, Instant};

use redis::{Client, Cmd, Connection, ConnectionLike, RedisResult, Value, cmd, from_redis_value};

/// A connection that is not there by then is not there.
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// Redis is away when a command has no answer by then.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// A listener hears something at least every second or two, if only what its own node says to keep it
/// awake; without that the connection is broken.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// First pause before a new attempt to connect; doubled up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Longest pause before a new attempt.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A connection for commands.
pub(super) fn connect(client: &Client) -> RedisResult<Connection> {
    open(client, ANSWER_MAX)
}

/// A connection that hears what is said on channels; see [`subscribe`].
pub(super) fn connect_to_listen(client: &Client) -> RedisResult<Connection> {
    open(client, SILENCE_MAX)
}

fn open(client: &Client, read_max: Duration) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(CONNECT_MAX)?;
    connection.set_read_timeout(Some(read_max))?;
    connection.set_write_timeout(Some(ANSWER_MAX))?;
    Ok(connection)
}

/// Sends `SUBSCRIBE` or `UNSUBSCRIBE`; each channel is confirmed by a message of its own.
pub(super) fn subscribe(
    ears: &mut Connection,
    command: &str,
    channels: &[String],
) -> RedisResult<()> {
    if channels.is_empty() {
        return Ok(());
    }
    ears.send_packed_command(&cmd(command).arg(channels).get_packed_command())
}

/// What a message to a listener is: `message`, `subscribe`.
pub(super) fn kind(value: &Value) -> Option<&str> {
    match value {
        Value::Array(parts) => text(parts.first()?),
        _ => None,
    }
}

/// A text that Redis sends.
pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// A number that Redis sends.
pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        value => text(value)?.parse().ok(),
    }
}

/// The digest of a script that Redis has.
#[derive(Clone, Debug)]
pub(super) struct Script(String);

impl Script {
    /// Gives a script to Redis.
    pub(super) fn load(connection: &mut Connection, text: &str) -> RedisResult<Self> {
        let value = connection.req_command(cmd("SCRIPT").arg("LOAD").arg(text))?;
        Ok(Self(from_redis_value(value)?))
    }

    /// The command that runs it with these arguments.
    pub(super) fn call(&self, arguments: &[&str]) -> Cmd {
        let mut command = cmd("EVALSHA");
        command.arg(&self.0).arg(0).arg(arguments);
        command
    }
}

/// When to try next to connect, and whether a failure is news.
#[derive(Debug)]
pub(super) struct Attempts {
    next: Instant,
    pause: Duration,
    is_complaining: bool,
}

impl Attempts {
    /// The first one is at once.
    pub(super) fn new() -> Self {
        Self { next: Instant::now(), pause: RETRY_MIN, is_complaining: false }
    }

    /// When the next one is.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// It worked. Says whether it had not before.
    pub(super) fn succeeded(&mut self) -> bool {
        self.pause = RETRY_MIN;
        std::mem::take(&mut self.is_complaining)
    }

    /// It failed, or what it led to broke. Says whether that is news.
    pub(super) fn failed(&mut self) -> bool {
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RETRY_MAX);
        !std::mem::replace(&mut self.is_complaining, true)
    }
}
