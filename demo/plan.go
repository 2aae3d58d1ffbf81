package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// plan is what regsweep wrote down before it removed anything. It is read here as a
// stranger to the program would, by its documented format.
type plan []removal

type removal struct {
	Kind       string        `json:"kind"`
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	Bytes      int64         `json:"bytes"`
	Path       string        `json:"path"`
}

func noun(kind string) string { return strings.ReplaceAll(kind, "_", " ") }

func readPlan(file string) (plan, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	if len(lines) < 2 {
		return nil, fmt.Errorf("read the plan: %d lines", len(lines))
	}
	var p plan
	for _, line := range lines[1 : len(lines)-1] {
		var r removal
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("read the plan: %w", err)
		}
		p = append(p, r)
	}
	return p, nil
}

// bytes is the size of the blobs that the plan removes. Links count for nothing
// there.
func (p plan) bytes() int64 {
	var sum int64
	for _, r := range p {
		sum += r.Bytes
	}
	return sum
}

// wantBlobs checks that the plan removes exactly these blobs.
func (p plan) wantBlobs(names map[digest.Digest]string, want ...digest.Digest) error {
	missing := map[digest.Digest]bool{}
	for _, d := range want {
		missing[d] = true
	}
	for _, r := range p {
		if r.Kind != "blob" {
			continue
		}
		if !missing[r.Digest] {
			return fmt.Errorf("the plan removes %s %s, which is needed", names[r.Digest], r.Digest)
		}
		delete(missing, r.Digest)
	}
	for d := range missing {
		return fmt.Errorf("the plan leaves %s %s, which nothing needs", names[d], d)
	}
	return nil
}

// wantRemoved checks that the difference between two measures of a tree is what the
// plan says, file by file: nothing else has gone, come or changed.
func (p plan) wantRemoved(before, after tree) error {
	planned := map[string]removal{}
	for _, r := range p {
		planned[r.Path] = r
	}
	for _, path := range slices.Sorted(keys(before, after)) {
		was, existed := before[path]
		is, exists := after[path]
		r, listed := planned[path]
		switch {
		case listed && exists:
			return fmt.Errorf("%s should have gone", path)
		case listed && r.Kind == "blob" && r.Bytes != was:
			return fmt.Errorf("%s had %d bytes, and the plan says %d", path, was, r.Bytes)
		case !listed && !exists:
			return fmt.Errorf("%s has gone, and no plan says so", path)
		case !listed && !existed:
			return fmt.Errorf("%s has come", path)
		case !listed && was != is:
			return fmt.Errorf("%s had %d bytes, and has %d", path, was, is)
		}
		delete(planned, path)
	}
	for path := range planned {
		return fmt.Errorf("the plan removes %s, which was not there", path)
	}
	return nil
}
