package guard

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"

	"regsweep/storage"
	"regsweep/storage/config"
)

// endpoint is one registry, as the user or config.yml names it.
type endpoint struct {
	url     url.URL // scheme, host and prefix, without a trailing slash
	named   bool    // by the user, and not by config.yml
	network string  // "tcp" or "unix"
	// certificate is the PEM file of its certificate according to config.yml, or "".
	certificate string
	// public is the host in http.host, or "".
	public string
	// serverName is the name that its certificate must have.
	serverName string
	addresses  []string // each address is probed: replicas may share one name
	// alsoNamed are the addresses that the user named with the same scheme. They get the
	// password of --username even if config.yml names them too.
	alsoNamed []string
}

// CheckEndpoints returns an error if one of the --registry URLs is invalid.
func CheckEndpoints(urls []string) error {
	for _, url := range urls {
		if _, err := parseEndpoint(url); err != nil {
			return err
		}
	}
	return nil
}

// parseEndpoint parses a --registry URL. Its errors are usage errors and do not contain
// a password.
func parseEndpoint(text string) (endpoint, error) {
	const example = "write it as http://host:port or https://host"
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Opaque != "" || u.Scheme == "" && u.Host == "":
		// "localhost:5000" parses as a scheme with an opaque part.
		return endpoint{}, storage.Usagef("--registry takes a URL: %s", example)
	case u.Scheme != "http" && u.Scheme != "https":
		return endpoint{}, storage.Usagef("--registry %s://…: %s", u.Scheme, example)
	case u.User != nil:
		return endpoint{}, storage.Usagef("--registry %s://…@%s: a password does not belong on the command line: use --username and --password-stdin", u.Scheme, u.Host)
	case u.Hostname() == "":
		return endpoint{}, storage.Usagef("--registry %s names no host: %s", text, example)
	case u.RawQuery != "" || u.Fragment != "":
		return endpoint{}, storage.Usagef("--registry %s://%s: a registry's address has no ? and no #: %s", u.Scheme, u.Host, example)
	}
	path := strings.TrimRight(u.Path, "/")
	path = strings.TrimRight(strings.TrimSuffix(path, "/v2"), "/")
	return endpoint{
		url:        url.URL{Scheme: u.Scheme, Host: u.Host, Path: path},
		named:      true,
		network:    "tcp",
		serverName: u.Hostname(),
	}, nil
}

// resolve finds the addresses of a named endpoint.
func (e *endpoint) resolve(ctx context.Context, o Options) error {
	if e.addresses != nil {
		return nil
	}
	port := e.url.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[e.url.Scheme]
	}
	hosts := []string{e.url.Hostname()}
	if net.ParseIP(hosts[0]) == nil {
		ctx, cancel := context.WithTimeout(ctx, o.timeout())
		defer cancel()
		var err error
		if hosts, err = o.lookup(ctx, hosts[0]); err != nil {
			return err
		}
	}
	for _, host := range hosts {
		e.addresses = append(e.addresses, net.JoinHostPort(host, port))
	}
	return nil
}

// ownEndpoint returns the address of the registry in config.yml, as seen from this machine.
// If the registry listens on all interfaces, the loopback addresses are probed.
func ownEndpoint(h config.HTTP) (endpoint, error) {
	scheme := "http"
	if h.TLS {
		scheme = "https"
	}
	e := endpoint{
		url:         url.URL{Scheme: scheme, Path: strings.TrimRight(h.Prefix, "/")},
		network:     "tcp",
		certificate: h.Certificate,
	}
	if public, err := url.Parse(h.Host); err == nil {
		e.serverName, e.public = public.Hostname(), public.Host
	}
	switch h.Net {
	case "", "tcp":
	case "unix":
		if h.Addr == "" {
			return endpoint{}, fmt.Errorf("http.addr names no socket")
		}
		e.network, e.addresses, e.url.Host = "unix", []string{h.Addr}, "localhost"
		return e, nil
	default:
		return endpoint{}, fmt.Errorf("http.net is %q, which no registry listens on", h.Net)
	}
	if h.Addr == "" {
		return endpoint{}, fmt.Errorf("http.addr is not set: a registry would listen on a port of no fixed number")
	}
	host, port, err := net.SplitHostPort(h.Addr)
	if err != nil || port == "" || port == "0" {
		return endpoint{}, fmt.Errorf("http.addr %q names no port that can be asked", h.Addr)
	}
	switch ip := net.ParseIP(host); {
	case host == "" || ip != nil && ip.Equal(net.IPv6zero):
		e.addresses = []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}
		host = "127.0.0.1"
	case ip != nil && ip.Equal(net.IPv4zero):
		host = "127.0.0.1"
		e.addresses = []string{net.JoinHostPort(host, port)}
	}
	e.url.Host = net.JoinHostPort(host, port)
	if e.serverName == "" {
		e.serverName = host
	}
	return e, nil
}

// accounts returns the hosts whose docker logins may be sent to the endpoint. A login may be sent only
// to the host that it was saved for. Only a verified certificate proves that config.yml's own
// address is the host in http.host. A socket has no host.
func (e *endpoint) accounts(o Options) []string {
	if e.network == "unix" {
		return nil
	}
	hosts := []string{e.url.Host}
	if e.public != "" && e.url.Scheme == "https" && (o.TLS == nil || !o.TLS.InsecureSkipVerify) {
		hosts = append(hosts, e.public)
	}
	return hosts
}

// subject returns the name of one address of the endpoint for the evidence.
func (e *endpoint) subject(address string) string {
	name := e.url.String()
	switch {
	case e.network == "unix":
		return "unix socket " + address
	case len(e.addresses) < 2 && !e.named:
		return e.url.Scheme + "://" + address + e.url.Path
	case len(e.addresses) < 2:
		return name
	case e.named:
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		return name + " at " + host
	}
	return e.url.Scheme + "://" + address + e.url.Path
}
