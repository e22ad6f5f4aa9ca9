//! Values that TOML has no type for: durations, sizes, rates, addresses, networks.
//!
//! Each is read by one visitor that takes a string or a number, so that a bare number from the
//! environment and a quoted one from the file mean the same.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Visitor};

/// A length of time: `"2s"`, `"40ms"`, `"1m30s"`; units are ms, s, m, h, d. `0` needs none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// A length of time, or `""` for the default of the place where it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OptionalTime(pub Option<Duration>);

/// A number of bytes: `"8MiB"`, `"256KiB"`, `60000`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Bits per second: `8000000`, `"2500k"`, `"8M"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bitrate(pub u64);

/// An IP address and port to listen on: `"[::]:1935"`, `"127.0.0.1:1985"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

/// A network: `"10.0.0.0/8"`, `"192.0.2.7"`, `"2001:db8::/32"`, `"all"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Net {
    /// `None` is all addresses.
    range: Option<(IpAddr, u8)>,
}

impl Time {
    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// From seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// `None` for zero, which means "no limit" or "for ever" where a key says so.
    pub fn limit(self) -> Option<Duration> {
        Some(self.0).filter(|duration| !duration.is_zero())
    }
}

impl Net {
    /// Whether the address lies in the network; an IPv4 address inside IPv6 counts as itself.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.range, address.to_canonical()) {
            (None, _) => true,
            (Some((IpAddr::V4(base), prefix)), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(prefix);
                u32::from(base).checked_shr(shift) == u32::from(address).checked_shr(shift)
            }
            (Some((IpAddr::V6(base), prefix)), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(prefix);
                u128::from(base).checked_shr(shift) == u128::from(address).checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a length of time is a number and a unit: 40ms, 2s, 1m, 3h, 1d".to_owned();
        if text == "0" {
            return Ok(Self::default());
        }
        let mut total = Duration::ZERO;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let (number, tail) = rest.split_at(digits);
            let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            rest = tail;
            let number: u32 = number.parse().map_err(|_| wrong())?;
            let unit = Duration::from_millis(match unit {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(wrong()),
            });
            total = unit
                .checked_mul(number)
                .and_then(|span| total.checked_add(span))
                .ok_or_else(wrong)?;
        }
        if text.is_empty() {
            return Err(wrong());
        }
        Ok(Self(total))
    }
}

impl FromStr for OptionalTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        Time::from_str(text).map(|time| Self(Some(time.0)))
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)];
        scaled(text, &units)
            .map(Self)
            .ok_or_else(|| "a size is a number of bytes, or one with KiB, MiB or GiB".to_owned())
    }
}

impl FromStr for Bitrate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [("k", 1000), ("M", 1_000_000), ("G", 1_000_000_000), ("", 1)];
        scaled(text, &units)
            .map(Self)
            .ok_or_else(|| "a bitrate is bits per second, or a number with k, M or G".to_owned())
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|_| {
            "an address is an IP address and a port, as in [::]:1935 or 127.0.0.1:1935".to_owned()
        })
    }
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "a network is an IP address, one with a prefix length (10.0.0.0/8), or \"all\""
                .to_owned()
        };
        if text == "all" {
            return Ok(Self { range: None });
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| wrong())?,
            None => longest,
        };
        if prefix > longest {
            return Err(wrong());
        }
        Ok(Self { range: Some((address, prefix)) })
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Reads a value from its text, and numbers as their digits.
pub(super) struct FromText<T>(std::marker::PhantomData<T>);

impl<T> FromText<T> {
    pub(super) const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<T: FromStr<Err = String>> Visitor<'_> for FromText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The parser of the text knows better what it wants.
        match T::from_str("\0") {
            Err(reason) => f.write_str(&reason),
            Ok(_) => f.write_str("a string"),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        number.to_string().parse().map_err(E::custom)
    }
}

/// Implements `Deserialize` through `FromStr` with one of serde's `deserialize_` methods:
/// `deserialize_any` takes numbers too, `deserialize_str` takes a text from outside the file as
/// it stands.
macro_rules! deserialize_from_text {
    ($method:ident: $($name:ty),*) => {$(
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                source.$method($crate::config::value::FromText::new())
            }
        }
    )*};
}
pub(super) use deserialize_from_text;

deserialize_from_text!(deserialize_any: Time, ByteSize, Bitrate);
deserialize_from_text!(deserialize_str: Address, Net, OptionalTime);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let table = [
            ("40ms", Some(40)),
            ("2s", Some(2000)),
            ("1m30s", Some(90_000)),
            ("3h", Some(10_800_000)),
            ("1d", Some(86_400_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("1.5s", None),
            ("-1s", None),
            ("5min", None),
            ("99999999999s", None),
        ];
        for (text, expected) in table {
            let time = text.parse::<Time>().ok().map(|t| t.0.as_millis());
            assert_eq!(time, expected, "{text}");
        }
    }

    #[test]
    fn sizes_and_rates() {
        let sizes = [
            ("60000", Some(60_000)),
            ("8MiB", Some(8 << 20)),
            ("256 KiB", Some(256 << 10)),
            ("1GiB", Some(1 << 30)),
            ("10B", Some(10)),
            ("10MB", None),
            ("MiB", None),
            ("", None),
            ("-1", None),
            ("99999999999GiB", None),
        ];
        for (text, expected) in sizes {
            assert_eq!(text.parse::<ByteSize>().ok().map(|s| s.0), expected, "{text}");
        }
        assert_eq!("2500k".parse(), Ok(Bitrate(2_500_000)));
        assert_eq!("8M".parse(), Ok(Bitrate(8_000_000)));
    }

    #[test]
    fn networks() {
        let table = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.1.1", true),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("all", "::1", true),
        ];
        for (net, address, expected) in table {
            let net: Net = net.parse().unwrap();
            assert_eq!(net.contains(address.parse().unwrap()), expected, "{address}");
        }
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/", "host", "10.0.0.0/-1", ""] {
            assert!(text.parse::<Net>().is_err(), "{text}");
        }
    }
}
