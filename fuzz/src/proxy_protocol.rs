//! The PROXY protocol: what came first decides, and the header alone.

use shardcast::proto::proxy_protocol;

/// The first bytes of a connection from a trusted proxy.
pub fn run(data: &[u8]) {
    let whole = proxy_protocol::parse(data);
    let mut grown = Ok(None);
    for end in 0..=data.len() {
        grown = proxy_protocol::parse(&data[..end]);
        if grown != Ok(None) {
            break;
        }
    }
    assert_eq!(grown, whole, "what came first decides");
    match whole {
        Ok(Some(header)) => {
            assert!((8..=data.len()).contains(&header.length));
            assert_eq!(proxy_protocol::parse(&data[..header.length]), whole);
            // Version 1 can be written from what was read.
            if let Some(client) = header.client {
                let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
                let ip = client.ip();
                let line = format!("PROXY {family} {ip} {ip} {} 1\r\n", client.port());
                let again = proxy_protocol::parse(line.as_bytes()).expect("a header");
                assert_eq!(again.and_then(|it| it.client), Some(client));
            }
        }
        // The longest header: 16 bytes and a body of 2048.
        Ok(None) => assert!(data.len() < 16 + 2048),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
