//! The PROXY protocol, versions 1 and 2: what a proxy says of a connection before its first byte.
//! Source: HAProxy's specification, proxy-protocol.txt, sections 2.1 and 2.2.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::indexing_slicing))]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A header of version 1 is at most this long, its line end included.
const V1_BYTES_MAX: usize = 107;
/// Longest body of version 2 that is taken: addresses and what a proxy may add about itself.
const V2_BODY_BYTES_MAX: usize = 2048;
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V2_HEAD_BYTES: usize = 16;

/// Why the first bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The bytes begin neither as version 1 nor as version 2, or go on wrongly.
    #[error("a trusted proxy did not begin with a PROXY protocol header")]
    Malformed,
    /// Longer than a header can be.
    #[error("the PROXY protocol header is too long")]
    TooLong,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// The client's address; none when the proxy speaks for itself (a health check) or does not know.
    pub client: Option<SocketAddr>,
    /// Bytes of the header.
    pub length: usize,
}

/// Parses a header from the front of `bytes`; `None` when more bytes are needed.
///
/// # Errors
/// The bytes cannot become a header.
pub fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let is_v2 = bytes.iter().zip(V2_SIGNATURE).all(|(byte, expected)| *byte == expected);
    if !is_v2 {
        return v1(bytes);
    }
    let Some(head) = bytes.first_chunk::<V2_HEAD_BYTES>() else { return Ok(None) };
    let [.., version, family, high, low] = *head;
    if version >> 4 != 2 || version & 0xF > 1 {
        return Err(ProxyError::Malformed);
    }
    let body_bytes = usize::from(u16::from_be_bytes([high, low]));
    if body_bytes > V2_BODY_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let length = V2_HEAD_BYTES + body_bytes;
    let Some(body) = bytes.get(V2_HEAD_BYTES..length) else { return Ok(None) };
    let is_local = version & 0xF == 0;
    let client = match family {
        _ if is_local => None,
        0x11 => Some(v2_address::<4>(body, 8).ok_or(ProxyError::Malformed)?),
        0x21 => Some(v2_address::<16>(body, 32).ok_or(ProxyError::Malformed)?),
        _ => None,
    };
    Ok(Some(ProxyHeader { client, length }))
}

/// The source address of a body: two addresses of `N` bytes, and the source's port at `port_at`.
fn v2_address<const N: usize>(body: &[u8], port_at: usize) -> Option<SocketAddr> {
    let address = *body.first_chunk::<N>()?;
    let port = body.get(port_at..)?.first_chunk::<2>()?;
    // Both addresses and both ports have to be there.
    body.get(..2 * N + 4)?;
    let ip = match <[u8; 4]>::try_from(address.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(ip.to_canonical(), u16::from_be_bytes(*port)))
}

fn v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyError> {
    let prefix = b"PROXY ";
    if bytes.iter().zip(prefix).any(|(byte, expected)| byte != expected) {
        return Err(ProxyError::Malformed);
    }
    let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") else {
        return if bytes.len() >= V1_BYTES_MAX { Err(ProxyError::TooLong) } else { Ok(None) };
    };
    let length = end + 2;
    if length > V1_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let line = bytes.get(prefix.len()..end).unwrap_or_default();
    let text = std::str::from_utf8(line).map_err(|_| ProxyError::Malformed)?;
    let words: Vec<&str> = text.split(' ').collect();
    let client = match words.as_slice() {
        ["UNKNOWN", ..] => None,
        [family @ ("TCP4" | "TCP6"), source, destination, source_port, destination_port] => {
            let address = |text: &str| -> Option<IpAddr> {
                let ip: IpAddr = text.parse().ok()?;
                (ip.is_ipv4() == (*family == "TCP4")).then_some(ip)
            };
            let port = |text: &str| text.parse::<u16>().ok();
            let found = address(source).zip(port(source_port));
            let other = address(destination).zip(port(destination_port));
            let (ip, port) = found.filter(|_| other.is_some()).ok_or(ProxyError::Malformed)?;
            Some(SocketAddr::new(ip.to_canonical(), port))
        }
        _ => return Err(ProxyError::Malformed),
    };
    Ok(Some(ProxyHeader { client, length }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = V2_SIGNATURE.to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend((body.len() as u16).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn client(bytes: &[u8]) -> Option<String> {
        let header = parse(bytes).unwrap().unwrap();
        assert_eq!(header.length, bytes.len());
        header.client.map(|address| address.to_string())
    }

    #[test]
    fn version_1() {
        let table = [
            ("PROXY TCP4 192.0.2.7 198.51.100.1 56324 1935\r\n", Some("192.0.2.7:56324")),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n", Some("[2001:db8::7]:1")),
            ("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", Some("192.0.2.7:1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        ];
        for (text, expected) in table {
            assert_eq!(client(text.as_bytes()).as_deref(), expected, "{text}");
        }
        for wrong in [
            "GET / HTTP/1.1\r\n",
            "\u{3}",
            "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
            "PROXY TCP4 ::1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.7 198.51.100.1 65536 1\r\n",
            "PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
        ] {
            assert_eq!(parse(wrong.as_bytes()), Err(ProxyError::Malformed), "{wrong:?}");
        }
        let long = format!("PROXY UNKNOWN {}", "x".repeat(100));
        assert_eq!(parse(long.as_bytes()), Err(ProxyError::TooLong));
    }

    #[test]
    fn version_2() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0xDC, 4, 7, 0x8F];
        assert_eq!(client(&v2(1, 0x11, &four)).as_deref(), Some("192.0.2.7:56324"));
        let more = [&four[..], &[4, 0, 1, 0]].concat();
        assert_eq!(client(&v2(1, 0x11, &more)).as_deref(), Some("192.0.2.7:56324"));
        let mut six = [0; 36];
        six[15] = 1;
        six[33] = 9;
        assert_eq!(client(&v2(1, 0x21, &six)).as_deref(), Some("[::1]:9"));
        assert_eq!(client(&v2(0, 0x11, &four)), None, "a health check");
        assert_eq!(client(&v2(1, 0x00, &[])), None, "unknown");
        assert_eq!(parse(&v2(1, 0x11, &four[..8])), Err(ProxyError::Malformed));
        assert_eq!(parse(&v2(2, 0x11, &four)), Err(ProxyError::Malformed));
        assert_eq!(parse(&v2(1, 0x11, &[0; 3000])), Err(ProxyError::TooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some(header)) = parse(&bytes) {
                prop_assert!(header.length <= bytes.len());
            }
        }

        /// However the bytes come in, the first verdict is the verdict over all of them.
        #[test]
        fn splits_do_not_matter(rest in "[ -~]{0,40}", is_v2 in any::<bool>()) {
            let mut bytes = if is_v2 {
                v2(1, 0x11, &[192, 0, 2, 7, 198, 51, 100, 1, 0xDC, 4, 7, 0x8F])
            } else {
                b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n".to_vec()
            };
            bytes.extend(rest.bytes());
            let first = (0..=bytes.len())
                .map(|length| parse(&bytes[..length]))
                .find(|verdict| *verdict != Ok(None))
                .unwrap_or(Ok(None));
            prop_assert_eq!(first, parse(&bytes));
        }
    }
}
