//! Renders a finding's fix on one line: its YAML as paths, `securityContext.runAsUser: 1000`.

/// The fields of a fix that is a line or two. A volume is not replaced in that.
#[must_use]
pub fn short(fix: &str) -> Option<Vec<String>> {
    // An option of who started it by hand is one line already.
    if ["docker run ", "podman run "].iter().any(|begins| fix.starts_with(begins)) {
        return Some(vec![fix.replace("   #", " #")]);
    }
    let fields = fields(fix);
    let of_volumes = |field: &String| field.contains("volumeMounts.") || field.contains("spec.volumes.");
    (matches!(fields.len(), 1 | 2) && !fields.iter().any(of_volumes)).then_some(fields)
}

/// The fields that a fix sets, one a line, as paths from the container, or from the pod where they are the pod's.
fn fields(fix: &str) -> Vec<String> {
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut fields = Vec::new();
    for line in fix.lines() {
        let text = line.trim_start_matches([' ', '-']);
        let indent = line.len() - text.len();
        while path.last().is_some_and(|(outer, _)| *outer >= indent) {
            path.pop();
        }
        // A key is what our own controls wrote: without blanks, and never quoted.
        let (key, value) = text.split_once(':').unwrap_or((text, ""));
        if value.is_empty() {
            path.push((indent, key));
        } else if !is_name(line) {
            let of_container = path.iter().any(|(_, key)| *key == "containers");
            let is_said = |key: &&str| *key != "containers" && !(of_container && *key == "spec");
            let mut whole = String::with_capacity(text.len() + 64);
            for key in path.iter().map(|(_, key)| *key).filter(is_said) {
                whole.push_str(key);
                whole.push('.');
            }
            whole.push_str(text);
            // A comment stands apart in a file, and close in a sentence.
            fields.push(if whole.contains('#') { whole.replace("   #", " #") } else { whole });
        }
    }
    fields
}

/// `- name: app` says where a field belongs, and is none to set.
fn is_name(line: &str) -> bool {
    line.trim_start().starts_with("- name:")
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn a_fix_is_the_fields_that_it_sets() {
        let of_container = |lines: &str| format!("spec:\n  containers:\n  - name: \"a: b\"\n{lines}");
        let rows = [
            (
                of_container("    securityContext:\n      allowPrivilegeEscalation: false"),
                vec!["securityContext.allowPrivilegeEscalation: false"],
            ),
            (
                of_container("    securityContext:\n      seccompProfile:\n        type: RuntimeDefault"),
                vec!["securityContext.seccompProfile.type: RuntimeDefault"],
            ),
            (
                of_container(
                    "    securityContext:\n      runAsUser: 1000   # any but 0\n      runAsNonRoot: true",
                ),
                vec!["securityContext.runAsUser: 1000 # any but 0", "securityContext.runAsNonRoot: true"],
            ),
            (
                of_container("    ports: []   # or without hostPort 80"),
                vec!["ports: [] # or without hostPort 80"],
            ),
            (
                "spec:\n  hostNetwork: false\n  hostIPC: false".to_owned(),
                vec!["spec.hostNetwork: false", "spec.hostIPC: false"],
            ),
            (
                "spec:\n  securityContext:\n    sysctls: []   # without \"x\"".to_owned(),
                vec!["spec.securityContext.sysctls: [] # without \"x\""],
            ),
            (String::new(), vec![]),
        ];
        for (fix, expected) in rows {
            assert_eq!(fields(&fix), expected, "{fix}");
        }
    }
}
