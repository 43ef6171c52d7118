#!/bin/bash
# What does `check` of some thousand manifests take, beside upstream's own evaluator in Go over the same YAML? Upstream's
# fixtures, one file of all, the best of five. Needs Go; the first argument is the program.
set -euo pipefail
program=$(realpath "${1:?the program}")
cd "$(dirname "$0")/../integration-tests/oracle"
go=$(command -v go || echo /usr/local/go/bin/go)
[[ -x $go ]] || { echo "check of manifests: not measured, there is no go" >&2; exit 0; }
export GOWORK=off CGO_ENABLED=0 GOFLAGS='-mod=readonly -trimpath -buildvcs=false'
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
"$go" build -o "$folder/oracle" .
module=$("$go" list -m -f '{{.Dir}}' k8s.io/pod-security-admission)
find "$module/test/testdata" -name '*.yaml' -print0 | sort -z |
    xargs -0 awk 'FNR == 1 { print "---" } { print }' >"$folder/all.yaml"

best=
for _ in 1 2 3 4 5; do
    begin=$(date +%s%N)
    "$program" --root "$folder" check --level restricted --format json "$folder/all.yaml" >"$folder/ours" || [[ $? == 1 ]]
    took=$((($(date +%s%N) - begin) / 1000000))
    if [[ -z $best || $took -lt $best ]]; then best=$took; fi
    "$folder/oracle" manifests <"$folder/all.yaml" >>"$folder/theirs"
done
pods=$(wc -l <"$folder/ours")
denied=$(grep -c '"verdict":"deny"' "$folder/ours")
read -r theirs their_pods their_denied < <(jq -rs 'min_by(.milliseconds) | "\(.milliseconds) \(.pods) \(.denied)"' "$folder/theirs")
echo "check of $pods manifests at restricted ($denied denied): $best ms; upstream's evaluator in Go ($their_pods, $their_denied denied): $theirs ms"
[[ $pods == "$their_pods" && $denied == "$their_denied" ]]
