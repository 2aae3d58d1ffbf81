package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"

	"github.com/opencontainers/go-digest"

	"regsweep/internal/human"
	"regsweep/internal/imagetest"
	"regsweep/storage"
)

const (
	nameVerify  = "regsweep verify --read-data"
	nameSum     = "sha256sum"
	nameOpenSSL = "openssl sha256"
)

// verify compares reading the content of all blobs with sha256sum, as many at once as there are processors, on large
// blobs and on small ones. OpenSSL is there because it uses the same instructions of the processor as Go.
func (b *bench) verify(ctx context.Context) error {
	var large, small []int64
	for left := b.contentBytes; left > 0; left -= large[len(large)-1] {
		large = append(large, min(left, max(1, b.contentBytes/(1<<uint(3+len(large)%6))))) // an eighth of all, and down to 1/256
	}
	for i := range b.smallBlobs {
		small = append(small, int64(500+i*7919%16_000))
	}
	for _, c := range []struct {
		name   string
		sizes  []int64
		atOnce int // files for each process of the others
	}{{"large blobs", large, 1}, {"small blobs", small, 200}} {
		root := filepath.Join(b.dir, "content")
		bytes, err := writeBlobs(root, c.sizes)
		if err != nil {
			return err
		}
		b.say("\nwritten: %s in %s", human.Size(bytes), human.Plural(len(c.sizes), "blob"))
		for _, state := range b.states() {
			comparison := comparison{
				title:      "content, " + c.name + ", " + state + " cache",
				contenders: b.onContent(root, len(c.sizes), bytes, c.atOnce),
			}
			if state == "cold" {
				comparison.before = func(_ context.Context, contender contender) error { return cool(contender) }
			} else if err := b.warm(ctx, comparison.contenders); err != nil {
				return err
			}
			if err := b.compare(ctx, comparison); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(root); err != nil {
			return err
		}
	}
	return nil
}

// sumAll gives each process a file for its output: in a pipe, lines of several would be mixed.
const sumAll = `dir=$1; atOnce=$2; each=$3; shift 3; out=$(mktemp -d); export out
find "$dir" -name data -print0 | xargs -0 -P "$atOnce" -n "$each" sh -c 'exec "$@" >"$out/$$"' sh "$@"
cat "$out"/*; rm -rf "$out"`

// onContent are all who read content.
func (b *bench) onContent(root string, blobs int, bytes int64, atOnce int) []contender {
	sums := func(name string, command ...string) contender {
		c := contender{name: name, read: func(output []byte) (Found, error) { return readSums(output, blobs) }}
		c.argv = append([]string{"/bin/sh", "-c", sumAll, "sh",
			filepath.Join(root, storage.Root, storage.BlobsDir), strconv.Itoa(runtime.GOMAXPROCS(0)), strconv.Itoa(atOnce)}, command...)
		if _, err := exec.LookPath(command[0]); err != nil {
			c.skip = "not on this machine"
		}
		return c
	}
	return []contender{
		{
			name: nameVerify, argv: []string{b.programs.regsweep, "verify", "--read-data", "--json", "--no-cache", root},
			read: func(output []byte) (Found, error) { return readVerify(output, blobs, bytes) },
		},
		sums(nameSum, "sha256sum"), sums(nameOpenSSL, "openssl", "sha256", "-r"),
	}
}

// writeBlobs writes a registry that has only blobs, and returns their bytes. They don't compress.
func writeBlobs(root string, sizes []int64) (written int64, err error) {
	layout := filepath.Join(root, storage.Root)
	if err := os.MkdirAll(filepath.Join(layout, storage.RepositoriesDir), 0o755); err != nil {
		return 0, err
	}
	for i, size := range sizes {
		var blobSeed [32]byte
		binary.BigEndian.PutUint64(blobSeed[:], uint64(seed+i))
		path := filepath.Join(layout, "blob")
		d, err := writeBlob(path, io.LimitReader(rand.NewChaCha8(blobSeed), size))
		if err != nil {
			return 0, err
		}
		to := filepath.Join(layout, imagetest.BlobPath(d))
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Rename(path, to)); err != nil {
			return 0, err
		}
		written += size
	}
	return written, nil
}

func writeBlob(path string, content io.Reader) (d digest.Digest, err error) {
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(file, hash), content)
	return digest.NewDigest(digest.SHA256, hash), errors.Join(err, file.Close())
}

// readVerify sees to it that all content was read and is intact.
func readVerify(output []byte, blobs int, bytes int64) (Found, error) {
	var report struct {
		Data struct {
			Read struct {
				Blobs int
				Bytes int64
			}
		}
		Findings []json.RawMessage
	}
	if err := json.Unmarshal(output, &report); err != nil {
		return Found{}, fmt.Errorf("the report of verify: %w", err)
	}
	if got := report.Data.Read; got.Blobs != blobs || got.Bytes != bytes || len(report.Findings) > 0 {
		return Found{}, fmt.Errorf("verify has read %d bytes in %d blobs of %d in %d, with %d findings", got.Bytes, got.Blobs, bytes, blobs, len(report.Findings))
	}
	return Found{Blobs: blobs}, nil
}

var sumLine = regexp.MustCompile(`^([0-9a-f]{64}) [ *].*/([0-9a-f]{64})/data$`)

// readSums sees to it that each blob was read, and has its digest.
func readSums(output []byte, blobs int) (Found, error) {
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(output)); lines.Scan(); n++ {
		if match := sumLine.FindSubmatch(lines.Bytes()); match == nil || !bytes.Equal(match[1], match[2]) {
			return Found{}, fmt.Errorf("a wrong sum: %s", lines.Bytes())
		}
	}
	if n != blobs {
		return Found{}, fmt.Errorf("%d sums of %d", n, blobs)
	}
	return Found{Blobs: n}, nil
}
