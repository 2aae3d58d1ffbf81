//go:build !unix

package system

// regsweep runs only on Linux, macOS and other Unix systems: see README.md.
var _ = regsweep_runs_on_Unix_systems_only__see_README_md
