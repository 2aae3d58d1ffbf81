package guard

import (
	"context"
	"errors"
	"slices"

	"regsweep/internal/registryauth"
)

// errNotForIt means that the given username and password are not for this address.
var errNotForIt = errors.New("no username and password for this address")

// errNotAllowed means that the password is right, but the user may not push.
var errNotAllowed = errors.New("not allowed")

// authorize returns the Authorization header for the second try of a request that was
// answered with 401. The request concerns a repository. A token is for pulling from it and for
// pushing to it.
func (p *prober) authorize(ctx context.Context, repository string, headers []string) (string, error) {
	if err := p.credentials(ctx); err != nil {
		return "", err
	}
	challenges := registryauth.Challenges(headers)
	for _, c := range challenges {
		for key, sign := range map[string]string{"realm": harborRealm, "service": harborService} {
			if c.Params[key] == sign {
				p.harbor = key + " " + sign
			}
		}
	}
	scope := "repository:" + repository + ":pull,push"
	if repository == "" {
		scope = "registry:catalog:*"
	}
	return p.account.Authorize(ctx, challenges, scope)
}

// credentials finds the username and password for the endpoint, once. --username is for the
// addresses that the user named or, if there are none, for config.yml's own address. If the
// user says that the registry is stopped, config.yml's own address gets no password: the
// program that listens there is not the registry.
func (p *prober) credentials(ctx context.Context) (err error) {
	if p.account.Missing != nil {
		return nil
	}
	o, e := p.options, p.endpoint
	missing := registryauth.ErrNoCredentials
	switch {
	case !e.named && o.Stopped,
		!e.named && o.Username != "" && len(o.Endpoints) > 0 && !slices.Contains(e.alsoNamed, p.address):
		missing = errNotForIt
	case o.Username != "":
		p.account.Username, p.account.Password = o.Username, o.Password
	case o.Credentials != nil:
		for _, host := range e.accounts(o) {
			if p.account.Username, p.account.Password, err = o.Credentials(ctx, host); err != nil {
				return err
			}
			if p.account.Username != "" {
				break
			}
		}
	}
	p.account.Missing = missing
	return nil
}
