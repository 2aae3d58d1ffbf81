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

// settings are the parameters of a registry's bucket, with the meaning that Distribution v3
// gives them. Source: FromParameters in registry/storage/driver/s3-aws. These differ, on
// purpose:
//
//   - region may be unknown to Distribution's SDK. With a regionendpoint it defaults to
//     us-east-1 (Distribution then signs with "<nil>").
//   - v4auth: false still signs with version 4, because the SDK has no other version.
//     A server that knows only version 2 would refuse it.
//   - sessiontoken is ignored, as Distribution ignores it: a key that works for the registry
//     must work here.
//   - A slash at the end of bucket is removed. Registries send it as part of the path, and
//     servers read it as the slash before the key.
//   - chunksize, multipartcopy…, storageclass, redirectendpoint and loglevel do not matter
//     here. Only their type is checked, if they have one.
type settings struct {
	accessKey, secretKey string // both or none; if none, the SDK's default chain finds them

	bucket    string
	region    string
	endpoint  string // with a scheme; "" for Amazon's own
	root      string // rootdirectory as part of a key: no slash at either end
	pathStyle bool
	plain     bool // HTTP instead of HTTPS, to Amazon's own endpoint

	skipVerify bool
	dualStack  bool
	accelerate bool
	fips       bool
	userAgent  string

	encrypt bool // applies to objects that regsweep writes
	keyID   string
	acl     string
}

// ErrNoRegion is the error for parameters with neither a region nor a regionendpoint.
var ErrNoRegion = errors.New("s3: no region: set storage.s3.region, or regionendpoint for a server that is not Amazon's")

// parseParameters parses the parameters of the s3 driver's section. Its errors name the
// parameter, and never contain the value of a secret.
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
	if err := checkTypes(params); err != nil {
		return p, err
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
	if p.endpoint != "" {
		err := p.completeEndpoint(secure)
		return p, err
	}
	p.plain = !secure
	if p.region == "" {
		return p, ErrNoRegion
	}
	return p, nil
}

// checkTypes checks the types of the other numbers and texts, as the registry does when it starts.
func checkTypes(params map[string]any) error {
	for _, name := range []string{"chunksize", "multipartcopychunksize", "multipartcopymaxconcurrency", "multipartcopythresholdsize"} {
		var n int64
		if v := params[name]; v != nil {
			if _, err := fmt.Sscanf(fmt.Sprint(v), "%d", &n); err != nil {
				return fmt.Errorf("s3: %s is not a number: %v", name, v)
			}
		}
	}
	for _, name := range []string{"storageclass", "objectacl"} {
		if _, isText := params[name].(string); params[name] != nil && !isText {
			return fmt.Errorf("s3: %s is not a text: %v", name, params[name])
		}
	}
	return nil
}

// completeEndpoint sets the parameters that have another meaning with an endpoint of one's own.
func (p *settings) completeEndpoint(secure bool) error {
	if p.region == "" {
		p.region = "us-east-1"
	}
	// The SDK refuses these together with an endpoint. Distribution's SDK ignores them.
	p.dualStack, p.accelerate, p.fips = false, false, false
	if !strings.Contains(p.endpoint, "://") {
		scheme := "https"
		if !secure {
			scheme = "http"
		}
		p.endpoint = scheme + "://" + p.endpoint
	}
	u, err := url.Parse(p.endpoint)
	// The parser's error repeats the endpoint, which may contain a password.
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return errors.New("s3: regionendpoint is not an http or https address")
	}
	if u.User != nil {
		return errors.New("s3: regionendpoint holds a user name: use accesskey and secretkey")
	}
	return nil
}

// parameterString returns a parameter as a string. YAML may have given it another type.
func parameterString(params map[string]any, name string) string {
	if v := params[name]; v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// parameterBool sets *to, unless the parameter is missing.
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

// identity names the bucket, the prefix, and the region or the endpoint. Bucket names are global
// among Amazon's endpoints, so an endpoint of Amazon is not named. For another server the region
// does not matter.
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

// normalEndpoint returns the canonical form of an endpoint, without a default port and without a
// slash at its end.
func normalEndpoint(endpoint string) (_ string, amazon bool) {
	if endpoint == "" {
		return "", true
	}
	u, err := url.Parse(endpoint)
	if err != nil { // can't happen after parseParameters
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
