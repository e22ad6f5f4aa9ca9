//! Which relays there are for which wishes: of the configuration, of hooks and of the API.

use serde_json::json;

use super::*;
use crate::config::{AppSettings, HookEvent, Settings, Sources};
use crate::proto::rtmp::address::RtmpAddress;
use crate::session::ClientInfo;

/// Nobody listens there: port 1 of loopback.
const NOWHERE: &str = "rtmp://127.0.0.1:1";

struct World {
    relays: Relays,
    settings: CurrentSettings,
    now: Moment,
    out: Outgoing,
}

fn settings(toml: &str) -> Arc<Settings> {
    let file = Some(("test.toml".to_owned(), toml.to_owned()));
    let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
    Arc::new(Settings::load(&sources).unwrap_or_else(|errors| panic!("{errors:?}")))
}

fn world(toml: &str) -> World {
    let settings = CurrentSettings::new(settings(toml));
    let doorbell = Doorbell::new().unwrap();
    let relays = Relays::new(&settings, &doorbell, &Arc::default(), 1);
    let now = Moment::ZERO + Duration::from_secs(100);
    World { relays, settings, now, out: Vec::new() }
}

fn name() -> StreamName {
    StreamName::new("__defaultVhost__", "live", "", "cam").unwrap()
}

impl World {
    fn app(&self) -> Arc<AppSettings> {
        self.settings.get().app("__defaultVhost__", "live", "_definst_")
    }

    /// The rule of an address that a hook has named.
    fn of_hook(&self, app: &str) -> Arc<RelayRule> {
        let with_hook = settings("[hooks]\non_publish = \"http://h/\"");
        let plan = Arc::clone(&with_hook.app("__defaultVhost__", "live", "_definst_").hooks);
        let hook = plan.targets(HookEvent::Publish).next().unwrap();
        let address = RtmpAddress::parse(&format!("{NOWHERE}/{app}")).unwrap();
        Arc::new(RelayRule::of_hook(address, hook, &self.app()))
    }

    fn up(&mut self, forward: Option<&[&str]>, redirect: &[&str], publisher: ClientInfo) {
        let rules = |apps: &[&str]| apps.iter().map(|app| self.of_hook(app)).collect::<Vec<_>>();
        let wishes = RelayWishes { forward: forward.map(rules), redirect: rules(redirect) };
        let event = StreamEvent::Up {
            name: name(),
            node: 0,
            publisher: Arc::new(publisher),
            wishes: Arc::new(wishes),
        };
        self.relays.stream_event(&event, self.now, &mut self.out);
    }

    /// Where streams are sent or fetched from, and who wants that.
    fn all(&self) -> Vec<String> {
        let json = self.relays.to_json(self.now);
        let line = |relay: &Value| {
            let text = |key: &str| relay[key].as_str().unwrap_or_default().to_owned();
            let place = text("url").replace(NOWHERE, "").replace("/cam", "");
            format!("{} {} {place}", text("origin"), text("direction"))
        };
        json["relays"].as_array().unwrap().iter().map(line).collect()
    }
}

fn push_rule(app: &str) -> String {
    format!("[apps.live]\npush = [{{ url = \"{NOWHERE}/{app}\" }}]\n")
}

#[test]
fn redirects_come_beside_the_configured_targets_and_forwards_in_their_place() {
    let mut world = world(&push_rule("own"));
    world.up(None, &["a"], ClientInfo::default());
    assert_eq!(world.all(), ["configuration push /own", "hook push /a"]);
    // The publisher has come back, and its hooks answer differently.
    world.up(None, &["b"], ClientInfo::default());
    assert_eq!(world.all(), ["configuration push /own", "hook push /b"]);
    world.up(Some(&["c", "d"]), &[], ClientInfo::default());
    assert_eq!(world.all(), ["hook push /c", "hook push /d"]);
    world.up(Some(&[]), &["d"], ClientInfo::default());
    assert_eq!(world.all(), ["hook push /d"]);
    world.relays.stream_event(&StreamEvent::Down { name: name() }, world.now, &mut world.out);
    assert_eq!(world.all(), [""; 0]);
}

#[test]
fn what_came_from_a_relay_goes_on_by_a_hook_only() {
    let mut world = world(&push_rule("own"));
    let relayed = ClientInfo { is_relay: true, ..ClientInfo::default() };
    world.up(None, &["a"], relayed);
    assert_eq!(world.all(), ["hook push /a"]);
}

#[test]
fn a_copy_is_sent_on_by_its_owner_only_whatever_the_rule_says() {
    let rule = format!("[apps.live]\npush = [{{ url = \"{NOWHERE}/own\", relayed = true }}]\n");
    let mut world = world(&rule);
    let copy = ClientInfo { is_relay: true, fetched: Fetched::InCluster, ..ClientInfo::default() };
    world.up(None, &[], copy.clone());
    assert_eq!(world.all(), [""; 0]);
    // Published here it is sent on, until another node owns it.
    world.up(None, &[], ClientInfo { is_relay: true, ..ClientInfo::default() });
    assert_eq!(world.all(), ["configuration push /own"]);
    world.up(None, &[], copy);
    assert_eq!(world.all(), [""; 0]);
}

#[test]
fn new_settings_end_what_the_old_ones_wanted_and_nothing_else() {
    let mut world = world(&push_rule("own"));
    world.up(None, &["a"], ClientInfo::default());
    let added = (*world.of_hook("added")).clone();
    let id = world.relays.add_by_api(true, &name(), added.clone(), world.now, &mut world.out);
    let id = id.unwrap();
    world.settings.replace(settings(&push_rule("other")));
    world.relays.reload(world.now, &mut world.out);
    let expected = ["hook push /a", "api push /added", "configuration push /other"];
    assert_eq!(world.all(), expected);

    let again = world.relays.add_by_api(true, &name(), added.clone(), world.now, &mut world.out);
    assert_eq!(again, Err(NotAdded::Conflict(format!("relay {} does so already", id.0))));
    assert!(world.relays.end_by_api(id, &mut world.out));
    assert!(!world.relays.end_by_api(id, &mut world.out), "once");
    assert_eq!(world.all(), [expected[0], expected[2]]);
    let elsewhere = StreamName::new("__defaultVhost__", "live", "", "nobody").unwrap();
    let missing = world.relays.add_by_api(true, &elsewhere, added, world.now, &mut world.out);
    assert_eq!(missing, Err(NotAdded::NotPublished));
}

#[test]
fn the_source_of_a_redirect_goes_before_the_configured_ones() {
    let mut world = world(&format!("[apps.live]\npull = [{{ url = \"{NOWHERE}/own\" }}]\n"));
    let wanted = |source| StreamEvent::Wanted { name: name(), nodes: NodePath::default(), source };
    let source = world.of_hook("a");
    world.relays.stream_event(&wanted(Some(source)), world.now, &mut world.out);
    // Further viewers share it.
    world.relays.stream_event(&wanted(None), world.now, &mut world.out);
    assert_eq!(world.all(), ["hook pull /a"]);
    // The configuration knows nothing of it.
    world.relays.reload(world.now, &mut world.out);
    assert_eq!(world.all(), ["hook pull /a"]);
    let rule = (*world.of_hook("b")).clone();
    let twice = world.relays.add_by_api(false, &name(), rule, world.now, &mut world.out);
    assert!(matches!(twice, Err(NotAdded::Conflict(_))), "{twice:?}");
}

#[test]
fn what_finds_no_room_is_sent_when_there_is_some() {
    let mut world = world(&push_rule("own"));
    let publish = |world: &mut World, stream: &str| {
        let name = StreamName::new("__defaultVhost__", "live", "", stream).unwrap();
        let event = StreamEvent::Up {
            name: name.clone(),
            node: 0,
            publisher: Arc::default(),
            wishes: Arc::default(),
        };
        world.relays.stream_event(&event, world.now, &mut world.out);
        name
    };
    let rule = world.of_hook("a");
    for _ in 0..limits::RELAYS_MAX {
        let (direction, origin) = (Direction::Pull, Origin::Api);
        let plan = Plan { direction, origin, name: &name(), rule: &rule };
        let added = world.relays.try_add(plan, &NodePath::default(), world.now, &mut world.out);
        assert!(added.is_ok());
    }
    let gone = publish(&mut world, "gone");
    let late = publish(&mut world, "late");
    assert_eq!(world.relays.relays.len(), limits::RELAYS_MAX);
    let down = StreamEvent::Down { name: gone };
    world.relays.stream_event(&down, world.now, &mut world.out);
    assert!(world.relays.end_by_api(RelayId(limits::RELAYS_MAX as u64), &mut world.out));
    let is_there = |world: &World| world.relays.relays.values().any(|relay| relay.name == late);
    assert!(!is_there(&world));
    let registry = Registry::new(world.settings.get());
    world.relays.tick(&registry, world.now, &mut world.out);
    assert!(is_there(&world));
    assert!(world.relays.without_room.is_empty());
}

#[test]
fn each_state_is_told_once_and_the_end_as_well() {
    let mut world = world("");
    world.up(None, &["a"], ClientInfo::default());
    let states = |world: &mut World| -> Vec<&str> {
        world.relays.take_changes().iter().map(|change| change.state).collect()
    };
    assert_eq!(states(&mut world), ["connecting"]);
    assert!(states(&mut world).is_empty());
    let id = RelayId(1);
    world.relays.failed(id, RelayEnd::Failed, None, "nobody there".to_owned(), world.now);
    let changes = world.relays.take_changes();
    assert_eq!((changes[0].state, changes[0].error.as_str()), ("retrying", "nobody there"));
    let refused = ("NetStream.Publish.BadName".to_owned(), "taken".to_owned());
    let why = "refused".to_owned();
    world.relays.failed(id, RelayEnd::Failed, Some(refused), why, world.now);
    assert_eq!(states(&mut world), ["refused"]);
    assert_eq!(world.relays.count("push", "refused"), 1);
    assert_eq!(world.relays.retry_by_api(id, world.now), Some(true));
    assert_eq!(world.relays.retry_by_api(RelayId(9), world.now), None);
    world.relays.stream_event(&StreamEvent::Down { name: name() }, world.now, &mut world.out);
    assert_eq!(states(&mut world), ["stopped"]);
    assert_eq!(world.relays.to_json(world.now), json!({ "relays": [] }));
    // What it did is counted on.
    let [(_, pushes), (_, pulls)] = world.relays.totals();
    assert_eq!((pushes.attempts, pushes.failures), (1, 2));
    assert_eq!(pulls, RelayTotals::default());
}

fn pulling(rules: &str) -> World {
    let mut world = world(&format!("[apps.live]\npull = [{rules}]\n"));
    let wanted = StreamEvent::Wanted { name: name(), nodes: NodePath::default(), source: None };
    world.relays.stream_event(&wanted, world.now, &mut world.out);
    // Nobody is there; what comes instead is up to the test.
    while world.relays.dialler.take().is_none() {
        std::thread::yield_now();
    }
    world
}

impl World {
    /// The only relay, for the API.
    fn relay(&self) -> Value {
        let json = self.relays.to_json(self.now);
        json["relays"][0].clone()
    }

    /// The connection of the only relay stands, and the source has agreed to send the stream.
    fn waits_at_source(&mut self) {
        let id = RelayId(1);
        self.relays.hand_over(id, None, &mut self.out);
        let registry = Registry::new(self.settings.get());
        self.relays.news(id, RelayNews::Waiting, &registry, self.now, &mut self.out);
        self.out.clear();
    }

    /// Whether the shard was told to try another source by this time.
    fn is_left_after(&mut self, wait: Duration) -> bool {
        self.now = self.now + wait;
        let registry = Registry::new(self.settings.get());
        self.relays.tick(&registry, self.now, &mut self.out);
        let out = std::mem::take(&mut self.out);
        out.iter().any(|(_, notice)| matches!(notice, Notice::LeaveIdleSource(RelayId(1))))
    }
}

#[test]
fn an_idle_source_is_left_when_there_is_another_one() {
    let wait = limits::RELAY_SOURCE_WAIT_MAX;
    let one = format!("{{ url = '{NOWHERE}/a' }}");
    let mut alone = pulling(&one);
    alone.waits_at_source();
    assert_eq!(alone.relay()["state"], "waiting");
    assert!(!alone.is_left_after(2 * wait));
    // Another one comes with new settings.
    let two = format!("{one}, {{ url = '{NOWHERE}/b' }}");
    alone.settings.replace(settings(&format!("[apps.live]\npull = [{two}]\n")));
    alone.relays.reload(alone.now, &mut alone.out);
    assert!(alone.is_left_after(Duration::ZERO));

    let mut world = pulling(&two);
    world.waits_at_source();
    assert!(!world.is_left_after(wait - Duration::from_millis(1)));
    assert!(world.is_left_after(Duration::from_millis(1)));
    assert!(!world.is_left_after(Duration::from_millis(1)), "once");
    world.relays.failed(RelayId(1), RelayEnd::Idle, None, "nothing".to_owned(), world.now);
    world.is_left_after(Duration::from_millis(250));
    let relay = world.relay();
    assert_eq!(
        (&relay["url"], &relay["attempts"]),
        (&json!(format!("{NOWHERE}/b/cam")), &json!(2))
    );
    let [_, (_, pulls)] = world.relays.totals();
    assert_eq!(pulls.failures, 0, "nothing has failed");
}

#[test]
fn a_stream_that_ended_at_its_source_is_asked_for_there_again_and_nothing_has_failed() {
    let mut world = pulling(&format!("{{ url = '{NOWHERE}/a' }}, {{ url = '{NOWHERE}/b' }}"));
    let id = RelayId(1);
    let registry = Registry::new(world.settings.get());
    let (code, description) = ("NetStream.Play.UnpublishNotify".to_owned(), String::new());
    let said = RelayNews::Status { code, description };
    world.relays.news(id, said, &registry, world.now, &mut world.out);
    world.relays.failed(id, RelayEnd::SourceGone, None, "it has ended".to_owned(), world.now);
    let relay = world.relay();
    assert_eq!(
        (&relay["state"], &relay["code"], &relay["last_error"]),
        (&json!("waiting"), &json!("NetStream.Play.UnpublishNotify"), &json!(""))
    );
    world.is_left_after(Duration::from_millis(250));
    let relay = world.relay();
    assert_eq!(
        (&relay["state"], &relay["code"], &relay["url"]),
        (&json!("connecting"), &json!(""), &json!(format!("{NOWHERE}/a/cam")))
    );
    let [_, (_, pulls)] = world.relays.totals();
    assert_eq!((pulls.attempts, pulls.failures), (2, 0));
}

#[test]
fn a_second_name_waits_for_its_publisher_and_goes_on_with_it() {
    let mut world = world("[apps.live]\npush = [{ app = 'other' }]\n");
    world.up(None, &[], ClientInfo::default());
    let id = RelayId(1);
    world.relays.failed(id, RelayEnd::SourceGone, None, "it has ended".to_owned(), world.now);
    assert_eq!(world.relay()["state"], "waiting");
    for _ in 0..5 {
        world.is_left_after(Duration::from_secs(10));
    }
    let relay = world.relay();
    assert_eq!((&relay["state"], &relay["attempts"]), (&json!("waiting"), &json!(1)));
    world.up(None, &[], ClientInfo::default());
    let relay = world.relay();
    assert_eq!((&relay["state"], &relay["attempts"]), (&json!("connecting"), &json!(2)));
}
