#!/bin/bash
# What does `check` of some thousand manifests take, beside upstream's own evaluator in Go over the same YAML, and beside
# kube-score, which has other checks? Upstream's fixtures, one file of all, the least of five. Needs Go, and for kube-score its
# modules; the first argument is the program.
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

score=$folder/kube-score
GOFLAGS='' GOBIN=$folder "$go" install github.com/zegl/kube-score/cmd/kube-score@v1.20.0 2>/dev/null || score=

# Runs a command, which finds something (1) or nothing, into a file. Prints its CPU time in milliseconds, which other load
# changes least.
took() {
    local TIMEFORMAT='%U %S' seconds out=$1
    shift
    seconds=$({ time "$@" >"$out" 2>/dev/null; } 2>&1) || [[ $? == 1 ]] || return
    awk '{ printf "%.0f\n", ($1 + $2) * 1000 }' <<<"$seconds"
}

for _ in 1 2 3 4 5; do
    took "$folder/ours" "$program" --root "$folder" check --level restricted --format json "$folder/all.yaml" >>"$folder/ours-took"
    took "$folder/theirs" "$folder/oracle" manifests <"$folder/all.yaml" >>"$folder/theirs-took"
    [[ -z $score ]] || took /dev/null "$score" score --output-format ci "$folder/all.yaml" >>"$folder/score-took"
done
best() { sort -n "$1" | sed 's/$/ ms/;q'; }
pods=$(wc -l <"$folder/ours")
denied=$(grep -c '"verdict":"deny"' "$folder/ours")
read -r their_pods their_denied < <(jq -r '"\(.pods) \(.denied)"' "$folder/theirs")
echo "check of $pods manifests at restricted ($denied denied), CPU time: $(best "$folder/ours-took")"
echo "upstream's evaluator in Go ($their_pods, $their_denied denied): $(best "$folder/theirs-took")"
echo "kube-score: $([[ -z $score ]] || best "$folder/score-took")"
[[ $pods == "$their_pods" && $denied == "$their_denied" ]]
