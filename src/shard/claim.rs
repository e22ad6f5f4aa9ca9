//! What a connection holds of the control shard, released whatever becomes of it: dropped on close, on
//! error, on a panic of its session, and when a verdict finds its connection gone.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::messages::Notice;
use crate::media::{Epoch, Resume, StreamId};
use crate::session::ClientInfo;

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
    client: Arc<ClientInfo>,
    releases: Releases,
}

impl Admission {
    /// The admission that a verdict gave.
    pub fn new(client: Arc<ClientInfo>, releases: &Releases) -> Self {
        Self { client, releases: releases.clone() }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.releases.0.borrow_mut().push(Notice::Disconnected(Arc::clone(&self.client)));
    }
}
