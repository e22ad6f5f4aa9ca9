//! The configuration in force, for the API: every key with its value, secrets hidden.

use serde_json::{Map, Value as Json};

use super::DEFAULT_TOML;
use super::settings::Settings;
use super::tree::{Node, Value};

/// In place of a secret.
const HIDDEN: &str = "***";
/// Keys whose values are secrets, wherever they stand.
const SECRETS: [&str; 2] = ["secret", "token"];

impl Settings {
    /// All keys: what was given over the defaults. Secrets, and what follows `?` or goes before `@` in
    /// URLs, are replaced by `***`.
    pub fn in_force(&self) -> Json {
        // The default file is a constant that tests parse.
        let mut all = Node::parse_file("defaults", DEFAULT_TOML)
            .map_or_else(|_| Json::Object(Map::new()), |node| json(&node));
        merge(&mut all, json(&self.tree));
        hide(&mut all, false);
        all
    }
}

fn json(node: &Node) -> Json {
    match &node.value {
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Boolean(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::String(text) => text.clone().into(),
        Value::Table(table) => {
            let entries = table.iter().map(|(key, entry)| (key.clone(), json(&entry.node)));
            Json::Object(entries.collect())
        }
        Value::Text(text, _) => json(&Node::interpret(text, &node.origin)),
    }
}

fn merge(under: &mut Json, over: Json) {
    match (under, over) {
        (Json::Object(under), Json::Object(over)) => {
            for (key, value) in over {
                merge(under.entry(key).or_insert(Json::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

fn hide(value: &mut Json, is_secret: bool) {
    match value {
        Json::Object(table) => {
            for (key, value) in table {
                hide(value, is_secret || SECRETS.contains(&key.as_str()));
            }
        }
        Json::Array(items) => items.iter_mut().for_each(|item| hide(item, is_secret)),
        Json::String(text) if text.is_empty() => {}
        Json::String(text) if !is_secret => *text = without_credentials(text),
        value if is_secret => *value = HIDDEN.into(),
        _ => {}
    }
}

/// A URL without what may be a key in it; other text as it is.
fn without_credentials(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, query) = match rest.split_once('?') {
        Some((rest, _)) => (rest, format!("?{HIDDEN}")),
        None => (rest, String::new()),
    };
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{HIDDEN}@{host}{path}{query}"),
        None => format!("{scheme}://{authority}{path}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::config::{Settings, Sources};

    #[test]
    fn what_was_given_is_shown_over_the_defaults_without_secrets() {
        let file = "[api]\ntoken = \"one\"\n[apps.live]\nlatency = \"realtime\"\n\
                    [apps.live.hooks]\nsecret = \"two\"\n\
                    on_publish = [{ url = \"http://h/x?key=four\", timeout = \"1s\" }]\n\
                    [cluster]\nredis = \"redis://u:three@h/0\"\nadvertise = \"rtmp://h\"\n";
        let sources = Sources {
            file: Some(("f.toml".to_owned(), file.to_owned())),
            environment: vec![("SHARDCAST_RTMP_CHUNK_SIZE".to_owned(), "4096".to_owned())],
            set: vec!["hooks.secret=five".to_owned()],
        };
        let shown = Settings::load(&sources).unwrap().in_force();
        assert_eq!(shown["rtmp"]["chunk_size"], 4096);
        assert_eq!(shown["rtmp"]["ack_window"], 2_500_000, "a default");
        assert_eq!(shown["apps"]["live"]["latency"], "realtime");
        assert_eq!(shown["api"]["token"], "***");
        assert_eq!(shown["hooks"]["secret"], "***");
        let hooks = &shown["apps"]["live"]["hooks"];
        assert_eq!(hooks["on_publish"][0]["url"], "http://h/x?***");
        assert_eq!(hooks["on_publish"][0]["timeout"], "1s");
        assert_eq!(shown["cluster"]["redis"], "redis://***@h/0");
        let text = shown.to_string();
        for secret in ["one", "two", "three", "four", "five"] {
            assert!(
                !text.contains(&format!("\"{secret}")) && !text.contains(&format!(":{secret}"))
            );
            assert!(secret == "one" || !text.contains(secret), "{secret}");
        }
        let plain = Settings::load(&Sources::default()).unwrap().in_force();
        assert_eq!(plain["api"]["token"], json!(""), "that there is none is no secret");
    }
}
