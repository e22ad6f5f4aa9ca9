//! Addresses of other servers, and what such a server says when it asks for a login, one per line: the
//! address, the description of the refusal, the query that was sent, the application.

use shardcast::proto::name::StreamName;
use shardcast::proto::rtmp::address::RtmpAddress;
use shardcast::proto::rtmp::login::{Demand, answer};

/// Up to four lines.
pub fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    match RtmpAddress::parse(line()) {
        Ok(address) => whole(&address),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let (description, sent, app) = (line(), line(), line());
    let demand = answer(description, sent, app, ("user", "secret word"), 42);
    if let Demand::Answer(query) = demand {
        assert!(query.starts_with("authmod=") && query.contains("&user=user"));
        let is_sent = query.contains("secret word") && !text.contains("secret word");
        assert!(!is_sent, "the password never leaves");
    }
}

/// What was read can be read again, shows no password, and can be filled with a stream's parts.
fn whole(address: &RtmpAddress) {
    let shown = address.to_string();
    let again = RtmpAddress::parse(&shown).expect("it is an address");
    assert_eq!(again.login, None);
    assert_eq!((&again.host, again.port), (&address.host, address.port));
    assert_eq!(again.to_string(), shown);
    let name = StreamName::new("v", "live", "", "cam").expect("a name");
    let filled = address.filled(&name);
    assert!(!filled.app.contains("{app}") && !filled.tc_url().contains("{stream}"));
}
