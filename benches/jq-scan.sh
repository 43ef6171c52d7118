#!/bin/bash
# What people type to find the containers that restricted would refuse: a tenth of the checks (root, privilege
# escalation, capabilities) of every config.json, in bash and jq. The benchmark runs it beside `pss-guard scan`.
set -euo pipefail
for config in /run/containerd/io.containerd.runtime.v2.task/k8s.io/*/config.json; do
    jq -r '
      select(
        .process.user.uid == 0
        or .process.noNewPrivileges != true
        or ((.process.capabilities.bounding // []) - ["CAP_NET_BIND_SERVICE"] | length > 0)
      ) | .annotations["io.kubernetes.cri.sandbox-name"]
    ' "$config"
done
