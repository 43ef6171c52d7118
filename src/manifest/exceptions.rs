//! Exceptions that name containers, for a pod as a whole.
//!
//! The gate evaluates one container at a time, and such an exception is of that container alone. A manifest is evaluated at
//! once: the exception may lift a control only if it covers every container that violates it.

use std::borrow::Cow;

use super::node::Node;
use crate::decision::Rules;
use crate::level::date::Date;
use crate::level::policy::{Exception, Named};
use crate::level::{Policy, RequiredLevel};
use crate::pss::Control;
use crate::pss::pod::{Kind, Pod};

/// The policy for this pod: each exception that names containers gives way to one of the whole pod for each control that it
/// lifts.
pub(super) fn of_pod<'p>(
    policy: &'p Policy,
    demands: &[RequiredLevel<'_>],
    declared: &Pod,
    pod: &Node,
    named: Named<'_>,
    today: Date,
) -> Cow<'p, Policy> {
    let mut own = policy.clone();
    let narrow: Vec<Exception> =
        own.exceptions.extract_if(.., |exception| exception.is_of_containers()).collect();
    if narrow.is_empty() {
        return Cow::Borrowed(policy);
    }
    let covering = |control: &Control, (kind, index): (Kind, usize)| {
        let container = declared.spec.list(kind).get(index).map(|container| container.name.as_str());
        let named = Named { container, image: image(pod, kind, index), ..named };
        narrow.iter().find(|exception| exception.covers(&named, control.id) && !exception.expired(today))
    };
    loop {
        let rules = Rules::new(&own, || Some(named), || today);
        let (evaluation, each) = rules.evaluate_declared(demands, declared);
        let mut lifted = Vec::new();
        for result in rules.denying(&evaluation) {
            let places = each.iter().flat_map(|evaluation| evaluation.places(result.control));
            let mut places = places.flat_map(|place| containers(declared, result.control, place));
            let all: Option<Vec<_>> = places.try_fold(Vec::new(), |mut all, place| {
                all.push(covering(result.control, place)?);
                Some(all)
            });
            let first = all.and_then(|all| all.into_iter().next());
            lifted.extend(first.map(|exception| Exception {
                controls: vec![result.control.id.to_owned()],
                container: None,
                image: None,
                ..exception.clone()
            }));
        }
        if lifted.is_empty() {
            return Cow::Owned(own);
        }
        // What an excepted control overrides is evaluated now.
        own.exceptions.extend(lifted);
    }
}

/// The containers that a violation is of. One of the pod's own fields is of all, and one of its volumes of those that mount
/// any.
fn containers(declared: &Pod, control: &Control, place: Option<(Kind, usize)>) -> Vec<(Kind, usize)> {
    if let Some(place) = place {
        return vec![place];
    }
    let is_of_volumes = matches!(control.id, "hostPathVolumes" | "restrictedVolumes");
    let of_kind = |kind: Kind| {
        let all = declared.spec.list(kind).iter().enumerate();
        let concerned =
            all.filter(move |(_, container)| !is_of_volumes || !container.volume_mounts.is_empty());
        concerned.map(move |(index, _)| (kind, index))
    };
    Kind::ALL.into_iter().flat_map(of_kind).collect()
}

fn image(pod: &Node, kind: Kind, index: usize) -> &str {
    let container =
        pod.at_path(&["spec", kind.field()]).and_then(Node::items).and_then(|items| items.get(index));
    container.and_then(|container| container.get("image")).and_then(Node::text).unwrap_or_default()
}
