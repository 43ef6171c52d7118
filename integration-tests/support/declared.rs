//! Pods that are right or wrong by what they declare, most of which leaves no trace in config.json.

use serde_json::{Value, json};

use crate::support::image;

/// A pod's name, and what makes its spec another than a compliant one.
type Row = (&'static str, fn(&mut Value));

/// Pods and what is in them; most of what is wrong leaves no trace in config.json.
pub(crate) fn pods() -> Vec<Value> {
    let rows: [Row; 13] = [
        ("compliant", |_| {}),
        ("may-be-root", |spec| drop(context(spec).remove("runAsNonRoot"))),
        ("own-user-is-root", |spec| {
            context(spec).insert("runAsUser".into(), json!(0));
            context(spec).insert("runAsNonRoot".into(), json!(false));
        }),
        ("no-seccomp", |spec| drop(context(spec).remove("seccompProfile"))),
        ("seccomp-of-the-pod", |spec| {
            drop(context(spec).remove("seccompProfile"));
            spec["securityContext"]["seccompProfile"] = json!({"type": "RuntimeDefault"});
        }),
        ("drops-in-lower-case", |spec| {
            context(spec).insert("capabilities".into(), json!({"drop": ["all"]}));
        }),
        ("drops-nothing", |spec| drop(context(spec).remove("capabilities"))),
        ("gains-privileges", |spec| drop(context(spec).remove("allowPrivilegeEscalation"))),
        ("unmounted-host-path", |spec| {
            spec["volumes"] = json!([{"name": "etc", "hostPath": {"path": "/etc"}}]);
        }),
        ("host-of-a-probe", |spec| {
            spec["containers"][0]["livenessProbe"] =
                json!({"tcpSocket": {"host": "127.0.0.1", "port": 1}, "initialDelaySeconds": 3600});
        }),
        ("safe-sysctl", |spec| {
            spec["securityContext"]["sysctls"] = json!([{"name": "net.ipv4.tcp_syncookies", "value": "1"}]);
        }),
        ("a-bad-neighbour", |spec| {
            let mut other = spec["containers"][0].clone();
            other["name"] = json!("other");
            other["securityContext"]["seccompProfile"] = json!({"type": "Unconfined"});
            spec["containers"].as_array_mut().unwrap().push(other);
        }),
        ("host-network", |spec| spec["hostNetwork"] = json!(true)),
    ];
    rows.map(|(name, change)| {
        let mut spec = json!({
            "nodeName": "node",
            "terminationGracePeriodSeconds": 1,
            "enableServiceLinks": false,
            "automountServiceAccountToken": false,
            "securityContext": {},
            "containers": [{
                "name": "app",
                "image": image::APP,
                "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", "exec sleep 3600"],
                "securityContext": {
                    "runAsUser": 1000,
                    "runAsNonRoot": true,
                    "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]},
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
            }],
        });
        change(&mut spec);
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    })
    .into()
}

fn context(spec: &mut Value) -> &mut serde_json::Map<String, Value> {
    spec["containers"][0]["securityContext"].as_object_mut().expect("an object")
}
