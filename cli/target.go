package cli

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"regsweep/internal/human"
	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/storage/open"

	urfave "github.com/urfave/cli/v2"
)

// target opens the storage that the only argument names, or the default config.yml if there is no
// argument. A root without a registry is an error unless allowEmpty is true.
func (r *runner) target(c *urfave.Context, args []string, allowEmpty bool) (config.Config, storage.Store, error) {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	switch {
	case len(args) > 1:
		return config.Config{}, nil, storage.Usagef("one target at a time, not %d: %q", len(args), args)
	case len(args) == 1 && name == "":
		// An unset variable in a script must not mean the default registry.
		return config.Config{}, nil, storage.Usagef("the target is empty: leave it out for the default config.yml, or name one")
	}
	conf, err := config.ParseTarget(name, r.env.Getenv)
	if err != nil && name == "help" {
		return conf, nil, storage.Usagef("help does not exist, did you mean %s --help?", c.Command.HelpName)
	}
	if err != nil && !(allowEmpty && errors.As(err, new(*config.AbsentError))) {
		return conf, nil, err
	}
	for _, warning := range conf.Warnings {
		r.say("warning: " + warning)
	}
	conf.Limits = readLimits(c)
	conf.OnSilence = func(endpoint string, since time.Time) {
		r.say(fmt.Sprintf("no answer from %s since %s", endpoint, since.Format(time.TimeOnly)))
	}
	openStore := r.env.Open
	if openStore == nil {
		openStore = open.Store
	}
	store, err := openStore(c.Context, conf)
	if known := []string{"filesystem", "s3", "s3aws"}; errors.As(err, new(*storage.UsageError)) && !slices.Contains(known, conf.Driver) {
		if near := human.Closest(conf.Driver, known); near != "" {
			err = storage.Usagef("%w%s", err, human.DidYouMean(near))
		}
	}
	if err == nil && conf.Driver == "filesystem" {
		raiseProcessors(r.env.Getenv, store.Concurrency())
	}
	return conf, store, err
}
