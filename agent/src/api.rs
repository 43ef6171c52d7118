//! Which identity asks the API server for what, and when it is read again.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use pss_guard_core::files::{self, FileError};

use crate::options::{PodsAs, Run};

/// The largest kubeconfig, certificate, key or token that is read, in bytes; a kubeconfig with all of them inline has some 10 KiB.
const LIMIT: u64 = 1 << 20;

/// Who may write besides the owner, in a mode.
const OTHERS: u32 = 0o022;

/// The clients of the API server. Client certificates are read once, so whoever sees that a file of [`Self::files`] has
/// changed connects again. Tokens and CAs of a ServiceAccount are read by kube-rs itself whenever they change.
pub(crate) struct Api {
    /// As itself: namespaces, the version, events.
    pub(crate) own: Client,
    /// As the node: pods.
    pub(crate) pods: Client,
    /// The files of the identity, and when they were changed last.
    files: Vec<(PathBuf, Option<SystemTime>)>,
}

/// Why the API server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// The kubeconfig cannot be used.
    #[error("use {}", .0.display())]
    Kubeconfig(PathBuf, #[source] Box<KubeconfigError>),
    /// It, or a file that it names, is none that can be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Others own it or can write to it.
    #[error(
        "{0} is owned by uid {uid} and has the mode {mode:04o}: who can write to a kubeconfig can have the agent run any program; \
         chown {owner} {0} && chmod 600 {0}",
        .path.display()
    )]
    Foreign {
        /// The kubeconfig.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// Its permissions.
        mode: u32,
        /// Who should own it.
        owner: String,
    },
    /// This is no pod.
    #[error("this is no pod with a ServiceAccount; name a kubeconfig with --kubeconfig")]
    InCluster(#[from] kube::config::InClusterError),
    /// The identity cannot be used.
    #[error("use the identity")]
    Client(#[from] Box<kube::Error>),
}

impl Api {
    /// Reads the identity. Nothing is asked yet.
    pub(crate) async fn connect(options: &Run) -> Result<Self, ApiError> {
        let Some(path) = &options.kubeconfig else {
            return Self::of(Config::incluster()?, options, Vec::new());
        };
        let fault = |error| ApiError::Kubeconfig(path.clone(), Box::new(error));
        // kube-rs reads whatever it is named, and would wait for a FIFO for ever.
        let (_, metadata) = files::open(path, LIMIT)?;
        check_owner(path, &metadata, own_uid())?;
        let kubeconfig = Kubeconfig::read_from(path).map_err(fault)?;
        named(&kubeconfig).try_for_each(check_named)?;
        let users = kubeconfig.auth_infos.iter().filter_map(|user| user.auth_info.as_ref());
        let own = users.flat_map(|user| [&user.client_certificate, &user.client_key]).flatten();
        // Before the certificates are read: what changes meanwhile is seen as a change.
        let files = own.map(PathBuf::from).chain([path.clone()]).map(|path| (path.clone(), changed(&path)));
        let files = files.collect();
        let chosen = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &chosen).await.map_err(fault)?;
        Self::of(config, options, files)
    }

    fn of(
        config: Config,
        options: &Run,
        files: Vec<(PathBuf, Option<SystemTime>)>,
    ) -> Result<Self, ApiError> {
        let client = |config: Config| Client::try_from(config).map_err(Box::new);
        let mut of_node = config.clone();
        if options.kubeconfig.is_none() && options.pods_as == PodsAs::Node {
            // KEP-5284: a ServiceAccount may act as the node that its token is bound to.
            of_node.auth_info.impersonate = Some(format!("system:node:{}", options.node_name));
        }
        Ok(Self { own: client(config)?, pods: client(of_node)?, files })
    }

    /// Whether the identity on the disk is another one by now: the kubelet has a new certificate.
    pub(crate) fn is_stale(&self) -> bool {
        self.files.iter().any(|(path, then)| changed(path) != *then)
    }
}

/// Whether nobody but root and the agent's own user decides what is in a kubeconfig: it can name programs to run (`exec` of its
/// users, client-go's `plugin/pkg/client/auth/exec`).
fn check_owner(path: &Path, metadata: &Metadata, own: u32) -> Result<(), ApiError> {
    let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if (uid == 0 || uid == own) && mode & OTHERS == 0 {
        return Ok(());
    }
    let owner = if own == 0 { "root".to_owned() } else { own.to_string() };
    Err(ApiError::Foreign { path: path.to_owned(), uid, mode, owner })
}

/// Whose process this is. Without /proc only root's files are taken.
fn own_uid() -> u32 {
    fs::metadata("/proc/self").map_or(0, |process| process.uid())
}

/// The files that a kubeconfig names.
fn named(kubeconfig: &Kubeconfig) -> impl Iterator<Item = &str> {
    let users = kubeconfig.auth_infos.iter().filter_map(|user| user.auth_info.as_ref());
    let clusters = kubeconfig.clusters.iter().filter_map(|cluster| cluster.cluster.as_ref());
    let of_users = users.flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file]);
    let of_clusters = clusters.map(|cluster| &cluster.certificate_authority);
    // As kube-rs has it, an empty name is none.
    of_users.chain(of_clusters).flatten().map(String::as_str).filter(|name| !name.is_empty())
}

/// Whether it can be read without waiting and within bounds. One that is not there may be of a user that is not asked for; kube-rs
/// says so if it is.
fn check_named(path: &str) -> Result<(), FileError> {
    match files::open(Path::new(path), LIMIT) {
        Err(FileError::Open { .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Follows links: the kubelet turns `kubelet-client-current.pem` to a new file.
fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown};
    use std::path::Path;
    use std::sync::mpsc;
    use std::time::Duration;

    use clap::Parser as _;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::{Api, check_owner};
    use crate::options::{Command, Options};
    use crate::testing;
    use crate::watch::causes;

    /// What becomes of a kubeconfig, unless that takes too long.
    fn connect(kubeconfig: &Path) -> Result<(), String> {
        let path = kubeconfig.to_str().unwrap();
        let words = ["pss-guard-agent", "run", "--node-name=node-1", "--kubeconfig", path];
        let Command::Run(options) = Options::parse_from(words).command;
        let (say, said) = mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let connected = runtime.block_on(Api::connect(&options));
            say.send(connected.map(drop).map_err(|error| causes(&error))).unwrap();
        });
        said.recv_timeout(Duration::from_secs(10)).unwrap_or_else(|_| Err("it hangs".to_owned()))
    }

    fn kubeconfig(path: &Path, user: &str, cluster: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:1'{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\n"
        );
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }

    /// A FIFO, a folder and a file that is too large, each with its error.
    fn unreadable(folder: &Path) -> [(std::path::PathBuf, &'static str); 3] {
        let fifo = folder.join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let huge = folder.join("huge");
        File::create(&huge).unwrap().set_len(2 << 20).unwrap();
        let directory = folder.join("folder");
        fs::create_dir(&directory).unwrap();
        [
            (fifo, "must be a regular file, but is a FIFO"),
            (directory, "must be a regular file, but is a directory"),
            (huge, "is larger than 1048576 bytes"),
        ]
    }

    #[test]
    fn a_kubeconfig_that_is_no_file_to_be_read_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config");
        kubeconfig(&config, "token: t", "");
        assert_eq!(connect(&config), Ok(()));
        for (path, expected) in unreadable(folder.path()) {
            let said = connect(&path).unwrap_err();
            assert!(said.contains(expected) && said.contains(path.to_str().unwrap()), "{said}");
            // A file that it names, by its whole name or from its folder.
            for name in [path.to_str().unwrap(), path.file_name().unwrap().to_str().unwrap()] {
                let users = ["client-certificate", "client-key", "tokenFile"]
                    .map(|key| (format!("{key}: {name}"), String::new()));
                let cluster = ("token: t".to_owned(), format!(", certificate-authority: {name}"));
                for (user, cluster) in users.into_iter().chain([cluster]) {
                    kubeconfig(&config, &user, &cluster);
                    let said = connect(&config).unwrap_err();
                    assert!(said.contains(expected), "{user}{cluster}: {said}");
                }
            }
        }
        assert!(connect(&folder.path().join("nothing")).unwrap_err().contains("open "));
    }

    #[test]
    fn a_kubeconfig_that_somebody_else_can_write_is_refused_with_the_way_out() {
        if !testing::root("a_kubeconfig_that_somebody_else_can_write_is_refused_with_the_way_out") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (config, ran) = (folder.path().join("config"), folder.path().join("ran"));
        let exec = format!(
            "exec: {{apiVersion: client.authentication.k8s.io/v1, command: touch, args: ['{}'], interactiveMode: Never}}",
            ran.display()
        );
        for (uid, mode, is_taken) in
            [(1000, 0o600, false), (0, 0o620, false), (0, 0o606, false), (0, 0o644, true), (0, 0o400, true)]
        {
            kubeconfig(&config, &exec, "");
            chown(&config, Some(uid), None).unwrap();
            fs::set_permissions(&config, Permissions::from_mode(mode)).unwrap();
            let said = connect(&config).unwrap_err();
            let way_out = format!("chown root {0} && chmod 600 {0}", config.display());
            assert_eq!(said.contains(&way_out), !is_taken, "{uid} {mode:o}: {said}");
            assert_eq!(ran.exists(), is_taken, "{uid} {mode:o}: {said}");
            let _ = fs::remove_file(&ran);
        }
        // The agent of a user takes that user's own.
        chown(&config, Some(1000), None).unwrap();
        let metadata = fs::metadata(&config).unwrap();
        assert!(check_owner(&config, &metadata, 1000).is_ok());
        let said = check_owner(&config, &metadata, 1001).unwrap_err().to_string();
        assert!(said.contains("owned by uid 1000") && said.contains("chown 1001 "), "{said}");
    }
}
