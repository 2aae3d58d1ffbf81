// Package descriptors deletes what a registry's cache in Redis knows of removed blobs and links. A
// registry that still knows a removed blob answers "layer already exists" to a push of it, and the image
// that is pushed lacks that layer.
package descriptors

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"time"

	"regsweep/storage"
	"regsweep/storage/config"
	"regsweep/sweep"

	"github.com/opencontainers/go-digest"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// chunk is how many removals are sent at a time, and patience how long their answers may take. So
	// a plan of any size needs little memory, and a server that hangs is noticed soon.
	chunk    = 1000
	patience = 30 * time.Second
	// leastTimeout replaces shorter timeouts of the section. A registry that serves pulls gives up
	// after milliseconds and reads its storage.
	leastTimeout = 5 * time.Second
)

// Without this the library prints to standard error. Its errors say the same.
func init() { logging.Disable() }

// Redis is a connection to the Redis in which a registry keeps descriptors. The methods of a nil *Redis
// do nothing: the registry keeps none there, or the operator flushes it.
type Redis struct {
	client  redis.UniversalClient
	address string
	db      int
	// Deleted counts the keys and the members of sets that were deleted.
	Deleted int64
}

// Open connects as the registry does, and asks for an answer.
func Open(ctx context.Context, section *config.Redis) (*Redis, error) {
	r := &Redis{address: strings.Join(section.Addrs, ", "), db: section.DB}
	switch {
	case len(section.Addrs) == 0:
		return nil, storage.Usagef("cache.blobdescriptor is redis, and no address is set: if the registry's container or Pod has REGISTRY_REDIS_… variables, set them here too, %s", orFlush)
	case strings.Contains(r.address, "@"): // with a password in it, no message may have it
		return nil, storage.Usagef("an address in the section redis has an @: a registry takes host:port, and the password apart")
	}
	options := &redis.UniversalOptions{
		Addrs: section.Addrs, MasterName: section.MasterName, DB: section.DB, Protocol: section.Protocol,
		Username: section.Username, Password: section.Password,
		SentinelUsername: section.SentinelUsername, SentinelPassword: section.SentinelPassword,
		DialTimeout: max(section.DialTimeout, leastTimeout), ReadTimeout: max(section.ReadTimeout, leastTimeout),
		WriteTimeout: max(section.WriteTimeout, leastTimeout), ContextTimeoutEnabled: true,
		DisableIdentity:          section.DisableIdentity,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if section.TLS {
		var err error
		if options.TLSConfig, err = tlsConfig(section); err != nil {
			return nil, storage.Usagef("the section redis: %w", err)
		}
	}
	r.client = redis.NewUniversalClient(options)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := r.client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(r.unreachable(err), r.client.Close())
	}
	return r, nil
}

// tlsConfig reads the certificates. The name of the server is that of its address.
func tlsConfig(section *config.Redis) (*tls.Config, error) {
	c := &tls.Config{}
	if section.Certificate != "" {
		own, err := tls.LoadX509KeyPair(section.Certificate, section.Key)
		if err != nil {
			return nil, fmt.Errorf("read the certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{own}
	}
	for _, path := range section.RootCAs {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read the authorities: %w", err)
		}
		if c.RootCAs == nil {
			c.RootCAs = x509.NewCertPool()
		}
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the authorities: %s has no certificate", path)
		}
	}
	return c, nil
}

const orFlush = "or flush that Redis yourself after the run and say so with --leave-cache"

// unreachable says what to do if the keys cannot be deleted before the first removal.
func (r *Redis) unreachable(err error) error {
	return fmt.Errorf("nothing was removed: the registry keeps descriptors of blobs in Redis at %s, and they can't be deleted there: %w: "+
		"set REGISTRY_REDIS_… variables by which it is reached from here, %s", r.address, err, orFlush)
}

// Close closes the connection. It ignores errors: nothing was deferred.
func (r *Redis) Close() {
	if r != nil {
		_ = r.client.Close()
	}
}

// Plan is the part of sweep.Plan that is needed here.
type Plan interface {
	All() iter.Seq[sweep.Removal]
	// Keeps reports whether a blob is stored, and not removed.
	Keeps(blob digest.Digest) bool
}

// Forget deletes the keys of everything that the plan removes, before the first removal. So a run that is
// killed leaves no key of a removed blob, unless somebody pulled that blob meanwhile.
func (r *Redis) Forget(ctx context.Context, plan Plan) error {
	if r == nil {
		return nil
	}
	if err := r.forget(ctx, plan); err != nil {
		return r.unreachable(err)
	}
	return nil
}

// ForgetAgain deletes after the removals what pulls have put back. It does so too if ctx is done: an
// interruption must not leave such a key. It returns a *StaleError.
func (r *Redis) ForgetAgain(ctx context.Context, plan Plan) error {
	if r == nil {
		return nil
	}
	if err := r.forget(context.WithoutCancel(ctx), plan); err != nil {
		return &StaleError{r, err}
	}
	return nil
}

// forget deletes the keys of a plan. A registry keeps them for a blob, and for each repository that has
// a revision or a layer link of it. Source: registry/storage/cache/redis. It uses the commands of the
// registry alone, since its user may have no others.
func (r *Redis) forget(ctx context.Context, plan Plan) error {
	pipe := r.client.Pipeline()
	n := 0
	for removal := range plan.All() {
		blob, of := "blobs::"+removal.Digest.String(), "repository::"+removal.Repository+"::blobs"
		switch removal.Kind {
		case sweep.Blob:
			pipe.Del(ctx, blob)
		case sweep.Revision, sweep.LayerLink:
			pipe.SRem(ctx, of, removal.Digest.String())
			pipe.Del(ctx, of+"::"+removal.Digest.String())
			if removal.Target != "" && !plan.Keeps(removal.Target) { // the descriptor of the alias leads to the target
				pipe.Del(ctx, blob)
			}
		default:
			continue
		}
		if n++; n%chunk == 0 {
			if err := r.send(ctx, pipe); err != nil {
				return err
			}
		}
	}
	return r.send(ctx, pipe)
}

func (r *Redis) send(ctx context.Context, pipe redis.Pipeliner) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answers, err := pipe.Exec(ctx)
	for _, answer := range answers {
		r.Deleted += answer.(*redis.IntCmd).Val()
	}
	return err
}

// StaleError is the error of a run that has removed something of which Redis may still have keys.
type StaleError struct {
	redis *Redis
	cause error
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("REDIS IS STALE: the registry may answer \"layer already exists\" to a push of what was removed, and that image would lack the layer. "+
		"Before it takes pushes again, delete the keys blobs::* and repository::* of database %d in Redis at %s (or FLUSHDB, if nothing else is in there): %v",
		e.redis.db, e.redis.address, e.cause)
}

func (e *StaleError) Unwrap() error { return e.cause }
