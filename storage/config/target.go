package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"regsweep/storage"
)

const (
	configVariable = "REGISTRY_CONFIGURATION_PATH"
	targetHelp     = "pass a registry's config.yml, a directory that holds docker/registry/v2, or s3://bucket/prefix"
)

// defaultConfigs are the paths of config.yml in Distribution's images and packages.
var defaultConfigs = []string{"/etc/distribution/config.yml", "/etc/docker/registry/config.yml"}

// ParseTarget parses TARGET: a registry's config.yml, a directory that contains
// docker/registry/v2, or s3://bucket/prefix?endpoint=…&region=…. An empty arg means the file
// that $REGISTRY_CONFIGURATION_PATH names, or else the first of the usual paths that exists.
// env returns a variable, as os.Getenv does. The REGISTRY_… overrides of a config.yml are read
// by Distribution's parser, from the process's own environment. ParseTarget opens no storage.
// If the argument or the file is wrong, the error is a *storage.UsageError.
func ParseTarget(arg string, env func(string) string) (Config, error) {
	return parseTarget(arg, env, defaultConfigs)
}

func parseTarget(arg string, env func(string) string, usual []string) (Config, error) {
	if arg != "" {
		return namedTarget(arg)
	}
	if path := env(configVariable); path != "" {
		c, err := namedTarget(path)
		if err != nil {
			err = fmt.Errorf("$%s: %w", configVariable, err)
		}
		return c, err
	}
	for i, path := range usual {
		// readConfig reports all other errors.
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		c, err := readConfig(path)
		for _, other := range usual[i+1:] {
			if _, statErr := os.Stat(other); statErr == nil {
				c.NotRead = append(c.NotRead, other)
			}
		}
		return c, err
	}
	return Config{}, storage.Usagef("no target: $%s is not set and there is no %s: %s",
		configVariable, strings.Join(usual, " or "), targetHelp)
}

func namedTarget(arg string) (Config, error) {
	if scheme, _, found := strings.Cut(arg, "://"); found {
		if !strings.EqualFold(scheme, "s3") {
			return Config{}, storage.Usagef("%s:// is not a target: %s", scheme, targetHelp)
		}
		return s3Target(arg)
	}
	info, err := os.Stat(arg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Config{}, storage.Usagef("%s does not exist: %s", arg, targetHelp)
	case err != nil:
		return Config{}, storage.Usagef("target %s: %w", arg, err)
	case info.IsDir():
		return directoryTarget(arg)
	}
	return readConfig(arg)
}

// directoryTarget accepts the root directory itself. It also accepts each directory on the way
// down to docker/registry/v2, since people pass the directory that they happen to see.
func directoryTarget(arg string) (Config, error) {
	dir, err := filepath.Abs(arg)
	if err != nil {
		return Config{}, fmt.Errorf("find the current directory: %w", err)
	}
	for _, below := range []string{"", "docker", "docker/registry", storage.Root} {
		root, found := dir, true
		if below != "" {
			root, found = strings.CutSuffix(dir, "/"+below)
		}
		if root == "" {
			root = "/"
		}
		if !found || !isDir(filepath.Join(root, storage.Root)) {
			continue
		}
		return Config{Target: root, Driver: "filesystem", Parameters: Parameters{"rootdirectory": root}}, nil
	}
	for _, name := range []string{"config.yml", "config.yaml"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return Config{}, storage.Usagef("%s holds no %s but a %s: pass %s", dir, storage.Root, name, filepath.Join(dir, name))
		}
	}
	if err := Forbidden(dir); err != nil {
		return Config{}, err
	}
	c := Config{Target: dir, Driver: "filesystem", Parameters: Parameters{"rootdirectory": dir}}
	return c, c.absent(dir, describeRoot(dir))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// paramKind is the type that the value of a query would have in config.yml.
type paramKind int

const (
	text paramKind = iota
	boolean
	number
)

// s3Params are the parameters that an s3:// URL takes, as the s3 driver of
// Distribution spells them. Access keys are not among them: everybody on the machine can see a
// command line.
var s3Params = map[string]paramKind{
	"region": text, "regionendpoint": text, "keyid": text, "storageclass": text, "objectacl": text,
	"accelerate": boolean, "encrypt": boolean, "forcepathstyle": boolean, "secure": boolean,
	"skipverify": boolean, "usedualstack": boolean, "usefipsendpoint": boolean, "v4auth": boolean,
	"chunksize": number, "multipartcopychunksize": number,
	"multipartcopymaxconcurrency": number, "multipartcopythresholdsize": number,
}

const s3Keys = "use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile (AWS_PROFILE), the machine's role, or a config.yml"

// s3Target parses s3://bucket/prefix?key=value. Its errors repeat no part of the argument that
// could contain a secret.
func s3Target(arg string) (Config, error) {
	u, err := url.Parse(arg)
	switch {
	case err != nil:
		return Config{}, storage.Usagef("the s3:// target is not a URL: write s3://bucket/prefix?endpoint=https://host&region=name")
	case u.User != nil:
		return Config{}, storage.Usagef("an s3:// target takes no access key: %s", s3Keys)
	case u.Fragment != "":
		return Config{}, storage.Usagef("the s3:// target has a #: write it as %%23")
	case u.Hostname() == "":
		return Config{}, storage.Usagef("the s3:// target names no bucket: write s3://bucket/prefix")
	case u.Port() != "":
		return Config{}, storage.Usagef("s3://%s: a bucket has no port: write s3://bucket/prefix?endpoint=http://%s", u.Host, u.Host)
	}
	parameters := Parameters{"bucket": u.Host}
	prefix := strings.Trim(u.Path, "/")
	prefix = strings.Trim(strings.TrimSuffix("/"+prefix, "/"+storage.Root), "/")
	if prefix != "" {
		parameters["rootdirectory"] = "/" + prefix
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, storage.Usagef("s3://%s: what follows the ? is not key=value&key=value", u.Host)
	}
	for key, values := range query {
		value, err := s3Param(u.Host, key, values)
		if err != nil {
			return Config{}, err
		}
		if key == "endpoint" {
			key = "regionendpoint"
		}
		if _, twice := parameters[key]; twice {
			return Config{}, storage.Usagef("s3://%s: the endpoint is given twice, as endpoint and as regionendpoint", u.Host)
		}
		parameters[key] = value
	}
	target := url.URL{Scheme: "s3", Host: u.Host, Path: prefix, RawQuery: query.Encode()}
	if prefix != "" {
		target.Path = "/" + prefix
	}
	return Config{Target: target.String(), Driver: "s3", Parameters: parameters}, nil
}

func s3Param(bucket, key string, values []string) (any, error) {
	switch strings.ToLower(key) {
	case "accesskey", "secretkey", "sessiontoken", "accesskeyid", "secretaccesskey":
		return nil, storage.Usagef("s3://%s: %s is not accepted on the command line, where others can see it: %s", bucket, strings.ToLower(key), s3Keys)
	}
	kind, known := s3Params[key]
	if key == "endpoint" {
		kind, known = text, true
	}
	if !known {
		keys := append(slices.Collect(maps.Keys(s3Params)), "endpoint")
		slices.Sort(keys)
		return nil, storage.Usagef("s3://%s: unknown key %q: the keys are %s", bucket, key, strings.Join(keys, ", "))
	}
	if len(values) != 1 || values[0] == "" {
		return nil, storage.Usagef("s3://%s: %s needs one value", bucket, key)
	}
	value := values[0]
	switch {
	case kind == boolean:
		set, err := strconv.ParseBool(value)
		if err != nil {
			return nil, storage.Usagef("s3://%s: %s must be true or false", bucket, key)
		}
		return set, nil
	case kind == number:
		n, err := strconv.Atoi(value)
		if err != nil {
			return nil, storage.Usagef("s3://%s: %s must be a number", bucket, key)
		}
		return n, nil
	case key == "endpoint" || key == "regionendpoint":
		endpoint, err := url.Parse(value)
		if err == nil && endpoint.User != nil {
			return nil, storage.Usagef("s3://%s: an endpoint takes no access key: %s", bucket, s3Keys)
		}
		if err == nil && endpoint.RawQuery != "" {
			return nil, storage.Usagef("s3://%s: an endpoint has no ?", bucket)
		}
	}
	return value, nil
}
