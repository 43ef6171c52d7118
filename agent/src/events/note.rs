//! What a Kubernetes Event says of an event of the gate. Pure: text in, text out.

use serde::Deserialize;

/// The longest note, in bytes (Kubernetes `pkg/apis/core/validation/events.go` NoteLengthLimit).
pub(super) const NOTE: usize = 1024;

/// What the gate wrote: the fields of `pss_guard_core::record` that are read here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    pub(super) micros: String,
    #[serde(rename = "MESSAGE_ID")]
    pub(super) message_id: String,
    #[serde(rename = "PSS_LEVEL")]
    pub(super) level: String,
    #[serde(rename = "PSS_VERSION")]
    pub(super) version: String,
    #[serde(rename = "PSS_CONTROLS")]
    pub(super) controls: String,
    #[serde(rename = "PSS_FINDINGS")]
    pub(super) findings: String,
    #[serde(rename = "PSS_EXEC")]
    pub(super) exec: String,
    #[serde(rename = "PSS_NAMESPACE")]
    pub(super) namespace: String,
    #[serde(rename = "PSS_POD")]
    pub(super) pod: String,
    #[serde(rename = "PSS_POD_UID")]
    pub(super) pod_uid: String,
    #[serde(rename = "PSS_CONTAINER")]
    pub(super) container: String,
}

#[derive(Debug, Deserialize)]
struct Finding {
    control: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    fix: String,
    #[serde(default)]
    exception: Option<String>,
}

/// For whom a note is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Whoever describes the pod.
    Pod,
    /// Whoever describes its workload, and so needs the pod's name.
    Owner,
}

/// The note: which level is violated and by what, the first fix, and where to read more.
pub(super) fn note(record: &Record, reader: Reader) -> String {
    // The gate cuts its JSON at whole findings; what is no JSON is not its own.
    let findings: Vec<Finding> = serde_json::from_str(&record.findings).unwrap_or_default();
    let findings: Vec<&Finding> = findings.iter().filter(|finding| finding.exception.is_none()).collect();
    let what: Vec<String> = findings.iter().map(|finding| said(finding)).collect();
    let what = if what.is_empty() { record.controls.replace(',', ", ") } else { what.join(", ") };
    let pod = match (reader, &*record.container) {
        (Reader::Pod, _) => String::new(),
        (Reader::Owner, "") => format!("pod {:?}: ", record.pod),
        (Reader::Owner, _) => format!("pod {:?}, ", record.pod),
    };
    let container = match (&*record.container, &*record.exec) {
        ("", _) => String::new(),
        (container, "1") => format!("exec in container {container:?}: "),
        (container, _) => format!("container {container:?}: "),
    };
    let head =
        format!("{pod}{container}violates PodSecurity \"{}:{}\": {what}", record.level, record.version);
    let fixed = findings.iter().find(|finding| !finding.fix.is_empty());
    let first = record.controls.split(',').next().unwrap_or_default();
    let control = fixed.map_or(first, |finding| &finding.control);
    let more = if control.is_empty() { String::new() } else { format!("; see pss-guard explain {control}") };
    let fix = fixed.map_or(String::new(), |finding| format!("; fix: {}", one_line(&finding.fix)));
    // The way out must not be what is cut.
    let tail = if fix.len() + more.len() <= NOTE / 2 { fix + &more } else { more };
    cut(&head, NOTE.saturating_sub(tail.len())) + &tail
}

fn said(finding: &Finding) -> String {
    let Finding { reason, detail, control, .. } = finding;
    match (&**reason, &**detail) {
        ("", _) => control.clone(),
        (reason, "") => reason.to_owned(),
        (reason, detail) => format!("{reason} ({detail})"),
    }
}

/// Lines of YAML as YAML in one line can say them: what is nested is joined by dots.
fn one_line(yaml: &str) -> String {
    let mut path: Vec<(usize, &str)> = Vec::new();
    let mut said = Vec::new();
    for line in yaml.lines() {
        let key = line.trim_start();
        let depth = line.len() - key.len();
        path.retain(|(above, _)| *above < depth);
        if let Some(key) = key.strip_suffix(':') {
            path.push((depth, key));
        } else {
            let above: Vec<&str> = path.iter().map(|(_, key)| *key).chain([key]).collect();
            said.push(above.join("."));
        }
    }
    said.join(", ")
}

/// A text of at most so many bytes, cut between characters.
fn cut(text: &str, most: usize) -> String {
    const MORE: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub(MORE.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned() + MORE
}

#[cfg(test)]
mod tests {
    use super::{NOTE, Reader, Record, cut, one_line};

    fn note(record: &Record) -> String {
        super::note(record, Reader::Pod)
    }

    fn record(findings: &str) -> Record {
        Record {
            level: "restricted".into(),
            version: "latest".into(),
            controls: "runAsNonRoot,hostPorts".into(),
            findings: findings.into(),
            container: "app".into(),
            ..Record::default()
        }
    }

    #[test]
    fn a_note_says_what_is_wrong_the_first_fix_and_where_to_read_more() {
        let findings = r#"[{"control":"hostPorts","reason":"hostPort","detail":"container \"app\" uses hostPort 80","fix":""},
            {"control":"runAsNonRoot","reason":"runAsNonRoot != true","detail":"","fix":"securityContext:\n  runAsNonRoot: true\n"},
            {"control":"sysctls","reason":"forbidden sysctls","detail":"","fix":"x: y","exception":"agreed"}]"#;
        assert_eq!(
            note(&record(findings)),
            "container \"app\": violates PodSecurity \"restricted:latest\": hostPort (container \"app\" uses hostPort 80), \
             runAsNonRoot != true; fix: securityContext.runAsNonRoot: true; see pss-guard explain runAsNonRoot"
        );
        let plain = "container \"app\": violates PodSecurity \"restricted:latest\": runAsNonRoot, hostPorts; \
                     see pss-guard explain runAsNonRoot";
        for none in ["", "[]", "{", "[1]"] {
            assert_eq!(note(&record(none)), plain, "{none:?}");
        }
    }

    #[test]
    fn an_owner_is_told_which_of_its_pods_it_is() {
        let record = Record { pod: "db-0".into(), ..record("") };
        let told = super::note(&record, Reader::Owner);
        assert!(told.starts_with("pod \"db-0\", container \"app\": violates PodSecurity"), "{told}");
        let sandbox = super::note(&Record { container: String::new(), ..record }, Reader::Owner);
        assert!(sandbox.starts_with("pod \"db-0\": violates PodSecurity"), "{sandbox}");
    }

    #[test]
    fn no_note_is_longer_than_the_api_server_takes_and_the_way_out_stays() {
        for length in [10, 500, 900, 1100, 5000] {
            for letter in ["x", "ä", "𝄞"] {
                let long = letter.repeat(length);
                let findings = format!(
                    r#"[{{"control":"sysctls","reason":"{long}","detail":"{long}","fix":"{long}: {long}"}}]"#
                );
                let note = note(&record(&findings));
                assert!(note.len() <= NOTE, "{}", note.len());
                assert!(note.ends_with("; see pss-guard explain sysctls"), "{note}");
            }
        }
        // Every length up to the limit and beyond it: whole as long as it fits, and cut between characters.
        for length in 1..600 {
            let long = "ä".repeat(length);
            let finding = format!(r#"[{{"control":"sysctls","reason":"{long}"}}]"#);
            let note = note(&record(&finding));
            let is_whole = note.contains(&format!(": {long}; see"));
            assert!(note.len() <= NOTE && is_whole != note.contains('…'), "{length}: {note}");
            assert!(is_whole || note.len() >= NOTE - 2, "{length}: {}", note.len());
        }
        assert_eq!(cut("äöü", 5), "ä…");
        assert_eq!(cut("äöü", 2), "…");
    }

    #[test]
    fn yaml_becomes_paths() {
        let yaml =
            "securityContext:\n  capabilities:\n    drop: [ALL]\n  runAsNonRoot: true\nhostNetwork: false\n";
        let expected = "securityContext.capabilities.drop: [ALL], securityContext.runAsNonRoot: true, hostNetwork: false";
        assert_eq!(one_line(yaml), expected);
        assert_eq!(one_line(""), "");
    }
}
