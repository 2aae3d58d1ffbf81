package main

import (
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
)

// tree is the size of each file of a registry, by the path that Distribution's
// drivers have for it.
type tree map[string]int64

func measure(root string) (tree, error) {
	t := tree{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		t["/"+filepath.ToSlash(relative)] = info.Size()
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("measure the registry: %w", err)
	}
	return t, nil
}

func (t tree) bytes() int64 {
	var sum int64
	for _, size := range t {
		sum += size
	}
	return sum
}

// keys are the paths of either tree, each once.
func keys(before, after tree) iter.Seq[string] {
	return func(yield func(string) bool) {
		for path := range before {
			if !yield(path) {
				return
			}
		}
		for path := range after {
			if _, both := before[path]; !both && !yield(path) {
				return
			}
		}
	}
}
