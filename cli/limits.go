package cli

import (
	"errors"
	"strconv"

	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

// limitFlags say how much may be asked of the storage.
func limitFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.GenericFlag{Name: "concurrency", Value: new(number), Usage: "have at most `N` requests to the storage under way (default: right for the storage)"},
		&urfave.GenericFlag{Name: "max-requests", Value: new(number), Usage: "begin at most `N` requests to the storage a second (default: no bound)"},
	}
}

func readLimits(c *urfave.Context) storage.Limits {
	return storage.Limits{
		Concurrency: int(*c.Generic("concurrency").(*number)),
		MaxRequests: int(*c.Generic("max-requests").(*number)),
	}
}

// number is a flag's value: a whole number, of which 0 is as good as none.
type number int

// maxNumber is far above what any storage can be asked.
const maxNumber = 100_000

var errNumber = errors.New("want a whole number from 0 to " + strconv.Itoa(maxNumber))

// Set implements the flag's value.
func (n *number) Set(text string) error {
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 || value > maxNumber {
		return errNumber
	}
	*n = number(value)
	return nil
}

// String is empty for the default, which the flag's usage tells.
func (n *number) String() string {
	if n == nil || *n == 0 {
		return ""
	}
	return strconv.Itoa(int(*n))
}
