//! Remembers the sandboxes of a node for a scan: each is read once for all containers of its pod.
//!
//! A sandbox is known by its file, and not by its name, which is the container's word: whoever asks has looked at the file
//! that it is about to believe, and [`same_pod`](super::same_pod) is asked of every container.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::spec::Spec;

/// Sandboxes that were read, by their files.
#[derive(Debug, Default)]
pub struct Sandboxes(RefCell<HashMap<Mark, Rc<Spec<'static>>>>);

/// What tells a file from every other one, and from itself before it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Mark {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// Larger files are read each time, in bytes: those of engines are a quarter of it at most.
const LARGEST: u64 = 64 << 10;

/// So many are kept, more than a node has pods; what they hold is bounded by both.
const MOST: usize = 1024;

/// File systems stamp in ticks of the kernel's clock, at most 10 ms. What changed just now may change again and look the
/// same.
const SETTLED: Duration = Duration::from_millis(50);

impl Sandboxes {
    /// What a sandbox said whose file this is.
    #[must_use]
    pub fn get(&self, file: &Metadata) -> Option<Rc<Spec<'static>>> {
        self.0.borrow().get(&Mark::of(file)).cloned()
    }

    /// Keeps what a file says that was read after its metadata.
    pub fn keep(&self, file: &Metadata, spec: &Spec<'_>) {
        let (seconds, rest) = (u64::try_from(file.ctime()).ok(), u32::try_from(file.ctime_nsec()).ok());
        let changed = seconds.zip(rest).map(|(seconds, rest)| Duration::new(seconds, rest));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
        let age = now.zip(changed).and_then(|(now, changed)| now.checked_sub(changed));
        if file.len() > LARGEST || age.is_none_or(|age| age < SETTLED) {
            return;
        }
        let (mark, mut known) = (Mark::of(file), self.0.borrow_mut());
        if known.len() < MOST && !known.contains_key(&mark) {
            known.insert(mark, Rc::new(spec.of_pod()));
        }
    }

    /// The sandbox of every container, without a file: fuzzing opens none.
    #[cfg(fuzzing)]
    #[must_use]
    pub fn of_every_container(spec: Option<&Spec<'_>>) -> Self {
        let mark = Mark { file: (0, 0), size: 0, modified: (0, 0), changed: (0, 0) };
        Self(RefCell::new(spec.map(|spec| (mark, Rc::new(spec.of_pod()))).into_iter().collect()))
    }

    #[cfg(fuzzing)]
    pub(super) fn any(&self) -> Option<Rc<Spec<'static>>> {
        self.0.borrow().values().next().cloned()
    }
}

impl Mark {
    fn of(file: &Metadata) -> Self {
        Self {
            file: (file.dev(), file.ino()),
            size: file.len(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::{SETTLED, Sandboxes};
    use crate::inspect::spec::Spec;

    fn text(namespace: &str) -> String {
        format!(r#"{{"annotations":{{"io.kubernetes.cri.sandbox-namespace":"{namespace}"}}}}"#)
    }

    fn known(sandboxes: &Sandboxes, path: &Path) -> Option<String> {
        let spec = sandboxes.get(&fs::metadata(path).unwrap())?;
        spec.annotations.as_ref()?.get("io.kubernetes.cri.sandbox-namespace").map(ToOwned::to_owned)
    }

    fn keep(sandboxes: &Sandboxes, path: &Path) {
        let (metadata, text) = (fs::metadata(path).unwrap(), fs::read_to_string(path).unwrap());
        sandboxes.keep(&metadata, &serde_json::from_str::<Spec<'_>>(&text).unwrap());
    }

    #[test]
    fn a_sandbox_is_known_by_its_file_as_long_as_that_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        // As long as each other, and as old.
        fs::write(&one, text("shop")).unwrap();
        fs::write(&other, text("bank")).unwrap();
        let sandboxes = Sandboxes::default();
        let then = fs::metadata(&one).unwrap().modified().unwrap();
        fs::File::options().write(true).open(&other).unwrap().set_modified(then).unwrap();
        std::thread::sleep(2 * SETTLED);
        keep(&sandboxes, &one);
        assert_eq!(known(&sandboxes, &one).as_deref(), Some("shop"));
        assert_eq!(known(&sandboxes, &other), None);
        keep(&sandboxes, &other);
        assert_eq!(known(&sandboxes, &other).as_deref(), Some("bank"));
        assert_eq!(known(&sandboxes, &one).as_deref(), Some("shop"));
        // Written again in its place, with the old time.
        fs::write(&one, text("evil")).unwrap();
        fs::File::options().write(true).open(&one).unwrap().set_modified(then).unwrap();
        assert_eq!(known(&sandboxes, &one), None);
        // What was written just now may be written again.
        keep(&sandboxes, &one);
        assert_eq!(known(&sandboxes, &one), None);
    }

    #[test]
    fn what_is_large_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        fs::write(&file, text("shop") + &" ".repeat(super::LARGEST.try_into().unwrap())).unwrap();
        std::thread::sleep(2 * SETTLED);
        let sandboxes = Sandboxes::default();
        keep(&sandboxes, &file);
        assert_eq!(known(&sandboxes, &file), None);
    }
}
