//! The names of the pods that a workload makes, as exceptions ask for them.

use std::borrow::Cow;

use super::objects::Object;

/// The name of the pod, if the manifest has it: that of a pod which is not generated. What controllers make ends in random
/// letters, or in a number that several pods of a StatefulSet have.
pub(super) fn of_pod<'n>(object: &Object<'n>) -> Option<&'n str> {
    (object.kind == "Pod" && !object.is_generated).then_some(object.name)
}

/// A name that one of its pods can have on a node, where the workload is derived from it (core's `level/workload.rs`).
pub(super) fn example<'n>(object: &Object<'n>) -> Cow<'n, str> {
    let appended = match object.kind {
        "Pod" if object.is_generated => "bcdfg",
        "Pod" => "",
        "Deployment" => "-bcdfghjklm-bcdfg",
        "CronJob" => "-29384720-bcdfg",
        "StatefulSet" => "-0",
        _ => "-bcdfg",
    };
    if appended.is_empty() { object.name.into() } else { format!("{}{appended}", object.name).into() }
}
