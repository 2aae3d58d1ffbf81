package miniotest_test

import (
	"strings"
	"testing"

	"regsweep/internal/miniotest"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

func TestStoppedServerIsGone(t *testing.T) {
	miniotest.SharedMinIO(t) // with -short it skips the test if there is no MinIO yet
	server, err := miniotest.StartMinIO(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.NewBucket(t.Context(), "bucket"); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	once := func(o *s3.Options) { o.RetryMaxAttempts = 1 }
	_, err = server.Client().ListBuckets(t.Context(), &s3.ListBucketsInput{}, once)
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Fatalf("a stopped server answers: %v", err)
	}
}
