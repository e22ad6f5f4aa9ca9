//! What a connection holds of the control shard, released whatever becomes of it: dropped on close, on
//! error, on a panic of its session, and when a verdict finds its connection gone.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::messages::{ConnKey, Notice};
use crate::media::{Epoch, Resume, StreamId};
use crate::session::{ClientInfo, Membership, PushTarget, PushWire};

/// Notices to the control shard that drops leave behind; emptied once per turn.
#[derive(Clone, Debug, Default)]
pub struct Releases(Rc<RefCell<Vec<Notice>>>);

impl Releases {
    /// Whether something was released.
    pub fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// Takes what was released.
    pub fn take(&self) -> Vec<Notice> {
        self.0.take()
    }
}

/// A claimed stream name. Dropping it frees the name.
#[derive(Debug)]
pub struct Claim {
    /// The stream.
    pub stream: StreamId,
    /// The publication.
    pub epoch: Epoch,
    /// The publisher said goodbye.
    pub goodbye: bool,
    /// State of the clock for the next publisher.
    pub resume: Option<Resume>,
    releases: Releases,
}

impl Claim {
    /// The claim that a verdict gave. A claim that is never used leaves the clock as it found it.
    pub fn new(
        stream: StreamId,
        epoch: Epoch,
        resume: Option<Resume>,
        releases: &Releases,
    ) -> Self {
        Self { stream, epoch, goodbye: false, resume, releases: releases.clone() }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.releases.0.borrow_mut().push(Notice::PublishEnded {
            stream: self.stream,
            epoch: self.epoch,
            goodbye: self.goodbye,
            resume: self.resume,
        });
    }
}

/// A connection that the control shard counts. Dropping it says that it is gone.
#[derive(Debug)]
pub struct Admission {
    /// Empty once it is carried away.
    client: Option<Arc<ClientInfo>>,
    releases: Releases,
}

impl Admission {
    /// The admission that a verdict gave.
    pub fn new(client: Arc<ClientInfo>, releases: &Releases) -> Self {
        Self { client: Some(client), releases: releases.clone() }
    }

    /// The connection goes to another shard and stays admitted.
    pub fn carry(mut self) -> Option<Arc<ClientInfo>> {
        self.client.take()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            self.releases.0.borrow_mut().push(Notice::Disconnected(client));
        }
    }
}

/// A connection that the rooms know. Dropping it says that it is gone.
#[derive(Debug)]
pub struct InRooms {
    connection: ConnKey,
    releases: Releases,
}

impl InRooms {
    /// A connection that was just opened to them.
    pub fn new(connection: ConnKey, releases: &Releases) -> Self {
        Self { connection, releases: releases.clone() }
    }
}

impl Drop for InRooms {
    fn drop(&mut self) {
        self.releases.0.borrow_mut().push(Notice::RoomGone(self.connection));
    }
}

/// A membership that is in force. Dropping it says that the member is gone.
#[derive(Debug)]
pub struct Member {
    membership: Arc<Membership>,
    /// How it gets its messages.
    pub wire: PushWire,
    releases: Releases,
}

impl Member {
    /// The membership that a verdict gave.
    pub fn new(membership: Arc<Membership>, wire: PushWire, releases: &Releases) -> Self {
        Self { membership, wire, releases: releases.clone() }
    }

    /// Its channels and its user.
    pub fn targets(&self) -> &[PushTarget] {
        &self.membership.targets
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.releases.0.borrow_mut().push(Notice::PushLeft(self.membership.client));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use super::*;
    use crate::media::Moment;

    #[test]
    fn a_claim_is_given_back_whatever_happens_to_its_holder() {
        let releases = Releases::default();
        let resume = Some(Resume { last_ms: 5, at: Moment::ZERO + Duration::from_secs(1) });
        let claim = || Claim::new(StreamId(7), Epoch(3), resume, &releases);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _held = claim();
            panic!("a bug");
        }));
        assert!(panicked.is_err());
        let mut said = claim();
        said.goodbye = true;
        drop(said);
        let goodbyes: Vec<bool> = releases
            .take()
            .into_iter()
            .map(|notice| match notice {
                Notice::PublishEnded {
                    stream: StreamId(7),
                    epoch: Epoch(3),
                    goodbye,
                    resume: of,
                } => {
                    assert_eq!(of, resume);
                    goodbye
                }
                other => panic!("unexpected: {other:?}"),
            })
            .collect();
        assert_eq!(goodbyes, [false, true]);
        assert!(releases.is_empty());
    }

    #[test]
    fn an_admission_that_ends_is_said_once() {
        let releases = Releases::default();
        drop(Admission::new(Arc::default(), &releases));
        assert!(matches!(releases.take()[..], [Notice::Disconnected(_)]));
        assert!(releases.is_empty());
    }
}
