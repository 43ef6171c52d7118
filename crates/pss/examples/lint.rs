//! A linter: pods and their controllers as JSON, from the files that are named; what each level would say of them.
//!
//! `kubectl get deployments,pods -o json >all.json && cargo run --package pss --features serde --example lint all.json`

#![allow(clippy::print_stdout, reason = "it is what an example does")]

use std::fs::File;
use std::process::ExitCode;

use pss::pod::{Manifest, Pod};
use pss::{Level, NEWEST, Origin, evaluate_pod};
use serde_json::Value;

/// A text in an object, or an empty one.
fn text<'o>(object: &'o Value, path: &str) -> &'o str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

/// Where a kind keeps its pod.
fn manifest(object: &Value) -> Option<&Value> {
    let path = match text(object, "/kind") {
        "Pod" => "",
        "PodTemplate" => "/template",
        "CronJob" => "/spec/jobTemplate/spec/template",
        "DaemonSet" | "Deployment" | "Job" | "ReplicaSet" | "ReplicationController" | "StatefulSet" => {
            "/spec/template"
        }
        _ => return None,
    };
    object.pointer(path)
}

/// Prints what is wrong with one object, and how to put it right; whether anything is.
fn lint(object: &Value) -> Result<bool, serde_json::Error> {
    let Some(manifest) = manifest(object) else { return Ok(false) };
    let pod = Pod::from(serde_json::from_value::<Manifest>(manifest.clone())?);
    // The strictest level that allows it is what a namespace can enforce.
    let allows = |level: &Level| {
        evaluate_pod(*level, NEWEST, &pod, |control| control.origin == Origin::PssGuard).is_allowed()
    };
    let fits = Level::ALL.into_iter().rfind(allows).unwrap_or(Level::Privileged);
    println!("{}/{}: {fits}", text(object, "/kind").to_lowercase(), text(object, "/metadata/name"));
    let evaluation =
        evaluate_pod(Level::Restricted, NEWEST, &pod, |control| control.origin == Origin::PssGuard);
    for found in &evaluation.found {
        println!("  {}: {} ({})", found.control.level, found.finding.reason, found.finding.detail);
    }
    for fix in evaluation.fixes() {
        println!("---\n{}", fix.yaml);
    }
    Ok(!evaluation.is_allowed())
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let mut is_wrong = false;
    for path in std::env::args().skip(1) {
        let object: Value = serde_json::from_reader(File::open(path)?)?;
        let items = object.get("items").and_then(Value::as_array);
        let objects = items.map_or(std::slice::from_ref(&object), Vec::as_slice);
        for object in objects {
            is_wrong |= lint(object)?;
        }
    }
    Ok(ExitCode::from(u8::from(is_wrong)))
}
