//go:build unix && !linux

package filesystem

// glance is for Linux. Elsewhere it tells nothing, and every directory is listed.
type glance struct{ stats, reads int64 }

func newGlance(*tree, string) *glance { return &glance{} }

func (g *glance) close() {}

func (g *glance) goTo(string) {}

func (g *glance) enter(string) {}

func (g *glance) enterDigest(*[32]byte) {}

func (g *glance) isAbsent(string) bool { return false }

func (g *glance) countsDirectories(int) bool { return false }

func (g *glance) directories(string) int { return -1 }

func (g *glance) link(string) (sum [32]byte, is glanced) { return sum, unclear }
