//! `log.access_format`: what a line of the access log holds.

use std::str::FromStr;

use super::error::suggestion;
use super::value::deserialize_from_text;

/// nginx-rtmp's default.
const COMBINED: &str = "$remote_addr [$time_local] $command \"$app\" \"$name\" \"$args\" - \
                        $bytes_received $bytes_sent \"$pageurl\" \"$flashver\" \
                        ($session_readable_time)";

/// `"combined"`, `"json"`, or a text with fields such as `$remote_addr`, as nginx-rtmp's `log_format`
/// has them (contract hooks 3A).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// One object with every field.
    Json,
    /// These one after the other.
    Text(Vec<AccessPart>),
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessPart {
    /// The value of a field.
    Field(AccessField),
    /// This text.
    Literal(String),
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What is known of a session at its end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum AccessField {
            $($(#[$doc])* $name,)*
        }

        impl AccessField {
            /// Every field with its name.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($text, Self::$name)),*];
        }
    };
}

fields! {
    /// Number of the connection.
    Connection = "connection";
    /// The client's IP address.
    RemoteAddr = "remote_addr";
    /// Application, with its instance when one was named.
    App = "app";
    /// `flashVer`, or User-Agent.
    Flashver = "flashver";
    /// `swfUrl`
    Swfurl = "swfurl";
    /// `tcUrl`
    Tcurl = "tcurl";
    /// `pageUrl`, or Referer.
    Pageurl = "pageurl";
    /// `NONE`, `PLAY`, `PUBLISH` or `PLAY+PUBLISH`: what was asked for.
    Command = "command";
    /// The last stream that was asked for.
    Name = "name";
    /// Its query.
    Args = "args";
    /// Bytes to the client, all of the connection.
    BytesSent = "bytes_sent";
    /// Bytes from the client, all of the connection.
    BytesReceived = "bytes_received";
    /// The end, as `21/Nov/2026:12:14:25 +0100`.
    TimeLocal = "time_local";
    /// The end, in seconds since 1970 with milliseconds.
    Msec = "msec";
    /// How long it took, in seconds.
    SessionTime = "session_time";
    /// The same as `1h 0m 5s`.
    SessionReadableTime = "session_readable_time";
    /// `rtmp` or `http`; not in nginx-rtmp.
    Protocol = "protocol";
    /// Why it ended, in a word; not in nginx-rtmp.
    Reason = "reason";
    /// Virtual host; not in nginx-rtmp.
    Vhost = "vhost";
}

impl AccessFormat {
    /// nginx-rtmp's default.
    pub fn combined() -> Self {
        // A test parses it.
        Self::parse(COMBINED).unwrap_or(Self::Json)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('$') {
            if !literal.is_empty() {
                parts.push(AccessPart::Literal(literal.to_owned()));
            }
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let end = behind.find(|c| !is_name(c)).unwrap_or(behind.len());
            let (name, after) = behind.split_at(end);
            let known = AccessField::ALL.iter().find(|(known, _)| *known == name);
            let Some((_, field)) = known else {
                let names: Vec<&str> = AccessField::ALL.iter().map(|(name, _)| *name).collect();
                return Err(format!("there is no field ${name}{}", suggestion(name, &names)));
            };
            parts.push(AccessPart::Field(*field));
            rest = after;
        }
        if parts.is_empty() {
            return Err("a format is \"combined\", \"json\", or a text with fields such as \
                        $remote_addr"
                .to_owned());
        }
        if !rest.is_empty() {
            parts.push(AccessPart::Literal(rest.to_owned()));
        }
        Ok(Self::Text(parts))
    }
}

impl FromStr for AccessFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "combined" => Self::parse(COMBINED),
            "json" => Ok(Self::Json),
            _ => Self::parse(text),
        }
    }
}

deserialize_from_text!(deserialize_str: AccessFormat);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let text = |text: &str| match text.parse::<AccessFormat>() {
            Ok(AccessFormat::Text(parts)) => parts,
            other => panic!("{text}: {other:?}"),
        };
        let literal = |text: &str| AccessPart::Literal(text.to_owned());
        let field = AccessPart::Field;
        assert_eq!(
            text("a $remote_addr$app-$name"),
            [
                literal("a "),
                field(AccessField::RemoteAddr),
                field(AccessField::App),
                literal("-"),
                field(AccessField::Name)
            ]
        );
        assert_eq!(text("combined").len(), 22);
        assert_eq!(AccessFormat::combined(), "combined".parse().unwrap());
        assert_eq!("json".parse(), Ok(AccessFormat::Json));
        let error = |text: &str| text.parse::<AccessFormat>().unwrap_err();
        assert_eq!(
            error("$remote_adr"),
            "there is no field $remote_adr; did you mean `remote_addr`?"
        );
        assert!(error("10 $").starts_with("there is no field $"));
        assert!(error("common").starts_with("a format is"));
        assert!(error("").starts_with("a format is"));
    }
}
