//! Which identity asks the API server for what, and when it is read again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use crate::options::{PodsAs, Run};

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
        let kubeconfig = Kubeconfig::read_from(path).map_err(fault)?;
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

/// Follows links: the kubelet turns `kubelet-client-current.pem` to a new file.
fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
