//! What grows with the node or the pod, and what a start costs by then: the least and the most of each.

use crate::node::{Bundle, Node, POLICY, Pod, SMALLEST_POLICY, Sandbox};
use crate::{Case, Failure, Outcome, Programs, kilobytes};

/// Nodes and pods, from small to large, kept as long as they are measured.
pub(crate) struct Growth {
    rows: Vec<(String, Node, Bundle)>,
}

impl Growth {
    pub(crate) fn lay_out(sandbox: &Sandbox) -> Result<Self, Failure> {
        let mut rows = Vec::new();
        let mut row = |name: String, node: Node, pod: Pod| -> Result<(), Failure> {
            let bundle = node.lay_out(pod, "grown", sandbox)?;
            rows.push((name.replace("SIZE", &kilobytes(bundle.config_size)), node, bundle));
            Ok(())
        };
        let pod = Pod::containerd_allowed;
        for entries in [1, 100, 5000] {
            let name = format!("a policy of {}", counted(entries, "exception", "exceptions"));
            row(name, Node::new(&policy(entries), 1)?, pod()?)?;
        }
        for namespaces in [1, 10_000] {
            row(counted(namespaces, "namespace", "namespaces"), Node::new(POLICY, namespaces)?, pod()?)?;
        }
        row("config.json of SIZE".to_owned(), Node::new(POLICY, 1)?, pod()?.with_short_profile()?)?;
        for size in [9_000, 70_000, 200_000] {
            row("config.json of SIZE".to_owned(), Node::new(POLICY, 1)?, pod()?.with_service_links(size)?)?;
        }
        for volumes in [1, 100, 1000] {
            row(
                counted(volumes, "volume more", "volumes more"),
                Node::new(POLICY, 1)?,
                pod()?.with_volumes(volumes)?,
            )?;
        }
        for pods in [1, 10_000] {
            let node = Node::new(POLICY, 1)?;
            let bundle = node.lay_out(pod()?, "grown", sandbox)?;
            node.declare("containerd", &bundle, pods - 1)?;
            rows.push((counted(pods, "pod with facts", "pods with facts"), node, bundle));
        }
        Ok(Self { rows })
    }

    pub(crate) fn cases(&self, programs: &Programs) -> Result<Vec<Case<'_>>, Failure> {
        self.rows
            .iter()
            .map(|(name, node, bundle)| {
                let start = programs.start(node, "containerd", &bundle.state)?;
                Ok(Case::new(name.clone(), start, Some(node), Outcome::Silence))
            })
            .collect()
    }
}

/// So many exceptions of other namespaces, with reasons as people write them.
fn policy(entries: usize) -> String {
    let exception = |nth: usize| {
        format!(
            "[[exceptions]]\nnamespace = \"team-{nth}\"\nowner = \"collector\"\ncontrols = [\"hostPathVolumes\"]\n\
             reason = \"reads the logs of this node until they are shipped\"\nexpires = 2099-12-31\n"
        )
    };
    std::iter::once(SMALLEST_POLICY.to_owned()).chain((0..entries).map(exception)).collect()
}

fn counted(count: usize, one: &str, more: &str) -> String {
    let thousands =
        if count < 1000 { count.to_string() } else { format!("{},{:03}", count / 1000, count % 1000) };
    format!("{thousands} {}", if count == 1 { one } else { more })
}
