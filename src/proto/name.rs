//! Who a stream is: (vhost, app, instance, stream), parsed from what RTMP and HTTP clients say.
//!
//! How clients cut a URL differs: for `rtmp://h/a/b/c`, ffmpeg says app `a/b` and stream `c`;
//! OBS says app = everything in the server field and stream = the key. So the cut between app
//! and stream carries no meaning beyond the second segment:
//!
//! * the first segment of the app is the app, the second the instance (`_definst_` when absent);
//! * further segments of the app belong to the front of the stream name: app `a/b/c`, stream
//!   `d` is stream `c/d` of instance `b`, which ffmpeg calls app `a/b`, stream `c/d`.
//!
//! The vhost is named by `?vhost=` in the app, else in tcUrl, else in the stream name, else by the
//! host of tcUrl (HTTP: the Host header). What a connection said at connect is stronger than what
//! a stream name says later, because connect was judged by it.
//!
//! Names are at most [`limits::NAME_BYTES_MAX`] bytes and hold no control characters and no dot
//! segments. Queries are no part of a name and are kept as sent, for hooks.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::fmt;
use std::sync::Arc;

use super::http::Query;
use crate::limits;

/// The vhost of hosts that no configuration names.
pub const DEFAULT_VHOST: &str = "__defaultVhost__";
/// The instance of an app that is asked for without one.
pub const DEFAULT_INSTANCE: &str = "_definst_";

/// The parts of a stream's identity, as errors name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamePart {
    /// The application.
    App,
    /// The instance of the application.
    Instance,
    /// The stream.
    Stream,
    /// The virtual host.
    Vhost,
}

/// Why a name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Control characters, or a `.` or `..` segment.
    #[error("the {0} name holds characters that are not allowed")]
    Characters(NamePart),
    /// Nothing is left as a name.
    #[error("the {0} name is empty")]
    Empty(NamePart),
    /// An HTTP path that is not `/APP[/INSTANCE]/STREAM.flv`.
    #[error("the path names no stream: it should be /APP/STREAM.flv")]
    Path,
    /// Longer than [`limits::NAME_BYTES_MAX`].
    #[error("the {0} name is longer than {max} bytes", max = limits::NAME_BYTES_MAX)]
    TooLong(NamePart),
}

/// A stream's identity, valid by construction; cloning is cheap.
///
/// Shown as `vhost/app/instance/stream` without the default parts: `live/cam`. The default
/// instance is shown when the stream name itself holds a slash. For people, not for parsing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<Parts>);

#[derive(Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Parts {
    vhost: Box<str>,
    app: Box<str>,
    instance: Box<str>,
    stream: Box<str>,
}

/// What a connect command says about names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectName {
    /// The app; empty when the client named none, which push clients do.
    pub app: String,
    /// The instance, [`DEFAULT_INSTANCE`] when the client named none.
    pub instance: String,
    /// Segments of the app beyond the instance, with a `/` behind each: front of stream names.
    pub stream_prefix: String,
    /// The app as hooks show it: as sent, without a trailing `/` or `/_definst_` and without the
    /// query.
    pub app_text: String,
    /// Text after the `?` of the app as sent, empty when there is none.
    pub args: String,
    /// Text after the `?` of tcUrl as sent, empty when there is none.
    pub tc_url_args: String,
    /// `?vhost=` of the app or of tcUrl.
    pub vhost_arg: Option<String>,
    /// Host of tcUrl without port and brackets; empty when tcUrl names none.
    pub host: String,
}

/// What a publish or play command says about a stream's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayPath {
    /// The name without type prefix and query.
    pub name: String,
    /// Type prefix as sent (`mp4`, `flv`, `mp3`, `raw`), without the colon.
    pub type_prefix: Option<String>,
    /// Text after the `?` as sent, empty when there is none.
    pub args: String,
}

impl StreamName {
    /// A name from its parts; an empty instance is the default one.
    ///
    /// # Errors
    /// Empty parts, parts over the limit, control characters, dot segments, a `/` in app or
    /// instance.
    pub fn new(vhost: &str, app: &str, instance: &str, stream: &str) -> Result<Self, NameError> {
        let instance = if instance.is_empty() { DEFAULT_INSTANCE } else { instance };
        let parts = [
            (NamePart::Vhost, vhost),
            (NamePart::App, app),
            (NamePart::Instance, instance),
            (NamePart::Stream, stream),
        ];
        for (part, text) in parts {
            check(part, text)?;
            if text.is_empty() {
                return Err(NameError::Empty(part));
            }
            if part != NamePart::Stream && text.contains('/') {
                return Err(NameError::Characters(part));
            }
        }
        Ok(Self(Arc::new(Parts {
            vhost: vhost.into(),
            app: app.into(),
            instance: instance.into(),
            stream: stream.into(),
        })))
    }

    /// From an HTTP path `/APP/STREAM.flv` or `/APP/INSTANCE/STREAM.flv`, percent-decoded.
    /// Segments beyond the third belong to the stream. `vhost` is already resolved.
    pub fn from_http_path(vhost: &str, path: &str) -> Result<Self, NameError> {
        let path = path.strip_prefix('/').ok_or(NameError::Path)?;
        let path = path.strip_suffix(".flv").ok_or(NameError::Path)?;
        let (app, rest) = path.split_once('/').ok_or(NameError::Path)?;
        match rest.split_once('/') {
            Some(("", _)) => Err(NameError::Path),
            Some((instance, stream)) => Self::new(vhost, app, instance, stream),
            None => Self::new(vhost, app, DEFAULT_INSTANCE, rest),
        }
    }

    /// App and instance as a client names them: `app`, or `app/instance`.
    pub fn app_text(&self) -> String {
        if self.instance() == DEFAULT_INSTANCE {
            self.app().to_owned()
        } else {
            format!("{}/{}", self.app(), self.instance())
        }
    }

    /// The vhost, [`DEFAULT_VHOST`] for the default one.
    pub fn vhost(&self) -> &str {
        &self.0.vhost
    }

    /// The app.
    pub fn app(&self) -> &str {
        &self.0.app
    }

    /// The instance, [`DEFAULT_INSTANCE`] for the default one.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// The stream; may hold slashes.
    pub fn stream(&self) -> &str {
        &self.0.stream
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &*self.0;
        if &*parts.vhost != DEFAULT_VHOST {
            write!(f, "{}/", parts.vhost)?;
        }
        write!(f, "{}/", parts.app)?;
        if &*parts.instance != DEFAULT_INSTANCE || parts.stream.contains('/') {
            write!(f, "{}/", parts.instance)?;
        }
        f.write_str(&parts.stream)
    }
}

impl ConnectName {
    /// From the app and tcUrl of a connect command. An empty app is accepted here and refused by
    /// [`ConnectName::stream`].
    pub fn parse(app: &str, tc_url: &str) -> Result<Self, NameError> {
        let (text, args) = split_query(cut_app_end(app));
        let text = cut_app_end(text);
        let mut segments = text.split('/').filter(|segment| !segment.is_empty());
        let app_name = segments.next().unwrap_or_default();
        let instance = segments.next().unwrap_or(DEFAULT_INSTANCE);
        let mut stream_prefix = String::new();
        for segment in segments {
            stream_prefix.push_str(segment);
            stream_prefix.push('/');
        }
        check(NamePart::App, app_name)?;
        check(NamePart::Instance, instance)?;
        check(NamePart::Stream, &stream_prefix)?;
        let (url, tc_url_args) = split_query(tc_url);
        let host = url_host(url);
        check(NamePart::Vhost, host)?;
        let vhost_arg = vhost_arg(args)?.map_or_else(|| vhost_arg(tc_url_args), |v| Ok(Some(v)))?;
        Ok(Self {
            app: app_name.to_owned(),
            instance: instance.to_owned(),
            stream_prefix,
            app_text: text.to_owned(),
            args: args.to_owned(),
            tc_url_args: tc_url_args.to_owned(),
            vhost_arg,
            host: host.to_owned(),
        })
    }

    /// Puts the connection into another app, named as a client would: `app` or `app/instance`. Its
    /// arguments and its vhost stay.
    ///
    /// # Errors
    /// The name is not valid; nothing is changed.
    pub fn rename_app(&mut self, app_text: &str) -> Result<(), NameError> {
        if app_text == self.app_text {
            return Ok(());
        }
        let parts = Self::parse(app_text, "")?;
        self.app = parts.app;
        self.instance = parts.instance;
        self.stream_prefix = parts.stream_prefix;
        self.app_text = app_text.to_owned();
        Ok(())
    }

    /// The vhost that the connection named, by [`resolve_vhost`]. A `?vhost=` decides even when
    /// `lookup` does not know it: then it is the default one.
    pub fn vhost(&self, lookup: impl Fn(&str) -> Option<String>) -> String {
        resolve_vhost(self.vhost_arg.as_deref().unwrap_or(&self.host), lookup)
    }

    /// The stream that a publish or play command on this connection means.
    pub fn stream(
        &self,
        path: &PlayPath,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<StreamName, NameError> {
        let vhost = match (&self.vhost_arg, vhost_arg(&path.args)?) {
            (None, Some(named)) => resolve_vhost(&named, lookup),
            _ => self.vhost(lookup),
        };
        if path.name.is_empty() {
            return Err(NameError::Empty(NamePart::Stream));
        }
        let stream = format!("{}{}", self.stream_prefix, path.name);
        StreamName::new(&vhost, &self.app, &self.instance, &stream)
    }
}

impl PlayPath {
    /// From the name argument of publish, play or an FC call. Slashes at both ends are dropped.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (name, args) = split_query(text);
        let prefix = name.split_once(':').filter(|(prefix, _)| {
            ["flv", "mp3", "mp4", "raw"].iter().any(|known| prefix.eq_ignore_ascii_case(known))
        });
        let (type_prefix, name) = match prefix {
            Some((prefix, rest)) => (Some(prefix.to_owned()), rest),
            None => (None, name),
        };
        let name = name.trim_matches('/');
        check(NamePart::Stream, name)?;
        if name.is_empty() {
            return Err(NameError::Empty(NamePart::Stream));
        }
        Ok(Self { name: name.to_owned(), type_prefix, args: args.to_owned() })
    }
}

/// The configured vhost of a host name or address, [`DEFAULT_VHOST`] when none is configured.
///
/// `lookup` gets the host in lower case, without port, brackets and trailing dot, and answers
/// with the vhost that has it as name or alias.
pub fn resolve_vhost(host: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    lookup(&host_key(host)).unwrap_or_else(|| DEFAULT_VHOST.to_owned())
}

/// A host as hosts are compared: lower case, without port, brackets and trailing dot.
pub fn host_key(host: &str) -> String {
    strip_port(host).trim_end_matches('.').to_ascii_lowercase()
}

/// A `Host` header or a URL's authority without port and brackets: `[::1]:80` is `::1`.
pub fn strip_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(host, _)| host);
    }
    match authority.rsplit_once(':') {
        // An address with several colons and no brackets is a bare IPv6 address.
        Some((host, _)) if !host.contains(':') => host,
        _ => authority,
    }
}

/// Host of `scheme://[user@]host[:port]/…`, empty when there is none.
fn url_host(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else {
        return "";
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    strip_port(host)
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// Cuts `/` and `/_definst_` at the end.
fn cut_app_end(app: &str) -> &str {
    let app = app.trim_end_matches('/');
    app.strip_suffix("/_definst_").unwrap_or(app)
}

fn vhost_arg(args: &str) -> Result<Option<String>, NameError> {
    let Some(value) = Query::new(args).value("vhost") else {
        return Ok(None);
    };
    check(NamePart::Vhost, &value)?;
    Ok(Some(value.into_owned()).filter(|v| !v.is_empty()))
}

fn check(part: NamePart, text: &str) -> Result<(), NameError> {
    if text.len() > limits::NAME_BYTES_MAX {
        return Err(NameError::TooLong(part));
    }
    let dots = text.split('/').any(|segment| matches!(segment, "." | ".."));
    if dots || text.chars().any(char::is_control) {
        return Err(NameError::Characters(part));
    }
    Ok(())
}

impl fmt::Display for NamePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::App => "app",
            Self::Instance => "instance",
            Self::Stream => "stream",
            Self::Vhost => "vhost",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One vhost with an alias.
    fn lookup(host: &str) -> Option<String> {
        matches!(host, "video.test.com" | "www.test.com" | "::2").then(|| "video.test.com".into())
    }

    fn shown(app: &str, tc_url: &str, stream: &str) -> Result<String, NameError> {
        let connect = ConnectName::parse(app, tc_url)?;
        let name = connect.stream(&PlayPath::parse(stream)?, lookup)?;
        Ok(name.to_string())
    }

    #[test]
    fn apps_instances_and_streams() {
        let table = [
            ("livestreams", "localnews", "livestreams/localnews"),
            ("livestreams/", "localnews", "livestreams/localnews"),
            ("/livestreams", "/localnews", "livestreams/localnews"),
            ("livestreams/_definst_", "localnews", "livestreams/localnews"),
            ("livestreams/_definst_/", "localnews", "livestreams/localnews"),
            ("livestreams/anotherinstance", "localnews", "livestreams/anotherinstance/localnews"),
            ("live?arg1=v1&arg2=v2", "cam?k=v", "live/cam"),
            ("live?arg1=v1/_definst_", "cam", "live/cam"),
            ("live/?arg1=v1", "cam", "live/cam"),
            ("live//inst", "cam", "live/inst/cam"),
            ("a/b/c", "d", "a/b/c/d"),
            ("a/b", "c/d", "a/b/c/d"),
            ("a", "c/d", "a/_definst_/c/d"),
            ("live", "mp4:cam", "live/cam"),
            ("live", "FLV:cam", "live/cam"),
            ("live", "mp3:music", "live/music"),
            ("live", "raw:cam?x", "live/cam"),
            ("live", "rtp:cam", "live/rtp:cam"),
            ("live", "你好", "live/你好"),
            ("live", "a b&c=d", "live/a b&c=d"),
        ];
        for (app, stream, expected) in table {
            let result = shown(app, "rtmp://h/x", stream);
            assert_eq!(result.as_deref(), Ok(expected), "{app} {stream}");
        }
    }

    #[test]
    fn ffmpeg_and_obs_meet_on_one_name() {
        let obs = shown("a/b/c", "rtmp://h/a/b/c", "d");
        let ffmpeg = shown("a/b", "rtmp://h:1935/a/b", "c/d");
        assert_eq!(obs, ffmpeg);
    }

    #[test]
    fn vhosts() {
        let yes = "video.test.com/live/cam";
        let no = "live/cam";
        let table = [
            ("live", "rtmp://video.test.com/live", "cam", yes),
            ("live", "rtmp://VIDEO.test.com.:1935/live", "cam", yes),
            ("live", "rtmp://www.test.com:1935/live", "cam", yes),
            ("live", "rtmp://user:p@ss@www.test.com:1935/live", "cam", yes),
            ("live", "rtmp://[::2]:1935/live", "cam", yes),
            ("live", "rtmp://[::2]/live", "cam", yes),
            ("live", "rtmp://[::1]:1935/live", "cam", no),
            ("live", "rtmp://10.0.0.1/live", "cam", no),
            ("live", "", "cam", no),
            ("live", "video.test.com", "cam", no),
            ("live?vhost=video.test.com", "rtmp://h/live", "cam", yes),
            ("live", "rtmp://h/live?vhost=www%2Etest.com", "cam", yes),
            ("live", "rtmp://h/live", "cam?vhost=video.test.com", yes),
            ("live", "rtmp://h?vhost=video.test.com", "cam", yes),
            // A named vhost that is not configured is the default one, not the host's.
            ("live?vhost=x", "rtmp://video.test.com/live", "cam", no),
            // Connect's word is stronger than the stream's.
            ("live?vhost=x", "rtmp://h/live", "cam?vhost=video.test.com", no),
            ("live?vhost=", "rtmp://video.test.com/live", "cam", yes),
        ];
        for (app, tc_url, stream, expected) in table {
            let result = shown(app, tc_url, stream);
            assert_eq!(result.as_deref(), Ok(expected), "{app} {tc_url} {stream}");
        }
    }

    #[test]
    fn arguments_are_kept_as_sent() {
        let connect =
            ConnectName::parse("myapp?arg1=v1&arg2=%20/_definst_", "rtmp://h/myapp?arg1=v1&z")
                .unwrap();
        assert_eq!(connect.args, "arg1=v1&arg2=%20");
        assert_eq!(connect.tc_url_args, "arg1=v1&z");
        assert_eq!(connect.app_text, "myapp");
        let path = PlayPath::parse("mp4:cam?token=a?b&c=%41").unwrap();
        assert_eq!(path.args, "token=a?b&c=%41");
        assert_eq!((&*path.name, path.type_prefix.as_deref()), ("cam", Some("mp4")));
    }

    #[test]
    fn push_clients_connect_without_an_app() {
        let connect = ConnectName::parse("", "rtmp://host//").unwrap();
        assert_eq!((&*connect.app, &*connect.host), ("", "host"));
        let path = PlayPath::parse("cam").unwrap();
        assert_eq!(connect.stream(&path, lookup), Err(NameError::Empty(NamePart::App)));
    }

    #[test]
    fn refusals() {
        let long = "x".repeat(limits::NAME_BYTES_MAX + 1);
        let fits = "x".repeat(limits::NAME_BYTES_MAX);
        assert!(shown(&fits, "", &fits).is_ok());
        let table = [
            ("live", "", NameError::Empty(NamePart::Stream)),
            ("live", "?a=b", NameError::Empty(NamePart::Stream)),
            ("live", "mp4:", NameError::Empty(NamePart::Stream)),
            ("", "cam", NameError::Empty(NamePart::App)),
            ("/", "cam", NameError::Empty(NamePart::App)),
            ("live", "a\nb", NameError::Characters(NamePart::Stream)),
            ("li\0ve", "a", NameError::Characters(NamePart::App)),
            ("live", "../etc", NameError::Characters(NamePart::Stream)),
            ("..", "cam", NameError::Characters(NamePart::App)),
            ("live/..", "cam", NameError::Characters(NamePart::Instance)),
            ("live", &long, NameError::TooLong(NamePart::Stream)),
            (&long, "cam", NameError::TooLong(NamePart::App)),
        ];
        for (app, stream, error) in table {
            assert_eq!(shown(app, "", stream), Err(error), "{app:?} {stream:?}");
        }
        let joined = shown(&format!("a/b/{fits}"), "", &fits);
        assert_eq!(joined, Err(NameError::TooLong(NamePart::Stream)));
        assert_eq!(
            StreamName::new(DEFAULT_VHOST, "a/b", "", "c"),
            Err(NameError::Characters(NamePart::App))
        );
    }

    #[test]
    fn http_paths() {
        let table = [
            ("/live/cam.flv", Ok("live/cam")),
            ("/live/inst/cam.flv", Ok("live/inst/cam")),
            ("/live/_definst_/cam.flv", Ok("live/cam")),
            ("/a/b/c/d.flv", Ok("a/b/c/d")),
            ("/live/cam", Err(NameError::Path)),
            ("/cam.flv", Err(NameError::Path)),
            ("live/cam.flv", Err(NameError::Path)),
            ("/live//cam.flv", Err(NameError::Path)),
            ("/live/.flv", Err(NameError::Empty(NamePart::Stream))),
            ("//cam.flv", Err(NameError::Empty(NamePart::App))),
        ];
        for (path, expected) in table {
            let name = StreamName::from_http_path(DEFAULT_VHOST, path).map(|n| n.to_string());
            assert_eq!(name, expected.map(str::to_owned), "{path}");
        }
    }

    #[test]
    fn ports_and_brackets() {
        let table = [
            ("h:80", "h"),
            ("h", "h"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("[::1", "::1"),
            ("", ""),
        ];
        for (authority, host) in table {
            assert_eq!(strip_port(authority), host, "{authority}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_name_or_refused(app in ".{0,40}", tc_url in ".{0,40}", stream in ".{0,40}") {
            if let Ok(connect) = ConnectName::parse(&app, &tc_url)
                && let Ok(path) = PlayPath::parse(&stream)
                && let Ok(name) = connect.stream(&path, lookup)
            {
                let again = StreamName::new(name.vhost(), name.app(), name.instance(), name.stream());
                prop_assert_eq!(again, Ok(name));
            }
        }
    }
}
