// Command regsweep gives back the disk space that a container registry no longer
// needs, and nothing else. It reads the registry's storage directly: see README.md.
package main

import (
	"os"

	"regsweep/cli"
)

func main() { os.Exit(cli.Main(cli.Process())) }
