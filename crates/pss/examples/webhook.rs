//! The core of an admission webhook: an `AdmissionReview` of a pod on standard input, the answer on standard output.
//!
//! `cargo run --package pss --features serde --example webhook <review.json`

use std::io;

use pss::pod::{Manifest, Pod};
use pss::{Control, Level, NEWEST, Origin, evaluate_pod};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the API server asks.
#[derive(Deserialize)]
struct Review {
    request: Request,
}

#[derive(Deserialize)]
struct Request {
    uid: String,
    object: Manifest,
}

/// Where a real webhook would look at the namespace.
const LEVEL: Level = Level::Restricted;

/// As strict as the API server, and no stricter.
fn is_not_upstreams(control: &Control) -> bool {
    control.origin != Origin::Upstream
}

fn answer(request: Request) -> Value {
    let pod = Pod::from(request.object);
    let evaluation = evaluate_pod(LEVEL, NEWEST, &pod, is_not_upstreams);
    let (uid, allowed) = (request.uid, evaluation.is_allowed());
    let response = if allowed {
        json!({"uid": uid, "allowed": allowed})
    } else {
        let mut message = format!("violates PodSecurity \"{LEVEL}:latest\": {}", evaluation.message());
        for fix in evaluation.fixes() {
            message = format!("{message}\n---\n{}", fix.yaml);
        }
        let status = json!({"code": 403, "reason": "Forbidden", "message": message});
        json!({"uid": uid, "allowed": allowed, "status": status})
    };
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let review: Review = serde_json::from_reader(io::stdin())?;
    serde_json::to_writer_pretty(io::stdout(), &answer(review.request))?;
    Ok(())
}
