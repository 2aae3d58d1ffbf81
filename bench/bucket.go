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
	"regsweep/internal/miniotest"
	"regsweep/internal/registrytest"
)

// bucket compares dry runs on MinIO, at several latencies, and counts the requests of a
// removal.
func (b *bench) bucket(ctx context.Context) (section Section, err error) {
	minio, err := miniotest.StartMinIO(ctx)
	if err != nil {
		return section, err
	}
	defer func() { err = errors.Join(err, minio.Stop()) }()
	through, err := newProxy(minio.Endpoint)
	if err != nil {
		return section, err
	}
	defer func() { err = errors.Join(err, through.close()) }()

	registry := generate.New(b.seed, generate.Deep(b.s3Repositories))
	section = Section{
		Title: "S3 (MinIO), dry run",
		Size:  registry.Size(),
		Notes: []string{"All go through a proxy that counts requests and adds the latency to each answer; MinIO runs on the same machine."},
	}
	config, err := b.upload(ctx, minio, through.url, "deep", registry)
	if err != nil {
		return section, err
	}
	for _, latency := range b.latency {
		for _, deleteUntagged := range []bool{false, true} {
			if deleteUntagged && !b.slow {
				continue
			}
			through.setDelay(latency)
			result, err := b.compare(ctx, comparison{
				key:     fmt.Sprintf("s3 %dms%s", latency.Milliseconds(), suffix(deleteUntagged)),
				title:   fmt.Sprintf("S3, %d ms added to each answer%s", latency.Milliseconds(), withM(deleteUntagged)),
				through: through,
				contenders: b.onBucket(minio, through.url, "deep", latency,
					task{config: config, deleteUntagged: deleteUntagged, registry: registry}),
			})
			if err != nil {
				return section, err
			}
			result.Garbage = registry.Garbage(deleteUntagged)
			section.Cases = append(section.Cases, result)
		}
	}
	through.setDelay(0)
	result, err := b.emptied(ctx, minio, through)
	section.Cases = append(section.Cases, result)
	return section, err
}

// onBucket are all who take part on S3. Those whom a request costs a round trip, one
// after the other, are left out where they would take the better part of an hour.
func (b *bench) onBucket(minio *miniotest.S3, endpoint, bucket string, latency time.Duration, t task) []contender {
	first := b.regsweep(t)
	t.cache = filepath.Join(b.dir, "cache")
	second := b.regsweep(t)
	second.name, second.warm = nameSecond, true
	contenders := []contender{first, second}
	keys := []string{"AWS_ACCESS_KEY_ID=" + minio.AccessKey, "AWS_SECRET_ACCESS_KEY=" + minio.SecretKey}
	contenders = append(contenders, b.floor(t.registry, "floor s3 ENDPOINT BUCKET", keys, "s3", endpoint, bucket))
	for _, release := range b.releases(t) {
		tooSlow := latency > 30*time.Millisecond || latency > 5*time.Millisecond && release.name == nameRelease2
		if tooSlow && !b.slow && release.skip == "" {
			release.skip = "it takes too long: -slow runs it"
		}
		contenders = append(contenders, release)
	}
	return contenders
}

// emptied counts what it takes regsweep to remove most of a bucket.
func (b *bench) emptied(ctx context.Context, minio *miniotest.S3, through *proxy) (Case, error) {
	// Three times as many, so that what is left over of each thousand weighs little.
	shape := generate.Deep(3 * b.s3Repositories)
	shape.Deleted = 0.9
	registry := generate.New(b.seed, shape)
	config, err := b.upload(ctx, minio, through.url, "emptied", registry)
	if err != nil {
		return Case{}, err
	}
	once := *b
	once.rounds, once.brief = 1, 0 // there is nothing left to remove afterwards
	want := registry.Garbage(false)
	result, err := once.compare(ctx, comparison{
		key:        "s3 removal",
		title:      fmt.Sprintf("S3, removal of %s of %s keys", number(want.Keys()), number(registry.Size().Files)),
		through:    through,
		contenders: []contender{b.regsweep(task{config: config, remove: true, registry: registry})},
	})
	result.Garbage = want
	return result, err
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
