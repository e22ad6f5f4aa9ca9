//! The settings in force on the control shard.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::Settings;

/// A handle to the newest settings, shared by everything that lives on the control shard. SIGHUP
/// replaces them: ask at each use, and keep the answer only for the work at hand (one call, one
/// delivery), so that what is under way ends with the settings that it began with.
#[derive(Clone, Debug)]
pub struct CurrentSettings(Rc<RefCell<Arc<Settings>>>);

impl CurrentSettings {
    /// The settings of the start.
    pub fn new(settings: Arc<Settings>) -> Self {
        Self(Rc::new(RefCell::new(settings)))
    }

    /// What holds now.
    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.0.borrow())
    }

    /// What holds from now on.
    pub(super) fn replace(&self, settings: Arc<Settings>) {
        *self.0.borrow_mut() = settings;
    }
}
