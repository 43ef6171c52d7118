//! The table of controls, in upstream's output order: baseline's ids sorted bytewise, restricted's, then ours.

mod sysctls;

use super::Control;

/// Every control there is.
pub const CONTROLS: &[&Control] = &[&sysctls::CONTROL];
