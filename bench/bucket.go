package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"regsweep/bench/generate"
	"regsweep/internal/human"
	"regsweep/internal/miniotest"
	"regsweep/internal/registrytest"
)

// bucket compares dry runs on MinIO, at several latencies, and counts the requests of a removal. All
// requests go through a proxy that counts them and delays the answers. MinIO runs on this machine.
func (b *bench) bucket(ctx context.Context) (err error) {
	minio, err := miniotest.StartMinIO(ctx, b.dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, minio.Stop()) }()
	through, err := newProxy(minio.Endpoint)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, through.close()) }()

	registry := generate.New(seed, generate.Deep(b.s3Repositories))
	config, err := b.upload(ctx, minio, through.url, "deep", registry)
	if err != nil {
		return err
	}
	for _, latency := range b.latencies {
		through.setDelay(latency)
		err := b.compare(ctx, comparison{
			title: fmt.Sprintf("S3, answers after %d ms", latency.Milliseconds()), garbage: registry.Garbage(false), through: through,
			contenders: b.onBucket(minio, through.url, "deep", latency, task{config: config, registry: registry}),
		})
		if err != nil {
			return err
		}
	}
	through.setDelay(0)
	return b.emptied(ctx, minio, through)
}

// onBucket are all who take part on S3. The releases of the registry send one request after another.
// They are left out where that would take the better part of an hour.
func (b *bench) onBucket(minio *miniotest.S3, endpoint, bucket string, latency time.Duration, t task) []contender {
	first := b.regsweep(t)
	t.cache = filepath.Join(b.dir, "cache")
	second := b.regsweep(t)
	second.name, second.warm = nameSecond, true
	keys := []string{"AWS_ACCESS_KEY_ID=" + minio.AccessKey, "AWS_SECRET_ACCESS_KEY=" + minio.SecretKey}
	contenders := []contender{first, second, b.audit(t), b.floor(t.registry, keys, "s3", endpoint, bucket)}
	for _, release := range b.releases(t) {
		tooSlow := latency > 30*time.Millisecond || latency > 5*time.Millisecond && release.name == nameRelease2
		if tooSlow && !b.slow && release.skip == "" {
			release.skip = "it takes too long: -slow runs it"
		}
		contenders = append(contenders, release)
	}
	return contenders
}

// emptied counts the requests of a removal of most of a bucket.
func (b *bench) emptied(ctx context.Context, minio *miniotest.S3, through *proxy) error {
	// Three times as many, so that the rest of each thousand weighs little.
	shape := generate.Deep(3 * b.s3Repositories)
	shape.Deleted = 0.9
	registry := generate.New(seed, shape)
	config, err := b.upload(ctx, minio, through.url, "emptied", registry)
	if err != nil {
		return err
	}
	rounds, brief := b.rounds, b.brief
	defer func() { b.rounds, b.brief = rounds, brief }()
	b.rounds, b.brief = 1, 0 // there is nothing left to remove afterwards
	want := registry.Garbage(false)
	return b.compare(ctx, comparison{
		title:   fmt.Sprintf("S3, removal of %s of %s keys", human.Count(want.Keys()), human.Count(registry.Size().Files)),
		garbage: want, through: through,
		contenders: []contender{b.regsweep(task{config: config, remove: true, registry: registry})},
	})
}

// upload puts a registry into a bucket of its own and returns the config.yml of a
// registry that reaches it at endpoint.
func (b *bench) upload(ctx context.Context, minio *miniotest.S3, endpoint, bucket string, registry *generate.Registry) (string, error) {
	b.say("\nuploading a registry of %+v", registry.Size())
	if err := minio.NewBucket(ctx, bucket); err != nil {
		return "", err
	}
	client := minio.Client()
	if err := registry.Put(ctx, 16, func(path string, content []byte) error {
		_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &path, Body: bytes.NewReader(content)})
		return err
	}); err != nil {
		return "", err
	}
	at := *minio
	at.Endpoint = endpoint
	config := filepath.Join(b.dir, bucket+".yml")
	return config, os.WriteFile(config, []byte(registrytest.StorageConfig(at.Storage(bucket, ""), true)), 0o600)
}
