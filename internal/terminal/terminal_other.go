//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package terminal

import (
	"errors"
	"os"
)

func controllingTerminal() (*os.File, bool, error) { return nil, false, errors.ErrUnsupported }

func flushTyped(int) error { return errors.ErrUnsupported }

func hideTyped(int) (restore func(), err error) { return nil, errors.ErrUnsupported }

func onResume(func()) (stop func()) { return func() {} }
