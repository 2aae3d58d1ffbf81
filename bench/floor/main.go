// Command floor is the least work that a correct mark takes: it lists the names and
// reads the links and manifests that one needs, with nothing around it. It marks
// nothing, checks no more than that a manifest has its digest, and removes nothing.
// How far a collector is above it is what the collector itself costs.
//
//	floor DIRECTORY                 the directory that holds docker/registry/v2
//	floor s3 ENDPOINT BUCKET        keys from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
//
// It trusts that the registry is whole: what is out of the ordinary ends it.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
)

// layout is where the layout lies below a registry's root directory.
const layout = "docker/registry/v2"

// found is what was listed and read. The benchmark compares it with what the
// generator has written.
type found struct {
	Blobs     int `json:"blobs"`
	Layers    int `json:"layer_links"`
	Tags      int `json:"tags"`
	Manifests int `json:"manifests"` // distinct, each read and verified
}

func main() {
	found, err := run(os.Args[1:])
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(found)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "floor: %s\n", err)
		os.Exit(1)
	}
}

func run(args []string) (found, error) {
	switch {
	case len(args) == 1:
		return walk(args[0])
	case len(args) == 3 && args[0] == "s3":
		return list(context.Background(), newBucket(args[1], args[2]))
	}
	return found{}, fmt.Errorf("usage: floor DIRECTORY, or floor s3 ENDPOINT BUCKET")
}
