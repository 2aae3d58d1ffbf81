package cli

import (
	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

// target opens what the command's only argument names.
func (r *runner) target(c *urfave.Context) (storage.Config, storage.Store, error) {
	switch {
	case c.NArg() > 1:
		return storage.Config{}, nil, storage.Usagef("one target at a time, not %d: %q", c.NArg(), c.Args().Slice())
	case c.NArg() == 1 && c.Args().First() == "":
		// An unset variable in a script must not mean the default registry.
		return storage.Config{}, nil, storage.Usagef("the target is empty: leave it out for the default config.yml, or name one")
	}
	config, err := storage.ParseTarget(c.Args().First(), r.env.Getenv)
	if err != nil {
		return config, nil, err
	}
	for _, warning := range config.Warnings {
		r.say("warning: " + warning)
	}
	config.Limits = readLimits(c)
	store, err := storage.Open(c.Context, config)
	return config, store, err
}
