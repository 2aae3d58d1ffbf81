package cli

import (
	"context"
	"time"

	"regsweep/guard"
	"regsweep/inventory"
	"regsweep/storage"
	"regsweep/storage/config"

	urfave "github.com/urfave/cli/v2"
)

// toggle returns a flag without a value.
func toggle(name, usage string, aliases ...string) urfave.Flag {
	return &urfave.BoolFlag{Name: name, Usage: usage, Aliases: aliases, DisableDefaultText: true}
}

// jsonFlag returns the flag of every command that has a report.
func jsonFlag() urfave.Flag {
	return toggle(jsonName, "print one JSON document on standard output")
}

const jsonName = "json"

// minAgeFlag returns the flag of a gc and of a question about one.
func minAgeFlag(usage string) urfave.Flag {
	return &urfave.GenericFlag{Name: minAgeName, Value: &age{}, Usage: usage}
}

const minAgeName = "min-age"

// guardFlags returns the flags that say how to prove that the registry is read-only or stopped.
func guardFlags() []urfave.Flag {
	return []urfave.Flag{
		&urfave.StringSliceFlag{Name: "registry", Usage: "`URL` of the registry, once for each replica (default: http.addr)"},
		&urfave.StringFlag{Name: "username", Usage: "`NAME` for a registry that asks for one (default: docker's config.json)"},
		toggle("password-stdin", "read the password from standard input"),
		&urfave.StringFlag{Name: "password-file", Usage: "read the password from `FILE`"},
		&urfave.StringFlag{Name: "registry-cacert", Usage: "trust the certificates in this PEM `FILE`"},
		toggle("registry-insecure", "do not verify the registry's certificate"),
		toggle("registry-stopped", "take your word that no registry runs on this storage"),
	}
}

// guardOptions reads the guardFlags, and the password if one is needed.
func (r *runner) guardOptions(c *urfave.Context, config config.Config, store storage.Store) (guard.Options, error) {
	options := guard.Options{
		Config: config, Store: store, Endpoints: c.StringSlice("registry"),
		Stopped: c.Bool("registry-stopped"), Unsafe: c.Bool("unsafe-online"), Now: r.env.Now,
	}
	if err := guard.CheckEndpoints(options.Endpoints); err != nil {
		return options, err
	}
	tls, err := guard.TLSConfig(c.String("registry-cacert"), c.Bool("registry-insecure"))
	if err != nil {
		return options, err
	}
	options.TLS = tls
	return options, r.readCredentials(c, &options)
}

// addSurveyPushes adds to the options the last upload and the last push that a whole survey has found.
func (r *runner) addSurveyPushes(ctx context.Context, options *guard.Options, store storage.Store, survey inventory.Survey) error {
	if last := survey.LastUpload; last != nil {
		options.LastUpload = &guard.Upload{Repository: last.Repository, ID: last.ID, Touched: last.Touched}
	}
	return r.addLastPush(ctx, options, store, survey.Repositories)
}

// addLastPush adds to the options the last push, if it was in the last guard.RecentUpload and the
// proof relies on endpoints. pushed has the repositories. On S3 it also has the newest time of
// their links.
func (r *runner) addLastPush(ctx context.Context, options *guard.Options, store storage.Store, pushed map[string]time.Time) error {
	if options.Stopped || options.Unsafe {
		return nil
	}
	explained := options.Config.Changed
	if options.Closed.After(explained) {
		explained = options.Closed
	}
	last, err := inventory.LastPush(ctx, store, pushed, r.env.Now().Add(-guard.RecentUpload), explained.Add(inventory.ClockTick))
	if err != nil || last == nil {
		return err
	}
	options.LastUpload = options.LastUpload.Later(&guard.Upload{Repository: last.Repository, Touched: last.Touched})
	return nil
}

// samples returns the manifests that a registry must serve if it serves this storage. Untagged
// manifests are left out if the run may remove them.
func samples(survey inventory.Survey, deleteUntagged bool) []guard.Sample {
	manifests := survey.Tagged
	if !deleteUntagged {
		manifests = append(manifests, survey.Untagged...)
	}
	out := make([]guard.Sample, len(manifests))
	for i, m := range manifests {
		out[i] = guard.Sample{Repository: m.Repository, Digest: string(m.Digest)}
	}
	return out
}
