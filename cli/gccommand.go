package cli

import (
	"slices"
	"time"

	"regsweep/storage"

	urfave "github.com/urfave/cli/v2"
)

const (
	// uploadAge is the age at which the registry itself purges uploads by default
	// (uploadpurging.age).
	uploadAge = 168 * time.Hour
	// unsafeAge is the least --min-age with --unsafe-online.
	unsafeAge = 24 * time.Hour
)

func gcCommand(r *runner) *urfave.Command {
	flags := []urfave.Flag{
		dryRunFlag("say what would be removed, and remove nothing"),
		toggle("delete-untagged", "untagged manifests are removed too, unless a tag needs them", "m"),
		toggle("delete-unlinked-children", "platforms of an index that were deleted through the API are removed too"),
		&urfave.StringFlag{Name: planName, Usage: "write the plan to `FILE`, a line of JSON for each removal; - is standard output"},
		toggle("prune-empty", "remove repositories in which nothing is left, and empty directories where a repository could be (also the mount point of a disk that is not mounted)"),
		minAgeFlag("keep blobs and links younger than `AGE`, such as 36h or 7d"),
		&urfave.GenericFlag{Name: "upload-age", Value: &age{uploadAge}, Usage: "keep unfinished uploads younger than `AGE`"},
		toggle("allow-empty", "accept a registry that has no tag at all, or a root without docker/registry/v2"),
	}
	return &urfave.Command{
		Name:               "gc",
		Aliases:            []string{"garbage-collect"},
		Usage:              "remove what no manifest needs; with -m, what no tag reaches",
		ArgsUsage:          "TARGET",
		Flags:              slices.Concat(flags, policyFlags(), removalFlags()),
		CustomHelpTemplate: commandHelp,
		OnUsageError:       usageError,
		Action:             r.gc,
		Description: targetHelp + `
   Nothing is removed before the registry is shown to be read-only or stopped.
   With a terminal, nothing is removed before you have seen what would be removed and
   said yes, whatever standard input is. Without one (cron, ssh without -t, a container)
   nothing is asked: gc removes at once.

EXAMPLES:
   regsweep gc -d config.yml                 what would be removed, and why so little
   regsweep gc -dm config.yml                the same with untagged manifests
   regsweep gc config.yml --plan plan.jsonl  remove, and keep a list of it
   regsweep gc --quarantine config.yml       move it away: regsweep quarantine --help
   regsweep gc --registry http://10.0.0.5:5000 --registry http://10.0.0.6:5000 \
       's3://bucket/prefix?region=eu-west-1'
   regsweep gc --json --yes config.yml       for a script
`,
	}
}

func (r *runner) gc(c *urfave.Context) error {
	return r.collect(c, &gcRun{options: readGCOptions(c), report: newReport("gc")}, c.Args().Slice(), nil)
}

// dryRunFlag returns the --dry-run flag, which comes first in the help of a command.
func dryRunFlag(usage string) urfave.Flag { return toggle("dry-run", usage, "d") }

// removalFlags returns the other flags that gc and apply have in common.
func removalFlags() []urfave.Flag {
	return slices.Concat([]urfave.Flag{
		toggle("quiet", "print problems and errors alone", "q"),
		toggle("yes", "do not ask before removing", "y"),
		jsonFlag(),
		metricsFlag(),
		toggle(quarantineName, "move what goes to where it can be restored from, instead of removing it"),
		toggle("purge-versions", "on a bucket that keeps versions, remove all versions of what goes"),
		&urfave.GenericFlag{Name: maxDeleteName, Value: new(maxDelete), Usage: "refuse to remove more blobs than `LIMIT`: 30% of all, a number such as 500, or bytes such as 200GB"},
		toggle(leaveCacheName, "leave the keys of removed blobs in the registry's Redis, because you flush it yourself"),
		toggle("strict", "remove nothing if there is any problem"),
		toggle("unsafe-online", "skip the proof that nobody writes; the minimum age is then at least 24h"),
	}, budgetFlags(), rootFlags(), limitFlags(), cacheFlags(), guardFlags())
}

// gcOptions has the flags of gc. apply reads some of them from its plan.
type gcOptions struct {
	dryRun, deleteUntagged, quiet, yes, json bool
	pruneEmpty, allowEmpty, strict, unsafe   bool
	purgeVersions, quarantine, leaveCache    bool
	deleteUnlinkedChildren                   bool
	minAge, uploadAge                        time.Duration
	plan                                     string
	planGiven                                bool
	cache                                    cacheOptions
	maxDelete                                maxDelete
	budget                                   budget
	pruneOnly                                func(repository string) bool // see sweep.Options
}

// readGCOptions reads the flags of gc.
func readGCOptions(c *urfave.Context) gcOptions {
	o := readRemovalOptions(c)
	o.deleteUntagged, o.pruneEmpty, o.allowEmpty = c.Bool("delete-untagged"), c.Bool("prune-empty"), c.Bool("allow-empty")
	o.deleteUnlinkedChildren = c.Bool("delete-unlinked-children")
	o.plan, o.planGiven = c.String(planName), c.IsSet(planName)
	o.minAge, o.uploadAge = c.Generic(minAgeName).(*age).Duration, c.Generic("upload-age").(*age).Duration
	if o.unsafe && !c.IsSet(minAgeName) {
		o.minAge = unsafeAge
	}
	return o
}

// readRemovalOptions reads the flags that gc and apply have in common.
func readRemovalOptions(c *urfave.Context) gcOptions {
	return gcOptions{
		dryRun: c.Bool("dry-run"), quiet: c.Bool("quiet"), yes: c.Bool("yes"), json: c.Bool(jsonName),
		purgeVersions: c.Bool("purge-versions"), quarantine: c.Bool(quarantineName), leaveCache: c.Bool(leaveCacheName), strict: c.Bool("strict"), unsafe: c.Bool("unsafe-online"), cache: readCacheOptions(c),
		maxDelete: *c.Generic(maxDeleteName).(*maxDelete), budget: readBudget(c),
	}
}

// check returns a usage error for flags that contradict each other.
func (o gcOptions) check() error {
	if o.unsafe && o.minAge < unsafeAge {
		return storage.Usagef("--unsafe-online: --min-age must be at least 24h, since what is being pushed has no tag yet")
	}
	if o.quarantine && o.purgeVersions {
		return storage.Usagef("--quarantine and --purge-versions contradict each other: the one keeps what the other removes for good")
	}
	return o.cache.check()
}
