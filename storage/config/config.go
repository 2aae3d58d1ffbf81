// Package config finds out which storage a target names, and reads a registry's config.yml.
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

// DefaultRootDirectory is the root directory of a filesystem registry whose configuration
// does not set one. Source: registry/storage/driver/filesystem.
const DefaultRootDirectory = "/var/lib/registry"

// readOnlyVariable is the environment variable that people try first. Distribution never
// accepts it. If config.yml has a readonly block, the variable is ignored. If it has none,
// the variable makes the registry panic. Source: overwriteMap in configuration/parser.go,
// NewApp in registry/handlers/app.go.
const readOnlyVariable = "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED"

// Config says which storage a target names. If the target is a registry's config.yml, it also
// has the settings of that registry. It can be printed and marshalled: it shows no secret.
type Config struct {
	// Target is the target that the user gave, as an absolute path or an s3:// URL.
	Target string `json:"target"`
	// Driver is the storage driver's name: "filesystem", "s3", …
	Driver string `json:"driver"`
	// Parameters are the parameters of the driver, with the meaning that Distribution gives them.
	Parameters Parameters `json:"parameters"`
	// Registry is nil if the target is a directory or an s3:// URL, which have no settings of a
	// registry.
	Registry *Registry `json:"registry,omitempty"`
	// Warnings are full sentences about settings that do not do what they seem to do.
	Warnings []string `json:"warnings,omitempty"`
	// File is the config.yml that was read, or "" if the target is no config.yml. If the user
	// gave no target, NotRead has the other usual paths at which a config.yml exists.
	File    string   `json:"file,omitempty"`
	NotRead []string `json:"not_read,omitempty"`
	// RootFrom says where the root is set, such as "set by $REGISTRY_STORAGE_S3_ROOTDIRECTORY". It
	// is "" if the target is no config.yml.
	RootFrom string `json:"-"`
	// Changed is when the config.yml was last written. It is zero if the target is no config.yml.
	Changed time.Time `json:"-"`
	// Limits are set by the user and not by the target. ParseTarget leaves them zero.
	Limits storage.Limits `json:"-"`
	// OnSilence, if set, is called when an S3 server has sent nothing for 30 s. It is called
	// again only after the server has answered. It may be called from any goroutine.
	OnSilence func(endpoint string, since time.Time) `json:"-"`
	// Transport is for tests.
	Transport storage.Transport `json:"-"`
}

// Registry has the settings of a registry in a config.yml. The running registry may have read
// another file, so this proves nothing about it.
type Registry struct {
	HTTP     HTTP     `json:"http"`
	ReadOnly ReadOnly `json:"readonly"`
	// ProxyRemote is the remote registry if this one is a pull-through cache, or "".
	ProxyRemote string `json:"proxy_remote,omitempty"`
	// DescriptorCache is "redis", "inmemory" or "". A running registry still answers from this
	// cache for blobs that were removed.
	DescriptorCache string `json:"descriptor_cache,omitempty"`
	// Redis is nil if DescriptorCache is not "redis".
	Redis *Redis `json:"redis,omitempty"`
	// Database is the value of database.enabled, or "" if it is false. If it is set, GitLab's
	// registry records in a database what is in use.
	Database string `json:"database,omitempty"`
	// Realm is auth.htpasswd.realm. It identifies the registry of Harbor.
	Realm string `json:"realm,omitempty"`
}

// HTTP is where the registry listens.
type HTTP struct {
	Net    string `json:"net,omitempty"`    // "", "tcp" or "unix"
	Addr   string `json:"addr,omitempty"`   // host:port, :port, or a socket's path
	Host   string `json:"host,omitempty"`   // the URL that clients use, if set
	Prefix string `json:"prefix,omitempty"` // before /v2/
	TLS    bool   `json:"tls"`
	// Certificate is the PEM file of its certificate, or "" (Let's Encrypt).
	Certificate string `json:"certificate,omitempty"`
}

// ReadOnly is storage.maintenance.readonly.enabled as a registry would read it.
type ReadOnly struct {
	Set     bool `json:"set"`
	Enabled bool `json:"enabled"`
	// Problem is why a setting in the file has no effect, or "".
	Problem string `json:"problem,omitempty"`
}

// Parameters are a storage driver's parameters. If they are printed or marshalled, they show
// only the values that are never a secret.
type Parameters map[string]any

// shown are the parameters whose values may be printed. Any other parameter may hold a
// key, a password, or the path of a file with one: a driver can be from anywhere.
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

func (p Parameters) GoString() string { return "config.Parameters{" + p.String() + "}" }

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

// readConfig reads a registry's config.yml as the registry itself does, with the
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
	if c.Registry.DescriptorCache == "redis" {
		if c.Registry.Redis, err = readRedis(parsed.Redis, content, os.Getenv); err != nil {
			return Config{}, storage.Usagef("%s: the section redis can't be read: %w", path, oneLine(err.Error()))
		}
	}
	if c.Parameters == nil {
		c.Parameters = Parameters{}
	}
	c.RootFrom = c.rootSource(os.LookupEnv)
	if c.Driver == "filesystem" {
		if err := c.resolveRoot(); err != nil {
			return Config{}, err
		}
	}
	if names := unknownVariables(ignored, os.LookupEnv); len(names) > 0 {
		c.Warnings = append(c.Warnings, "ignored, as a registry would ignore it, since it is no setting: "+firstFew(names))
	}
	return c, nil
}

// rootSource says where the root is set, such as "set by $REGISTRY_STORAGE_S3_ROOTDIRECTORY".
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

// unknownVariables are the REGISTRY_… variables for which Distribution's parser has no setting.
// It leaves out the variables that Kubernetes makes for each Service.
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

// isOfService reports whether Kubernetes has made a variable for a Service. For a Service that is
// called registry-ui it makes REGISTRY_UI_SERVICE_HOST, REGISTRY_UI_PORT_80_TCP and others.
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

// resolveRoot makes a filesystem's root directory explicit and absolute.
func (c *Config) resolveRoot() error {
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

// parsing serializes parseConfig, which changes the global logger that Distribution's
// parser writes to.
var parsing sync.Mutex

// parseConfig parses with Distribution's own parser and turns its panics into
// errors. The parser logs the variables that it ignores; parseConfig returns these lines.
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
		if keyOfPolicy.Match(content) {
			return nil, nil, errors.New("it looks like a policy: give it with --policy, and the registry's config.yml as the target")
		}
		return nil, nil, oneLine(err.Error())
	}
	logged.mu.Lock()
	defer logged.mu.Unlock()
	return parsed, logged.lines, nil
}

// warnings is a logrus hook that records the lines of the parser, and not those that other
// code logs meanwhile.
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

// harmless matches variables that are no settings: the path of config.yml, and the variables
// that Kubernetes makes for a Service that is called registry. It also matches the settings of Redis
// that only other releases of the registry know (see readRedis).
var harmless = regexp.MustCompile(`^REGISTRY_(CONFIGURATION_PATH|PORT|SERVICE|REDIS_ADDR|REDIS_POOL|REDIS_TLS_ENABLED)(_|$)`)

var quoted = regexp.MustCompile("`[^`]*`")

// oneLine makes the parser's error printable: on one line, and without the values that yaml
// quotes, since one of them may be a password in a wrong place.
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

// keyOfPolicy is a key that the file of gc --policy has, and no config.yml.
var keyOfPolicy = regexp.MustCompile(`(?m)^(rules|protect):`)

var alreadySet = regexp.MustCompile(`line (\d+): key "(\w+)" already set in map`)

// duplicateKey returns an error that names a key which one mapping has twice. Distribution's
// parser takes the last one, and its own error is about something that is missing there.
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
	// The parser gives the line of the value. The key is on the same line or above it.
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
			// Source: ListenAndServe in registry/registry.go.
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

// databaseEnabled reads database.enabled, a setting of GitLab's registry that Distribution's
// parser does not know: true, false or "prefer". It returns "" if the setting is off.
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

// readOnly reads the setting as NewApp in registry/handlers/app.go does. If the setting would
// make the registry panic, it counts as absent: a running registry can't have read it.
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
