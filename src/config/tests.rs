//! The configuration as an operator meets it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use super::de::{known_keys, read};
use super::tree::{Node, Value};
use super::*;

fn sources(file: &str, environment: &[(&str, &str)], set: &[&str]) -> Sources {
    Sources {
        file: Some(("f.toml".to_owned(), file.to_owned())),
        environment: environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        set: set.iter().map(|option| (*option).to_owned()).collect(),
    }
}

fn load(file: &str) -> Settings {
    match Settings::load(&sources(file, &[], &[])) {
        Ok(settings) => settings,
        Err(errors) => panic!("{}", lines(&errors)),
    }
}

fn with_set(set: &[&str]) -> Result<Settings, String> {
    Settings::load(&sources("", &[], set)).map_err(|errors| lines(&errors))
}

fn lines(errors: &[ConfigError]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn complaint(file: &str) -> String {
    match Settings::load(&sources(file, &[], &[])) {
        Ok(_) => panic!("the file should not be valid: {file}"),
        Err(errors) => lines(&errors),
    }
}

/// Paths of all values in a tree that are no tables.
fn leaves(node: &Node, path: &[String], found: &mut Vec<Vec<String>>) {
    match &node.value {
        Value::Table(table) => {
            for (key, entry) in table {
                let path = [path, std::slice::from_ref(key)].concat();
                leaves(&entry.node, &path, found);
            }
        }
        _ => found.push(path.to_vec()),
    }
}

#[test]
fn the_default_file_says_what_the_types_say() {
    let tree = Node::parse_file("default.toml", DEFAULT_TOML).unwrap();
    let config: Config = read(&[], &tree).unwrap();
    assert_eq!(config, Config::default());
    let settings = load(DEFAULT_TOML);
    let plain = load("");
    assert_eq!(settings.app("v", "a", "i"), plain.app("v", "a", "i"));
    assert_eq!(settings.rtmp, plain.rtmp);
}

#[test]
fn every_key_of_the_types_is_in_the_default_file_and_the_other_way_round() {
    let tables: &[(&[&str], Vec<&str>)] = &[
        (&[], known_keys::<Config>()),
        (&["server"], known_keys::<Server>()),
        (&["limits"], known_keys::<Limits>()),
        (&["rtmp"], known_keys::<Rtmp>()),
        (&["http"], known_keys::<Http>()),
        (&["api"], known_keys::<Api>()),
        (&["log"], known_keys::<Log>()),
        (&["apps", "default"], known_keys::<App>()),
        (&["apps", "default", "publish"], known_keys::<Publish>()),
        (&["apps", "default", "play"], known_keys::<Play>()),
        (&["apps", "default", "viewer"], known_keys::<Viewer>()),
        (&["hooks"], known_keys::<Hooks>()),
        (&["push"], known_keys::<Push>()),
        (&["push", "history"], known_keys::<History>()),
        (&["signalling"], known_keys::<Signalling>()),
        (&["signalling", "turn"], known_keys::<Turn>()),
        (&["cluster"], known_keys::<Cluster>()),
        (&["demo"], known_keys::<Demo>()),
    ];
    let tree = Node::parse_file("default.toml", DEFAULT_TOML).unwrap();
    for (path, known) in tables {
        assert!(!known.is_empty(), "{path:?}");
        let table = path
            .iter()
            .try_fold(&tree, |node, key| node.child(key))
            .unwrap_or_else(|| panic!("{path:?} is missing"));
        let mut shown: BTreeSet<&str> = table.keys().collect();
        shown.extend(commented_keys(&path.join(".")));
        assert_eq!(shown, known.iter().copied().collect(), "{path:?}");
    }
}

/// Keys that a section of the default file shows as comments.
fn commented_keys(section: &str) -> Vec<&'static str> {
    let header = format!("[{section}]");
    DEFAULT_TOML
        .lines()
        .skip_while(|line| *line != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.strip_prefix("# ")?.split_once(" = "))
        .map(|(key, _)| key)
        .filter(|key| !key.contains(|c: char| !c.is_ascii_lowercase() && c != '_'))
        .filter(|key| *key != "access")
        .collect()
}

/// Each key of the default file with another valid value.
const OTHER_VALUES: &[(&str, &str)] = &[
    ("api.listen", "127.0.0.1:1"),
    ("api.metrics_listen", "127.0.0.1:1"),
    ("api.token", "123"),
    ("apps.default.access", "{ deny = 'play', from = 'all' }"),
    ("apps.default.gop_bytes", "1MiB"),
    ("apps.default.latency", "realtime"),
    ("apps.default.log_reach", "30s"),
    ("apps.default.max_bitrate", "8M"),
    ("apps.default.max_connections", "5"),
    ("apps.default.play.missing", "refuse"),
    ("apps.default.play.wait_timeout", "5s"),
    ("apps.default.publish.idle_timeout", "0"),
    ("apps.default.publish.resume", "0s"),
    ("apps.default.publish.resume_after_goodbye", "true"),
    ("apps.default.publish.silent", "3s"),
    ("apps.default.publish.takeover", "reject"),
    ("apps.default.referer", "test.com"),
    ("apps.default.viewer.max_lag", "4s"),
    ("apps.default.viewer.socket_buffer", "65536"),
    ("apps.default.viewer.stall_timeout", "5s"),
    ("cluster.advertise", "rtmp://192.0.2.1"),
    ("cluster.lease", "9s"),
    ("cluster.node", "7"),
    ("cluster.redis", ""),
    ("demo.enabled", "true"),
    ("hooks.ca", "/etc/ssl/own.pem"),
    ("hooks.close_silently", "true"),
    ("hooks.dialect", "srs"),
    ("hooks.dns_cache", "5s"),
    ("hooks.enabled", "false"),
    ("hooks.event_headers", "true"),
    ("hooks.notify_method", "get"),
    ("hooks.notify_redirect", "false"),
    ("hooks.notify_relay_redirect", "true"),
    ("hooks.notify_update_strict", "true"),
    ("hooks.notify_update_timeout", "5s"),
    ("hooks.on_failure", "accept"),
    ("hooks.repeat_connect_args", "true"),
    ("hooks.retry", "at_least_once"),
    ("hooks.secret", "true"),
    ("hooks.server_id", "vid-1"),
    ("hooks.srs_version", "1"),
    ("hooks.timeout", "3s"),
    ("hooks.user_agent", "SRS/7"),
    ("http.cors", "https://test.com"),
    ("http.flv_missing", "wait"),
    ("http.listen", "[]"),
    ("http.origins", "['https://a', 'https://b']"),
    ("http.ping", "0"),
    ("http.ping_timeout", "1s"),
    ("http.trusted_proxies", "10.0.0.0/8"),
    ("limits.connections", "10"),
    ("limits.connections_per_address", "10"),
    ("limits.handshake_timeout", "1s"),
    ("limits.idle_connection", "0"),
    ("limits.logs_per_stream", "3"),
    ("limits.streams", "10"),
    ("log.access", "/tmp/y"),
    ("log.access_format", "$name $args"),
    ("log.file", "/tmp/x"),
    ("log.format", "json"),
    ("log.level", "info,shardcast=debug"),
    ("push.client_send", "members"),
    ("push.history.age", "5s"),
    ("push.history.messages", "5"),
    ("push.max_message", "1000"),
    ("push.required", "false"),
    ("push.secret", "123"),
    ("rtmp.ack_window", "5000000"),
    ("rtmp.chunk_size", "128"),
    ("rtmp.listen", "[::1]:1935"),
    ("rtmp.max_message", "1MiB"),
    ("rtmp.ping", "0"),
    ("rtmp.ping_timeout", "1s"),
    ("rtmp.proxy_protocol_from", "all"),
    ("server.accept", "round_robin"),
    ("server.control_core", "1"),
    ("server.drain", "1m"),
    ("server.egress", "ring"),
    ("server.gather_viewers", "0"),
    ("server.shards", "2"),
    ("server.unknown_apps", "refuse"),
    ("signalling.listen", "0.0.0.0:4233"),
    ("signalling.max_members", "6"),
    ("signalling.path", "/rooms"),
    ("signalling.resume", "5s"),
    ("signalling.shutdown", "1s"),
    ("signalling.store", "redis://127.0.0.1"),
    ("signalling.turn.secret", "1"),
    ("signalling.turn.ttl", "1h"),
];

/// Keys whose other value needs company; it is held against the default by other tests.
const NOT_ALONE: &[&str] = &["cluster.redis", "push.required"];

#[test]
fn every_key_can_be_set_by_option_and_by_environment() {
    let tree = Node::parse_file("default.toml", DEFAULT_TOML).unwrap();
    let mut paths = Vec::new();
    leaves(&tree, &[], &mut paths);
    let keys: BTreeSet<String> = paths.iter().map(|path| path.join(".")).collect();
    let tested: BTreeSet<String> = OTHER_VALUES.iter().map(|(k, _)| (*k).to_owned()).collect();
    assert_eq!(keys, tested);

    for (key, value) in OTHER_VALUES {
        let option = format!("{key}={value}");
        let by_option = with_set(&[&option]).unwrap_or_else(|e| panic!("{e}")).config;
        let mut levels: Vec<String> = key.split('.').map(str::to_owned).collect();
        let last = levels.len() - 1;
        levels[0].make_ascii_uppercase();
        levels[last].make_ascii_uppercase();
        let mut variables = vec![format!("SHARDCAST__{}", levels.join("__"))];
        if last == 1 {
            variables.push(format!("SHARDCAST_{}", levels.join("_")));
        }
        for variable in variables {
            let sources = sources("", &[(&variable, value)], &[]);
            let by_environment =
                Settings::load(&sources).unwrap_or_else(|e| panic!("{}", lines(&e)));
            assert_eq!(by_environment.config, by_option, "{variable}");
        }
        if !NOT_ALONE.contains(key) {
            let mut default = Config::default();
            if !by_option.apps.contains_key("default") {
                default.apps.clear();
            }
            assert_ne!(by_option, default, "{option} changes nothing");
        }
    }
}

#[test]
fn nearer_sources_win() {
    let file = "[rtmp]\nchunk_size = 1000\n[limits]\nstreams = 1\nconnections = 1";
    let environment = [
        ("SHARDCAST_RTMP_CHUNK_SIZE", "2000"),
        ("SHARDCAST_LIMITS_STREAMS", "2"),
        ("HOME", "/root"),
    ];
    let set = ["rtmp.chunk_size=3000", "rtmp.chunk_size=4000"];
    let settings = Settings::load(&sources(file, &environment, &set)).unwrap();
    assert_eq!(settings.rtmp.chunk_size, 4000);
    assert_eq!(settings.limits.streams, 2);
    assert_eq!(settings.limits.connections, 1);
    assert_eq!(settings.limits.logs_per_stream, 6);
}

#[test]
fn strings_are_taken_as_they_stand_outside_the_file() {
    let secrets = |set: &str| with_set(&[set]).unwrap().config.push.secret;
    assert_eq!(secrets("push.secret=123"), ["123"]);
    assert_eq!(secrets("push.secret=true"), ["true"]);
    assert_eq!(secrets("push.secret=a=b"), ["a=b"]);
    assert_eq!(secrets("push.secret=['a', 'b']"), ["a", "b"]);
    assert_eq!(secrets("push.secret=[]"), Vec::<String>::new());
    let token = with_set(&["api.token=\"x\""]).unwrap().api.token;
    assert_eq!(token.as_deref(), Some("\"x\""));
    let settings = with_set(&["log.format=\"json\"", "http.flv_missing=404"]).unwrap();
    assert_eq!(settings.log.format, LogFormat::Json);
    // In the file a number is a number.
    assert_eq!(
        complaint("[push]\nsecret = [123]"),
        "f.toml:2:11: push.secret[0]: this is a number, not a string"
    );
}

#[test]
fn a_whole_table_can_be_set() {
    let set = r#"apps={ live = { latency = "realtime", viewer = { stall_timeout = "1s" } } }"#;
    let settings = with_set(&["apps.default.hold.video=9ms", "server.unknown_apps=refuse"]);
    assert_eq!(settings.unwrap().app("", "live", "").hold_video, Duration::from_millis(9));
    let settings = with_set(&[set, "apps.live.max_connections=7", "apps.default.hold.video=9ms"]);
    let app = settings.unwrap().app("", "live", "");
    assert_eq!(app.hold_video, Duration::ZERO);
    assert_eq!(app.viewer_stall_timeout, Some(Duration::from_secs(1)));
    assert_eq!(app.max_connections, Some(7));
    let sources = sources("[apps.live]\nmax_connections = 1", &[], &[set]);
    let app = Settings::load(&sources).unwrap().app("", "live", "");
    assert_eq!((app.latency, app.max_connections), (Latency::Realtime, None));
    assert_eq!(
        with_set(&["push={ secret = [\"{ a = 1 }\"] }"]).unwrap().config.push.secret,
        ["{ a = 1 }"]
    );
    assert_eq!(with_set(&["hooks.secret={ a = 1 }"]).unwrap().config.hooks.secret, "{ a = 1 }");
}

#[test]
fn one_address_stands_for_a_list() {
    let settings = load("[rtmp]\nlisten = \"127.0.0.1:1\"\n[hooks]\non_play = \"http://h/\"");
    assert_eq!(settings.rtmp.listen, ["127.0.0.1:1".parse().unwrap()]);
    assert_eq!(settings.config.hooks.on_play.len(), 1);
    let settings = with_set(&["rtmp.listen=[\"127.0.0.1:1\", \"[::1]:2\"]"]).unwrap();
    assert_eq!(settings.rtmp.listen.len(), 2);
}

#[test]
fn complaints_name_place_key_and_reason() {
    let table = [
        (
            "[rtmp]\n  lisen = 1",
            "f.toml:2:3: rtmp.lisen: there is no such key; did you mean `listen`?",
        ),
        ("[rtpm]", "f.toml:1:2: rtpm: there is no such key; did you mean `rtmp`?"),
        (
            "[apps.live]\nlatency = \"realtim\"",
            "f.toml:2:11: apps.live.latency: \"realtim\" is not one of balanced, realtime, \
             throughput; did you mean `realtime`?",
        ),
        (
            "[apps.live.publish]\nsilent = 5",
            "f.toml:2:10: apps.live.publish.silent: a length of time is a number and a unit: 40ms, \
             2s, 1m, 3h, 1d",
        ),
        (
            "[rtmp]\nlisten = [\"[::]:1\", \"localhost:1935\"]",
            "f.toml:2:21: rtmp.listen[1]: an address is an IP address and a port, as in [::]:1935 \
             or 127.0.0.1:1935",
        ),
        (
            "[demo]\nenabled = \"yes\"",
            "f.toml:2:11: demo.enabled: this is a string, not true or false",
        ),
        ("apps = 5", "f.toml:1:8: apps: this is a number, not a table"),
        ("[apps]\nlive = 5", "f.toml:2:8: apps.live: this is a number, not a table"),
        (
            "[limits]\nstreams = -1",
            "f.toml:2:11: limits.streams: this number is outside the range of the key",
        ),
        (
            "[apps.live]\naccess = [{ from = \"all\" }]",
            "f.toml:2:11: apps.live.access[0]: an access rule has either `allow` or `deny`",
        ),
        (
            "[apps.live]\naccess = [{ allow = \"play\", from = \"10.0.0.0/99\" }]",
            "f.toml:2:36: apps.live.access[0].from: a network is an IP address, one with a prefix \
             length (10.0.0.0/8), or \"all\"",
        ),
        (
            "[hooks]\non_play = [{ uri = \"http://h\" }]",
            "f.toml:2:14: hooks.on_play[0].uri: there is no such key; did you mean `url`?",
        ),
        (
            "[hooks]\non_play = \"ftp://h\"",
            "f.toml:2:11: hooks.on_play: the URL of a hook begins with http:// or https:// and \
             names a host",
        ),
        (
            "[vhosts.\"a.b\".apps.live]\nlatency = 1",
            "f.toml:2:11: vhosts.\"a.b\".apps.live.latency: \"1\" is not one of balanced, realtime, \
             throughput",
        ),
    ];
    for (file, expected) in table {
        assert_eq!(complaint(file), expected, "{file}");
    }
    assert!(complaint("[rtmp\nlisten = 1").starts_with("f.toml:1:6: "));
}

#[test]
fn complaints_name_option_and_variable_but_not_the_value() {
    assert_eq!(
        with_set(&["rtmp.lisen=s3cret"]).unwrap_err(),
        "--set rtmp.lisen: there is no such key; did you mean `listen`?"
    );
    assert_eq!(
        with_set(&["rtmp.chunk_size=s3cret"]).unwrap_err(),
        "--set rtmp.chunk_size: a size is a number of bytes, or one with KiB, MiB or GiB"
    );
    let sources = sources("", &[("SHARDCAST_RTMP_CHUNK_SIZE", "1")], &[]);
    assert_eq!(
        lines(&Settings::load(&sources).unwrap_err()),
        "environment variable SHARDCAST_RTMP_CHUNK_SIZE: rtmp.chunk_size: a chunk has 128 bytes to \
         16MiB"
    );
    assert!(with_set(&["nothing"]).is_err());
}

#[test]
fn rules_across_keys() {
    let table = [
        ("[rtmp]\nchunk_size = 127", "f.toml:2:1: rtmp.chunk_size: "),
        ("[rtmp]\nchunk_size = \"17MiB\"", "f.toml:2:1: rtmp.chunk_size: "),
        ("[rtmp]\nmax_message = \"17MiB\"", "f.toml:2:1: rtmp.max_message: "),
        ("[rtmp]\nping_timeout = \"0s\"", "f.toml:2:1: rtmp.ping_timeout: "),
        ("[http]\nping_timeout = \"0s\"", "f.toml:2:1: http.ping_timeout: "),
        ("[limits]\nstreams = 0", "f.toml:2:1: limits.streams: "),
        ("[server]\nshards = 0", "f.toml:2:10: server.shards: "),
        ("[log]\nlevel = \"inof\"", "f.toml:2:9: log.level: "),
        ("[api]\nlisten = \"0.0.0.0:1985\"", "f.toml:2:1: api.listen: "),
        ("[api]\nlisten = \"[::]:1985\"", "f.toml:2:1: api.listen: "),
        ("[http]\nlisten = \"[::]:1935\"", "f.toml:2:1: http.listen: "),
        ("[apps.x]\nlog_reach = \"19s\"", "f.toml:2:1: apps.x.log_reach: "),
        ("[apps.x.viewer]\nmax_lag = \"11s\"", "f.toml:2:1: apps.x.viewer.max_lag: "),
        ("[apps.x.hold]\nvideo = \"2s\"", "f.toml:2:1: apps.x.hold.video: "),
        ("[apps.x]\ngop_bytes = 1", "f.toml:2:1: apps.x.gop_bytes: "),
        ("[apps.x.viewer]\nsocket_buffer = 1", "f.toml:2:1: apps.x.viewer.socket_buffer: "),
        ("[apps.x]\npush = { url = \"http://h\" }", "f.toml:2:1: apps.x.push: "),
        ("[apps.\"a/b/c\"]", "f.toml:1:7: apps.\"a/b/c\": "),
        ("[vhosts.__defaultVhost__]", "f.toml:1:9: vhosts.__defaultVhost__: "),
        (
            "[vhosts.\"a.b\"]\n[vhosts.c]\naliases = [\"A.B\"]",
            "f.toml:3:1: vhosts.c.aliases: \"A.B\" already belongs to \"a.b\"",
        ),
        ("[push]\nrequired = true", "f.toml:2:1: push.required: "),
        ("[push]\nsecret = \"\"", "f.toml:2:1: push.secret: "),
        ("[cluster]\nredis = \"redis://h\"", "f.toml:1:2: cluster.advertise: "),
        (
            "[cluster]\nredis = \"redis://h\"\nadvertise = \"rtmp://h/live\"",
            "f.toml:3:1: cluster.advertise: ",
        ),
        (
            "[cluster]\nredis = \"redis://h\"\nadvertise = \"rtmp://h\"\nlease = \"2s\"",
            "f.toml:4:1: cluster.lease: ",
        ),
        ("[signalling]\nstore = \"etcd\"", "f.toml:2:1: signalling.store: "),
        (
            "[signalling]\nstore = \"rediss://h\"",
            "f.toml:2:1: signalling.store: TLS to Redis is not built in",
        ),
        (
            "[cluster]\nredis = \"rediss://h\"\nadvertise = \"rtmp://h\"",
            "f.toml:2:1: cluster.redis: TLS to Redis is not built in",
        ),
        ("[hooks]\nsrs_version = 2", "f.toml:2:1: hooks.srs_version: "),
    ];
    for (file, expected) in table {
        let found = complaint(file);
        assert!(found.starts_with(expected), "{file}\n{found}");
        assert_eq!(found.lines().count(), 1, "{file}\n{found}");
    }
    for file in [
        "[api]\nlisten = \"0.0.0.0:1985\"\ntoken = \"t\"",
        "[api]\nlisten = [\"127.0.0.2:1\", \"[::1]:1\"]",
        "[api]\nlisten = []",
        "[rtmp]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"",
        "[apps.x]\nlog_reach = \"8s\"\nviewer = { max_lag = \"4s\" }",
    ] {
        load(file);
    }
}

#[test]
fn an_inherited_fault_is_reported_once() {
    let found = complaint("[apps.default]\ngop_bytes = 1\n[apps.a]\n[apps.b]\n[vhosts.v]");
    assert_eq!(found, "f.toml:2:1: apps.default.gop_bytes: the cap lies between 64KiB and 1GiB");
    // Several faults are reported together.
    let found = complaint("[rtmp]\nchunk_size = 1\n[limits]\nstreams = 0");
    assert_eq!(found.lines().count(), 2);
}

#[test]
fn connection_hooks_of_the_nginx_dialect_belong_above_the_apps() {
    let wrong = [
        "[apps.live.hooks]\non_connect = \"http://h/\"",
        "[apps.live.hooks]\non_disconnect = \"http://h/\"",
        "[apps.default.hooks]\non_connect = \"http://h/\"",
        "[vhosts.v.apps.live.hooks]\non_connect = \"http://h/\"",
    ];
    for file in wrong {
        let found = complaint(file);
        assert!(found.starts_with("f.toml:2:1: "), "{found}");
        assert!(found.contains("belongs in [hooks]"), "{found}");
    }
    let right = [
        "[hooks]\non_connect = \"http://h/\"\n[apps.live]",
        "[vhosts.v.hooks]\non_connect = \"http://h/\"\n[vhosts.v.apps.live]",
        "[hooks]\ndialect = \"srs\"\n[apps.live.hooks]\non_connect = \"http://h/\"",
        "[apps.live.hooks]\non_connect = { url = \"http://h/\", dialect = \"srs\" }",
        "[apps.live.hooks]\non_publish = \"http://h/\"",
    ];
    for file in right {
        load(file);
    }
}

#[test]
fn apps_inherit_key_by_key() {
    let settings = load(
        r#"
        [apps.default]
        max_connections = 1
        gop_bytes = "1MiB"
        viewer = { stall_timeout = "1s", max_lag = "2s" }
        [apps.live]
        max_connections = 2
        [apps."live/vip"]
        max_connections = 3
        [vhosts."a.b"]
        aliases = ["c.d"]
        access = { deny = "publish", from = "all" }
        [vhosts."a.b".apps.default]
        gop_bytes = "2MiB"
        [vhosts."a.b".apps.live]
        viewer = { stall_timeout = "5s" }
        "#,
    );
    let of = |vhost, app, instance| {
        let app = settings.app(vhost, app, instance);
        (
            app.max_connections.unwrap_or(0),
            app.gop_bytes >> 20,
            app.viewer_stall_timeout.unwrap_or_default().as_secs(),
        )
    };
    assert_eq!(of("__defaultVhost__", "other", "_definst_"), (1, 1, 1));
    assert_eq!(of("__defaultVhost__", "live", "_definst_"), (2, 1, 1));
    assert_eq!(of("__defaultVhost__", "live", "vip"), (3, 1, 1));
    assert_eq!(of("a.b", "other", "_definst_"), (1, 2, 1));
    assert_eq!(of("a.b", "live", "_definst_"), (2, 2, 5));
    assert_eq!(of("a.b", "live", "vip"), (3, 2, 5));
    assert_eq!(of("unknown", "live", "vip"), (3, 1, 1));
    let max_lag = settings.app("a.b", "live", "vip").viewer_max_lag;
    assert_eq!(max_lag, Duration::from_secs(2));

    let anywhere: IpAddr = "192.0.2.1".parse().unwrap();
    let denied = settings.app("a.b", "live", "");
    assert!(!denied.permits(RuleAction::Publish, anywhere));
    assert!(denied.permits(RuleAction::Play, anywhere));
    assert!(settings.app("", "live", "").permits(RuleAction::Publish, anywhere));

    for (host, vhost) in [
        ("A.B:8080", "a.b"),
        ("c.d.", "a.b"),
        ("[::1]:80", "__defaultVhost__"),
        ("", "__defaultVhost__"),
    ] {
        assert_eq!(settings.vhost_of(host), vhost, "{host}");
    }
}

#[test]
fn presets_and_holds() {
    let settings = load(
        r#"
        [apps.default]
        hold = { video = "100ms" }
        [apps.r]
        latency = "realtime"
        [apps.t]
        latency = "throughput"
        hold = { audio = "0ms" }
        [apps.b]
        hold = { audio = "7ms" }
        "#,
    );
    let of = |app| {
        let app = settings.app("", app, "");
        [app.hold_video, app.hold_audio, app.turn_min].map(|time| time.as_millis())
    };
    assert_eq!(of("other"), [100, 40, 5]);
    assert_eq!(of("b"), [100, 7, 5]);
    // A preset that is nearer than the hold brings its own holds.
    assert_eq!(of("r"), [0, 20, 2]);
    assert_eq!(of("t"), [340, 0, 50]);
}

#[test]
fn zero_means_no_limit_where_the_file_says_so() {
    let default = load("").app("", "x", "");
    assert_eq!(default.wait_timeout, None);
    assert_eq!(default.max_bitrate, None);
    assert_eq!(default.max_connections, None);
    assert_eq!(default.publish_idle_timeout, Some(Duration::from_secs(30)));
    let settings = with_set(&["apps.default.publish.idle_timeout=0", "rtmp.ping=0s"]).unwrap();
    assert_eq!(settings.app("", "x", "").publish_idle_timeout, None);
    assert_eq!(settings.rtmp.ping, None);
}

#[test]
fn unknown_apps_can_be_refused() {
    let file = "[apps.live]\n[apps.\"rooms/one\"]\n[vhosts.v.apps.own]";
    assert!(load(file).serves_app("", "x", "_definst_"));
    let settings = load(&format!("server.unknown_apps = \"refuse\"\n{file}"));
    for (vhost, app, instance, expected) in [
        ("", "live", "_definst_", true),
        ("", "live", "any", true),
        ("", "rooms", "one", true),
        ("", "rooms", "_definst_", false),
        ("", "own", "_definst_", false),
        ("v", "own", "_definst_", true),
        ("v", "live", "_definst_", true),
        ("", "default", "_definst_", false),
    ] {
        assert_eq!(settings.serves_app(vhost, app, instance), expected, "{app}");
    }
}

#[test]
fn referers_are_hosts_and_the_hosts_below_them() {
    let app = with_set(&["apps.x.referer=test.com"]).unwrap().app("", "x", "");
    for (page, expected) in [
        ("http://test.com/a", true),
        ("https://www.Test.com:8443/a?b", true),
        ("http://nottest.com/", false),
        ("http://test.com.evil.org/", false),
        ("http://evil.org/?test.com", false),
        ("http://evil.org\u{40}test.com/", true),
        ("http://test.com@evil.org/", false),
        ("", false),
    ] {
        assert_eq!(app.permits_referer(page), expected, "{page}");
    }
    assert!(load("").app("", "x", "").permits_referer(""));
}

#[test]
fn a_vhost_has_its_own_push_channel_and_inherits_what_it_does_not_say() {
    let settings = load(
        "[push]\nsecret = [\"a\", \"b\"]\nmax_message = \"1KiB\"\nrequired = true\n\
         [vhosts.\"v.test\".push]\nsecret = \"c\"\nrequired = false\n\
         [vhosts.\"w.test\"]\n\
         [apps.open]\npush_required = false\n\
         [vhosts.\"v.test\".apps.closed]\npush_required = true\n",
    );
    let (top, own) = (settings.push("other"), settings.push("v.test"));
    assert_eq!((top.secrets.as_slice(), top.required), (&["a", "b"].map(str::to_owned)[..], true));
    assert_eq!((own.secrets.as_slice(), own.required), (&["c".to_owned()][..], false));
    assert_eq!(own.message_bytes_max, 1024);
    assert_eq!(settings.push("w.test"), top);
    let required = |vhost: &str, app: &str| settings.app(vhost, app, "_definst_").session_required;
    assert!(required("other", "live") && !required("other", "open"));
    assert!(!required("v.test", "live") && required("v.test", "closed"));
    assert!(
        complaint("[apps.live]\npush_required = true")
            .starts_with("f.toml:2:1: apps.live.push_required: a session is required")
    );
}

#[test]
fn clients_messages_are_judged_by_hooks_of_the_vhost() {
    let settings = load(
        "[push]\nclient_send = \"hook\"\n[hooks]\non_message = [\"http://top/\"]\n\
         [vhosts.\"v.test\".hooks]\non_message = [{ url = \"http://own/\", dialect = \"srs\" }]\n",
    );
    let url = |vhost: &str| {
        let plan = settings.connection_hooks(vhost);
        let found: Vec<_> =
            plan.targets(HookEvent::Message).map(|it| it.url.text.clone()).collect();
        found.join(" ")
    };
    assert_eq!((url(""), url("v.test")), ("http://top/".into(), "http://own/".into()));
    assert!(
        complaint("[push]\nclient_send = \"hook\"")
            .starts_with("f.toml:2:1: push.client_send: \"hook\" needs hooks.on_message")
    );
    let in_app = complaint("[apps.live.hooks]\non_message = [\"http://h/\"]");
    assert!(in_app.contains("on_message belongs in [hooks]"), "{in_app}");
}

#[test]
fn a_cluster_keeps_the_rooms_unless_the_store_says_otherwise() {
    let cluster = ["cluster.redis=redis://one", "cluster.advertise=rtmp://192.0.2.1/"];
    let settings = with_set(&cluster).unwrap();
    let found = settings.cluster.as_ref().unwrap();
    assert_eq!(
        (found.redis.as_str(), found.advertise.as_str()),
        ("redis://one", "rtmp://192.0.2.1")
    );
    assert_eq!(settings.signalling.redis.as_deref(), Some("redis://one"));
    for (store, expected) in [("memory", None), ("redis://two", Some("redis://two"))] {
        let store = format!("signalling.store={store}");
        let all = [&cluster[..], &[store.as_str()]].concat();
        assert_eq!(with_set(&all).unwrap().signalling.redis.as_deref(), expected);
    }
    let alone = with_set(&[]).unwrap();
    assert_eq!((alone.cluster, alone.signalling.redis), (None, None));
}
