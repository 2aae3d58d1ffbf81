package registrytest_test

import (
	"os/exec"
	"testing"

	"regsweep/internal/registrytest"
	"regsweep/internal/servertest"
)

// The clients of other projects are built and run.
func TestClientsRun(t *testing.T) {
	for _, program := range []servertest.Program{registrytest.Cosign, registrytest.ORAS} {
		if output, err := exec.CommandContext(t.Context(), registrytest.ProgramT(t, program), "version").CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", program.Name, err, output)
		}
	}
}
