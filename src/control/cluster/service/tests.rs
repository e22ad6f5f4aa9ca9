//! The node between its registry and its leases, while no Redis answers.

use super::*;
use crate::config::{Settings, Sources};
use crate::session::{ClientId, PlayRange, RelayWishes};
use crate::shard::ConnKey;

struct World {
    cluster: Cluster,
    registry: Registry,
    relays: Relays,
    push: Push,
    events: Events,
    now: Moment,
    serial: u32,
}

/// Nobody listens on port 1.
fn world() -> World {
    let toml = "[cluster]\nredis = \"redis://127.0.0.1:1\"\nadvertise = \"rtmp://h\"\nnode = \"n\"\n\
                [apps.replace]\npublish.takeover = \"replace\"\n\
                [apps.reject]\npublish.takeover = \"reject\"\n";
    let file = Some(("test.toml".to_owned(), toml.to_owned()));
    let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
    let settings = Settings::load(&sources).unwrap_or_else(|errors| panic!("{errors:?}"));
    let current = CurrentSettings::new(Arc::new(settings));
    let (settings, doorbell) = (current.get(), Doorbell::new().unwrap());
    let now = Moment::ZERO + Duration::from_secs(100);
    World {
        cluster: Cluster::new(&current, &doorbell, now).unwrap().unwrap(),
        registry: Registry::new(Arc::clone(&settings)),
        relays: Relays::new(&current, &doorbell, &Arc::default(), 1),
        push: Push::new(&settings, doorbell.bell()),
        events: Events::new(),
        now,
        serial: 0,
    }
}

fn name(app: &str) -> StreamName {
    StreamName::new("__defaultVhost__", app, "", "cam").unwrap()
}

fn publish(app: &str) -> Want {
    let (sent, kind, args) = ("cam".to_owned(), "live".to_owned(), String::new());
    Want::Publish { name: name(app), sent, kind, args }
}

fn play(app: &str) -> Want {
    let (sent, range, args) = ("cam".to_owned(), PlayRange::default(), String::new());
    Want::Play { name: name(app), sent, range, args, http: false }
}

impl World {
    fn ask_of(&mut self, client: ClientInfo, what: Want) -> (AskToken, Ask) {
        self.serial += 1;
        let connection = ConnKey { slot: self.serial, generation: 0 };
        let token = AskToken { node: 0, connection, serial: self.serial };
        let ask = Ask {
            peer: format!("192.0.2.{}:1000", self.serial).parse().unwrap(),
            since: self.now,
            client: Arc::new(client),
            what,
            wishes: RelayWishes::default(),
            may_move: false,
        };
        (token, ask)
    }

    fn publish(&mut self, app: &str) -> AskToken {
        let (token, ask) = self.ask_of(ClientInfo::default(), publish(app));
        self.registry.ask(token, &ask, self.now, &mut Vec::new());
        token
    }

    /// A turn of the control shard: who may publish of those who heard something.
    fn turn(&mut self) -> Vec<(AskToken, bool)> {
        let mut out = Vec::new();
        let Self { registry, relays, push, events, .. } = self;
        let mut parts = Parts { registry, relays, push, events };
        self.cluster.turn(&mut parts, self.now, &mut out);
        let mut heard = Vec::new();
        for (_, notice) in out {
            if let Notice::Verdict(token, verdict) = notice {
                self.cluster.answered(token, &self.registry);
                heard.push((token, matches!(*verdict, Verdict::Accept(_))));
            }
        }
        heard
    }
}

#[test]
fn of_two_publishers_in_one_turn_the_refused_one_does_not_free_the_name() {
    let mut world = world();
    let [first, second] = [0, 1].map(|_| world.publish("reject"));
    assert_eq!(world.turn(), [(first, true), (second, false)]);
    assert_eq!(world.cluster.stream_counts(world.now), (0, 1), "published, and known as unleased");
    assert!(!world.cluster.leases.is_awaited(&name("reject")));
}

#[test]
fn who_goes_away_while_it_contends_leaves_nothing_behind() {
    let mut world = world();
    let [first, second] = [0, 1].map(|_| world.publish("replace"));
    assert_eq!(world.turn(), [(first, true)], "the second one replaces it, and is told later");
    assert!(world.cluster.leases.is_awaited(&name("replace")));
    world.registry.withdrawn(second);
    world.cluster.withdrawn(second, &world.registry);
    assert!(!world.cluster.leases.is_awaited(&name("replace")));
    assert_eq!(world.cluster.stream_counts(world.now), (0, 1));
}

#[test]
fn a_node_fetches_the_stream_that_its_word_names_and_publishes_nothing() {
    let mut world = world();
    world.cluster.link = Some(Link { generation: 1, secret: "secret".to_owned() });
    let stream = stream_text(&name("live"));
    let admit = |world: &mut World, id: u64, what: Want, word: Option<String>| {
        let client = ClientInfo {
            id: ClientId(id),
            nodes: NodePath::parse("probe"),
            link: word,
            ..ClientInfo::default()
        };
        let (_, mut ask) = world.ask_of(client, what);
        let admitted = world.cluster.admit(&mut ask, &world.registry, world.now);
        admitted.map(|_| ask.client.is_relay).map_err(|refusal| refusal.reason)
    };
    let word = |later_s| Some(cluster_link::word("secret", "probe", &stream, unix_s() + later_s));
    assert_eq!(admit(&mut world, 1, Want::Connect, word(0)), Ok(true));
    assert_eq!(admit(&mut world, 1, publish("live"), None), Err(RefusalReason::Denied));
    assert_eq!(admit(&mut world, 1, play("other"), None), Err(RefusalReason::NotPublished));
    assert!(world.cluster.pulls.may_fetch(ClientId(1), &name("live")));
    assert_eq!(admit(&mut world, 2, Want::Connect, word(-90)), Err(RefusalReason::Denied));
    assert_eq!(admit(&mut world, 3, publish("live"), None), Ok(false), "a client, for the rules");
}
