package registrytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd" // Config.Username
	_ "github.com/distribution/distribution/v3/registry/auth/token"    // Config.Token
	"golang.org/x/crypto/bcrypt"
)

// newHtpasswd lets one user in.
func newHtpasswd(dir, username, password string) (configuration.Auth, error) {
	// The registry compares it on each request: the cheapest will do.
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return nil, fmt.Errorf("hash password: %w", err)
	}
	path := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(path, []byte(username+":"+string(hash)+"\n"), 0o600); err != nil {
		return nil, err
	}
	return configuration.Auth{"htpasswd": {"realm": "regsweep parts", "path": path}}, nil
}

const (
	tokenIssuer   = "regsweep parts"
	tokenAudience = "registry"
)

// tokenService issues the tokens that a registry with token authentication
// accepts: to the right user for all that was asked, to nobody in particular a
// token that permits nothing.
type tokenService struct {
	username, password string
	certificate        tls.Certificate
}

func newTokenService(dir, realm, username, password string) (*tokenService, configuration.Auth, error) {
	certificate, bundle, err := newCertificate(dir, "token")
	if err != nil {
		return nil, nil, err
	}
	auth := configuration.Auth{"token": {
		"realm":          realm,
		"issuer":         tokenIssuer,
		"service":        tokenAudience,
		"rootcertbundle": bundle,
	}}
	return &tokenService{username, password, certificate}, auth, nil
}

type tokenAccess struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

func (s *tokenService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var access []tokenAccess
	username, password, ok := r.BasicAuth()
	if ok {
		if !same(username, s.username) || !same(password, s.password) {
			http.Error(w, "wrong username or password", http.StatusUnauthorized)
			return
		}
		access = requestedAccess(r.URL.Query()["scope"])
	}
	token, err := s.sign(username, access)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	// A client that has gone away misses nothing.
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 300})
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// requestedAccess reads scopes such as "repository:team/app:pull,push".
func requestedAccess(scopes []string) []tokenAccess {
	var access []tokenAccess
	for _, scope := range strings.Fields(strings.Join(scopes, " ")) {
		kind, rest, _ := strings.Cut(scope, ":")
		last := strings.LastIndex(rest, ":")
		if last < 0 {
			continue
		}
		access = append(access, tokenAccess{kind, rest[:last], strings.Split(rest[last+1:], ",")})
	}
	return access
}

// sign makes a JSON web token (RFC 7519) with ES256.
func (s *tokenService) sign(subject string, access []tokenAccess) (string, error) {
	now := time.Now()
	header := map[string]any{
		"typ": "JWT", "alg": "ES256",
		"x5c": []string{base64.StdEncoding.EncodeToString(s.certificate.Certificate[0])},
	}
	claims := map[string]any{
		"iss": tokenIssuer, "aud": tokenAudience, "sub": subject, "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"access": access,
	}
	var parts []string
	for _, part := range []any{header, claims} {
		encoded, err := json.Marshal(part)
		if err != nil {
			return "", fmt.Errorf("sign token: %w", err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(encoded))
	}
	signed := strings.Join(parts, ".")
	key, ok := s.certificate.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return "", fmt.Errorf("sign token: key is a %T", s.certificate.PrivateKey)
	}
	hash := sha256.Sum256([]byte(signed))
	a, b, err := ecdsa.Sign(rand.Reader, key, hash[:])
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	half := crypto.SHA256.Size()
	signature := append(a.FillBytes(make([]byte, half)), b.FillBytes(make([]byte, half))...)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}
