// What upstream's own evaluator says of pods: the oracle that crates/pss is compared with.
//
//	oracle checks           the checks, their versions and what they override
//	oracle pods <pods       a pod of JSON a line in; a line of verdicts at each level and version out
//	oracle files FOLDER     the same of every pod in YAML below a folder, as the API server completes it
//	oracle yaml <texts      a text of YAML, as a JSON string, a line in; what kubectl makes of it out
//	oracle manifests <yaml  how many pods are denied at restricted, and how long that takes, in milliseconds
//	oracle bench <pod       how long one evaluation at restricted takes, in nanoseconds
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Verdicts of one level: what is said from each of these minors on, until the next. Null is allowed.
type verdicts []verdict

type verdict struct {
	Since   int     `json:"since"`
	Message *string `json:"message"`
}

type answer struct {
	Path       string          `json:"path,omitempty"`
	Pod        json.RawMessage `json:"pod,omitempty"`
	Baseline   verdicts        `json:"baseline"`
	Restricted verdicts        `json:"restricted"`
}

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: oracle checks | pods | files FOLDER | yaml | manifests | bench")
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	check(err)
	out := bufio.NewWriterSize(os.Stdout, 1<<20)
	defer out.Flush()
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	switch os.Args[1] {
	case "checks":
		for _, c := range policy.DefaultChecks() {
			row := struct {
				ID, Level string
				Versions  []int
				Overrides [][]policy.CheckID
			}{ID: string(c.ID), Level: string(c.Level)}
			for _, version := range c.Versions {
				row.Versions = append(row.Versions, version.MinimumVersion.Minor())
				row.Overrides = append(row.Overrides, version.OverrideCheckIDs)
			}
			check(lines.Encode(row))
		}
	case "pods":
		in := bufio.NewReaderSize(os.Stdin, 1<<20)
		for {
			line, err := in.ReadBytes('\n')
			if err == io.EOF && len(line) == 0 {
				return
			}
			pod := read(line)
			check(lines.Encode(evaluate(evaluator, pod)))
		}
	case "files":
		check(filepath.WalkDir(os.Args[2], func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".yaml") {
				return err
			}
			text, err := os.ReadFile(path)
			check(err)
			pod := &corev1.Pod{}
			check(yaml.Unmarshal(text, pod))
			complete(pod)
			answer := evaluate(evaluator, pod)
			answer.Path = path
			answer.Pod, err = json.Marshal(pod)
			check(err)
			return lines.Encode(answer)
		}))
	case "yaml":
		in := bufio.NewReaderSize(os.Stdin, 1<<20)
		for {
			line, err := in.ReadBytes('\n')
			if err == io.EOF && len(line) == 0 {
				return
			}
			check(lines.Encode(mean(line)))
		}
	case "manifests":
		check(lines.Encode(evaluateAll(evaluator, os.Stdin)))
	case "bench":
		line, err := io.ReadAll(os.Stdin)
		check(err)
		pod, restricted := read(line), levelVersion(api.LevelRestricted, 37)
		result := testing.Benchmark(func(b *testing.B) {
			for range b.N {
				policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
			}
		})
		fmt.Fprintln(out, result.NsPerOp())
	}
}

// As the API server reads it.
func read(line []byte) *corev1.Pod {
	pod := &corev1.Pod{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(line, pod); err != nil {
		log.Fatalf("%v: %s", err, line)
	}
	return pod
}

// The one default without which a fixture that must pass would not (pkg/apis/core/v1/defaults.go): a volume that is nothing
// else is an emptyDir.
func complete(pod *corev1.Pod) {
	for i := range pod.Spec.Volumes {
		if volume := &pod.Spec.Volumes[i]; volume.VolumeSource == (corev1.VolumeSource{}) {
			volume.EmptyDir = &corev1.EmptyDirVolumeSource{}
		}
	}
}

// One version more than upstream has: it must be the newest, again.
func evaluate(evaluator policy.Evaluator, pod *corev1.Pod) answer {
	var both [2]verdicts
	for i, level := range []api.Level{api.LevelBaseline, api.LevelRestricted} {
		for minor := 0; minor <= newest()+1; minor++ {
			results := evaluator.EvaluatePod(levelVersion(level, minor), &pod.ObjectMeta, &pod.Spec)
			var message *string
			if sum := policy.AggregateCheckResults(results); !sum.Allowed {
				detail := sum.ForbiddenDetail()
				message = &detail
			}
			if last := len(both[i]) - 1; last < 0 || !same(both[i][last].Message, message) {
				both[i] = append(both[i], verdict{minor, message})
			}
		}
	}
	return answer{Baseline: both[0], Restricted: both[1]}
}

var newestKnown int

func newest() int {
	if newestKnown == 0 {
		for _, c := range policy.DefaultChecks() {
			newestKnown = max(newestKnown, c.Versions[len(c.Versions)-1].MinimumVersion.Minor())
		}
	}
	return newestKnown
}

func same(a, b *string) bool {
	return (a == nil) == (b == nil) && (a == nil || *a == *b)
}

func levelVersion(level api.Level, minor int) api.LevelVersion {
	return api.LevelVersion{Level: level, Version: api.MajorMinorVersion(1, minor)}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
