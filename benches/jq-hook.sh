#!/bin/bash
# What people put in an OCI hook when they have no program for it: a tenth of the checks (root, privilege
# escalation, capabilities), in bash and jq. The benchmark runs it beside pss-guard; nobody should install it.
set -euo pipefail
bundle=$(jq -r .bundle)
jq -e '
  .process.user.uid != 0
  and .process.noNewPrivileges == true
  and ((.process.capabilities.bounding // []) - ["CAP_NET_BIND_SERVICE"] | length == 0)
' "$bundle/config.json" >/dev/null
