//! Stream names and URLs: whatever clients say is one valid name or refused, and a name's parts
//! make the same name again.

use shardcast::limits::NAME_BYTES_MAX;
use shardcast::proto::name::{
    self, ConnectName, DEFAULT_VHOST, NameError, PlayPath, StreamName, host_key, strip_port,
};

/// Lines: the app, the tcUrl and the stream name of an RTMP client, an HTTP path and a host.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (app, tc_url, stream, path, host) = (line(), line(), line(), line(), line());
    one_host(host);
    let connected = ConnectName::parse(app, tc_url).map_err(said);
    let played = PlayPath::parse(stream).map_err(said);
    if let Ok(played) = &played {
        assert!(!played.name.is_empty() && stream.contains(&played.name));
        assert!(stream.ends_with(&played.args));
    }
    if let Ok(connected) = &connected {
        one_host(&connected.host);
        let vhost = connected.vhost(known);
        assert!(vhost == DEFAULT_VHOST || vhost == "known.example");
        if let Ok(played) = &played
            && let Ok(name) = connected.stream(played, known).map_err(said)
        {
            valid(&name);
            assert_eq!((name.app(), name.instance()), (&*connected.app, &*connected.instance));
            assert!(name.stream().ends_with(&played.name));
        }
    }
    let vhost = name::resolve_vhost(host, known);
    if let Ok(name) = StreamName::from_http_path(&vhost, path).map_err(said) {
        valid(&name);
        assert!(path.ends_with(&format!("{}.flv", name.stream())));
    }
}

fn known(host: &str) -> Option<String> {
    (host == "known.example").then(|| host.to_owned())
}

fn said(error: NameError) -> NameError {
    assert!(!error.to_string().is_empty());
    error
}

fn one_host(host: &str) {
    assert!(host.contains(strip_port(host)));
    let key = host_key(host);
    assert!(!key.bytes().any(|byte| byte.is_ascii_uppercase()));
    assert!(!key.ends_with('.'));
}

fn valid(name: &StreamName) {
    let parts = [name.vhost(), name.app(), name.instance(), name.stream()];
    for part in parts {
        assert!((1..=NAME_BYTES_MAX).contains(&part.len()));
        assert!(!part.chars().any(char::is_control));
        assert!(!part.split('/').any(|segment| matches!(segment, "." | "..")));
    }
    assert!(!name.app().contains('/') && !name.instance().contains('/'));
    let again = StreamName::new(name.vhost(), name.app(), name.instance(), name.stream());
    assert_eq!(again.as_ref(), Ok(name));
    assert!(name.to_string().ends_with(name.stream()));
}
