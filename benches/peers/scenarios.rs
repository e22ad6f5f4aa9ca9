//! What is measured: loads, and the servers that get them.

use std::path::Path;

use super::figures::Kind;
use super::loadgen::{Load, Via};
use super::server::{Build, Pace, Preset, Variant};

/// A load, and the servers that get it.
pub(crate) struct Scenario {
    /// Its letter; several with one letter are points of one curve.
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) kind: Kind,
    pub(crate) load: Load,
    /// The first one is what the others are compared with.
    pub(crate) variants: Vec<(Variant, Via)>,
}

impl Scenario {
    /// For people.
    pub(crate) fn title(&self) -> String {
        match self.load.viewers {
            0 => format!("{}: {}", self.id, self.what),
            viewers if self.load.streams > 1 => {
                format!("{}: {}, {viewers} viewers each", self.id, self.what)
            }
            viewers => format!("{}: {}, {viewers} viewers", self.id, self.what),
        }
    }

    /// Only variants whose labels begin with one of these; the first one stays, to be compared with.
    pub(crate) fn keep(&mut self, labels: &[String]) {
        let mut is_first = true;
        self.variants.retain(|(variant, via)| {
            let label = label(variant, *via);
            std::mem::take(&mut is_first)
                || labels.is_empty()
                || labels.iter().any(|begin| label.starts_with(begin.as_str()))
        });
    }
}

/// A variant's name in the tables.
pub(crate) fn label(variant: &Variant, via: Via) -> String {
    match via {
        Via::Flv => format!("{variant}, HTTP-FLV"),
        Via::Relayed => format!("{variant}, sent on"),
        Via::Mixed => format!("{variant}, half HTTP-FLV"),
        Via::Rtmp => variant.to_string(),
    }
}

/// All of them, for these builds of the server, and for xiu if there is one.
pub(crate) fn all(builds: &[Build], xiu: Option<&Path>) -> Vec<Scenario> {
    let ours = |preset: Preset, via: Via| of_shards(builds, preset, via, 1);
    let nginx = |workers| (Variant::Nginx { workers }, Via::Rtmp);
    let xiu: Vec<_> =
        xiu.map(|path| (Variant::Xiu(path.to_owned()), Via::Rtmp)).into_iter().collect();
    let mut many_viewers = vec![nginx(1)];
    for preset in [Preset::Realtime, Preset::Balanced, Preset::Held, Preset::Throughput] {
        many_viewers.extend(ours(preset, Via::Rtmp));
    }
    many_viewers.extend(ours(Preset::Balanced, Via::Flv));
    for pace in [Pace::Message, Pace::Realtime, Pace::Balanced] {
        many_viewers.push((Variant::Floor(pace), Via::Rtmp));
    }
    many_viewers.extend(xiu.iter().cloned());
    let mut scenarios: Vec<Scenario> = [100, 500, 1_000, 2_000]
        .into_iter()
        .map(|viewers| Scenario {
            id: "a",
            what: "1 publisher of 2 Mbit/s",
            kind: Kind::Viewers,
            load: Load { streams: 1, viewers, bitrate: 2_000_000, rejoin: false },
            variants: many_viewers.clone(),
        })
        .collect();
    let mut add = |id, what, kind, load, variants: Vec<Vec<(Variant, Via)>>| {
        scenarios.push(Scenario { id, what, kind, load, variants: variants.concat() });
    };
    // No floor here: with so many publishers a server mostly reads, and the bare program reads no
    // better than others.
    add(
        "b",
        "100 publishers of 500 kbit/s",
        Kind::Viewers,
        Load { streams: 100, viewers: 5, bitrate: 500_000, rejoin: false },
        vec![
            vec![nginx(1)],
            ours(Preset::Realtime, Via::Rtmp),
            ours(Preset::Balanced, Via::Rtmp),
            xiu.clone(),
        ],
    );
    for viewers in [2_500, 5_000, 10_000, 15_000] {
        // One core of nginx-rtmp does not carry more of them.
        let nginx = if viewers <= 5_000 { vec![nginx(1)] } else { Vec::new() };
        add(
            "c",
            "1 publisher of 232 kbit/s",
            Kind::Viewers,
            // With sound it is as much as SRS's published run had.
            Load { streams: 1, viewers, bitrate: 104_000, rejoin: false },
            vec![nginx, ours(Preset::Throughput, Via::Rtmp), ours(Preset::Throughput, Via::Flv)],
        );
    }
    add(
        "d",
        "1,000 publishers of 500 kbit/s without viewers",
        Kind::Publishers,
        Load { streams: 1_000, viewers: 0, bitrate: 500_000, rejoin: false },
        vec![
            vec![nginx(1)],
            ours(Preset::Realtime, Via::Rtmp),
            ours(Preset::Balanced, Via::Rtmp),
            xiu,
        ],
    );
    add(
        "e",
        "1 publisher of 2 Mbit/s, RTMP and HTTP-FLV",
        Kind::Viewers,
        Load { streams: 1, viewers: 1_000, bitrate: 2_000_000, rejoin: false },
        [Via::Rtmp, Via::Flv, Via::Mixed].map(|via| ours(Preset::Balanced, via)).to_vec(),
    );
    add(
        "f",
        "viewers that leave with their first picture",
        Kind::Joins,
        Load { streams: 1, viewers: 100, bitrate: 500_000, rejoin: true },
        vec![vec![nginx(1)], ours(Preset::Balanced, Via::Rtmp), ours(Preset::Balanced, Via::Flv)],
    );
    add(
        "g",
        "1 publisher of 2 Mbit/s, server and load share both CPUs",
        Kind::Viewers,
        Load { streams: 1, viewers: 1_000, bitrate: 2_000_000, rejoin: false },
        vec![
            vec![nginx(2)],
            of_shards(builds, Preset::Realtime, Via::Rtmp, 2),
            of_shards(builds, Preset::Balanced, Via::Rtmp, 2),
            ours(Preset::Realtime, Via::Rtmp),
            ours(Preset::Balanced, Via::Rtmp),
        ],
    );
    // What each of two shards does, by one alone: twice this, and the mesh, is what two should cost.
    add(
        "g",
        "1 publisher of 2 Mbit/s, half of that for one shard",
        Kind::Viewers,
        Load { streams: 1, viewers: 500, bitrate: 2_000_000, rejoin: false },
        vec![ours(Preset::Realtime, Via::Rtmp), ours(Preset::Balanced, Via::Rtmp)],
    );
    add(
        "g",
        "100 publishers of 500 kbit/s, server and load share both CPUs",
        Kind::Viewers,
        Load { streams: 100, viewers: 5, bitrate: 500_000, rejoin: false },
        vec![ours(Preset::Balanced, Via::Rtmp), of_shards(builds, Preset::Balanced, Via::Rtmp, 2)],
    );
    add(
        "h",
        "100 publishers of 500 kbit/s, sent on to another server",
        Kind::Viewers,
        Load { streams: 100, viewers: 1, bitrate: 500_000, rejoin: false },
        vec![
            vec![(Variant::Nginx { workers: 1 }, Via::Relayed), nginx(1)],
            ours(Preset::Realtime, Via::Relayed),
            ours(Preset::Realtime, Via::Rtmp),
            ours(Preset::Balanced, Via::Relayed),
            ours(Preset::Balanced, Via::Rtmp),
        ],
    );
    for viewers in [1_500, 2_000, 3_000, 4_000, 6_000, 8_000, 10_000] {
        // The point behind which a core of nginx-rtmp is full is among the first ones.
        let nginx = if viewers <= 3_000 { vec![nginx(1)] } else { Vec::new() };
        add(
            "i",
            "1 publisher of 2 Mbit/s, until a core is full",
            Kind::Viewers,
            Load { streams: 1, viewers, bitrate: 2_000_000, rejoin: false },
            vec![nginx, ours(Preset::Balanced, Via::Rtmp), ours(Preset::Throughput, Via::Rtmp)],
        );
    }
    scenarios
}

fn of_shards(builds: &[Build], preset: Preset, via: Via, shards: usize) -> Vec<(Variant, Via)> {
    let variant = |build: &Build| Variant::Shardcast { build: build.clone(), preset, shards };
    builds.iter().map(|build| (variant(build), via)).collect()
}
