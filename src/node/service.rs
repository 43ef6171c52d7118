//! How an engine is started, by the init system of the node. Every engine's flags and variables are read here, so that what
//! cannot be followed is refused for all of them.

use super::host::Node;
use super::openrc;
use super::systemd::{self, Service, UnitError, unclear};

/// How systemd starts an engine by a unit; `None` if there is no such unit, or it is masked. It is an error if the unit
/// starts another program than the engine's, which could give it any flags.
pub fn of(node: &dyn Node, unit: &str, program: &str) -> Result<Option<Service>, UnitError> {
    starts(systemd::service(node, unit)?, program)
}

/// The same where OpenRC may be what starts it: with a script of the unit's name, if there is no unit.
pub fn of_any_init(node: &dyn Node, unit: &str, program: &str) -> Result<Option<Service>, UnitError> {
    if let Some(service) = of(node, unit, program)? {
        return Ok(Some(service));
    }
    starts(openrc::service(node, unit.trim_end_matches(".service"))?, program)
}

fn starts(service: Option<Service>, program: &str) -> Result<Option<Service>, UnitError> {
    let Some(service) = service else { return Ok(None) };
    if service.starts(program) { Ok(Some(service)) } else { Err(not_itself(&service, program)) }
}

/// Of a unit that starts something else than this program.
pub(super) fn not_itself(service: &Service, program: &str) -> UnitError {
    let what = format!("it starts {:?} and not {program} itself", service.command.join(" "));
    unclear(&service.file, what)
}
