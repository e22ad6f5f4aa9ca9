//! NetStatus: the codes that a server sends, with their levels.
//!
//! Levels matter: ffmpeg ends on any status of level `error`. Codes matter too: librtmp (OBS)
//! does not know [`PUBLISH_BAD_NAME`], so the server has to close after it.

/// How serious a status is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// News.
    Status,
    /// Something is wrong, but goes on.
    Warning,
    /// It does not go on.
    Error,
}

impl Level {
    /// The text on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A NetStatus code with its level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The level.
    pub level: Level,
    /// The code, as `NetStream.Publish.Start`.
    pub code: &'static str,
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $level:ident $code:literal;)*) => {
        $($(#[$doc])* pub const $name: Status = Status { level: Level::$level, code: $code };)*

        #[cfg(test)]
        const ALL: &[Status] = &[$($name),*];
    };
}

statuses! {
    /// The connection is accepted.
    CONNECT_SUCCESS = Status "NetConnection.Connect.Success";
    /// The connection is refused; the description says why.
    CONNECT_REJECTED = Error "NetConnection.Connect.Rejected";
    /// There is no such application.
    CONNECT_INVALID_APP = Error "NetConnection.Connect.InvalidApp";
    /// The application or server is going down.
    CONNECT_APP_SHUTDOWN = Error "NetConnection.Connect.AppShutdown";
    /// The client should connect again, here or where `tcUrl` says (Enhanced RTMP v2).
    CONNECT_RECONNECT_REQUEST = Status "NetConnection.Connect.ReconnectRequest";
    /// The connection is being closed.
    CONNECT_CLOSED = Status "NetConnection.Connect.Closed";
    /// The connection was idle too long.
    CONNECT_IDLE_TIMEOUT = Status "NetConnection.Connect.IdleTimeout";
    /// A called method does not exist or failed.
    CALL_FAILED = Error "NetConnection.Call.Failed";
    /// A call came in an unknown AMF version.
    CALL_BAD_VERSION = Error "NetConnection.Call.BadVersion";

    /// To the publisher: go on.
    PUBLISH_START = Status "NetStream.Publish.Start";
    /// To the publisher: the name is taken.
    PUBLISH_BAD_NAME = Error "NetStream.Publish.BadName";
    /// To the publisher: not allowed. librtmp (OBS) knows this code.
    PUBLISH_DENIED = Error "NetStream.Publish.Denied";
    /// To the publisher: not allowed. librtmp (OBS) knows this code.
    PUBLISH_REJECTED = Error "NetStream.Publish.Rejected";
    /// To the publisher: nothing came for long.
    PUBLISH_IDLE = Status "NetStream.Publish.Idle";
    /// To the publisher: publishing has ended.
    UNPUBLISH_SUCCESS = Status "NetStream.Unpublish.Success";
    /// To the publisher: recording has begun.
    RECORD_START = Status "NetStream.Record.Start";
    /// To the publisher: recording has ended.
    RECORD_STOP = Status "NetStream.Record.Stop";
    /// To the publisher: the file cannot be written.
    RECORD_NO_ACCESS = Error "NetStream.Record.NoAccess";
    /// To the publisher: recording failed; the description says why.
    RECORD_FAILED = Error "NetStream.Record.Failed";
    /// Something about a stream failed; the description says what.
    STREAM_FAILED = Error "NetStream.Failed";
    /// An argument of a call is of no use.
    INVALID_ARG = Error "NetStream.InvalidArg";

    /// To a player: drop what is in the buffer.
    PLAY_RESET = Status "NetStream.Play.Reset";
    /// To a player: playing begins.
    PLAY_START = Status "NetStream.Play.Start";
    /// To a player: playing has ended. ffmpeg ends its input.
    PLAY_STOP = Status "NetStream.Play.Stop";
    /// To a player: there is no such stream.
    PLAY_STREAM_NOT_FOUND = Error "NetStream.Play.StreamNotFound";
    /// To a player: not allowed, or failed; the description says why.
    PLAY_FAILED = Error "NetStream.Play.Failed";
    /// To a player: somebody begins to publish.
    PLAY_PUBLISH_NOTIFY = Status "NetStream.Play.PublishNotify";
    /// To a player: the publisher has ended. ffmpeg ends its input.
    PLAY_UNPUBLISH_NOTIFY = Status "NetStream.Play.UnpublishNotify";
    /// To a player: it takes data too slowly.
    PLAY_INSUFFICIENT_BW = Warning "NetStream.Play.InsufficientBW";
    /// To a player, in onPlayStatus: another stream follows.
    PLAY_SWITCH = Status "NetStream.Play.Switch";
    /// To a player, in onPlayStatus: a recording was played to its end.
    PLAY_COMPLETE = Status "NetStream.Play.Complete";
    /// To a player: it changes to another stream.
    PLAY_TRANSITION = Status "NetStream.Play.Transition";
    /// To a player: paused.
    PAUSE_NOTIFY = Status "NetStream.Pause.Notify";
    /// To a player: playing again.
    UNPAUSE_NOTIFY = Status "NetStream.Unpause.Notify";
    /// To a player: moved.
    SEEK_NOTIFY = Status "NetStream.Seek.Notify";
    /// To a player: this stream cannot be moved in.
    SEEK_FAILED = Error "NetStream.Seek.Failed";
    /// To a player: the stream does not reach there.
    SEEK_INVALID_TIME = Error "NetStream.Seek.InvalidTime";
    /// To a player, as a data message: media follows.
    DATA_START = Status "NetStream.Data.Start";
    /// To a DVR-capable encoder, in the answer to DVRGetStreamInfo and DVRSetStreamInfo.
    DVR_STREAM_INFO_SUCCESS = Status "NetStream.DVRStreamInfo.Success";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_different_and_failures_are_errors() {
        let codes: HashSet<&str> = ALL.iter().map(|status| status.code).collect();
        assert_eq!(codes.len(), ALL.len());
        for status in ALL {
            let refuses = ["Failed", "Rejected", "Denied", "BadName", "Invalid", "NotFound"]
                .iter()
                .any(|word| status.code.contains(word));
            if refuses {
                assert_eq!(status.level, Level::Error, "{}", status.code);
            }
        }
    }
}
