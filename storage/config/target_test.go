package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"regsweep/storage"
)

// registryDir makes a directory with an empty docker/registry/v2.
func registryDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, storage.Root), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestEmptyTargetIsTheUsualConfig(t *testing.T) {
	first, second := configFile(t, fileConfig), configFile(t, fileConfig)
	absent := filepath.Join(t.TempDir(), "config.yml")
	named := func(key string) string { return map[string]string{"REGISTRY_CONFIGURATION_PATH": second}[key] }
	lost := func(key string) string { return map[string]string{"REGISTRY_CONFIGURATION_PATH": absent}[key] }

	for _, test := range []struct {
		name  string
		env   func(string) string
		usual []string
		want  string
		fails string
	}{
		{"the variable comes first", named, []string{first}, second, ""},
		{"then the first that is there", noEnv, []string{absent, first, second}, first, ""},
		{"a variable that names nothing", lost, []string{first}, "", "$REGISTRY_CONFIGURATION_PATH: " + absent + " does not exist"},
		{"nothing anywhere", noEnv, []string{absent}, "", "no target: $REGISTRY_CONFIGURATION_PATH is not set and there is no " + absent},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, err := parseTarget("", test.env, test.usual)
			if test.fails != "" {
				usageError(t, err, test.fails)
				return
			}
			if err != nil || c.Target != test.want {
				t.Errorf("got %s, %v; want %s", c.Target, err, test.want)
			}
		})
	}
}

// If config.yml exists at two usual paths, the first is read. NotRead has the second.
func TestTheConfigThatWasReadIsKnown(t *testing.T) {
	first, second := configFile(t, fileConfig), configFile(t, fileConfig)
	absent := filepath.Join(t.TempDir(), "config.yml")
	c, err := parseTarget("", noEnv, []string{absent, first, second})
	if err != nil || c.File != first || !reflect.DeepEqual(c.NotRead, []string{second}) {
		t.Errorf("read %q and not %q, %v", c.File, c.NotRead, err)
	}
	c, err = parseTarget("", noEnv, []string{absent, second})
	if err != nil || c.File != second || c.NotRead != nil {
		t.Errorf("read %q and not %q, %v", c.File, c.NotRead, err)
	}
	c, err = parseTarget(second, noEnv, []string{first, second})
	if err != nil || c.File != second || c.NotRead != nil {
		t.Errorf("read %q and not %q, %v", c.File, c.NotRead, err)
	}
	if c := mustParse(t, registryDir(t)); c.File != "" {
		t.Errorf("a directory has the config %q", c.File)
	}
}

func TestDirectoryTargetIsTheRootOrBelowIt(t *testing.T) {
	root := registryDir(t)
	for _, below := range []string{"", "/", "/docker", "/docker/registry", "/docker/registry/v2", "/docker/registry/v2/"} {
		c, err := ParseTarget(root+below, noEnv)
		if err != nil {
			t.Errorf("%q: %v", below, err)
			continue
		}
		if c.Driver != "filesystem" || c.Parameters["rootdirectory"] != root || c.Registry != nil {
			t.Errorf("%q: got %v", below, c)
		}
	}
	t.Chdir(filepath.Join(root, "docker"))
	if c := mustParse(t, "."); c.Target != root {
		t.Errorf("from within: got %s, want %s", c.Target, root)
	}
}

func TestWrongTargetsSayWhatToPass(t *testing.T) {
	withConfig := filepath.Dir(configFile(t, fileConfig))
	empty := t.TempDir()
	for _, test := range []struct{ arg, want string }{
		{empty, empty + " holds no docker/registry/v2: pass the directory that"},
		{registryDir(t) + "/docker/registry/v2/..//v2/../../..//..", "holds no docker/registry/v2"},
		{withConfig, "pass " + withConfig + "/config.yml"},
		{empty + "/nothing", "does not exist: pass a registry's config.yml"},
		{"gs://bucket/x", "gs:// is not a target: pass"},
		{"https://registry.example.com", "https:// is not a target"},
		{"s3://", "names no bucket"},
		{"s3:///prefix", "names no bucket"},
		{"s3://bucket/x#y", "%23"},
		{"s3://bucket:9000/x", "a bucket has no port"},
		{"s3://bucket/%zz", "is not a URL"},
		{"s3://bucket?reigon=x", `unknown key "reigon": the keys are accelerate, chunksize, encrypt, endpoint, forcepathstyle`},
		{"s3://bucket?rootdirectory=x", `unknown key "rootdirectory"`},
		{"s3://bucket?region=", "region needs one value"},
		{"s3://bucket?region=a&region=b", "region needs one value"},
		{"s3://bucket?endpoint=a&regionendpoint=b", "given twice"},
		{"s3://bucket?secure=perhaps", "secure must be true or false"},
		{"s3://bucket?chunksize=big", "chunksize must be a number"},
		{"s3://swordfish:swordfish@bucket/x", "takes no access key: use AWS_ACCESS_KEY_ID"},
		{"s3://bucket?accesskey=swordfish", "accesskey is not accepted on the command line"},
		{"s3://bucket?SecretKey=swordfish", "secretkey is not accepted on the command line"},
		{"s3://bucket?endpoint=https://me:swordfish@host", "an endpoint takes no access key"},
		{"s3://bucket?%zz=swordfish", "is not key=value"},
		{"s3://bucket:swordfish/x", "is not a URL"},
	} {
		_, err := ParseTarget(test.arg, noEnv)
		usageError(t, err, test.want)
		if err != nil && strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%s: the error shows a secret: %v", test.arg, err)
		}
	}
}

func TestS3TargetBecomesTheParametersOfAConfig(t *testing.T) {
	for arg, want := range map[string]Parameters{
		"s3://images":                             {"bucket": "images"},
		"s3://images/":                            {"bucket": "images"},
		"S3://images/a/b/":                        {"bucket": "images", "rootdirectory": "/a/b"},
		"s3://images/a/b/docker/registry/v2":      {"bucket": "images", "rootdirectory": "/a/b"},
		"s3://images/docker/registry/v2/":         {"bucket": "images"},
		"s3://images/a%20b?region=us-east-1":      {"bucket": "images", "rootdirectory": "/a b", "region": "us-east-1"},
		"s3://images?endpoint=http://127.0.0.1:9": {"bucket": "images", "regionendpoint": "http://127.0.0.1:9"},
		"s3://images?regionendpoint=127.0.0.1:9&secure=false&forcepathstyle=1&chunksize=5242880": {
			"bucket": "images", "regionendpoint": "127.0.0.1:9", "secure": false, "forcepathstyle": true, "chunksize": 5242880},
	} {
		c := mustParse(t, arg)
		if c.Driver != "s3" || c.Registry != nil || !reflect.DeepEqual(c.Parameters, want) {
			t.Errorf("%s: got %v, want %v", arg, c.Parameters, want)
		}
	}
}
