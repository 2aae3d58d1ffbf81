// Package audittest reads registries for tests of audits.
package audittest

import (
	"testing"
	"time"

	"regsweep/audit"
	"regsweep/inventory"
	"regsweep/mark"
	"regsweep/storage"
	"regsweep/storage/filesystem"
	"regsweep/storage/storagetest"
)

// Bill are the options of the inventory for audit. Those of why and graph are zero on a filesystem.
var Bill = inventory.Options{Sizes: true, TagTimes: true}

// Read reads a registry on a filesystem as audit, why and graph do.
func Read(t *testing.T, root string, options inventory.Options) (audit.Facts, storage.Store) {
	t.Helper()
	store := storagetest.MustOpen(t)(filesystem.Open(root, storage.Limits{}))
	inv, err := inventory.Take(t.Context(), store, options)
	if err != nil {
		t.Fatal(err)
	}
	graph, err := mark.Read(t.Context(), inv, store, mark.ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	live, err := graph.Live(t.Context(), mark.Roots{WhatIf: true})
	if err == nil {
		live, err = live.CheckLinks(t.Context(), store, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return audit.Facts{Inventory: inv, Graph: graph, Live: live, Now: time.Now()}, store
}
