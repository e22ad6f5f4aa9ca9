//! nginx-rtmp's control (contract hooks 1.9): `/control/drop|redirect/publisher|subscriber|client`, with
//! the filters `srv`, `app`, `name`, `addr` and `clientid`, and `newname` for a redirect. The answer is
//! the number of connections in decimal digits. `/control/record` answers 204: nothing is recorded.
//!
//! Where nginx answers 500 (an unknown filter, no `newname`), the answer here is 400.

use std::net::IpAddr;

use super::stat;
use crate::control::answer::Answer;
use crate::control::api::Shared;
use crate::control::census::{Census, Pace};
use crate::proto::http::Request;
use crate::proto::name::StreamName;
use crate::session::ClientId;
use crate::shard::{ClientReport, ClientStream, Notice};

/// Whom a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Publisher,
    Subscriber,
    Client,
}

/// What a connection has to be like.
#[derive(Debug)]
struct Filter {
    who: Who,
    vhost: String,
    app: Option<String>,
    name: Option<String>,
    address: Option<IpAddr>,
    client: Option<ClientId>,
}

/// `/control/SECTION/FILTER`
pub(super) async fn answer(shared: &Shared, request: &Request) -> Answer {
    let mut segments = request.path.rsplit('/');
    let (who, section) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    if section == "record" {
        return match who {
            "start" | "stop" => Answer::plain(204, ""),
            _ => Answer::error(400, "record takes start or stop"),
        };
    }
    let filter = match Filter::of(shared, who, request) {
        Ok(filter) => filter,
        Err(text) => return Answer::error(400, text),
    };
    let to = request.query().value("newname").filter(|name| !name.is_empty());
    if section == "redirect" && to.is_none() {
        return Answer::error(400, "a redirect needs newname");
    }
    let census = Census::of_clients(&shared.parts.reports).await;
    let mut count = 0;
    let mut pace = Pace::default();
    for client in census.clients() {
        pace.step().await;
        let wanted = client.streams.iter().filter(|it| filter.fits(&census, client, it));
        match &to {
            Some(to) if section == "redirect" => {
                // HTTP knows no way to go on with another stream.
                for does in wanted.filter(|_| client.protocol == "rtmp") {
                    count += 1;
                    let to = to.clone().into_owned();
                    let ClientStream { message_stream_id, .. } = *does;
                    let connection = client.connection;
                    let notice = Notice::Redirect { connection, message_stream_id, to };
                    shared.parts.orders.give(client.shard, notice);
                }
            }
            _ => {
                if wanted.count() > 0 {
                    count += 1;
                    let why = "dropped by the API".to_owned();
                    let connection = client.connection;
                    shared.parts.orders.give(client.shard, Notice::Dismiss { connection, why });
                }
            }
        }
    }
    tracing::info!(section, ?filter, count, "control by the API");
    Answer::plain(200, count.to_string())
}

impl Filter {
    fn of(shared: &Shared, who: &str, request: &Request) -> Result<Self, String> {
        let who = match who {
            "publisher" => Who::Publisher,
            "subscriber" => Who::Subscriber,
            "client" => Who::Client,
            _ => return Err("the filter is publisher, subscriber or client".to_owned()),
        };
        let value = |key: &str| {
            request.query().value(key).filter(|it| !it.is_empty()).map(|it| it.into_owned())
        };
        let vhosts = stat::vhosts(shared);
        let server = value("srv").unwrap_or_else(|| "0".to_owned());
        let vhost = server.parse::<usize>().ok().and_then(|at| vhosts.get(at));
        let Some(vhost) = vhost else {
            let last = vhosts.len() - 1;
            return Err(format!("srv is a server's place in /stat, 0 to {last}, not {server:?}"));
        };
        let address = value("addr")
            .map(|text| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is no IP address")));
        let client = value("clientid")
            .map(|text| text.parse().map_err(|_| format!("{text:?} is no number of a client")));
        Ok(Self {
            who,
            vhost: vhost.clone(),
            app: value("app"),
            name: value("name"),
            address: address.transpose()?.map(|it| it.to_canonical()),
            client: client.transpose()?.map(ClientId),
        })
    }

    fn fits(&self, census: &Census, client: &ClientReport, does: &ClientStream) -> bool {
        let stream = census.streams.get(&does.stream.0);
        let Some(name) = stream.and_then(|it| it.name.as_ref()) else { return false };
        self.is_for(does.is_publisher)
            && self.has_name(name)
            && self.address.is_none_or(|it| it == client.peer.ip().to_canonical())
            && self.client.is_none_or(|it| it == client.id)
    }

    fn is_for(&self, is_publisher: bool) -> bool {
        match self.who {
            Who::Publisher => is_publisher,
            Who::Subscriber => !is_publisher,
            Who::Client => true,
        }
    }

    fn has_name(&self, name: &StreamName) -> bool {
        name.vhost() == self.vhost
            && self.app.as_ref().is_none_or(|app| *app == name.app_text())
            && self.name.as_ref().is_none_or(|it| it == name.stream())
    }
}
