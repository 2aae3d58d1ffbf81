package s3

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"regsweep/storage"
)

// settings is what a registry's configuration says about its bucket, each
// parameter with the meaning that Distribution v3 gives it. Source: FromParameters
// in registry/storage/driver/s3-aws. These differ, on purpose:
//
//   - region may be one that Distribution's SDK does not know, and defaults to
//     us-east-1 beside a regionendpoint (Distribution signs with "<nil>" then).
//   - v4auth: false still signs with version 4, the only one that the SDK has.
//     Servers that only knew version 2 would refuse it.
//   - sessiontoken is not read: Distribution ignores it too, and a key that works
//     for the registry must work here.
//   - A slash at the end of bucket is dropped. Registries send it as part of the path, and
//     servers take it for the one before the key.
//   - chunksize, multipartcopy…, storageclass, redirectendpoint and loglevel say
//     nothing about collecting. Of those with a type only the type is checked.
type settings struct {
	accessKey, secretKey string // both or none; none is the SDK's default chain

	bucket    string
	region    string
	endpoint  string // with a scheme; "" for Amazon's own
	root      string // rootdirectory as in a key: no slash at either end
	pathStyle bool
	plain     bool // config.HTTP rather than HTTPS, to Amazon's own endpoint

	skipVerify bool
	dualStack  bool
	accelerate bool
	fips       bool
	userAgent  string

	encrypt bool // applies to what we write
	keyID   string
	acl     string
}

var ErrNoRegion = errors.New("s3: no region: set storage.s3.region, or regionendpoint for a server that is not Amazon's")

// parseParameters reads the parameters of the s3 driver's section. Its errors
// name the parameter, never the value of a secret.
func parseParameters(params map[string]any) (settings, error) {
	p := settings{
		accessKey: parameterString(params, "accesskey"),
		secretKey: parameterString(params, "secretkey"),
		bucket:    strings.TrimRight(parameterString(params, "bucket"), "/"),
		region:    parameterString(params, "region"),
		endpoint:  parameterString(params, "regionendpoint"),
		root:      strings.TrimLeft(strings.TrimRight(parameterString(params, "rootdirectory"), "/"), "/"),
		userAgent: parameterString(params, "useragent"),
		keyID:     parameterString(params, "keyid"),
		acl:       parameterString(params, "objectacl"),
	}
	if p.accessKey == "" || p.secretKey == "" {
		p.accessKey, p.secretKey = "", ""
	}
	if p.bucket == "" {
		return p, errors.New("s3: no bucket: set storage.s3.bucket")
	}
	if bucket, folder, has := strings.Cut(p.bucket, "/"); has {
		return p, fmt.Errorf("s3: bucket is %q, and a bucket has no folder: set bucket: %s and rootdirectory: /%s", p.bucket, bucket, folder)
	}
	for _, name := range []string{"chunksize", "multipartcopychunksize", "multipartcopymaxconcurrency", "multipartcopythresholdsize"} {
		var n int64
		if v := params[name]; v != nil {
			if _, err := fmt.Sscanf(fmt.Sprint(v), "%d", &n); err != nil {
				return p, fmt.Errorf("s3: %s is not a number: %v", name, v)
			}
		}
	}
	for _, name := range []string{"storageclass", "objectacl"} {
		if _, isText := params[name].(string); params[name] != nil && !isText {
			return p, fmt.Errorf("s3: %s is not a text: %v", name, params[name])
		}
	}
	secure, v4 := true, true
	for _, b := range []struct {
		name string
		to   *bool
	}{
		{"secure", &secure}, {"v4auth", &v4}, {"forcepathstyle", &p.pathStyle},
		{"encrypt", &p.encrypt}, {"skipverify", &p.skipVerify}, {"usedualstack", &p.dualStack},
		{"accelerate", &p.accelerate}, {"usefipsendpoint", &p.fips},
	} {
		if err := parameterBool(params, b.name, b.to); err != nil {
			return p, err
		}
	}
	if !v4 && (p.endpoint == "" || strings.Contains(p.endpoint, "s3.amazonaws.com")) {
		return p, errors.New("s3: v4auth: Amazon S3 takes signature version 4 only")
	}
	if p.endpoint == "" {
		p.plain = !secure
		if p.region == "" {
			return p, ErrNoRegion
		}
		return p, nil
	}
	if p.region == "" {
		p.region = "us-east-1"
	}
	// The SDK refuses these beside an endpoint; Distribution's ignores them.
	p.dualStack, p.accelerate, p.fips = false, false, false
	if !strings.Contains(p.endpoint, "://") {
		scheme := "https"
		if !secure {
			scheme = "http"
		}
		p.endpoint = scheme + "://" + p.endpoint
	}
	u, err := url.Parse(p.endpoint)
	// The parser's error repeats what it was given, and that may hold a password.
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return p, errors.New("s3: regionendpoint is not an http or https address")
	}
	if u.User != nil {
		return p, errors.New("s3: regionendpoint holds a user name: use accesskey and secretkey")
	}
	return p, nil
}

// parameterString reads a parameter of any type that YAML may have made of it.
func parameterString(params map[string]any, name string) string {
	if v := params[name]; v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// parameterBool leaves *to as it is where the parameter is not given.
func parameterBool(params map[string]any, name string, to *bool) error {
	switch v := params[name].(type) {
	case nil:
		return nil
	case bool:
		*to = v
		return nil
	case string:
		if b, err := strconv.ParseBool(v); err == nil {
			*to = b
			return nil
		}
	}
	return fmt.Errorf("s3: %s is not a boolean: %v", name, params[name])
}

// identity names the bucket and the place in it. Bucket names are global among
// Amazon's endpoints, so that only other servers' are named; beside those the
// region tells nothing.
func (p settings) identity() storage.Identity {
	root := url.URL{Scheme: "s3", Host: p.bucket, Path: "/" + p.root}
	if p.root == "" {
		root.Path = ""
	}
	query := url.Values{}
	if endpoint, amazon := normalEndpoint(p.endpoint); amazon {
		query.Set("region", p.region)
	} else {
		query.Set("endpoint", endpoint)
	}
	root.RawQuery = query.Encode()
	return storage.Identity{Driver: "s3", Root: root.String()}
}

// normalEndpoint spells an endpoint in one way, without a default port or a
// slash at its end.
func normalEndpoint(endpoint string) (_ string, amazon bool) {
	if endpoint == "" {
		return "", true
	}
	u, err := url.Parse(endpoint)
	if err != nil { // not after parseParameters
		return endpoint, false
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if strings.HasSuffix(host, ".amazonaws.com") || strings.HasSuffix(host, ".amazonaws.com.cn") {
		return "", true
	}
	scheme := strings.ToLower(u.Scheme)
	switch {
	case port != "" && !(scheme == "http" && port == "80") && !(scheme == "https" && port == "443"):
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	return scheme + "://" + host + strings.TrimRight(u.EscapedPath(), "/"), false
}
