//! Pods as JSON, or whatever else has a deserializer: any manifest in, the projection out.
//!
//! Reading follows the API (`sigs.k8s.io/json`): unknown keys are skipped, names are compared exactly, and null is the zero
//! value, also in a list. A value of the wrong type is an error, as it is there.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::{Annotations, Container, Port, Profile, Sysctl, Volume, VolumeMount, is_read};

/// The value of a field that may be null.
pub(super) trait Field: Sized {
    /// Reads it.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Null is the default.
pub(super) fn or_default<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Fields of these types are a value or null.
macro_rules! field {
    ($($type:ty),*) => {$(
        impl $crate::pod::json::Field for $type {
            fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::pod::json::or_default(deserializer)
            }
        }
    )*};
}
pub(super) use field;

field!(bool, i32, String, Option<bool>, Option<i64>, Option<String>, Option<Profile>);

/// What a list can hold.
pub(super) trait Item: Default {
    /// Whether it tells anything.
    fn counts(&self) -> bool {
        true
    }
}

impl Item for Container {}
impl Item for String {}
impl Item for Sysctl {}
impl Item for Volume {}
impl Item for VolumeMount {}
impl Item for Port {
    fn counts(&self) -> bool {
        self.host_port != 0
    }
}

impl<T: Item + for<'any> Deserialize<'any>> Field for Vec<T> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items: Option<Vec<Option<T>>> = Option::deserialize(deserializer)?;
        let items = items.unwrap_or_default().into_iter().map(Option::unwrap_or_default);
        Ok(items.filter(Item::counts).collect())
    }
}

impl Field for Annotations {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_unit<E>(self) -> Result<Annotations, E> {
                Ok(Annotations::new())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations, A::Error> {
                let mut annotations = Annotations::new();
                while let Some(key) = map.next_key::<String>()? {
                    // What others keep there can be as large as the object.
                    if is_read(&key) {
                        let value = map.next_value::<Option<String>>()?.unwrap_or_default();
                        annotations.insert(key, value);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(annotations)
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de> Deserialize<'de> for Volume {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Volume;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a volume")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Volume, A::Error> {
                let mut volume = Volume::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key == "name" {
                        volume.name = map.next_value::<Option<String>>()?.unwrap_or_default();
                    } else if map.next_value::<Option<Anything>>()?.is_some() {
                        volume.sources.push(key);
                    }
                }
                Ok(volume)
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// A value that is looked at and thrown away. [`IgnoredAny`] is for keys that nobody knows; a deserializer can refuse those.
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Anything;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_bool<E>(self, _: bool) -> Result<Anything, E> {
                Ok(Anything)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Anything, E> {
                Ok(Anything)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Anything, E> {
                Ok(Anything)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Anything, E> {
                Ok(Anything)
            }

            fn visit_str<E>(self, _: &str) -> Result<Anything, E> {
                Ok(Anything)
            }

            fn visit_unit<E>(self) -> Result<Anything, E> {
                Ok(Anything)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Anything, A::Error> {
                while items.next_element::<Anything>()?.is_some() {}
                Ok(Anything)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Anything, A::Error> {
                while map.next_entry::<Anything, Anything>()?.is_some() {}
                Ok(Anything)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Serialize for Volume {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1 + self.sources.len()))?;
        map.serialize_entry("name", &self.name)?;
        for source in &self.sources {
            map.serialize_entry(source, &BTreeMap::<&str, ()>::new())?;
        }
        map.end()
    }
}

/// Defaults are not written.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use crate::pod::{Manifest, Pod};

    fn read(json: &str) -> Result<Pod, serde_json::Error> {
        serde_json::from_str::<Manifest>(json).map(Pod::from)
    }

    #[test]
    fn what_is_written_is_what_counts_under_the_names_that_it_had() {
        for (manifest, projection) in [
            ("{}", "{}"),
            (r#"{"metadata": null, "spec": null}"#, "{}"),
            (
                r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": "{}",
                    "seccomp.security.alpha.kubernetes.io/pod": null,
                    "container.apparmor.security.beta.kubernetes.io/app": "runtime/default"}}}"#,
                r#"{"annotations":{"container.apparmor.security.beta.kubernetes.io/app":"runtime/default","seccomp.security.alpha.kubernetes.io/pod":""}}"#,
            ),
            // What is false, empty or null is not there. One false is not like none.
            (
                r#"{"spec": {"hostNetwork": true, "hostPID": false, "hostIPC": true, "hostUsers": false, "os": {"name": ""},
                    "securityContext": {"runAsNonRoot": false, "runAsUser": 0, "windowsOptions": {"hostProcess": null},
                    "seLinuxOptions": {"level": "s0"}, "sysctls": null}, "volumes": [], "containers": null}}"#,
                r#"{"spec":{"hostNetwork":true,"hostIPC":true,"hostUsers":false,"securityContext":{"runAsUser":0,"runAsNonRoot":false}}}"#,
            ),
            // A profile without a type is not like none, nor an empty procMount.
            (
                r#"{"spec": {"containers": [{"image": "x", "env": [{"name": "SECRET", "value": "x"}], "name": "app",
                    "securityContext": {"procMount": "", "seccompProfile": {}, "appArmorProfile": null,
                    "capabilities": {"drop": ["ALL", null], "add": []}},
                    "lifecycle": {"preStop": {"httpGet": {"host": "", "port": 1}, "tcpSocket": {"host": "h"}}}}]}}"#,
                r#"{"spec":{"containers":[{"name":"app","securityContext":{"capabilities":{"drop":["ALL",""]},"procMount":"","seccompProfile":{}},"lifecycle":{"preStop":{"tcpSocket":{"host":"h"}}}}]}}"#,
            ),
            // Ports of the host, mounts, and null items, which are empty ones.
            (
                r#"{"spec": {"initContainers": [null], "containers": [{"ports": [{"containerPort": 80}, null,
                    {"hostPort": 443, "protocol": "TCP"}], "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}]}]}}"#,
                r#"{"spec":{"initContainers":[{}],"containers":[{"ports":[{"hostPort":443}],"volumeMounts":[{"name":"v","mountPath":"/v"}]}]}}"#,
            ),
            // Every source of a volume by its key, known or not.
            (
                r#"{"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}, "emptyDir": null, "newer": {"x": [1]}}, {"name": null}]}}"#,
                r#"{"spec":{"volumes":[{"name":"v","hostPath":{},"newer":{}},{"name":""}]}}"#,
            ),
        ] {
            let pod = read(manifest).unwrap();
            let written = serde_json::to_string(&pod).unwrap();
            assert_eq!(written, projection, "{manifest}");
            assert_eq!(serde_json::from_str::<Pod>(&written).unwrap(), pod, "{manifest}");
        }
    }

    #[test]
    fn what_has_another_type_than_in_the_api_is_an_error() {
        for (manifest, error) in [
            (r#"{"spec": {"hostNetwork": "true"}}"#, "expected a boolean"),
            (r#"{"spec": {"containers": {}}}"#, "expected a sequence"),
            (r#"{"spec": {"containers": [{"ports": [{"hostPort": "80"}]}]}}"#, "expected i32"),
            (r#"{"spec": {"containers": [{"ports": [{"hostPort": 4294967376}]}]}}"#, "expected i32"),
            (r#"{"spec": {"securityContext": {"runAsUser": 0.5}}}"#, "expected i64"),
            (r#"{"spec": {"volumes": ["x"]}}"#, "expected a volume"),
            (r#"{"metadata": {"annotations": []}}"#, "expected annotations"),
            (r#"{"spec": {"hostNetwork": true, "hostNetwork": false}}"#, "duplicate field `hostNetwork`"),
        ] {
            let said = read(manifest).unwrap_err().to_string();
            assert!(said.contains(error) && said.contains(" at line 1 column "), "{manifest}: {said}");
        }
    }
}
