// Package config finds out which storage a target names and what a registry's config.yml says.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"regsweep/storage"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v2"
)

// DefaultRootDirectory is where a filesystem registry stores when its
// configuration does not say. Source: registry/storage/driver/filesystem.
const DefaultRootDirectory = "/var/lib/registry"

// readOnlyVariable is the environment variable that people try first, and that
// Distribution never understands: it is ignored where config.yml has a readonly
// block, and makes the registry panic where it has none. Source: overwriteMap in
// configuration/parser.go, NewApp in registry/handlers/app.go.
const readOnlyVariable = "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED"

// Config says which storage a target names and, where the target is a registry's
// config.yml, what that says of the registry. It can be printed and marshalled:
// it shows no secret.
type Config struct {
	// Target is what the user named, as an absolute path or an s3:// URL.
	Target string `json:"target"`
	// Driver is the storage driver's name: "filesystem", "s3", …
	Driver string `json:"driver"`
	// Parameters are the driver's, with the meaning that Distribution gives them.
	Parameters Parameters `json:"parameters"`
	// Registry is nil for a directory and an s3:// URL, which say nothing of it.
	Registry *Registry `json:"registry,omitempty"`
	// Warnings are full sentences on settings that do not do what they seem to.
	Warnings []string `json:"warnings,omitempty"`
	// File is the config.yml that was read; "" if the target is none. NotRead are the other
	// usual places where there is one, if the target was left out.
	File    string   `json:"file,omitempty"`
	NotRead []string `json:"not_read,omitempty"`
	// RootFrom says where the root is set, as in "set by $REGISTRY_STORAGE_S3_ROOTDIRECTORY"; "" if
	// the target is no config.yml.
	RootFrom string `json:"-"`
	// Changed is when the config.yml was last written; zero if the target is none.
	Changed time.Time `json:"-"`
	// Limits are not the target's to say, but the user's: ParseTarget leaves them zero.
	Limits storage.Limits `json:"-"`
	// OnSilence, if set, is called when an S3 server has answered nothing for 30 s, once until
	// it answers again. It may be called from any goroutine.
	OnSilence func(endpoint string, since time.Time) `json:"-"`
	// Transport is for tests.
	Transport storage.Transport `json:"-"`
}

// Registry is what a config.yml says of the registry that runs with it. The
// registry that runs may have read another file: this is no proof of anything.
type Registry struct {
	HTTP     HTTP     `json:"http"`
	ReadOnly ReadOnly `json:"readonly"`
	// ProxyRemote is the registry that this one is a pull-through cache of, or "".
	ProxyRemote string `json:"proxy_remote,omitempty"`
	// DescriptorCache is "redis", "inmemory" or "". A running registry keeps
	// answering from it for what has been removed.
	DescriptorCache string `json:"descriptor_cache,omitempty"`
	// Database is what database.enabled says where it is not false: GitLab's registry
	// then keeps what is alive in a database.
	Database string `json:"database,omitempty"`
	// Realm is auth.htpasswd.realm, by which the registry of Harbor is known.
	Realm string `json:"realm,omitempty"`
}

// HTTP is where the registry listens.
type HTTP struct {
	Net    string `json:"net,omitempty"`    // "", "tcp" or "unix"
	Addr   string `json:"addr,omitempty"`   // host:port, :port, or a socket's path
	Host   string `json:"host,omitempty"`   // the URL that clients use, if set
	Prefix string `json:"prefix,omitempty"` // before /v2/
	TLS    bool   `json:"tls"`              // whether it speaks TLS
	// Certificate is the PEM file that it shows, or "" (Let's Encrypt).
	Certificate string `json:"certificate,omitempty"`
}

// ReadOnly is storage.maintenance.readonly.enabled as a registry would take it.
type ReadOnly struct {
	Set     bool `json:"set"`
	Enabled bool `json:"enabled"`
	// Problem is why a setting that is there does not count, or "".
	Problem string `json:"problem,omitempty"`
}

// Parameters are a storage driver's parameters. Printed or marshalled, they show
// only values that are known to be no secret.
type Parameters map[string]any

// shown are the parameters whose values may be printed. All others may hold a
// key, a password, or the path of a file that does: drivers come from anywhere.
var shown = map[string]bool{
	"accelerate": true, "bucket": true, "chunksize": true, "container": true,
	"encrypt": true, "forcepathstyle": true, "loglevel": true, "maxthreads": true,
	"multipartcopychunksize": true, "multipartcopymaxconcurrency": true,
	"multipartcopythresholdsize": true, "objectacl": true, "region": true,
	"regionendpoint": true, "rootdirectory": true, "secure": true,
	"skipverify": true, "storageclass": true, "usedualstack": true,
	"usefipsendpoint": true, "v4auth": true,
}

const hidden = "(not shown)"

func (p Parameters) public() map[string]any {
	public := make(map[string]any, len(p))
	for key, value := range p {
		switch {
		case value == nil || value == "":
			public[key] = value
		case !shown[key]:
			public[key] = hidden
		default:
			public[key] = storage.WithoutUserinfo(fmt.Sprint(value))
		}
	}
	return public
}

func (p Parameters) String() string {
	public := p.public()
	words := make([]string, 0, len(public))
	for _, key := range slices.Sorted(maps.Keys(public)) {
		words = append(words, fmt.Sprintf("%s=%v", key, public[key]))
	}
	return strings.Join(words, " ")
}

func (p Parameters) GoString() string { return "storage.Parameters{" + p.String() + "}" }

func (p Parameters) MarshalJSON() ([]byte, error) { return json.Marshal(p.public()) }

// maxConfigSize is larger than any config.yml, in bytes.
const maxConfigSize = 16 << 20

func readConfigFile(path string) (content []byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	content, err = io.ReadAll(io.LimitReader(file, maxConfigSize+1))
	if err = errors.Join(err, file.Close()); err == nil && len(content) > maxConfigSize {
		err = fmt.Errorf("it is larger than %d MiB", maxConfigSize>>20)
	}
	return content, err
}

// readConfig reads a registry's config.yml as the registry itself would, with the
// REGISTRY_… variables of the process's environment. Its errors are usage errors.
func readConfig(path string) (Config, error) {
	content, err := readConfigFile(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Config{}, storage.Usagef("%s can't be read: permission denied; run as the user that the registry runs as", path)
	case err != nil:
		return Config{}, storage.Usagef("%s can't be read: %w", path, err)
	}
	parsed, ignored, err := parseConfig(content)
	if err != nil {
		return Config{}, storage.Usagef("%s does not read as a registry's config.yml: %w", path, err)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return Config{}, fmt.Errorf("find the current directory: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return Config{}, storage.Usagef("%s can't be read: %w", path, err)
	}
	c := Config{
		Target:     absolute,
		File:       absolute,
		Changed:    info.ModTime(),
		Driver:     parsed.Storage.Type(),
		Parameters: Parameters(maps.Clone(parsed.Storage.Parameters())),
		Registry:   registryFacts(parsed, ignored),
	}
	if c.Registry.Database, err = databaseEnabled(content, os.Getenv); err != nil {
		return Config{}, storage.Usagef("%s: database.enabled can't be read: %w", path, oneLine(err.Error()))
	}
	if c.Parameters == nil {
		c.Parameters = Parameters{}
	}
	c.RootFrom = c.rootSource(os.LookupEnv)
	if c.Driver == "filesystem" {
		if err := c.settleRoot(); err != nil {
			return Config{}, err
		}
	}
	if names := unknownVariables(ignored, os.LookupEnv); len(names) > 0 {
		c.Warnings = append(c.Warnings, "ignored, as a registry would ignore it, since it is no setting: "+firstFew(names))
	}
	return c, nil
}

// rootSource says where the root is set, as in "set by $REGISTRY_STORAGE_S3_ROOTDIRECTORY".
func (c *Config) rootSource(lookup func(string) (string, bool)) string {
	section := "REGISTRY_STORAGE_" + strings.ToUpper(c.Driver)
	_, set := c.Parameters["rootdirectory"]
	for _, variable := range []string{section + "_ROOTDIRECTORY", section} {
		if _, found := lookup(variable); found && set {
			return "set by $" + variable
		}
	}
	if set {
		return "set by storage." + c.Driver + ".rootdirectory in " + c.File
	}
	from := c.File
	if _, found := lookup("REGISTRY_STORAGE"); found {
		from = "$REGISTRY_STORAGE"
	}
	return "the default, since " + from + " sets no rootdirectory"
}

// unknownVariables are the REGISTRY_… variables that Distribution's parser has no setting
// for. Those that Kubernetes makes for each Service are none of anybody's.
func unknownVariables(ignored []string, lookup func(string) (string, bool)) []string {
	var names []string
	for _, line := range ignored {
		name := variable.FindString(line)
		if name != "" && !harmless.MatchString(name) && !isOfService(name, lookup) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

var variable = regexp.MustCompile(`REGISTRY_\w+`)

// isOfService reports whether Kubernetes has made a variable for a Service: for one that is
// called registry-ui, REGISTRY_UI_SERVICE_HOST, REGISTRY_UI_PORT_80_TCP and others.
func isOfService(name string, lookup func(string) (string, bool)) bool {
	for at := 0; at < len(name); at++ {
		rest := name[at:]
		if !strings.HasPrefix(rest, "_SERVICE_") && rest != "_PORT" && !strings.HasPrefix(rest, "_PORT_") {
			continue
		}
		_, host := lookup(name[:at] + "_SERVICE_HOST")
		_, port := lookup(name[:at] + "_SERVICE_PORT")
		if host && port {
			return true
		}
	}
	return false
}

// settleRoot makes a filesystem's root directory explicit and absolute.
func (c *Config) settleRoot() error {
	root, set := c.Parameters["rootdirectory"]
	if !set {
		root = DefaultRootDirectory
	}
	if root == nil || fmt.Sprint(root) == "" {
		return storage.Usagef("%s: storage.filesystem.rootdirectory is empty (it is %s); set it to the directory that holds docker/registry/v2", c.Target, c.RootFrom)
	}
	path := fmt.Sprint(root)
	if !filepath.IsAbs(path) {
		absolute, err := filepath.Abs(path)
		if err != nil {
			return fmt.Errorf("find the current directory: %w", err)
		}
		c.Warnings = append(c.Warnings, fmt.Sprintf("rootdirectory %q is relative: taken as %s, from the directory that this program was started in", path, absolute))
		path = absolute
	}
	c.Parameters["rootdirectory"] = filepath.Clean(path)
	return nil
}

// parsing serializes parseConfig, which borrows the one logger that Distribution's
// parser writes to.
var parsing sync.Mutex

// parseConfig parses with Distribution's own parser and turns its panics into
// errors. What the parser logs (variables that it ignores) is returned instead.
func parseConfig(content []byte) (parsed *configuration.Configuration, ignored []string, err error) {
	parsing.Lock()
	defer parsing.Unlock()
	logged := new(warnings)
	logger := logrus.StandardLogger()
	before := logger.Out
	logger.SetOutput(io.Discard)
	hooks := logger.ReplaceHooks(logrus.LevelHooks{})
	logger.AddHook(logged)
	defer func() {
		logger.ReplaceHooks(hooks)
		logger.SetOutput(before)
		if met := recover(); met != nil {
			parsed, err = nil, oneLine(fmt.Sprint(met))
		}
	}()
	parsed, err = configuration.Parse(bytes.NewReader(content))
	if err != nil {
		if again := duplicateKey(content); again != nil {
			return nil, nil, again
		}
		return nil, nil, oneLine(err.Error())
	}
	logged.mu.Lock()
	defer logged.mu.Unlock()
	return parsed, logged.lines, nil
}

// warnings is a logrus hook that keeps what the parser says, and not what others
// may log meanwhile.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

func (*warnings) Levels() []logrus.Level { return logrus.AllLevels }

func (w *warnings) Fire(entry *logrus.Entry) error {
	if strings.HasPrefix(entry.Message, "Ignoring ") {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.lines = append(w.lines, entry.Message)
	}
	return nil
}

// harmless matches variables that are no settings: the path of config.yml, and those that
// Kubernetes makes for a Service that is called registry.
var harmless = regexp.MustCompile(`^REGISTRY_(CONFIGURATION_PATH|PORT|SERVICE)(_|$)`)

var quoted = regexp.MustCompile("`[^`]*`")

// oneLine makes the parser's error fit to print: on one line, and without the
// values that yaml quotes, since one of them may be a password in a wrong place.
func oneLine(message string) error {
	message = quoted.ReplaceAllString(message, "(a value)")
	message = strings.Join(strings.Fields(message), " ")
	if message == `unsupported version: ""` {
		message = "it has no line `version: 0.1`"
	}
	if message == "no storage configuration provided" {
		message += ": if the registry's container or Pod has REGISTRY_STORAGE_… variables, they contain the rest: set them here too"
	}
	return errors.New(message)
}

var alreadySet = regexp.MustCompile(`line (\d+): key "(\w+)" already set in map`)

// duplicateKey is an error that names a key which one mapping has twice. Distribution's
// parser takes the last one and complains of what it lacks.
func duplicateKey(content []byte) error {
	err := yaml.UnmarshalStrict(content, &map[any]any{})
	if err == nil {
		return nil
	}
	found := alreadySet.FindStringSubmatch(err.Error())
	if found == nil {
		return nil
	}
	lines := strings.Split(string(content), "\n")
	second, err := strconv.Atoi(found[1])
	if err != nil || second < 1 || second > len(lines) {
		return nil
	}
	// The parser says where the value is.
	for second > 1 && !strings.HasPrefix(strings.TrimLeft(lines[second-1], " "), found[2]+":") {
		second--
	}
	start, _, _ := strings.Cut(lines[second-1], ":")
	for first := second - 1; first >= 1; first-- {
		if strings.HasPrefix(lines[first-1], start+":") {
			return fmt.Errorf("lines %d and %d both have the key %s: merge them into one", first, second, found[2])
		}
	}
	return nil
}

func registryFacts(parsed *configuration.Configuration, ignored []string) *Registry {
	r := &Registry{
		HTTP: HTTP{
			Net:    parsed.HTTP.Net,
			Addr:   parsed.HTTP.Addr,
			Host:   storage.WithoutUserinfo(parsed.HTTP.Host),
			Prefix: parsed.HTTP.Prefix,
			// As ListenAndServe in registry/registry.go decides it.
			TLS:         parsed.HTTP.TLS.Certificate != "" || parsed.HTTP.TLS.LetsEncrypt.CacheFile != "",
			Certificate: parsed.HTTP.TLS.Certificate,
		},
		ProxyRemote: storage.WithoutUserinfo(parsed.Proxy.RemoteURL),
	}
	maintenance := parsed.Storage["maintenance"]
	r.ReadOnly = readOnly(maintenance)
	for _, line := range ignored {
		if strings.Contains(line, readOnlyVariable) {
			r.ReadOnly.Problem = readOnlyVariable + " is set, and a registry ignores it: use REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'"
		}
	}
	cache := parsed.Storage["cache"]
	kind, found := cache["blobdescriptor"]
	if !found {
		kind = cache["layerinfo"]
	}
	if kind == "redis" || kind == "inmemory" {
		r.DescriptorCache = fmt.Sprint(kind)
	}
	if realm, found := parsed.Auth["htpasswd"]["realm"]; found {
		r.Realm = fmt.Sprint(realm)
	}
	return r
}

// databaseEnabled reads a setting of GitLab's registry, which Distribution's parser
// does not know: true, false or "prefer". It returns "" if the setting is off.
func databaseEnabled(content []byte, env func(string) string) (string, error) {
	var file struct {
		Database struct {
			Enabled any `yaml:"enabled"`
		} `yaml:"database"`
	}
	if err := yaml.Unmarshal(content, &file); err != nil {
		return "", err
	}
	value := env("REGISTRY_DATABASE_ENABLED")
	if value == "" && file.Database.Enabled != nil {
		value = fmt.Sprint(file.Database.Enabled)
	}
	if off, err := strconv.ParseBool(value); value == "" || err == nil && !off {
		return "", nil
	}
	return value, nil
}

// readOnly judges the setting as NewApp in registry/handlers/app.go does. Where
// the registry would panic, the setting counts as absent: a registry that runs
// can't have read it.
func readOnly(maintenance configuration.Parameters) ReadOnly {
	value, found := maintenance["readonly"]
	if !found {
		return ReadOnly{}
	}
	const panics = " is set in a way that makes a registry panic when it starts: "
	block, ok := value.(map[any]any)
	if !ok {
		problem := "storage.maintenance.readonly" + panics + "it must be a block with `enabled: true`"
		if _, byVariable := value.(map[string]any); byVariable {
			problem = readOnlyVariable + panics + "use REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'"
		}
		return ReadOnly{Problem: problem}
	}
	value, found = block["enabled"]
	if !found {
		return ReadOnly{Problem: "storage.maintenance.readonly has no `enabled`, so it does nothing"}
	}
	enabled, ok := value.(bool)
	if !ok {
		return ReadOnly{Problem: "storage.maintenance.readonly.enabled" + panics + "it must be true or false, without quotes"}
	}
	return ReadOnly{Set: true, Enabled: enabled}
}

// Root is a filesystem's root directory.
func (c Config) Root() (string, error) {
	value, found := c.Parameters["rootdirectory"]
	if !found {
		return DefaultRootDirectory, nil
	}
	if value == nil || fmt.Sprint(value) == "" {
		return "", storage.Usagef("%s: storage.filesystem.rootdirectory is empty", c.Target)
	}
	return fmt.Sprint(value), nil
}
