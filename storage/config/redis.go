package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"go.yaml.in/yaml/v2"
)

// Redis is the redis section of a config.yml: where the registry keeps descriptors. If it is printed or
// marshalled, it shows the addresses alone.
type Redis struct {
	// Addrs are those of one server, of the nodes of a cluster, or of the sentinels of MasterName.
	Addrs                              []string
	MasterName                         string
	DB, Protocol                       int
	Username, Password                 string
	SentinelUsername, SentinelPassword string
	DisableIdentity                    bool

	DialTimeout, ReadTimeout, WriteTimeout time.Duration

	// TLS is set if the registry speaks TLS with Redis. Certificate and Key, its own, may be "".
	// RootCAs are PEM files of the authorities that it trusts, none for those of the host.
	TLS              bool
	Certificate, Key string
	RootCAs          []string
}

func (r Redis) String() string               { return "redis at " + strings.Join(r.Addrs, ", ") }
func (r Redis) GoString() string             { return "config.Redis{" + r.String() + "}" }
func (r Redis) MarshalJSON() ([]byte, error) { return json.Marshal(map[string]any{"addrs": r.Addrs}) }

// readRedis reads the section as a registry of release 3 does, or of release 2 if addrs is missing. The
// parser of release 3 ignores what only other releases know: addr, tls.enabled and tls.clientcas.
func readRedis(parsed configuration.Redis, content []byte, env func(string) string) (*Redis, error) {
	var file struct{ Redis otherRedis }
	if err := yaml.Unmarshal(content, &file); err != nil {
		return nil, err
	}
	other := file.Redis
	if whole := env("REGISTRY_REDIS"); whole != "" {
		other = otherRedis{}
		if err := yaml.Unmarshal([]byte(whole), &other); err != nil {
			return nil, fmt.Errorf("REGISTRY_REDIS: %w", err)
		}
	}
	o, tls := parsed.Options, parsed.TLS
	r := &Redis{
		Addrs: o.Addrs, MasterName: o.MasterName, DB: o.DB, Protocol: o.Protocol, DisableIdentity: o.DisableIdentity,
		Username: o.Username, Password: o.Password, SentinelUsername: o.SentinelUsername, SentinelPassword: o.SentinelPassword,
		DialTimeout: o.DialTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout,
		TLS: tls.Certificate != "" || tls.Key != "" || len(tls.RootCAs)+len(other.TLS.ClientCAs) > 0,
		// A registry takes half of the pair for none.
		RootCAs: tls.RootCAs,
	}
	if tls.Certificate != "" && tls.Key != "" {
		r.Certificate, r.Key = tls.Certificate, tls.Key
	}
	if addr := cmp.Or(env("REGISTRY_REDIS_ADDR"), other.Addr); len(r.Addrs) == 0 && addr != "" {
		r.Addrs = []string{addr}
		r.TLS = r.TLS || cmp.Or(env("REGISTRY_REDIS_TLS_ENABLED"), fmt.Sprint(other.TLS.Enabled)) == "true"
	}
	return r, nil
}

// otherRedis has the settings that release 3.1 of the registry does not know any more.
type otherRedis struct {
	Addr string
	TLS  struct {
		Enabled   bool
		ClientCAs []string
	}
}
