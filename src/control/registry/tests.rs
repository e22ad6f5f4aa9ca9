//! The registry's rules in virtual time, and its invariants under random operations.

use proptest::prelude::*;

use super::*;
use crate::config::Sources;
use crate::session::{PlayRange, RelayWishes};
use crate::shard::ConnKey;

const A: &str = "192.0.2.1:1000";
const B: &str = "192.0.2.2:2000";

/// A registry, its clock, and what it has said.
struct World {
    registry: Registry,
    now: Moment,
    said: Outgoing,
    serial: u32,
}

fn settings(toml: &str) -> Arc<Settings> {
    let file = Some(("test.toml".to_owned(), toml.to_owned()));
    let sources = Sources { file, environment: Vec::new(), set: Vec::new() };
    Arc::new(Settings::load(&sources).unwrap())
}

fn world(toml: &str) -> World {
    let now = Moment::ZERO + Duration::from_secs(100);
    World { registry: Registry::new(settings(toml)), now, said: Vec::new(), serial: 0 }
}

fn app(lines: &str) -> World {
    world(&format!("[apps.default]\n{lines}\n"))
}

fn name(stream: &str) -> StreamName {
    StreamName::new("__defaultVhost__", "live", "_definst_", stream).unwrap()
}

impl World {
    fn ask_as(&mut self, node: Node, peer: &str, page_url: &str, what: Want) -> AskToken {
        self.serial += 1;
        let connection = ConnKey { slot: self.serial, generation: 0 };
        let token = AskToken { node, connection, serial: self.serial };
        let client = Arc::new(ClientInfo {
            id: ClientId(u64::from(self.serial)),
            vhost: "__defaultVhost__".to_owned(),
            app: "live".to_owned(),
            instance: "_definst_".to_owned(),
            page_url: page_url.to_owned(),
            ..ClientInfo::default()
        });
        let wishes = RelayWishes::default();
        let ask = Ask {
            peer: peer.parse().unwrap(),
            since: self.now,
            client,
            what,
            wishes,
            may_move: false,
        };
        self.registry.ask(token, &ask, self.now, &mut self.said);
        token
    }

    fn publish(&mut self, node: Node, peer: &str, stream: &str) -> AskToken {
        let want = Want::Publish {
            name: name(stream),
            sent: stream.to_owned(),
            kind: "live".to_owned(),
            args: String::new(),
        };
        self.ask_as(node, peer, "", want)
    }

    fn play(&mut self, node: Node, stream: &str, http: bool) -> AskToken {
        let (sent, range) = (stream.to_owned(), PlayRange::default());
        let want = Want::Play { name: name(stream), sent, range, args: String::new(), http };
        self.ask_as(node, A, "", want)
    }

    /// The answer to a question, taken out.
    fn answer(&mut self, token: AskToken) -> Option<Verdict> {
        let is_it = |(node, notice): &(Node, Notice)| {
            *node == token.node && matches!(notice, Notice::Verdict(of, _) if *of == token)
        };
        let at = self.said.iter().position(is_it)?;
        match self.said.remove(at).1 {
            Notice::Verdict(_, verdict) => Some(*verdict),
            _ => None,
        }
    }

    fn refusal(&mut self, token: AskToken) -> Option<RefusalReason> {
        match self.answer(token) {
            Some(Verdict::Refuse(refusal)) => Some(refusal.reason),
            Some(Verdict::Accept(_)) => panic!("accepted"),
            None => None,
        }
    }

    fn claim(&mut self, token: AskToken) -> (StreamId, Epoch, Option<Resume>) {
        match self.answer(token) {
            Some(Verdict::Accept(Grant::Publish { stream, epoch, resume, .. })) => {
                (stream, epoch, resume)
            }
            other => panic!("no claim: {other:?}"),
        }
    }

    fn owner(&mut self, token: AskToken) -> Option<Owner> {
        match self.answer(token) {
            Some(Verdict::Accept(Grant::Play { owner, .. })) => owner,
            other => panic!("no play: {other:?}"),
        }
    }

    /// A publisher that has started.
    fn published(&mut self, node: Node, peer: &str) -> (StreamId, Epoch) {
        let token = self.publish(node, peer, "s");
        let (stream, epoch, _) = self.claim(token);
        self.registry.publish_started(stream, epoch, &mut self.said);
        (stream, epoch)
    }

    fn ended(&mut self, (stream, epoch): (StreamId, Epoch), goodbye: bool) {
        let resume = Some(Resume { last_ms: 77, at: self.now });
        let (registry, out) = (&mut self.registry, &mut self.said);
        registry.publish_ended(stream, epoch, goodbye, resume, self.now, out);
    }

    fn silence(&mut self, (stream, epoch): (StreamId, Epoch), ms: u64) {
        let silent = Duration::from_millis(ms);
        self.registry.silence(stream, epoch, silent, self.now, &mut self.said);
    }

    fn after(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.registry.tick(self.now, &mut self.said);
    }

    /// What was said beside verdicts, as words, taken out.
    fn words(&mut self) -> Vec<String> {
        let said = std::mem::take(&mut self.said).into_iter();
        let word = |(node, notice)| match notice {
            Notice::StreamUp { .. } => format!("up {node}"),
            Notice::StreamDown { .. } => format!("down {node}"),
            Notice::Probe { .. } => format!("probe {node}"),
            Notice::Replace { by, .. } => format!("replace {node} by {by}"),
            other => format!("{other:?}"),
        };
        said.map(word).collect()
    }
}

#[test]
fn reject_refuses_the_second_publisher_at_once() {
    let mut world = app("publish.takeover = \"reject\"");
    world.published(0, A);
    let second = world.publish(1, B, "s");
    assert_eq!(world.refusal(second), Some(RefusalReason::NameTaken));
    assert_eq!(world.words(), [] as [&str; 0]);
}

#[test]
fn replace_closes_the_first_and_says_by_whom() {
    let mut world = app("publish.takeover = \"replace\"");
    let first = world.published(0, A);
    let second = world.publish(1, B, "s");
    assert_eq!(world.words(), [format!("replace 0 by {B}")]);
    world.ended(first, false);
    let (stream, epoch, resume) = world.claim(second);
    assert!(stream == first.0 && epoch > first.1 && resume.is_some());
    assert_eq!(world.registry.counters().takeovers, 1);
}

#[test]
fn replace_when_silent_waits_for_the_rest_of_the_silence() {
    // (silent at the first question, at the second, outcome)
    let table = [
        (5_000, None, "replaced at once"),
        (500, Some(2_000), "replaced after the rest"),
        (500, Some(100), "refused: it has sent something"),
    ];
    for (at_first, at_second, case) in table {
        let mut world = app("publish.takeover = \"replace_when_silent\"\npublish.silent = \"2s\"");
        let first = world.published(0, A);
        let second = world.publish(1, B, "s");
        assert_eq!(world.words(), ["probe 0"], "{case}");
        world.silence(first, at_first);
        if let Some(again) = at_second {
            world.after(1_499);
            assert_eq!(world.words(), [] as [&str; 0], "{case}");
            world.after(1);
            assert_eq!(world.words(), ["probe 0"], "{case}");
            world.silence(first, again);
        }
        if at_second == Some(100) {
            assert_eq!(world.refusal(second), Some(RefusalReason::NameTaken), "{case}");
        } else {
            assert_eq!(world.words(), [format!("replace 0 by {B}")], "{case}");
            world.ended(first, false);
            world.claim(second);
        }
        assert_eq!(world.registry.next_deadline(), None, "{case}");
    }
}

#[test]
fn an_owner_that_does_not_answer_keeps_the_name() {
    for (takeover, wait_ms) in [("replace", 1_000), ("replace_when_silent", 3_000)] {
        let mut world = app(&format!("publish.takeover = \"{takeover}\""));
        world.published(0, A);
        let second = world.publish(1, B, "s");
        let third = world.publish(1, B, "s");
        assert_eq!(world.refusal(third), Some(RefusalReason::NameTaken), "one contends");
        world.after(wait_ms - 1);
        assert_eq!(world.refusal(second), None);
        world.after(1);
        assert_eq!(world.refusal(second), Some(RefusalReason::NameTaken));
    }
}

#[test]
fn a_contender_that_goes_leaves_the_name_to_the_silent_publisher() {
    let mut world = app("publish.takeover = \"replace_when_silent\"\npublish.silent = \"2s\"");
    let first = world.published(0, A);
    let second = world.publish(1, B, "s");
    world.silence(first, 500);
    world.after(1_000);
    assert!(world.registry.withdrawn(second), "no verdict follows");
    assert_eq!(world.words(), ["probe 0"]);
    world.after(60_000);
    assert_eq!(world.words(), [] as [&str; 0], "nobody asks the owner any more");
    assert_eq!(world.registry.next_deadline(), None);
    let third = world.publish(1, B, "s");
    assert_eq!(world.words(), ["probe 0"], "the name can be contended for again");
    assert!(!world.registry.withdrawn(second), "it contends no more");
    world.silence(first, 2_000);
    world.ended(first, false);
    world.claim(third);
}

#[test]
fn a_contender_that_goes_too_late_leaves_a_gap() {
    let mut world = app("publish.takeover = \"replace\"\npublish.resume = \"15s\"");
    let first = world.published(0, A);
    let viewer = world.play(2, "s", false);
    world.owner(viewer);
    let second = world.publish(1, B, "s");
    assert_eq!(world.words(), [format!("replace 0 by {B}")]);
    assert!(world.registry.withdrawn(second), "no verdict follows");
    world.ended(first, false);
    assert_eq!(world.words(), [] as [&str; 0], "nobody is answered, viewers wait");
    let back = world.publish(0, A, "s");
    assert!(world.claim(back).2.is_some(), "the first one may come back");
    // The owner does not even answer.
    let again = world.publish(1, B, "s");
    world.words();
    assert!(world.registry.withdrawn(again));
    world.after(1_000);
    assert_eq!(world.words(), [] as [&str; 0]);
    assert_eq!(world.registry.next_deadline(), None);
}

#[test]
fn two_encoders_that_fight_are_parted_for_a_while() {
    let mut world = app("publish.takeover = \"replace\"");
    let mut holder = world.published(0, A);
    for peer in [B, A] {
        let token = world.publish(0, peer, "s");
        world.ended(holder, false);
        let (stream, epoch, _) = world.claim(token);
        holder = (stream, epoch);
        world.after(1_000);
    }
    let third = world.publish(0, B, "s");
    assert_eq!(world.refusal(third), Some(RefusalReason::NameTaken));
    world.after(29_999);
    let still = world.publish(0, B, "s");
    assert_eq!(world.refusal(still), Some(RefusalReason::NameTaken));
    world.after(1);
    let later = world.publish(0, B, "s");
    world.ended(holder, false);
    world.claim(later);
}

#[test]
fn one_encoder_that_comes_back_often_does_not_fight_with_itself() {
    let mut world = app("publish.takeover = \"replace\"");
    let mut holder = world.published(0, A);
    for _ in 0..10 {
        let token = world.publish(0, A, "s");
        world.ended(holder, false);
        let (stream, epoch, _) = world.claim(token);
        holder = (stream, epoch);
    }
    assert_eq!(world.registry.counters().fights, 0);
}

#[test]
fn a_lost_publisher_may_come_back_and_viewers_hear_nothing() {
    let mut world = app("publish.resume = \"15s\"");
    let first = world.published(0, A);
    let viewer = world.play(1, "s", false);
    assert!(world.owner(viewer).is_some());
    world.words();
    world.ended(first, false);
    world.after(14_999);
    assert_eq!(world.words(), [] as [&str; 0]);
    let in_gap = world.play(1, "s", false);
    assert_eq!(world.owner(in_gap), None, "nothing to see in the gap");
    let back = world.publish(1, B, "s");
    let (stream, epoch, resume) = world.claim(back);
    assert_eq!(resume.map(|resume| resume.last_ms), Some(77));
    world.after(60_000);
    world.registry.publish_started(stream, epoch, &mut world.said);
    assert_eq!(world.words(), ["up 1"]);
    assert_eq!(world.registry.counters().resumed, 1);
}

#[test]
fn the_end_comes_once_after_the_gap_and_the_clock_begins_anew() {
    let mut world = app("publish.resume = \"15s\"");
    let first = world.published(0, A);
    let viewer = world.play(1, "s", false);
    world.owner(viewer);
    world.ended(first, false);
    world.after(15_000);
    world.after(15_000);
    assert_eq!(world.words(), ["down 1"]);
    let next = world.publish(0, A, "s");
    assert_eq!(world.claim(next).2, None);
}

#[test]
fn a_goodbye_ends_at_once_unless_it_is_to_be_resumed() {
    for (toml, expected) in [("", vec!["down 1"]), ("publish.resume_after_goodbye = true", vec![])]
    {
        let mut world = app(toml);
        let first = world.published(0, A);
        let viewer = world.play(1, "s", false);
        world.owner(viewer);
        world.ended(first, true);
        assert_eq!(world.words(), expected, "{toml}");
    }
}

#[test]
fn a_goodbye_ends_the_stream_though_another_publisher_waits_for_the_name() {
    let mut world = app("publish.takeover = \"replace_when_silent\"");
    let first = world.published(0, A);
    let viewer = world.play(1, "s", false);
    world.owner(viewer);
    let second = world.publish(0, B, "s");
    assert_eq!(world.words(), ["probe 0"]);
    world.silence(first, 100);
    world.ended(first, true);
    let (stream, epoch, resume) = world.claim(second);
    assert_eq!(resume, None);
    world.registry.publish_started(stream, epoch, &mut world.said);
    assert_eq!(world.words(), ["down 1", "up 1"]);
}

#[test]
fn a_claim_that_is_given_back_unused_leaves_nothing() {
    let mut world = app("");
    let token = world.publish(0, A, "s");
    let (stream, epoch, resume) = world.claim(token);
    world.registry.publish_ended(stream, epoch, false, resume, world.now, &mut world.said);
    assert!(world.registry.entries().is_empty());
}

#[test]
fn missing_streams_are_waited_for_or_refused() {
    // (settings, over HTTP, reason of the refusal)
    let missing = Some(RefusalReason::NotPublished);
    let table = [
        ("[apps.default]\nplay.missing = \"wait\"", false, None),
        ("[apps.default]\nplay.missing = \"refuse\"", false, missing),
        ("http.flv_missing = \"wait\"", true, None),
        ("http.flv_missing = \"404\"", true, missing),
    ];
    for (toml, http, reason) in table {
        let mut world = world(toml);
        let token = world.play(0, "s", http);
        match world.answer(token) {
            Some(Verdict::Accept(_)) => assert_eq!(reason, None, "{toml}"),
            Some(Verdict::Refuse(refusal)) => {
                assert_eq!(Some(refusal.reason), reason, "{toml}")
            }
            None => panic!("no answer: {toml}"),
        }
        assert_eq!(world.registry.entries().len(), usize::from(reason.is_none()));
        assert_eq!(world.registry.connections.len(), usize::from(http && reason.is_none()));
    }
}

#[test]
fn limits_of_streams_and_connections_hold() {
    let mut world = world("limits.streams = 1\n[apps.live]\nmax_connections = 2\n");
    world.published(0, A);
    let other = world.publish(0, A, "other");
    assert_eq!(world.refusal(other), Some(RefusalReason::Limit));
    let first = world.ask_as(0, A, "", Want::Connect);
    let Some(Verdict::Accept(Grant::Connect { client, .. })) = world.answer(first) else {
        panic!("refused")
    };
    let second = world.play(0, "s", true);
    assert!(world.owner(second).is_some());
    let third = world.ask_as(0, A, "", Want::Connect);
    assert_eq!(world.refusal(third), Some(RefusalReason::Limit));
    let fourth = world.play(0, "s", true);
    assert_eq!(world.refusal(fourth), Some(RefusalReason::Limit));
    world.registry.disconnected(&client);
    world.registry.disconnected(&client);
    assert!(world.registry.connections.is_empty());
}

#[test]
fn connections_of_an_address_are_counted_as_proxies_tell_it() {
    let mut world = world("limits.connections_per_address = 2\n");
    world.published(1, B);
    let connect = |world: &mut World, peer| {
        let token = world.ask_as(0, peer, "", Want::Connect);
        match world.answer(token) {
            Some(Verdict::Accept(Grant::Connect { client, .. })) => Ok(client),
            Some(Verdict::Refuse(refusal)) => Err(refusal.reason),
            other => panic!("{other:?}"),
        }
    };
    let first = connect(&mut world, A).unwrap();
    let second = world.play(0, "s", true);
    assert!(world.owner(second).is_some(), "HTTP viewers are counted too");
    // The same address as IPv6 listeners show it.
    let mapped = format!("[::ffff:{}]:7", A.split(':').next().unwrap());
    assert_eq!(connect(&mut world, &mapped), Err(RefusalReason::Limit));
    let other = connect(&mut world, B).unwrap();
    world.registry.disconnected(&first);
    let again = connect(&mut world, &mapped).unwrap();
    assert_eq!(connect(&mut world, A), Err(RefusalReason::Limit));
    for client in [other, again] {
        world.registry.disconnected(&client);
    }
    assert!(!world.registry.addresses.is_empty(), "the viewer is there");
}

#[test]
fn access_rules_come_before_the_name() {
    let toml = "http.flv_missing = \"404\"\n[apps.live]\nreferer = [\"example.org\"]\naccess = [\
                { allow = \"publish\", from = \"192.0.2.1\" }, { deny = \"publish\", from = \"all\" }, \
                { deny = \"play\", from = \"192.0.2.2\" }]\n";
    let mut world = world(toml);
    let published = world.published(0, A);
    let stranger = world.publish(0, B, "s");
    assert_eq!(world.refusal(stranger), Some(RefusalReason::Denied), "not NameTaken");
    let play = |http, stream: &str| {
        let (sent, range) = (stream.to_owned(), PlayRange::default());
        Want::Play { name: name(stream), sent, range, args: String::new(), http }
    };
    let page = "https://www.example.org/x.html";
    // (address, page, stream, refusal): who is refused does not learn what exists.
    let table = [
        (A, page, "s", None),
        (A, page, "none", Some(RefusalReason::NotPublished)),
        (B, page, "s", Some(RefusalReason::Denied)),
        (B, page, "none", Some(RefusalReason::Denied)),
        (A, "https://example.com/", "none", Some(RefusalReason::Denied)),
        (A, "", "s", Some(RefusalReason::Denied)),
    ];
    for (peer, page, stream, reason) in table {
        let token = world.ask_as(0, peer, page, play(true, stream));
        match world.answer(token) {
            Some(Verdict::Accept(_)) => assert_eq!(reason, None),
            Some(Verdict::Refuse(refusal)) => assert_eq!(Some(refusal.reason), reason),
            None => panic!("no answer"),
        }
    }
    world.ended(published, true);
    assert_eq!(world.registry.entries().len(), 1, "the viewer that was accepted waits");
}

#[test]
fn new_settings_judge_the_next_question_and_leave_what_runs() {
    let mut world = app("publish.resume = \"10s\"");
    let running = world.published(0, A);
    let viewer = world.play(1, "s", false);
    world.owner(viewer);
    let newer = settings(
        "[apps.default]\npublish.resume = \"1s\"\naccess = [{ deny = \"publish\", from = \
         \"192.0.2.2\" }]\n",
    );
    world.registry.reload(newer);
    let token = world.publish(0, B, "t");
    assert_eq!(world.refusal(token), Some(RefusalReason::Denied));
    // The running publication keeps its gap of ten seconds; the next one has the new one.
    world.ended(running, false);
    world.after(9_000);
    assert!(world.registry.entries()[0].in_gap);
    let again = world.published(0, A);
    world.ended(again, false);
    world.after(1_100);
    assert!(!world.registry.entries()[0].in_gap);
}

#[test]
fn unknown_apps_are_served_or_refused() {
    for (toml, reason) in [
        ("", None),
        ("server.unknown_apps = \"refuse\"", Some(RefusalReason::UnknownApp)),
        ("server.unknown_apps = \"refuse\"\n[apps.live]\n", None),
    ] {
        let mut world = world(toml);
        let token = world.ask_as(0, A, "", Want::Connect);
        match world.answer(token) {
            Some(Verdict::Accept(_)) => assert_eq!(reason, None, "{toml}"),
            Some(Verdict::Refuse(refusal)) => {
                assert_eq!(Some(refusal.reason), reason, "{toml}")
            }
            None => panic!("no answer"),
        }
    }
}

#[test]
fn a_play_on_its_way_counts_when_a_shard_says_that_nobody_is_left() {
    let mut world = app("");
    let (stream, _) = world.published(0, A);
    let (first, second) = (world.play(1, "s", false), world.play(1, "s", false));
    world.owner(first);
    // The shard has received one of the two grants.
    world.registry.left_stream(1, stream, 1);
    assert_eq!(world.registry.entries()[0].viewer_shards, [1]);
    world.owner(second);
    world.registry.left_stream(1, stream, 1);
    assert!(world.registry.entries()[0].viewer_shards.is_empty());
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        node: Node,
        by_a: bool,
        stream: u8,
    },
    Play {
        node: Node,
        stream: u8,
        http: bool,
    },
    /// The owner of a claim reports that it has begun, in order.
    Start {
        which: usize,
    },
    End {
        which: usize,
        goodbye: bool,
    },
    Leave {
        which: usize,
    },
    Silence {
        which: usize,
        ms: u64,
    },
    /// Somebody who waits for a name goes.
    Withdraw {
        which: usize,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0_usize..3, any::<bool>(), 0_u8..3)
            .prop_map(|(node, by_a, stream)| Step::Publish { node, by_a, stream }),
        3 => (0_usize..3, 0_u8..3, any::<bool>())
            .prop_map(|(node, stream, http)| Step::Play { node, stream, http }),
        3 => any::<usize>().prop_map(|which| Step::Start { which }),
        2 => (any::<usize>(), any::<bool>())
            .prop_map(|(which, goodbye)| Step::End { which, goodbye }),
        2 => any::<usize>().prop_map(|which| Step::Leave { which }),
        2 => (any::<usize>(), 0_u64..4_000).prop_map(|(which, ms)| Step::Silence { which, ms }),
        1 => any::<usize>().prop_map(|which| Step::Withdraw { which }),
        2 => (0_u64..20_000).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// What the shards hold: claims and counted plays.
#[derive(Default)]
struct Shards {
    claims: Vec<(StreamId, Epoch, Node, bool)>,
    plays: Vec<(Node, StreamId, Option<Arc<ClientInfo>>)>,
    asked: Vec<AskToken>,
    up: HashSet<StreamId>,
    newest: HashMap<StreamId, Epoch>,
}

impl Shards {
    fn hear(&mut self, world: &mut World) {
        for (node, notice) in std::mem::take(&mut world.said) {
            match notice {
                Notice::Verdict(token, verdict) => {
                    let at = self.asked.iter().position(|asked| *asked == token);
                    self.asked.swap_remove(at.expect("an answer to nobody"));
                    match *verdict {
                        Verdict::Accept(Grant::Publish { stream, epoch, .. }) => {
                            self.claims.push((stream, epoch, node, false));
                            let before = self.newest.insert(stream, epoch);
                            assert!(before.is_none_or(|before| before < epoch));
                        }
                        Verdict::Accept(Grant::Play { stream, connected, owner, .. }) => {
                            self.plays.push((node, stream, connected));
                            let started = self.claims.iter().any(|(id, epoch, at, started)| {
                                owner == Some(Owner { node: *at, epoch: *epoch })
                                    && *id == stream
                                    && *started
                            });
                            assert!(owner.is_none() || started, "an owner that has not begun");
                        }
                        _ => {}
                    }
                }
                Notice::StreamUp { stream, owner } => {
                    assert!(self.plays.iter().any(|play| (play.0, play.1) == (node, stream)));
                    assert_eq!(self.newest[&stream], owner.epoch);
                    self.up.insert(stream);
                }
                Notice::StreamDown { stream } => {
                    assert!(self.plays.iter().any(|play| (play.0, play.1) == (node, stream)));
                }
                // A replaced publisher is closed; a probe is answered by a step.
                Notice::Replace { stream, epoch, .. } => {
                    let found = self.claims.iter().position(|it| (it.0, it.1) == (stream, epoch));
                    let claim = found.map(|at| self.claims.swap_remove(at));
                    assert!(claim.is_some_and(|claim| claim.2 == node), "not to the owner");
                    world.ended((stream, epoch), false);
                }
                Notice::Probe { .. } => {}
                other => panic!("unexpected: {other:?}"),
            }
            let mut streams: Vec<_> = self.claims.iter().map(|claim| claim.0).collect();
            streams.sort_unstable();
            assert!(streams.windows(2).all(|two| two[0] != two[1]), "two publishers");
        }
        if !world.said.is_empty() {
            self.hear(world);
        }
    }
}

proptest! {
    #[test]
    fn one_publisher_per_name_and_nothing_left_at_the_end(
        steps in prop::collection::vec(step(), 1..80),
        takeover in 0_usize..3,
    ) {
        let takeover = ["reject", "replace", "replace_when_silent"][takeover];
        let mut world = world(&format!(
            "http.flv_missing = \"wait\"\n[apps.default]\npublish.takeover = \"{takeover}\"\n"
        ));
        let mut shards = Shards::default();
        for step in steps {
            match step {
                Step::Publish { node, by_a, stream } => {
                    let by = if by_a { A } else { B };
                    shards.asked.push(world.publish(node, by, &stream.to_string()));
                }
                Step::Play { node, stream, http } => {
                    shards.asked.push(world.play(node, &stream.to_string(), http));
                }
                Step::Start { which } => {
                    let waiting = shards.claims.iter_mut().filter(|claim| !claim.3);
                    let mut waiting: Vec<_> = waiting.collect();
                    if !waiting.is_empty() {
                        let at = which % waiting.len();
                        waiting[at].3 = true;
                        let (stream, epoch, ..) = *waiting[at];
                        world.registry.publish_started(stream, epoch, &mut world.said);
                    }
                }
                Step::End { which, goodbye } => {
                    if !shards.claims.is_empty() {
                        let at = which % shards.claims.len();
                        let (stream, epoch, ..) = shards.claims.swap_remove(at);
                        world.ended((stream, epoch), goodbye);
                    }
                }
                Step::Leave { which } => {
                    if !shards.plays.is_empty() {
                        // The shard says so when its last viewer of the stream is gone.
                        let (node, stream, _) = shards.plays[which % shards.plays.len()].clone();
                        let (gone, kept) = std::mem::take(&mut shards.plays)
                            .into_iter()
                            .partition::<Vec<_>, _>(|it| (it.0, it.1) == (node, stream));
                        shards.plays = kept;
                        for client in gone.iter().filter_map(|play| play.2.as_ref()) {
                            world.registry.disconnected(client);
                        }
                        world.registry.left_stream(node, stream, gone.len() as u64);
                    }
                }
                Step::Silence { which, ms } => {
                    if !shards.claims.is_empty() {
                        let (stream, epoch, ..) = shards.claims[which % shards.claims.len()];
                        world.silence((stream, epoch), ms);
                    }
                }
                Step::Withdraw { which } => {
                    if !shards.asked.is_empty() {
                        let at = which % shards.asked.len();
                        world.registry.withdrawn(shards.asked.swap_remove(at));
                    }
                }
                Step::Wait { ms } => world.after(ms),
            }
            shards.hear(&mut world);
            let owners = world.registry.entries();
            let owners = owners.iter().filter(|entry| entry.epoch.is_some()).count();
            prop_assert_eq!(owners, shards.claims.len());
        }
        world.after(5_000);
        shards.hear(&mut world);
        prop_assert_eq!(shards.asked, [], "a question without an answer");
        for (stream, epoch, ..) in std::mem::take(&mut shards.claims) {
            world.ended((stream, epoch), false);
        }
        for (node, stream, client) in std::mem::take(&mut shards.plays) {
            if let Some(client) = client {
                world.registry.disconnected(&client);
            }
            world.registry.left_stream(node, stream, 1);
        }
        world.after(60_000);
        prop_assert!(world.registry.entries().is_empty());
        prop_assert!(world.registry.ids.is_empty() && world.registry.timed.is_empty());
        prop_assert!(world.registry.connections.is_empty());
        prop_assert_eq!(world.registry.next_deadline(), None);
    }
}
