package cli

import (
	"strings"
	"time"

	"regsweep/internal/human"
)

// age is the value of a flag.
type age struct{ time.Duration }

// Set implements urfave.Generic.
func (a *age) Set(text string) error {
	d, err := human.ParseAge(text)
	if err == nil {
		a.Duration = d
	}
	return err
}

// String returns the age in the format that Set reads. It leaves out the zeros that Go adds: 36h for
// 36h0m0s.
func (a *age) String() string {
	if a == nil || a.Duration == 0 {
		return "0"
	}
	text := a.Duration.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
