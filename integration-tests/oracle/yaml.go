package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"time"

	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// A text as kubectl reads it, or why it does not.
type meaning struct {
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"`
}

var marks = strings.NewReplacer("\n---\n\ufeff", "\n---\n", "\n---\r\n\ufeff", "\n---\r\n")

func mean(line []byte) meaning {
	var text string
	check(json.Unmarshal(line, &text))
	// As its reader of lines does, which hands over every document with a last line that ends.
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	// It reads every document by itself, where its byte order mark is the first character. Here they stay together.
	text = marks.Replace(text)
	value, err := utilyaml.ToJSON([]byte(text))
	if err == nil && !json.Valid(value) {
		value, err = yaml.YAMLToJSON([]byte(text))
	}
	if err != nil {
		return meaning{Error: err.Error()}
	}
	// A text of JSON comes back as it is, with halves of surrogate pairs in it.
	var any interface{}
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	check(decoder.Decode(&any))
	value, err = json.Marshal(any)
	check(err)
	return meaning{Value: value}
}

// How many of the pods in a stream of YAML documents are denied at restricted, and how long it takes to read and evaluate
// them all.
type pass struct {
	Pods         int   `json:"pods"`
	Denied       int   `json:"denied"`
	Milliseconds int64 `json:"milliseconds"`
}

func evaluateAll(evaluator policy.Evaluator, in io.Reader) pass {
	begin := time.Now()
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	reader := utilyaml.NewYAMLReader(bufio.NewReaderSize(in, 1<<20))
	var sum pass
	for {
		document, err := reader.Read()
		if err == io.EOF {
			sum.Milliseconds = time.Since(begin).Milliseconds()
			return sum
		}
		check(err)
		line, err := yaml.YAMLToJSON(document)
		check(err)
		pod := read(line)
		complete(pod)
		results := evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec)
		sum.Pods++
		if !policy.AggregateCheckResults(results).Allowed {
			sum.Denied++
		}
	}
}
