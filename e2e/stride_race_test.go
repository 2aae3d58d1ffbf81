//go:build race

package e2e

// stride is how far apart the operations are at which a test lets something happen. With the
// race detector each try takes several times as long, and finds no more than a few do: the
// others are tried without it (make cases).
const stride = 11
