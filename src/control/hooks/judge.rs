//! Asking the gating hooks of one question, one after the other: the first that does not accept ends it.

use std::rc::Rc;
use std::sync::Arc;

use md5::{Digest, Md5};

use super::complaints::Complaint;
use super::consult::consult;
use super::event::{Judgement, Occurrence, Subject};
use super::sessions::{caller, facts};
use super::{HookResult, Shared, delivery, forward, nginx, srs};
use crate::config::{Dialect, HookEvent, HookPlan, HookTarget, OnFailure, RelayRule};
use crate::limits;
use crate::proto::http_response::Response;
use crate::proto::name::{ConnectName, StreamName};
use crate::proto::rtmp::address::{PathForm, RtmpAddress};
use crate::session::{Ask, ClientInfo, Refusal, RefusalReason, Want};
use crate::shard::AskToken;

/// Judges a question and puts the result where the control shard finds it.
pub(super) async fn run(shared: Rc<Shared>, token: AskToken, mut ask: Ask) {
    shared.deliveries.settled(ask.client.id).await;
    let verdict = judge(&shared, &mut ask).await;
    let mut due = Vec::new();
    let result = match verdict {
        Ok(()) => {
            let settings = shared.settings.get();
            let mut sessions = shared.sessions.borrow_mut();
            let is_there = sessions.accepted(token, &ask, &settings, &mut due);
            is_there.then(|| HookResult::Accepted(token, Box::new(ask)))
        }
        Err(refusal) => Some(HookResult::Refused(token, refusal)),
    };
    delivery::tell(&shared, due);
    if let Some(result) = result {
        shared.result(result);
    }
}

async fn judge(shared: &Shared, ask: &mut Ask) -> Result<(), Refusal> {
    // One judgement has the settings that it began with.
    let settings = shared.settings.get();
    let (is_connect, event, is_first) = match &ask.what {
        Want::Connect => (true, HookEvent::Connect, true),
        Want::Publish { .. } => (false, HookEvent::Publish, false),
        Want::Play { http, .. } => (false, HookEvent::Play, *http),
    };
    if is_first {
        let plan = settings.connection_hooks(&ask.client.vhost);
        gate(shared, ask, &plan, HookEvent::Connect, |_| true).await?;
        shared.sessions.borrow_mut().admitted(ask.client.id);
    }
    let app = |ask: &Ask| {
        let client = &ask.client;
        match facts(ask) {
            Some((_, name)) => settings.app(name.vhost(), name.app(), name.instance()),
            None => settings.app(&client.vhost, &client.app, &client.instance),
        }
    };
    let plan = Arc::clone(&app(ask).hooks);
    // SRS's on_connect: at connect in 2014, later when it is known what the client wants; over HTTP
    // there is none.
    let is_http = matches!(ask.what, Want::Play { http: true, .. });
    if !is_http {
        let is_now = |target: &HookTarget| (target.srs_version == 1) == is_connect;
        gate(shared, ask, &plan, HookEvent::Connect, is_now).await?;
    }
    if !is_connect {
        gate(shared, ask, &plan, event, |_| true).await?;
    }
    if ask.may_be_forwarded() {
        ask_for_targets(shared, ask, &plan).await?;
    }
    Ok(())
}

/// Asks where a published stream is to be sent on to.
async fn ask_for_targets(shared: &Shared, ask: &mut Ask, plan: &HookPlan) -> Result<(), Refusal> {
    let event = HookEvent::Forward;
    for target in plan.targets(event) {
        let Some((facts, name)) = facts(ask) else { return Ok(()) };
        let app = shared.settings.get().app(name.vhost(), name.app(), name.instance());
        let id = shared.sessions.borrow_mut().next_event();
        let subject = Subject::Stream(Arc::new(facts));
        let occurrence = Occurrence { id, event, caller: caller(ask), subject };
        match forward::ask(shared, target, &occurrence, &app).await {
            Ok(targets) => ask.wishes.forward.get_or_insert_default().extend(targets),
            Err(judgement) => settle(shared, ask, plan, event, target, judgement)?,
        }
    }
    Ok(())
}

/// Asks the hooks of one event.
async fn gate(
    shared: &Shared,
    ask: &mut Ask,
    plan: &HookPlan,
    event: HookEvent,
    is_asked: impl Fn(&HookTarget) -> bool,
) -> Result<(), Refusal> {
    for target in plan.targets(event).filter(|target| is_asked(target)) {
        let subject = match facts(ask) {
            // nginx-rtmp's on_connect knows of no stream, SRS's does.
            Some((facts, _)) if event != HookEvent::Connect || target.dialect == Dialect::Srs => {
                Subject::Stream(Arc::new(facts))
            }
            _ => Subject::Connection { bytes_in: 0, bytes_out: 0 },
        };
        let id = shared.sessions.borrow_mut().next_event();
        let occurrence = Occurrence { id, event, caller: caller(ask), subject };
        let judgement = call(shared, target, &occurrence).await;
        settle(shared, ask, plan, event, target, judgement)?;
    }
    Ok(())
}

/// What a hook's judgement makes of the question.
fn settle(
    shared: &Shared,
    ask: &mut Ask,
    plan: &HookPlan,
    event: HookEvent,
    target: &HookTarget,
    judgement: Judgement,
) -> Result<(), Refusal> {
    let peer = ask.peer;
    let denied = || refusal(plan, RefusalReason::Denied, "refused by the application");
    match judgement {
        Judgement::Accept => Ok(()),
        Judgement::Rename(to) => {
            tracing::info!(event = event.key(), %peer, client = %ask.client.id, to, "renamed by a hook");
            rename(ask, event, &to).map_err(|why| {
                tracing::warn!(
                    event = event.key(), url = target.url.text, %peer, to,
                    "a hook's new name cannot be used: {why}"
                );
                denied()
            })
        }
        Judgement::Relay(to) => relay(shared, ask, event, target, &to).map_err(|why| {
            tracing::warn!(
                event = event.key(), url = target.url.text, %peer,
                "an address that a hook wants the stream to be relayed to or from cannot be used: {why}"
            );
            denied()
        }),
        Judgement::Refuse(why) => {
            if let Some(left_out) = shared.complains(Complaint::Refused, event, target) {
                tracing::info!(
                    event = event.key(), url = target.url.text, %peer, client = %ask.client.id,
                    left_out, "refused by a hook: {why}"
                );
            }
            Err(denied())
        }
        Judgement::Fail(why) => {
            let accepts = target.on_failure == OnFailure::Accept;
            if let Some(left_out) = shared.complains(Complaint::Failed, event, target) {
                tracing::warn!(
                    event = event.key(), url = target.url.text, %peer, client = %ask.client.id,
                    left_out, "a hook failed, and the client is {}: {why}",
                    if accepts { "let in (on_failure)" } else { "refused" }
                );
            }
            if accepts {
                return Ok(());
            }
            Err(refusal(plan, RefusalReason::Unavailable, "authorisation is not available"))
        }
    }
}

/// Has the stream sent to, or fetched from, an address in nginx-rtmp's form (contract hooks 1.5).
fn relay(
    shared: &Shared,
    ask: &mut Ask,
    event: HookEvent,
    target: &HookTarget,
    to: &str,
) -> Result<(), String> {
    let address = RtmpAddress::parse_as(to, PathForm::FirstIsApp).map_err(|it| it.to_string())?;
    tracing::info!(
        event = event.key(), peer = %ask.peer, client = %ask.client.id, to = %address,
        "a hook has the stream relayed"
    );
    if target.relay_redirect {
        rename(ask, event, &digest(to))?;
    }
    if ask.wishes.redirect.len() >= limits::RELAY_HOOK_TARGETS_MAX {
        return Err(format!("there are {} already", limits::RELAY_HOOK_TARGETS_MAX));
    }
    if let Some((_, name)) = facts(ask) {
        let app = shared.settings.get().app(name.vhost(), name.app(), name.instance());
        ask.wishes.redirect.push(Arc::new(RelayRule::of_hook(address, target, &app)));
    }
    Ok(())
}

/// MD5 in hexadecimal digits: one name for all who are sent to one address.
fn digest(text: &str) -> String {
    Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Calls one gating hook.
pub(super) async fn call(
    shared: &Shared,
    target: &HookTarget,
    occurrence: &Occurrence,
) -> Judgement {
    let request = occurrence.request(target, &shared.identity, 1);
    let read = |response: &Response| {
        let judgement = match target.dialect {
            Dialect::Nginx => nginx::judge(occurrence.event, target, response),
            Dialect::Srs => srs::judge(response),
        };
        (judgement.clone(), judgement)
    };
    let answer = consult(shared, occurrence.event, target, &request, read).await;
    answer.unwrap_or_else(Judgement::Fail)
}

/// Gives the question another name: of the app at connect, of the stream else.
fn rename(ask: &mut Ask, event: HookEvent, to: &str) -> Result<(), String> {
    if event == HookEvent::Connect {
        return rename_app(ask, to);
    }
    // Hooks go on to hear the name that the client sent, as nginx-rtmp's do.
    let (Want::Publish { name, sent, .. } | Want::Play { name, sent, .. }) = &mut ask.what else {
        return Ok(());
    };
    // Segments that the app's name has beyond its instance belong to the stream's.
    let prefix = name.stream().strip_suffix(sent.trim_matches('/')).unwrap_or_default();
    let stream = format!("{prefix}{to}");
    *name = StreamName::new(name.vhost(), name.app(), name.instance(), &stream)
        .map_err(|error| error.to_string())?;
    Ok(())
}

fn rename_app(ask: &mut Ask, to: &str) -> Result<(), String> {
    let mut name = ConnectName::parse(&ask.client.app_text, "").map_err(|it| it.to_string())?;
    name.rename_app(to).map_err(|error| error.to_string())?;
    ask.client = Arc::new(ClientInfo {
        app: name.app.clone(),
        instance: name.instance.clone(),
        app_text: to.to_owned(),
        ..(*ask.client).clone()
    });
    if let Want::Play { name: stream, .. } = &mut ask.what {
        *stream = StreamName::new(stream.vhost(), &name.app, &name.instance, stream.stream())
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn refusal(plan: &HookPlan, reason: RefusalReason, text: &str) -> Refusal {
    Refusal { is_silent: plan.close_silently, ..Refusal::new(reason, text) }
}
