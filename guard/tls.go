package guard

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"

	"regsweep/storage"
)

// TLSConfig makes Options.TLS from the flags of the user. caFile is a PEM file of
// certificates that are trusted in addition to the system's (--registry-cacert), or "". With
// insecure, any certificate is accepted (--registry-insecure), and the passwords in Options
// are sent to any server that answers.
func TLSConfig(caFile string, insecure bool) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if caFile == "" {
		return config, nil
	}
	content, err := os.ReadFile(caFile)
	if err != nil {
		return nil, storage.Usagef("--registry-cacert %s can't be read: %w", caFile, err)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(content) {
		return nil, storage.Usagef("--registry-cacert %s holds no certificate: it must be a PEM file with -----BEGIN CERTIFICATE-----", caFile)
	}
	config.RootCAs = roots
	return config, nil
}

// clientTLS is the TLS configuration for an endpoint. The address in config.yml is usually a
// loopback address, for which there is no certificate. So at this address the certificate file in
// config.yml is accepted too, if the server shows exactly this certificate.
func (e *endpoint) clientTLS(base *tls.Config) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		config = base.Clone()
	}
	config.ServerName = e.serverName
	pinned := firstCertificate(e.certificate)
	if config.InsecureSkipVerify || pinned == nil {
		return config
	}
	roots, name := config.RootCAs, config.ServerName
	config.InsecureSkipVerify = true // VerifyConnection verifies instead
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("tls: the registry showed no certificate")
		}
		leaf := state.PeerCertificates[0]
		if bytes.Equal(leaf.Raw, pinned) {
			return nil
		}
		between := x509.NewCertPool()
		for _, certificate := range state.PeerCertificates[1:] {
			between.AddCert(certificate)
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name})
		return err
	}
	return config
}

// firstCertificate returns the first certificate of a PEM file, which is the server's own. It
// returns nil if it can't read one. Then the usual verification decides.
func firstCertificate(path string) []byte {
	if path == "" {
		return nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	for {
		var block *pem.Block
		block, content = pem.Decode(content)
		if block == nil {
			return nil
		}
		if block.Type == "CERTIFICATE" {
			return block.Bytes
		}
	}
}
