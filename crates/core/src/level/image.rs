//! Compares an image reference of the policy with what an engine says a container was made from.
//!
//! The parts are those of `distribution/reference` (`reference.go`, `normalize.go`): a repository with its registry, a
//! tag, a digest. What leaves out the registry is Docker Hub's, as containerd resolves it.

/// An image by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reference<'a> {
    /// The registry; `None` where the name leaves it out.
    registry: Option<&'a str>,
    /// The rest of the repository's name.
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    fn of(text: &'a str) -> Self {
        let (text, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash is a port's.
        let (name, tag) = match text.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (text, None),
        };
        let (registry, path) = match name.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (Some(first), rest),
            _ => (None, name),
        };
        Self { registry, path, tag, digest }
    }

    fn repository(&self) -> (&'a str, &'static str, &'a str) {
        let registry = match self.registry {
            None | Some("index.docker.io") => "docker.io",
            Some(registry) => registry,
        };
        let official = registry == "docker.io" && !self.path.contains('/');
        (registry, if official { "library/" } else { "" }, self.path)
    }
}

/// Whether an engine's name for an image is `wanted`: the same repository, and what `wanted` says of tag and digest.
pub(super) fn is(wanted: &str, image: &str) -> bool {
    let (wanted, image) = (Reference::of(wanted), Reference::of(image));
    let (registry, library, path) = wanted.repository();
    let (own_registry, own_library, own_path) = image.repository();
    // Beside a digest a tag says nothing: engines go by the digest alone, whatever the tag says.
    let tag = if image.digest.is_some() { None } else { image.tag.or(Some("latest")) };
    registry == own_registry
        && library.bytes().chain(path.bytes()).eq(own_library.bytes().chain(own_path.bytes()))
        && match (wanted.tag, wanted.digest) {
            (_, Some(digest)) => image.digest == Some(digest),
            (Some(wanted), None) => tag == Some(wanted),
            (None, None) => true,
        }
}

/// Whether a text of the policy names an image, with its registry.
pub(super) fn is_whole(text: &str) -> bool {
    let Reference { registry, path, tag, digest } = Reference::of(text);
    let plain = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    registry.is_some_and(|registry| plain(registry, b".:-[]"))
        && plain(path, b"._-/")
        && path.split('/').all(|part| !part.is_empty())
        && !path.bytes().any(|byte| byte.is_ascii_uppercase())
        && tag.is_none_or(|tag| plain(tag, b"._-"))
        && digest.is_none_or(|digest| {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        })
}

#[cfg(test)]
mod tests {
    use super::{is, is_whole};

    const SUM: &str = "sha256:2a0f9c3f5c1d8c4f7e0b1a2d3c4b5a69788796a5b4c3d2e1f00112233445566a";

    #[test]
    fn an_image_is_the_one_that_is_named_and_no_other() {
        let (digest, other) =
            (format!("quay.io/a/b@{SUM}"), format!("quay.io/a/b@{}", SUM.replace("2a", "3a")));
        let both = format!("quay.io/a/b:v1@{SUM}");
        let rows: &[(&str, &str, bool)] = &[
            ("quay.io/a/b", "quay.io/a/b", true),
            ("quay.io/a/b", "quay.io/a/b:v1", true),
            ("quay.io/a/b", &digest, true),
            ("quay.io/a/b", &both, true),
            ("quay.io/a/b", "quay.io/a/b/c", false),
            ("quay.io/a/b", "quay.io/a/bc", false),
            ("quay.io/a/b", "quay.io/a/c", false),
            ("quay.io/a/b", "quay.io/a", false),
            ("quay.io/a/b", "evil.io/quay.io/a/b", false),
            ("quay.io/a/b", "quay.io:443/a/b", false),
            ("quay.io/a/b", "a/b", false),
            ("quay.io/a/b", "", false),
            ("quay.io/a/b:v1", "quay.io/a/b:v1", true),
            ("quay.io/a/b:v1", &both, false),
            ("quay.io/a/b:v1", "quay.io/a/b:v10", false),
            ("quay.io/a/b:v1", "quay.io/a/b", false),
            ("quay.io/a/b:v1", &digest, false),
            ("quay.io/a/b:latest", "quay.io/a/b", true),
            ("quay.io/a/b:latest", &digest, false),
            (&digest, &digest, true),
            (&digest, &both, true),
            (&digest, &other, false),
            (&digest, "quay.io/a/b:v1", false),
            (&both, &digest, true),
            (&both, "quay.io/a/b:v1", false),
            (&both, &other, false),
            // A registry's port is no tag.
            ("reg:5000/a", "reg:5000/a:v1", true),
            ("reg.io/a", "reg.io:5000/a", false),
            ("reg.io/a", "reg.io/a:5000/evil", false),
            // What people call it on Docker Hub.
            ("docker.io/library/nginx", "nginx", true),
            ("docker.io/library/nginx:latest", "nginx", true),
            ("docker.io/library/nginx", "docker.io/nginx:1", true),
            ("docker.io/library/nginx", "index.docker.io/library/nginx", true),
            ("docker.io/library/nginx", "library/nginx:1", true),
            ("docker.io/library/nginx", "evil/nginx", false),
            ("docker.io/me/nginx", "me/nginx", true),
            ("docker.io/library/nginx", "localhost/nginx", false),
            ("docker.io/library/nginx", "localhost/library/nginx", false),
            ("localhost/app", "localhost/app:1", true),
        ];
        for (wanted, image, expected) in rows {
            assert_eq!(is(wanted, image), *expected, "{wanted} {image}");
        }
    }

    #[test]
    fn the_policy_names_whole_images() {
        let digest = format!("quay.io/a/b@{SUM}");
        for text in
            ["quay.io/a/b", "quay.io/a/b:v1.2_3-x", "localhost/app:1", "reg:5000/a", "[::1]:5000/a", &digest]
        {
            assert!(is_whole(text), "{text}");
        }
        let short = digest.get(..digest.len() - 1).unwrap();
        for text in [
            "",
            "nginx",
            "a/b",
            "quay.io",
            "quay.io/",
            "quay.io//b",
            "quay.io/a/b:",
            "quay.io/a/b@",
            "quay.io/a/*",
            "quay.io/a/b:*",
            "quay.io/a b",
            "quay.io/A/b",
            "quay.io/a/b@sha256",
            "quay.io/a/b@md5:00",
            "quay.io/a/b ",
            "*",
            "quay.io/a\n/b",
            short,
            &digest.to_ascii_uppercase().replace("QUAY.IO/A/B@SHA", "quay.io/a/b@sha"),
        ] {
            assert!(!is_whole(text), "{text:?}");
        }
    }
}
