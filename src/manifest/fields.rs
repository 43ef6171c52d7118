//! Names fields of a pod that the API does not have and that are probably meant as one that the standard reads: misspelled
//! ones, and those of another object. The API server drops them unless validation is strict (`fieldValidation`), so the pod is
//! evaluated without them.
//!
//! The other fields of a pod are not known here. A list of them all would be one of a single version, and warn of what a newer
//! API has.

use crate::documents::node::{Node, Value};
use crate::message::shortened;
use crate::pss::pod::{
    Call, Capabilities, Container, Handler, Kind, Lifecycle, Manifest, Os, PodSecurityContext, PodSpec, Port,
    Profile, SeLinuxOptions, SecurityContext, WindowsOptions,
};
use crate::words::is_misspelt;

/// An object of a pod: the keys that the standard reads, and the objects below them.
struct Object {
    keys: &'static [&'static str],
    inside: &'static [(&'static str, &'static Object)],
}

const fn leaf(keys: &'static [&'static str]) -> Object {
    Object { keys, inside: &[] }
}

static POD: Object = Object { keys: Manifest::KEYS, inside: &[("spec", &SPEC)] };
static SPEC: Object = Object {
    keys: PodSpec::KEYS,
    inside: &[
        ("securityContext", &POD_CONTEXT),
        ("initContainers", &CONTAINER),
        ("containers", &CONTAINER),
        ("ephemeralContainers", &CONTAINER),
        ("volumes", &VOLUME),
        ("os", &OS),
    ],
};
static POD_CONTEXT: Object = Object {
    keys: PodSecurityContext::KEYS,
    inside: &[
        ("seccompProfile", &PROFILE),
        ("appArmorProfile", &PROFILE),
        ("seLinuxOptions", &SE_LINUX),
        ("windowsOptions", &WINDOWS),
    ],
};
static CONTAINER: Object = Object {
    keys: Container::KEYS,
    inside: &[
        ("securityContext", &CONTEXT),
        ("ports", &PORT),
        ("livenessProbe", &HANDLER),
        ("readinessProbe", &HANDLER),
        ("startupProbe", &HANDLER),
        ("lifecycle", &LIFECYCLE),
    ],
};
static CONTEXT: Object = Object {
    keys: SecurityContext::KEYS,
    inside: &[
        ("capabilities", &CAPABILITIES),
        ("seccompProfile", &PROFILE),
        ("appArmorProfile", &PROFILE),
        ("seLinuxOptions", &SE_LINUX),
        ("windowsOptions", &WINDOWS),
    ],
};
static LIFECYCLE: Object =
    Object { keys: Lifecycle::KEYS, inside: &[("postStart", &HANDLER), ("preStop", &HANDLER)] };
static HANDLER: Object = Object { keys: Handler::KEYS, inside: &[("httpGet", &CALL), ("tcpSocket", &CALL)] };
static CALL: Object = leaf(Call::KEYS);
static PORT: Object = leaf(Port::KEYS);
static PROFILE: Object = leaf(Profile::KEYS);
static SE_LINUX: Object = leaf(SeLinuxOptions::KEYS);
static WINDOWS: Object = leaf(WindowsOptions::KEYS);
static CAPABILITIES: Object = leaf(Capabilities::KEYS);
static OS: Object = leaf(Os::KEYS);
/// Of the sources of volumes the one that a level forbids by name.
static VOLUME: Object = leaf(&["name", "hostPath"]);

/// Objects whose fields are put into another one by mistake, and what they are called.
static OTHERS: [(&str, &Object); 4] = [
    ("spec", &SPEC),
    ("spec.securityContext", &POD_CONTEXT),
    ("securityContext of a container", &CONTEXT),
    ("a container", &CONTAINER),
];

/// So many are named.
const MOST: usize = 8;

/// Bytes of a name that is shown.
const NAME: usize = 64;

/// What is unknown of a pod, given by its `metadata` and `spec`, in one line; `None` if nothing is.
pub(super) fn unknown(pod: &Node) -> Option<String> {
    let mut found = Vec::new();
    walk(pod, &POD, "", &mut found);
    let rest = found.len().checked_sub(MOST).filter(|rest| *rest > 0);
    found.truncate(MOST);
    let more = rest.map_or_else(String::new, |rest| format!("; and {rest} more"));
    let all = found.join("; ");
    (!found.is_empty()).then(|| {
        format!("{all}{more}: the API server ignores what it does not know unless validation is strict")
    })
}

/// Whether the pod has a container, without which the API server refuses it (`pkg/apis/core/validation/validation.go`
/// `validateContainers`).
pub(super) fn has_containers(pod: &Node) -> bool {
    let containers = pod.at_path(&["spec", Kind::Regular.field()]);
    containers.is_some_and(|node| node.items().is_none_or(|items| !items.is_empty()))
}

fn walk(node: &Node, object: &Object, path: &str, found: &mut Vec<String>) {
    match &node.value {
        Value::List(items) => {
            for (nth, item) in
                items.iter().enumerate().filter(|(_, item)| matches!(item.value, Value::Map(_)))
            {
                walk(item, object, &format!("{path}[{nth}]"), found);
            }
        }
        Value::Map(entries) => {
            for (key, value) in entries {
                let place = if path.is_empty() {
                    shortened(key, NAME)
                } else {
                    format!("{path}.{}", shortened(key, NAME))
                };
                if object.keys.contains(&key.as_str()) {
                    if let Some((_, inside)) = object.inside.iter().find(|(name, _)| name == key) {
                        walk(value, inside, &place, found);
                    }
                } else if let Some(meant) = meant(key, object) {
                    found.push(format!("unknown field {place} (line {}): {meant}", value.at.line));
                }
            }
        }
        _ => {}
    }
}

/// What an unknown key was probably meant as.
fn meant(key: &str, object: &Object) -> Option<String> {
    if let Some(name) = object.keys.iter().find(|name| is_misspelt(key, name)) {
        return Some(format!("did you mean {name}?"));
    }
    let is_one = |other: &&Object| std::ptr::eq(*other, object);
    if key == "name" || !OTHERS.iter().any(|(_, other)| is_one(other)) {
        return None;
    }
    let other = OTHERS.iter().find(|(_, other)| other.keys.contains(&key));
    other.map(|(whose, _)| format!("it is a field of {whose}"))
}

#[cfg(test)]
mod tests {
    use super::{has_containers, unknown};
    use crate::documents::read::documents;

    /// All fields of a pod, from k8s.io/api v0.37.2, `core/v1/types.go`.
    #[rustfmt::skip]
    const FIELDS: &[(&[&str], &str)] = &[
        (&["spec"], "volumes initContainers containers ephemeralContainers restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds dnsPolicy nodeSelector serviceAccountName serviceAccount automountServiceAccountToken nodeName hostNetwork hostPID hostIPC shareProcessNamespace securityContext imagePullSecrets hostname subdomain affinity schedulerName tolerations hostAliases priorityClassName priority dnsConfig readinessGates runtimeClassName enableServiceLinks preemptionPolicy overhead topologySpreadConstraints setHostnameAsFQDN os hostUsers schedulingGates resourceClaims resources hostnameOverride workloadRef schedulingGroup evictionResponders"),
        (&["spec", "securityContext"], "seLinuxOptions windowsOptions runAsUser runAsGroup runAsNonRoot supplementalGroups supplementalGroupsPolicy fsGroup sysctls fsGroupChangePolicy seccompProfile appArmorProfile seLinuxChangePolicy"),
        (&["spec", "containers"], "name image command args workingDir ports envFrom env resources resizePolicy restartPolicy restartPolicyRules volumeMounts volumeDevices livenessProbe readinessProbe startupProbe lifecycle terminationMessagePath terminationMessagePolicy imagePullPolicy securityContext stdin stdinOnce tty"),
        (&["spec", "ephemeralContainers"], "name securityContext targetContainerName"),
        (&["spec", "containers", "securityContext"], "capabilities privileged seLinuxOptions windowsOptions runAsUser runAsGroup runAsNonRoot readOnlyRootFilesystem allowPrivilegeEscalation procMount seccompProfile appArmorProfile"),
        (&["spec", "containers", "securityContext", "capabilities"], "add drop"),
        (&["spec", "containers", "securityContext", "seccompProfile"], "type localhostProfile"),
        (&["spec", "containers", "securityContext", "seLinuxOptions"], "user role type level"),
        (&["spec", "containers", "securityContext", "windowsOptions"], "gmsaCredentialSpecName gmsaCredentialSpec runAsUserName hostProcess"),
        (&["spec", "containers", "ports"], "name hostPort containerPort protocol hostIP"),
        (&["spec", "containers", "livenessProbe"], "exec httpGet tcpSocket grpc initialDelaySeconds timeoutSeconds periodSeconds successThreshold failureThreshold terminationGracePeriodSeconds"),
        (&["spec", "containers", "lifecycle"], "postStart preStop stopSignal"),
        (&["spec", "containers", "lifecycle", "preStop"], "exec httpGet tcpSocket sleep"),
        (&["spec", "containers", "lifecycle", "preStop", "httpGet"], "path port host scheme httpHeaders protocol"),
        (&["spec", "volumes"], "name hostPath emptyDir gcePersistentDisk awsElasticBlockStore gitRepo secret nfs iscsi glusterfs persistentVolumeClaim rbd flexVolume cinder cephfs flocker downwardAPI fc azureFile configMap vsphereVolume quobyte azureDisk photonPersistentDisk projected portworxVolume scaleIO storageos csi ephemeral image"),
    ];

    fn says(text: &str) -> String {
        unknown(&documents(text).unwrap()[0]).unwrap_or_default()
    }

    /// A pod with one field.
    fn with(place: &[&str], key: &str) -> String {
        let inner = format!("{{{key}: x}}");
        place.iter().rev().fold(inner, |inner, key| match *key {
            "containers" | "ephemeralContainers" | "volumes" | "ports" => format!("{{{key}: [{inner}]}}"),
            key => format!("{{{key}: {inner}}}"),
        })
    }

    #[test]
    fn no_field_of_the_api_is_unknown() {
        let mut tried = 0;
        for (place, keys) in FIELDS {
            for key in keys.split(' ') {
                assert_eq!(says(&with(place, key)), "", "{place:?} {key}");
                tried += 1;
            }
        }
        assert!(tried > 150, "{tried}");
    }

    #[test]
    fn what_is_misspelt_or_in_the_wrong_place_is_named() {
        #[rustfmt::skip]
        let rows: [(&[&str], &str, &str); 14] = [
            (&["spec"], "hostnetwork", "spec.hostnetwork (line 1): did you mean hostNetwork?"),
            (&["spec"], "containres", "spec.containres (line 1): did you mean containers?"),
            (&["spec"], "container", "spec.container (line 1): did you mean containers?"),
            (&["spec"], "hostPid", "spec.hostPid (line 1): did you mean hostPID?"),
            (&["spec"], "securitycontext", "spec.securitycontext (line 1): did you mean securityContext?"),
            (&["spec"], "privileged", "spec.privileged (line 1): it is a field of securityContext of a container"),
            (&["spec", "securityContext"], "privileged", "spec.securityContext.privileged (line 1): it is a field of securityContext of a container"),
            (&["spec", "securityContext"], "hostNetwork", "spec.securityContext.hostNetwork (line 1): it is a field of spec"),
            (&["spec", "containers"], "privileged", "spec.containers[0].privileged (line 1): it is a field of securityContext of a container"),
            (&["spec", "containers", "securityContext"], "runAsNonroot", "spec.containers[0].securityContext.runAsNonroot (line 1): did you mean runAsNonRoot?"),
            (&["spec", "containers", "securityContext"], "sysctls", "spec.containers[0].securityContext.sysctls (line 1): it is a field of spec.securityContext"),
            (&["spec", "containers", "securityContext", "capabilities"], "Drop", "spec.containers[0].securityContext.capabilities.Drop (line 1): did you mean drop?"),
            (&["spec", "containers", "ports"], "hostport", "spec.containers[0].ports[0].hostport (line 1): did you mean hostPort?"),
            (&["spec", "volumes"], "hostpath", "spec.volumes[0].hostpath (line 1): did you mean hostPath?"),
        ];
        let end = ": the API server ignores what it does not know unless validation is strict";
        for (place, key, expected) in rows {
            assert_eq!(says(&with(place, key)), format!("unknown field {expected}{end}"), "{place:?} {key}");
        }
        let many: Vec<String> = (0..20).map(|_| "{Name: x}".to_owned()).collect();
        let many = says(&format!("{{spec: {{containers: [{}]}}}}", many.join(", ")));
        assert!(many.contains("containers[7].Name") && many.contains("; and 12 more: "), "{many}");
        assert_eq!(says("{spec: {made-up: 1, containers: x}}"), "", "a field of a newer API");
    }

    #[test]
    fn a_pod_has_a_container() {
        for (text, expected) in [
            ("{spec: {containers: [{name: a}]}}", true),
            // Another type is an error of its own.
            ("{spec: {containers: x}}", true),
            ("{spec: {containers: []}}", false),
            ("{spec: {containers: null}}", false),
            ("{spec: {initContainers: [{name: a}]}}", false),
        ] {
            assert_eq!(has_containers(&documents(text).unwrap()[0]), expected, "{text}");
        }
    }
}
