//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package cli

import (
	"errors"
	"os"
)

func controllingTerminal() (*os.File, bool, error) { return nil, false, errors.ErrUnsupported }

func flushTyped(int) error { return errors.ErrUnsupported }
