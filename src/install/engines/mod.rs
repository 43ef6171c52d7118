//! Which engines can the gate be installed for? One file an engine.

pub mod containerd;

use super::Installer;
use crate::pss::facts::Engine;

/// All installers.
pub const ALL: [&Installer; 1] = [&containerd::INSTALLER];

/// The installer of an engine, by its name or alias on the command line.
#[must_use]
pub fn find(name: &str) -> Option<&'static Installer> {
    ALL.into_iter().find(|installer| installer.engine.name() == name || installer.alias == Some(name))
}

/// The installer of an engine.
#[must_use]
pub fn of(engine: Engine) -> Option<&'static Installer> {
    ALL.into_iter().find(|installer| installer.engine == engine)
}
