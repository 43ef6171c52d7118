//! Pods as JSON, or whatever else has a deserializer: any manifest in, the projection out.
//!
//! Reading follows the API (`sigs.k8s.io/json`): unknown keys are skipped, names are compared exactly, and null is the zero
//! value, also in a list. A value of the wrong type is an error, as it is there. [`Strict`] makes an unknown key an error.
//!
//! There is one visitor for all types, which sees them as [`Object`]s: derived code for each would be a tenth of a small
//! program that reads pods.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::{Annotations, Container, Port, Profile, Sysctl, Volume, VolumeDevice, VolumeMount, is_read};

/// Reads a type so that a key which it does not know is an error, at every depth. The keys of volumes' sources are known,
/// whatever they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strict<T>(pub T);

impl<'de, T: Object + Default> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = T::default();
        Reader { object: &mut object, strict: true }.deserialize(deserializer)?;
        Ok(Self(object))
    }
}

impl<T: Serialize> Serialize for Strict<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Reading has failed. The error is kept where its type is known.
pub struct Stop;

/// One value, whatever it is read from. Null is `None` or `false`.
pub trait Source {
    /// A boolean.
    fn bool(&mut self) -> Result<Option<bool>, Stop>;
    /// A whole number.
    fn i64(&mut self) -> Result<Option<i64>, Stop>;
    /// One that fits 32 bits.
    fn i32(&mut self) -> Result<Option<i32>, Stop>;
    /// A string.
    fn string(&mut self) -> Result<Option<String>, Stop>;
    /// An object.
    fn object(&mut self, object: &mut dyn Object) -> Result<bool, Stop>;
    /// A list.
    fn list(&mut self, list: &mut dyn List) -> Result<(), Stop>;
    /// Anything, which is thrown away.
    fn anything(&mut self) -> Result<bool, Stop>;
}

/// What is read from an object of JSON.
pub trait Object {
    /// Reads the value of a key, and says under which name; `None` if the key is not known, and nothing was read.
    fn read(&mut self, key: &str, value: &mut dyn Source) -> Result<Option<&'static str>, Stop>;

    /// What is expected in its place.
    fn expecting(&self) -> &'static str {
        "an object"
    }
}

/// What is read from a list of JSON.
pub trait List {
    /// Reads one item.
    fn read(&mut self, value: &mut dyn Source) -> Result<(), Stop>;
}

/// What a value is read into.
pub(super) trait Field {
    /// Reads it; null is the default.
    fn read(&mut self, value: &mut dyn Source) -> Result<(), Stop>;
}

macro_rules! fields {
    ($($type:ty: $value:ident => $read:expr,)*) => {$(
        impl Field for $type {
            fn read(&mut self, $value: &mut dyn Source) -> Result<(), Stop> {
                *self = $read;
                Ok(())
            }
        }
    )*};
}

fields! {
    bool: value => value.bool()?.unwrap_or_default(),
    i32: value => value.i32()?.unwrap_or_default(),
    String: value => value.string()?.unwrap_or_default(),
    Option<bool>: value => value.bool()?,
    Option<i64>: value => value.i64()?,
    Option<String>: value => value.string()?,
    Option<Profile>: value => {
        let mut profile = Profile::default();
        value.object(&mut profile)?.then_some(profile)
    },
}

impl<T: Object + Default> Field for T {
    fn read(&mut self, value: &mut dyn Source) -> Result<(), Stop> {
        value.object(self).map(drop)
    }
}

impl<T: Item> Field for Vec<T> {
    fn read(&mut self, value: &mut dyn Source) -> Result<(), Stop> {
        value.list(self)
    }
}

/// What a list can hold.
pub(super) trait Item: Field + Default {
    /// Whether it tells anything.
    fn counts(&self) -> bool {
        true
    }
}

impl Item for Container {}
impl Item for String {}
impl Item for Sysctl {}
impl Item for Volume {}
impl Item for VolumeDevice {}
impl Item for VolumeMount {}
impl Item for Port {
    fn counts(&self) -> bool {
        self.host_port != 0
    }
}

impl<T: Item> List for Vec<T> {
    fn read(&mut self, value: &mut dyn Source) -> Result<(), Stop> {
        let mut item = T::default();
        Field::read(&mut item, value)?;
        if item.counts() {
            self.push(item);
        }
        Ok(())
    }
}

impl Object for Annotations {
    fn read(&mut self, key: &str, value: &mut dyn Source) -> Result<Option<&'static str>, Stop> {
        // What others keep there can be as large as the object.
        if !is_read(key) {
            return Ok(None);
        }
        let text = value.string()?.unwrap_or_default();
        self.insert(key.into(), text);
        Ok(Some(""))
    }

    fn expecting(&self) -> &'static str {
        "annotations"
    }
}

impl Object for Volume {
    fn read(&mut self, key: &str, value: &mut dyn Source) -> Result<Option<&'static str>, Stop> {
        if key == "name" {
            Field::read(&mut self.name, value)?;
            return Ok(Some("name"));
        }
        if value.anything()? {
            self.sources.push(key.into());
        }
        Ok(Some(""))
    }

    fn expecting(&self) -> &'static str {
        "a volume"
    }
}

/// Reads an object.
struct Reader<'o> {
    object: &'o mut dyn Object,
    strict: bool,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.object.expecting())
    }

    fn visit_none<E>(self) -> Result<bool, E> {
        Ok(false)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut seen: Vec<&'static str> = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            let mut value = Value { from: Entry(&mut map), strict: self.strict, error: None };
            match self.object.read(&key, &mut value) {
                Err(Stop) => return Err(value.error.unwrap_or_else(|| A::Error::custom("unreadable"))),
                Ok(None) if self.strict => return Err(A::Error::custom(format!("unknown field `{key}`"))),
                Ok(None) => drop(map.next_value::<IgnoredAny>()?),
                // Keys of maps and sources of volumes have no name of their own.
                Ok(Some("")) => {}
                Ok(Some(name)) if seen.contains(&name) => {
                    return Err(A::Error::custom(format!("duplicate field `{name}`")));
                }
                Ok(Some(name)) => seen.push(name),
            }
        }
        Ok(true)
    }
}

/// Reads a list.
struct ListReader<'l> {
    list: &'l mut dyn List,
    strict: bool,
}

impl<'de> DeserializeSeed<'de> for ListReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for ListReader<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(ItemReader { list: &mut *self.list, strict: self.strict })?.is_some() {}
        Ok(())
    }
}

/// Reads one item of a list.
struct ItemReader<'l> {
    list: &'l mut dyn List,
    strict: bool,
}

impl<'de> DeserializeSeed<'de> for ItemReader<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let mut value = Value { from: Whole(Some(deserializer)), strict: self.strict, error: None };
        match self.list.read(&mut value) {
            Ok(()) => Ok(()),
            Err(Stop) => Err(value.error.unwrap_or_else(|| D::Error::custom("unreadable"))),
        }
    }
}

/// Where one value comes from.
trait From<'de> {
    type Error: Error;

    fn read<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Self::Error>;
}

/// The value of a key.
struct Entry<'a, A>(&'a mut A);

impl<'de, A: MapAccess<'de>> From<'de> for Entry<'_, A> {
    type Error = A::Error;

    fn read<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// A deserializer, once.
struct Whole<D>(Option<D>);

impl<'de, D: Deserializer<'de>> From<'de> for Whole<D> {
    type Error = D::Error;

    fn read<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, D::Error> {
        match self.0.take() {
            Some(deserializer) => seed.deserialize(deserializer),
            None => Err(D::Error::custom("a value is read twice")),
        }
    }
}

/// A value, and the error that stopped it.
struct Value<F, E> {
    from: F,
    strict: bool,
    error: Option<E>,
}

impl<'de, F: From<'de>> Value<F, F::Error> {
    fn keep<T>(&mut self, read: Result<T, F::Error>) -> Result<T, Stop> {
        read.map_err(|error| {
            self.error = Some(error);
            Stop
        })
    }

    fn plain<T: Deserialize<'de>>(&mut self) -> Result<T, Stop> {
        let read = self.from.read(core::marker::PhantomData);
        self.keep(read)
    }
}

impl<'de, F: From<'de>> Source for Value<F, F::Error> {
    fn bool(&mut self) -> Result<Option<bool>, Stop> {
        self.plain()
    }

    fn i64(&mut self) -> Result<Option<i64>, Stop> {
        self.plain()
    }

    fn i32(&mut self) -> Result<Option<i32>, Stop> {
        self.plain()
    }

    fn string(&mut self) -> Result<Option<String>, Stop> {
        self.plain()
    }

    fn object(&mut self, object: &mut dyn Object) -> Result<bool, Stop> {
        let read = self.from.read(Reader { object, strict: self.strict });
        self.keep(read)
    }

    fn list(&mut self, list: &mut dyn List) -> Result<(), Stop> {
        let read = self.from.read(ListReader { list, strict: self.strict });
        self.keep(read)
    }

    fn anything(&mut self) -> Result<bool, Stop> {
        let value: Option<IgnoredAny> = self.plain()?;
        Ok(value.is_some())
    }
}

/// Reads and writes a type: a default is not written.
macro_rules! object {
    ($name:ident, $($field:ident = $key:literal),*) => {
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let mut object = Self::default();
                json::read(&mut object, deserializer)?;
                Ok(object)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(None)?;
                $(if !json::is_default(&self.$field) {
                    map.serialize_entry($key, &self.$field)?;
                })*
                map.end()
            }
        }
    };
}
pub(super) use object;

/// Reads an object, unknown keys skipped.
pub(super) fn read<'de, D: Deserializer<'de>>(
    object: &mut dyn Object,
    deserializer: D,
) -> Result<(), D::Error> {
    Reader { object, strict: false }.deserialize(deserializer).map(drop)
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
    use crate::pod::{Manifest, Pod, Strict};

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
                    {"hostPort": 443, "protocol": "TCP"}], "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "x"}],
                    "volumeDevices": [{"name": "w", "devicePath": "/w"}]}]}}"#,
                r#"{"spec":{"initContainers":[{}],"containers":[{"ports":[{"hostPort":443}],"volumeMounts":[{"name":"v","mountPath":"/v"}],"volumeDevices":[{"name":"w","devicePath":"/w"}]}]}}"#,
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
            (r#"{"spec": []}"#, "expected an object"),
            (r#"{"spec": {"volumes": ["x"]}}"#, "expected a volume"),
            (r#"{"metadata": {"annotations": []}}"#, "expected annotations"),
            (r#"{"spec": {"hostNetwork": true, "hostNetwork": false}}"#, "duplicate field `hostNetwork`"),
        ] {
            let said = read(manifest).unwrap_err().to_string();
            assert!(said.contains(error) && said.contains(" at line 1 column "), "{manifest}: {said}");
        }
    }
    #[test]
    fn what_is_read_strictly_has_no_key_that_nobody_knows() {
        let strict = |json: &str| serde_json::from_str::<Strict<Pod>>(json).map(|Strict(pod)| pod);
        let known = r#"{"spec":{"hostPID":true,"containers":[{"name":"app","securityContext":{"privileged":true}}],
            "volumes":[{"name":"v","newer":{"x":1}}]}}"#;
        assert_eq!(strict(known).unwrap(), serde_json::from_str::<Pod>(known).unwrap());
        assert_ne!(strict(known).unwrap(), Pod::default());
        for unknown in [
            r#"{"x":1}"#,
            r#"{"spec":{"x":1}}"#,
            r#"{"spec":{"containers":[{"x":1}]}}"#,
            r#"{"spec":{"containers":[{"securityContext":{"x":1}}]}}"#,
        ] {
            let said = strict(unknown).unwrap_err().to_string();
            assert!(said.starts_with("unknown field `x`"), "{unknown}: {said}");
            assert!(serde_json::from_str::<Pod>(unknown).is_ok(), "{unknown}");
        }
    }
}
