package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"regsweep/storage"
)

// configFile writes a config.yml and returns its path.
func configFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func mustParse(t *testing.T, arg string) Config {
	t.Helper()
	c, err := ParseTarget(arg, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func noEnv(string) string { return "" }

const fileConfig = `version: 0.1
storage:
  filesystem:
    rootdirectory: /srv/registry
`

func TestConfigSaysWhatTheRegistryWouldRead(t *testing.T) {
	c := mustParse(t, configFile(t, `version: 0.1
log: {level: debug}
storage:
  s3: {bucket: images, region: eu-central-1, regionendpoint: "https://s3.example.com", rootdirectory: /team, forcepathstyle: true}
  cache: {blobdescriptor: redis}
  maintenance:
    uploadpurging: {enabled: true, age: 72h, interval: 24h, dryrun: false}
    readonly: {enabled: true}
http:
  addr: :5001
  host: https://user:word@registry.example.com
  prefix: /registry/
  tls: {certificate: /etc/registry/cert.pem, key: /etc/registry/key.pem, clientcas: [/etc/registry/ca.pem]}
redis: {addrs: ["localhost:6379"]}
proxy: {remoteurl: "https://mirror:word@registry-1.example.com"}
`))
	if c.Driver != "s3" || c.Parameters["bucket"] != "images" || c.Parameters["rootdirectory"] != "/team" || c.Parameters["forcepathstyle"] != true {
		t.Errorf("storage: %s %v", c.Driver, map[string]any(c.Parameters))
	}
	want := Registry{
		HTTP: HTTP{Addr: ":5001", Host: "https://registry.example.com", Prefix: "/registry/", TLS: true,
			Certificate: "/etc/registry/cert.pem"},
		ReadOnly:        ReadOnly{Set: true, Enabled: true},
		ProxyRemote:     "https://registry-1.example.com",
		DescriptorCache: "redis",
	}
	if r := c.Registry.Redis; r == nil || !slices.Equal(r.Addrs, []string{"localhost:6379"}) {
		t.Errorf("redis: %#v", r)
	}
	c.Registry.Redis = nil
	if *c.Registry != want {
		t.Errorf("got  %+v\nwant %+v", *c.Registry, want)
	}
}

func TestConfigOfOldRegistriesIsRead(t *testing.T) {
	// This is the file of Debian's docker-registry 2.8, with a 2.8 redis block.
	c := mustParse(t, configFile(t, `version: 0.1
log: {fields: {service: registry}}
storage:
  cache: {layerinfo: inmemory}
  filesystem: {rootdirectory: /var/lib/docker-registry}
  delete: {enabled: true}
http:
  addr: :5000
  headers: {X-Content-Type-Options: [nosniff]}
auth: {htpasswd: {realm: basic-realm, path: /etc/docker/registry}}
redis: {addr: "localhost:6379", password: word, db: 0, pool: {maxidle: 16}}
reporting: {bugsnag: {apikey: word}}
compatibility: {schema1: {enabled: true}}
`))
	if c.Parameters["rootdirectory"] != "/var/lib/docker-registry" || c.Registry.DescriptorCache != "inmemory" || c.Registry.HTTP != (HTTP{Addr: ":5000"}) {
		t.Errorf("got %v, %+v", c, c.Registry)
	}
}

// Promise 4, removal needs proof: a setting counts only in the one form that a registry
// obeys.
func TestReadOnlyCountsOnlyAsARegistryObeysIt(t *testing.T) {
	for _, test := range []struct {
		name, maintenance string
		want              ReadOnly
		problem           string
	}{
		{"absent", "", ReadOnly{}, ""},
		{"empty maintenance", "maintenance:", ReadOnly{}, ""},
		{"true", "maintenance: {readonly: {enabled: true}}", ReadOnly{Set: true, Enabled: true}, ""},
		{"false", "maintenance: {readonly: {enabled: false}}", ReadOnly{Set: true}, ""},
		{"yaml's yes", "maintenance: {readonly: {enabled: yes}}", ReadOnly{Set: true, Enabled: true}, ""},
		{"a bool for the block", "maintenance: {readonly: true}", ReadOnly{}, "must be a block"},
		{"nothing for the block", "maintenance: {readonly: }", ReadOnly{}, "must be a block"},
		{"a string for the bool", `maintenance: {readonly: {enabled: "true"}}`, ReadOnly{}, "without quotes"},
		{"an empty block", "maintenance: {readonly: {}}", ReadOnly{}, "has no `enabled`"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := mustParse(t, configFile(t, fileConfig+"  "+test.maintenance+"\n"))
			got := c.Registry.ReadOnly
			if problem := got.Problem; (problem == "") != (test.problem == "") || !strings.Contains(problem, test.problem) {
				t.Errorf("problem %q, want one with %q", problem, test.problem)
			}
			got.Problem = ""
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestEnvironmentOverridesTheFile(t *testing.T) {
	t.Setenv("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY", "/srv/other")
	t.Setenv("REGISTRY_HTTP_ADDR", "127.0.0.1:5055")
	t.Setenv("REGISTRY_STORAGE_MAINTENANCE_READONLY", "{enabled: true}")
	t.Setenv("REGISTRY_CONFIGURATION_PATH", "/nowhere")
	t.Setenv("REGISTRY_PORT_5000_TCP", "tcp://10.0.0.1:5000")
	t.Setenv("REGISTRY_SOTRAGE", "a slip of the pen")
	c := mustParse(t, configFile(t, fileConfig))
	if c.Parameters["rootdirectory"] != "/srv/other" || c.Registry.HTTP.Addr != "127.0.0.1:5055" || !c.Registry.ReadOnly.Enabled {
		t.Errorf("got %v, %+v", c, c.Registry)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "REGISTRY_SOTRAGE") {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

// Kubernetes makes variables for each Service. For a Service called registry-ui they begin like
// settings.
func TestVariablesOfAServiceAreNoSettings(t *testing.T) {
	for name, value := range map[string]string{
		"SERVICE_HOST": "10.0.0.7", "SERVICE_PORT": "80", "SERVICE_PORT_HTTP": "80", "PORT": "tcp://10.0.0.7:80",
		"PORT_80_TCP": "tcp://10.0.0.7:80", "PORT_80_TCP_PROTO": "tcp", "PORT_80_TCP_PORT": "80", "PORT_80_TCP_ADDR": "10.0.0.7",
	} {
		t.Setenv("REGISTRY_UI_"+name, value)
	}
	if c := mustParse(t, configFile(t, fileConfig)); len(c.Warnings) != 0 {
		t.Errorf("warnings: %q", c.Warnings)
	}
	// All unknown names are in one warning.
	t.Setenv("REGISTRY_SOTRAGE", "a slip")
	t.Setenv("REGISTRY_HTPP_ADDR", "another")
	t.Setenv("REGISTRY_WEB_PORT_MAX", "of no Service")
	c := mustParse(t, configFile(t, fileConfig))
	if want := "REGISTRY_HTPP_ADDR, REGISTRY_SOTRAGE, REGISTRY_WEB_PORT_MAX"; len(c.Warnings) != 1 || !strings.HasSuffix(c.Warnings[0], want) {
		t.Errorf("warnings: %q", c.Warnings)
	}
}

// Promise 4, removal needs proof: a variable that people set but that no registry obeys does
// not count as a setting.
func TestTheReadOnlyVariableThatNoRegistryObeys(t *testing.T) {
	t.Setenv(readOnlyVariable, "true")
	for name, maintenance := range map[string]string{
		"no block":          "",
		"a block that says": "  maintenance: {readonly: {enabled: false}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := mustParse(t, configFile(t, fileConfig+maintenance)).Registry.ReadOnly
			if got.Enabled || !strings.Contains(got.Problem, readOnlyVariable) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestFilesystemRootIsSettled(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for storage, want := range map[string]string{
		"storage: filesystem":                                "/var/lib/registry",
		"storage: {filesystem: }":                            "/var/lib/registry",
		"storage: {filesystem: {maxthreads: 5}}":             "/var/lib/registry",
		"storage: {filesystem: {rootdirectory: /a/b/}}":      "/a/b",
		"storage: {filesystem: {rootdirectory: ./images/x}}": filepath.Join(here, "images/x"),
	} {
		c := mustParse(t, configFile(t, "version: 0.1\n"+storage+"\n"))
		if got := c.Parameters["rootdirectory"]; got != want {
			t.Errorf("%s: got %v, want %v", storage, got, want)
		}
		if strings.Contains(storage, "./") != (len(c.Warnings) == 1) {
			t.Errorf("%s: warnings %q", storage, c.Warnings)
		}
	}
}

func TestWhatIsNoConfigIsSaidInOneLine(t *testing.T) {
	for name, test := range map[string]struct{ content, want string }{
		"prose":           {"dear all,\nplease find attached", "does not read as a registry's config.yml"},
		"another program": {"services:\n  web: {image: x}\n", "no line `version: 0.1`"},
		"a newer version": {"version: 9.9\nstorage: filesystem\n", `unsupported version: "9.9"`},
		"no storage":      {"version: 0.1\nhttp: {addr: ':5000'}\n", "no storage configuration provided"},
		"two storages":    {"version: 0.1\nstorage: {filesystem: {}, s3: {bucket: x}}\n", "exactly one storage type"},
		"types":           {"version: 0.1\nstorage: {s3: swordfish}\nhttp: sword\n", "cannot unmarshal"},
		"empty root":      {"version: 0.1\nstorage: {filesystem: {rootdirectory: ''}}\n", "rootdirectory is empty"},
		"binary":          {"\x00\x01\x02", "does not read as a registry's config.yml"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseTarget(configFile(t, test.content), noEnv)
			usageError(t, err, test.want)
			if strings.Contains(err.Error(), "sword") {
				t.Errorf("a value is shown: %v", err)
			}
		})
	}
}

func TestAPanicOfTheParserIsAnError(t *testing.T) {
	t.Setenv("REGISTRY_STORAGE_S3_BUCKET", "images")
	_, err := ParseTarget(configFile(t, fileConfig), noEnv)
	usageError(t, err, "multiple storage drivers")
}

func TestNoSecretIsShown(t *testing.T) {
	c := mustParse(t, configFile(t, `version: 0.1
storage:
  cache: {blobdescriptor: redis}
  s3:
    bucket: images
    region: eu-central-1
    accesskey: swordfish1
    secretkey: swordfish2
    sessiontoken: swordfish3
    regionendpoint: https://me:swordfish4@s3.example.com/?sig=swordfish5
    brandnew: swordfish6
http: {addr: ":5000", secret: swordfish7, host: "https://a:swordfish8@example.com"}
proxy: {remoteurl: "https://a:swordfish9@example.com", username: a, password: swordfish0}
redis: {addrs: [localhost:6379], username: swordfisha, password: swordfish, sentinelpassword: swordfishb}
`))
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{
		string(asJSON), fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%q", c.Parameters),
		fmt.Sprintf("%+v", &c), fmt.Sprintf("%v", c.Parameters), fmt.Sprintf("%#v", c.Parameters),
		fmt.Sprintf("%+v", *c.Registry), fmt.Sprintf("%#v", c.Registry), fmt.Sprintf("%+v %#v", c.Registry.Redis, *c.Registry.Redis),
	} {
		if strings.Contains(printed, "swordfish") {
			t.Errorf("shows a secret: %s", printed)
		}
	}
	if !strings.Contains(string(asJSON), `"bucket":"images"`) {
		t.Errorf("shows too little: %s", asJSON)
	}
	if c.Registry.Redis.Password != "swordfish" {
		t.Error("Redis does not get its password")
	}
	if c.Parameters["secretkey"] != "swordfish2" {
		t.Error("the driver does not get its key")
	}
}

// usageError asserts a *storage.UsageError of one line that contains want.
func usageError(t *testing.T, err error, want string) {
	t.Helper()
	var usage *storage.UsageError
	if !errors.As(err, &usage) {
		t.Fatalf("got %v, want a *UsageError", err)
	}
	if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), want) {
		t.Errorf("got %q, want one line with %q", err, want)
	}
}

func TestAKeyThatIsThereTwiceIsNamed(t *testing.T) {
	const head = "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: /srv\n"
	for content, want := range map[string]string{
		head + "http:\n  addr: :5000\nstorage:\n  maintenance:\n    readonly:\n      enabled: true\n": "lines 2 and 7 both have the key storage: merge them into one",
		"version: 0.1\nstorage:\n  maintenance: {}\n  maintenance: {}\n":                              "lines 3 and 4 both have the key maintenance: merge them into one",
	} {
		path := filepath.Join(t.TempDir(), "config.yml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ParseTarget(path, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s%v, want %q", content, err, want)
		}
	}
}

func TestAPolicyAsTheTargetIsRecognized(t *testing.T) {
	for content, want := range map[string]string{
		"version: 1\nrules:\n  - {tags: [a]}\n":      "it looks like a policy: give it with --policy",
		"version: 1\nprotect:\n  - {tags: [a]}\n":    "it looks like a policy: give it with --policy",
		"version: 0.1\nlog:\n  fields: {rules: a}\n": "no storage configuration provided",
	} {
		path := filepath.Join(t.TempDir(), "policy.yml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ParseTarget(path, func(string) string { return "" })
		usageError(t, err, want)
	}
}

// A registry of release 2 has addr, one of release 3 has addrs, and both may have it in the environment.
func TestRedisIsReadAsTheRegistryReadsIt(t *testing.T) {
	for _, test := range []struct {
		name, section string
		env           map[string]string
		want          Redis
	}{
		{"release 3", "{addrs: [a:1, b:2], db: 4, username: u, password: p, mastername: m, sentinelusername: su, sentinelpassword: sp, readtimeout: 2s, protocol: 2, disableidentity: true}", nil,
			Redis{Addrs: []string{"a:1", "b:2"}, DB: 4, Username: "u", Password: "p", MasterName: "m", SentinelUsername: "su", SentinelPassword: "sp",
				ReadTimeout: 2 * time.Second, Protocol: 2, DisableIdentity: true}},
		{"release 3 with TLS", "{addrs: [a:1], tls: {certificate: c, key: k, rootcas: [r]}}", nil,
			Redis{Addrs: []string{"a:1"}, TLS: true, Certificate: "c", Key: "k", RootCAs: []string{"r"}}},
		{"half of a certificate", "{addrs: [a:1], tls: {key: k}}", nil, Redis{Addrs: []string{"a:1"}, TLS: true}},
		{"release 3.0 with TLS", "{addrs: [a:1], tls: {clientcas: [r]}}", nil, Redis{Addrs: []string{"a:1"}, TLS: true}},
		{"release 3 ignores what it does not know", "{addr: b:2, addrs: [a:1], tls: {enabled: true}}", nil, Redis{Addrs: []string{"a:1"}}},
		{"release 2", "{addr: a:1, password: p, db: 4, dialtimeout: 10ms, pool: {maxidle: 16}}", nil,
			Redis{Addrs: []string{"a:1"}, Password: "p", DB: 4, DialTimeout: 10 * time.Millisecond}},
		{"a release candidate with TLS", "{addr: a:1, tls: {enabled: true}}", nil, Redis{Addrs: []string{"a:1"}, TLS: true}},
		{"variables of release 3", "{addrs: [a:1]}", map[string]string{"REGISTRY_REDIS_ADDRS": "[b:2]", "REGISTRY_REDIS_PASSWORD": "p", "REGISTRY_REDIS_TLS_ROOTCAS": "[r]"},
			Redis{Addrs: []string{"b:2"}, Password: "p", TLS: true, RootCAs: []string{"r"}}},
		{"variables of release 2", "{addr: a:1}", map[string]string{"REGISTRY_REDIS_ADDR": "b:2", "REGISTRY_REDIS_DB": "5", "REGISTRY_REDIS_POOL_MAXIDLE": "3"}, Redis{Addrs: []string{"b:2"}, DB: 5}},
		{"one variable", "{addr: a:1}", map[string]string{"REGISTRY_REDIS": "{addr: b:2, password: p}"}, Redis{Addrs: []string{"b:2"}, Password: "p"}},
		{"nothing", "{}", nil, Redis{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			c := mustParse(t, configFile(t, fileConfig+"  cache: {blobdescriptor: redis}\nredis: "+test.section+"\n"))
			if !reflect.DeepEqual(*c.Registry.Redis, test.want) || len(c.Warnings) > 0 {
				type shown Redis
				t.Errorf("got  %+v\nwant %+v\nwarnings %q", shown(*c.Registry.Redis), shown(test.want), c.Warnings)
			}
		})
	}
	if c := mustParse(t, configFile(t, fileConfig+"redis: {addrs: [a:1]}\n")); c.Registry.Redis != nil {
		t.Error("a registry that keeps no descriptors there has a Redis")
	}
}
