#!/bin/bash
# What people type to find the containers that restricted would refuse: a tenth of the checks (root, privilege
# escalation, capabilities) of every config.json, or of the first so many, in bash and jq. The benchmark runs it beside
# `pss-guard scan`.
set -euo pipefail
left=${1:--1}
for config in /run/containerd/io.containerd.runtime.v2.task/k8s.io/*/config.json; do
    jq -r '
      select(
        .process.user.uid == 0
        or .process.noNewPrivileges != true
        or ((.process.capabilities.bounding // []) - ["CAP_NET_BIND_SERVICE"] | length > 0)
      ) | .annotations["io.kubernetes.cri.sandbox-name"]
    ' "$config"
    left=$((left - 1))
    if ((left == 0)); then break; fi
done
