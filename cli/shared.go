package cli

import (
	"flag"

	urfave "github.com/urfave/cli/v2"
)

// urfave/cli has one --help and one --version for all runs of a process, and writes
// to them in each. Runs of ours may be concurrent.
func init() {
	urfave.HelpFlag = sharedFlag{urfave.HelpFlag.(*urfave.BoolFlag)}
	urfave.VersionFlag = sharedFlag{urfave.VersionFlag.(*urfave.BoolFlag)}
}

// sharedFlag is a flag that a run leaves as it was.
type sharedFlag struct{ *urfave.BoolFlag }

// Apply implements urfave.Flag.
func (f sharedFlag) Apply(set *flag.FlagSet) error {
	own := *f.BoolFlag
	return own.Apply(set)
}
