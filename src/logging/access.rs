//! The access log: one line per session at its end, with the fields of nginx-rtmp (contract hooks 3A).
//! People account by it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::config::{AccessField, AccessFormat, AccessPart};
use crate::proto::name::DEFAULT_INSTANCE;
use crate::rt::clock::{LocalTime, local_time};
use crate::session::{ClientId, ClientInfo};

/// One session, at its end.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// Number of the connection.
    pub id: ClientId,
    /// The client's address.
    pub peer: SocketAddr,
    /// What the client said of itself, if it came to that.
    pub client: Option<Arc<ClientInfo>>,
    /// `rtmp` or `http`.
    pub protocol: &'static str,
    /// What it asked for.
    pub asked: Asked,
    /// Bytes to the client.
    pub bytes_sent: u64,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// When it ended.
    pub ended: SystemTime,
    /// For how long it was open.
    pub open_for: Duration,
    /// Why it ended, in a word.
    pub reason: &'static str,
}

/// What a session asked for, whether it was granted or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// To play.
    pub play: bool,
    /// To publish.
    pub publish: bool,
    /// The last stream.
    pub name: String,
    /// Its query.
    pub args: String,
}

impl AccessRecord {
    /// Writes the line and its end.
    pub fn write(&self, format: &AccessFormat, out: &mut Vec<u8>) {
        let mut line = String::new();
        match format {
            AccessFormat::Json => line = self.json(),
            AccessFormat::Text(parts) => {
                for part in parts {
                    match part {
                        AccessPart::Literal(text) => line.push_str(text),
                        AccessPart::Field(field) => self.field(*field, &mut line),
                    }
                }
            }
        }
        line.push('\n');
        out.extend_from_slice(line.as_bytes());
    }

    fn field(&self, field: AccessField, line: &mut String) {
        // Writing to a String does not fail.
        let _ = match field {
            AccessField::Connection => write!(line, "{}", self.id),
            AccessField::RemoteAddr => write!(line, "{}", self.peer.ip().to_canonical()),
            AccessField::BytesSent => write!(line, "{}", self.bytes_sent),
            AccessField::BytesReceived => write!(line, "{}", self.bytes_received),
            AccessField::TimeLocal => write!(line, "{}", self.time_local()),
            AccessField::Msec => {
                let since = self.since_epoch();
                write!(line, "{}.{:03}", since.as_secs(), since.subsec_millis())
            }
            AccessField::SessionTime => write!(line, "{}", self.open_for.as_secs()),
            AccessField::SessionReadableTime => {
                write!(line, "{}", readable(self.open_for.as_secs()))
            }
            AccessField::Command => write!(line, "{}", self.command()),
            AccessField::Protocol => write!(line, "{}", self.protocol),
            AccessField::Reason => write!(line, "{}", self.reason),
            AccessField::App => {
                escape(&self.app(), line);
                Ok(())
            }
            AccessField::Flashver
            | AccessField::Swfurl
            | AccessField::Tcurl
            | AccessField::Pageurl
            | AccessField::Vhost
            | AccessField::Name
            | AccessField::Args => {
                escape(self.text(field), line);
                Ok(())
            }
        };
    }

    fn text(&self, field: AccessField) -> &str {
        let Some(client) = &self.client else { return "" };
        match field {
            AccessField::Flashver => &client.flash_version,
            AccessField::Swfurl => &client.swf_url,
            AccessField::Tcurl => &client.tc_url,
            AccessField::Pageurl => &client.page_url,
            AccessField::Vhost => &client.vhost,
            AccessField::Name => &self.asked.name,
            AccessField::Args => &self.asked.args,
            _ => "",
        }
    }

    fn app(&self) -> String {
        match &self.client {
            None => String::new(),
            Some(client) if client.instance == DEFAULT_INSTANCE => client.app.clone(),
            Some(client) => format!("{}/{}", client.app, client.instance),
        }
    }

    fn command(&self) -> &'static str {
        match (self.asked.play, self.asked.publish) {
            (false, false) => "NONE",
            (true, false) => "PLAY",
            (false, true) => "PUBLISH",
            (true, true) => "PLAY+PUBLISH",
        }
    }

    fn json(&self) -> String {
        let text = |field| self.text(field);
        let object = json!({
            "connection": self.id,
            "remote_addr": self.peer.ip().to_canonical(),
            "app": self.app(),
            "flashver": text(AccessField::Flashver),
            "swfurl": text(AccessField::Swfurl),
            "tcurl": text(AccessField::Tcurl),
            "pageurl": text(AccessField::Pageurl),
            "command": self.command(),
            "name": text(AccessField::Name),
            "args": text(AccessField::Args),
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "time_local": self.time_local(),
            "msec": self.since_epoch().as_millis() as f64 / 1000.0,
            "session_time": self.open_for.as_secs(),
            "session_readable_time": readable(self.open_for.as_secs()),
            "protocol": self.protocol,
            "reason": self.reason,
            "vhost": text(AccessField::Vhost),
        });
        object.to_string()
    }

    fn since_epoch(&self) -> Duration {
        self.ended.duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// As `21/Nov/2026:12:14:25 +0100`.
    fn time_local(&self) -> String {
        const MONTHS: [&str; 12] =
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let LocalTime { year, month, day, hour, minute, second, offset_minutes } =
            local_time(self.since_epoch());
        let name = MONTHS.get(month as usize - 1).copied().unwrap_or_default();
        let sign = if offset_minutes < 0 { '-' } else { '+' };
        let offset = offset_minutes.unsigned_abs();
        format!(
            "{day:02}/{name}/{year}:{hour:02}:{minute:02}:{second:02} {sign}{:02}{:02}",
            offset / 60,
            offset % 60
        )
    }
}

/// As `1d 0h 0m 5s`, without leading zeros.
fn readable(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    if days > 0 {
        format!("{days}d {hours}h {minutes}m {rest}s")
    } else if hours > 0 {
        format!("{hours}h {minutes}m {rest}s")
    } else if minutes > 0 {
        format!("{minutes}m {rest}s")
    } else {
        format!("{rest}s")
    }
}

/// A client's words cannot end a field or a line: quotes, backslashes and control characters become
/// `\xHH`, as nginx writes them in its HTTP log.
fn escape(text: &str, line: &mut String) {
    for c in text.chars() {
        if c == '"' || c == '\\' || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(line, "\\x{byte:02X}");
            }
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> AccessRecord {
        AccessRecord {
            id: ClientId(12),
            peer: "[::ffff:192.0.2.7]:5000".parse().unwrap(),
            client: Some(Arc::new(ClientInfo {
                id: ClientId(12),
                vhost: "__defaultVhost__".to_owned(),
                app: "live".to_owned(),
                instance: "_definst_".to_owned(),
                flash_version: "FMLE/3.0".to_owned(),
                page_url: "http://p/\"\n\\".to_owned(),
                ..ClientInfo::default()
            })),
            protocol: "rtmp",
            asked: Asked {
                play: false,
                publish: true,
                name: "cäm".to_owned(),
                args: "tok=1".to_owned(),
            },
            bytes_sent: 529,
            bytes_received: 207_240,
            ended: UNIX_EPOCH + Duration::from_millis(1_795_263_265_968),
            open_for: Duration::from_millis(3_606_999),
            reason: "peer_closed",
        }
    }

    fn line(record: &AccessRecord, format: &str) -> String {
        let mut out = Vec::new();
        record.write(&format.parse().unwrap(), &mut out);
        let line = String::from_utf8(out).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "{line:?}");
        line.trim_end().to_owned()
    }

    #[test]
    fn the_default_line_is_that_of_nginx() {
        let record = record();
        // Where the machine is does not matter here.
        let time = record.time_local();
        assert_eq!(
            line(&record, "combined"),
            format!(
                "192.0.2.7 [{time}] PUBLISH \"live\" \"cäm\" \"tok=1\" - 207240 529 \
                 \"http://p/\\x22\\x0A\\x5C\" \"FMLE/3.0\" (1h 0m 6s)"
            )
        );
        assert!(time.contains("/Nov/2026:"), "{time}");
        assert_eq!(time.len(), "21/Nov/2026:12:14:25 +0000".len());
    }

    #[test]
    fn every_field_can_be_written_and_is_in_the_object() {
        let record = record();
        let object: serde_json::Value = serde_json::from_str(&line(&record, "json")).unwrap();
        assert_eq!(object.as_object().unwrap().len(), AccessField::ALL.len());
        for (name, _) in AccessField::ALL {
            let text = line(&record, &format!("[${name}]"));
            let value = match &object[name] {
                serde_json::Value::String(text) => {
                    let mut escaped = String::new();
                    escape(text, &mut escaped);
                    escaped
                }
                other => other.to_string(),
            };
            assert_eq!(text, format!("[{value}]"), "{name}");
        }
        assert_eq!(line(&record, "$connection $msec"), "12 1795263265.968");
    }

    #[test]
    fn a_session_that_never_connected_has_empty_fields() {
        let record = AccessRecord { client: None, asked: Asked::default(), ..record() };
        assert_eq!(line(&record, "$command '$app' '$name' '$vhost'"), "NONE '' '' ''");
        let both = Asked { play: true, publish: true, ..Asked::default() };
        assert_eq!(line(&AccessRecord { asked: both, ..record }, "$command"), "PLAY+PUBLISH");
    }

    #[test]
    fn instances_are_part_of_the_application() {
        let mut record = record();
        if let Some(client) = &mut record.client {
            Arc::make_mut(client).instance = "room".to_owned();
        }
        assert_eq!(line(&record, "$app"), "live/room");
    }

    #[test]
    fn times_are_written_without_leading_zeros() {
        let table =
            [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3_599, "59m 59s"), (90_061, "1d 1h 1m 1s")];
        for (seconds, text) in table {
            assert_eq!(readable(seconds), text);
        }
    }
}
