//! What the kernel tells of changes in a folder.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;

/// Waits for changes in one folder, or of one file. The runtime reads what the kernel tells of them as it reads a pipe.
pub(super) struct Changes(Receiver);

impl Changes {
    /// From now on.
    pub(super) fn of(place: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // Whole files, names that come and go, and the folder itself.
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        inotify.add_watch(place, changes)?;
        Receiver::from_file_unchecked(File::from(OwnedFd::from(inotify))).map(Self)
    }

    /// Waits for a change; for ever where none is told.
    pub(super) async fn any(changes: Option<&Self>) {
        let Some(Self(told)) = changes else { return std::future::pending().await };
        // Which change it was does not matter, and it is asked anew after the first.
        if told.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::Changes;

    #[tokio::test]
    async fn every_change_of_a_name_or_a_file_is_told_and_reading_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let told = async |change: &dyn Fn(), patience: u64| {
            let changes = Changes::of(folder.path()).unwrap();
            change();
            timeout(Duration::from_millis(patience), Changes::any(Some(&changes))).await.is_ok()
        };
        let rows: [(&str, &dyn Fn()); 4] = [
            ("a new file", &|| fs::write(&one, "1").unwrap()),
            ("a file that changes", &|| fs::write(&one, "2").unwrap()),
            ("another name", &|| fs::rename(&one, &two).unwrap()),
            ("one that goes", &|| fs::remove_file(&two).unwrap()),
        ];
        for (what, change) in rows {
            assert!(told(change, 60_000).await, "{what}");
        }
        let look = || assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(!told(&look, 100).await);
        assert!(Changes::of(&one).is_err());
    }
}
