//! Which viewer plays what, how, from where, on which thread, and who is in the sample.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::cli::{Sample, Viewers};
use crate::clock::SECOND_NS;
use crate::stream::Stream;
use crate::target::Server;
use crate::viewer::{Protocol, ViewerPlan};

/// Viewers by thread.
#[derive(Debug)]
pub(crate) struct Plan {
    /// One list per thread, in the order of the start.
    pub(crate) threads: Vec<Vec<ViewerPlan>>,
    /// When the last viewer starts.
    pub(crate) last_start_ns: u64,
}

/// Plans all viewers; the first starts at `start_ns`.
pub(crate) fn plan(
    args: &Viewers,
    streams: &[Arc<Stream>],
    rtmp: &Server,
    http: &Server,
    from: &[IpAddr],
    threads: usize,
    start_ns: u64,
) -> Plan {
    let protocols = protocols(args.viewers_rtmp, args.viewers_flv);
    let sample = choose_sample(&protocols, Sample::of(args.sample, protocols.len() as u64));
    let servers = [rtmp, http].map(|server| (server.address, Arc::from(server.authority.as_str())));
    let mut plan = Plan { threads: vec![Vec::new(); threads], last_start_ns: start_ns };
    for (index, protocol) in protocols.iter().copied().enumerate() {
        let (address, authority) = &servers[usize::from(protocol == Protocol::HttpFlv)];
        plan.last_start_ns = start_ns + (index as f64 / args.ramp * SECOND_NS as f64) as u64;
        plan.threads[index % threads].push(ViewerPlan {
            start_ns: plan.last_start_ns,
            stream: Arc::clone(&streams[mix(index as u64 ^ 0x5eed) as usize % streams.len()]),
            protocol,
            is_sampled: sample.contains(&index),
            rejoins: args.rejoin,
            address: *address,
            authority: Arc::clone(authority),
            from: (!from.is_empty()).then(|| from[index % from.len()]),
        });
    }
    plan
}

/// The protocol of each viewer, evenly mixed.
fn protocols(rtmp: u32, flv: u32) -> Vec<Protocol> {
    let total = u64::from(rtmp) + u64::from(flv);
    let flv_before = |index: u64| index * u64::from(flv) / total.max(1);
    (0..total)
        .map(|index| {
            if flv_before(index + 1) > flv_before(index) {
                Protocol::HttpFlv
            } else {
                Protocol::Rtmp
            }
        })
        .collect()
}

/// `count` viewers in no pattern, so that no thread, stream or shard is left out, with the last to
/// start of each protocol among them.
fn choose_sample(protocols: &[Protocol], count: u64) -> BTreeSet<usize> {
    let mut order: Vec<usize> = (0..protocols.len()).collect();
    order.sort_by_key(|index| mix(*index as u64));
    let last = |wanted| protocols.iter().rposition(|protocol| *protocol == wanted);
    let mut lasts: Vec<usize> =
        [last(Protocol::Rtmp), last(Protocol::HttpFlv)].into_iter().flatten().collect();
    lasts.sort_by_key(|index| std::cmp::Reverse(*index));
    let mut sample = BTreeSet::new();
    for index in lasts.into_iter().chain(order) {
        if sample.len() as u64 >= count {
            break;
        }
        sample.insert(index);
    }
    sample
}

/// A fixed permutation of numbers without a pattern (splitmix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_mixed_in_their_numbers() {
        let mixed = protocols(30, 10);
        let flv = |part: &[Protocol]| {
            part.iter().filter(|protocol| **protocol == Protocol::HttpFlv).count()
        };
        assert_eq!((mixed.len(), flv(&mixed)), (40, 10));
        assert_eq!(flv(&mixed[..20]), 5);
        assert!(protocols(0, 0).is_empty());
    }

    #[test]
    fn the_sample_is_spread_and_has_the_last() {
        let protocols = protocols(500, 500);
        let sample = choose_sample(&protocols, 50);
        assert_eq!(sample.len(), 50);
        assert!(sample.contains(&999) && sample.contains(&998));
        let odd = sample.iter().filter(|index| *index % 2 == 1).count();
        assert!((10..=40).contains(&odd));
        assert!(sample.iter().filter(|index| **index < 500).count() >= 10);
    }
}
