package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the test binary be the serving process that measure starts.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "-serve") {
		if err := run(context.Background(), os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

var small = shape{Blobs: 3000, Links: 15000, Repositories: 15, Layers: 12, Garbage: 0.3}

func open(t *testing.T, of shape) (*space, *httptest.Server) {
	t.Helper()
	s, err := newSpace(of)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newServer(s))
	t.Cleanup(server.Close)
	return s, server
}

func get(t *testing.T, address string) []byte {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s\n%s", address, response.Status, body)
	}
	return body
}

type listing struct {
	Contents []struct {
		Key, ETag string
		Size      int64
	}
	IsTruncated           bool
	NextContinuationToken string
}

func list(t *testing.T, server *httptest.Server, query url.Values) (l listing) {
	t.Helper()
	query.Set("list-type", "2")
	if err := xml.Unmarshal(get(t, server.URL+"/"+bucketName+"?"+query.Encode()), &l); err != nil {
		t.Fatal(err)
	}
	return l
}

// A listing has every key once, in order, and goes on from any place.
func TestListing(t *testing.T) {
	s, server := open(t, small)
	var keys []string
	for query := (url.Values{"max-keys": {"700"}}); ; {
		l := list(t, server, query)
		for _, o := range l.Contents {
			keys = append(keys, o.Key)
		}
		if !l.IsTruncated {
			break
		}
		query.Set("continuation-token", l.NextContinuationToken)
	}
	if want := s.blobs() + s.links(); len(keys) != want || s.blobs() != small.Blobs {
		t.Errorf("%d keys, of %d; %d blobs", len(keys), want, s.blobs())
	}
	for i := 1; i < len(keys); i++ {
		if keys[i] <= keys[i-1] {
			t.Fatalf("%s comes after %s", keys[i], keys[i-1])
		}
	}
	for _, after := range []string{keys[0], keys[17], keys[17] + "a", keys[s.blobs()-1], blobsAt + "7", repositoriesAt, keys[s.blobs()+40], repositoriesAt + "team-00000/app-01/stage-02/_m", keys[len(keys)-1], "zzz"} {
		at, found := slices.BinarySearch(keys, after)
		if found {
			at++
		}
		want := keys[at:min(at+1000, len(keys))]
		got := list(t, server, url.Values{"start-after": {after}})
		for i, o := range got.Contents {
			if len(got.Contents) != len(want) || o.Key != want[i] {
				t.Fatalf("after %s: %d keys beginning with %s", after, len(got.Contents), got.Contents[0].Key)
			}
		}
		if len(got.Contents) != len(want) || got.IsTruncated != (at+1000 < len(keys)) {
			t.Errorf("after %s: %d keys, truncated %v", after, len(got.Contents), got.IsTruncated)
		}
	}
	for _, prefix := range []string{blobsAt + "ab/", repositoriesAt + "team-00000/app-01/", "docker/registry/v2/blobs/", "nothing", keys[5]} {
		var want []string
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) && len(want) < 1000 {
				want = append(want, key)
			}
		}
		var got []string
		for _, o := range list(t, server, url.Values{"prefix": {prefix}}).Contents {
			got = append(got, o.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("with the prefix %s: %d keys, want %d", prefix, len(got), len(want))
		}
	}
}

// A manifest has its digest, a link the ETag of what it says, and all of it the size
// that is listed.
func TestContents(t *testing.T) {
	s, server := open(t, small)
	manifests, links := 0, 0
	c := cursor{s: s}
	for n := 0; c.read(n); n++ {
		o := c.object
		key := string(o.key)
		digits := key[strings.LastIndex(strings.TrimSuffix(strings.TrimSuffix(key, "/link"), "/data"), "/")+1:]
		digits, _, _ = strings.Cut(digits, "/")
		switch {
		case o.image >= 0:
			manifests++
			content := get(t, server.URL+"/"+bucketName+"/"+key)
			sum := sha256.Sum256(content)
			if hex.EncodeToString(sum[:]) != digits || int64(len(content)) != o.size {
				t.Fatalf("%s: %d bytes, listed as %d: %s", key, len(content), o.size, content)
			}
		case strings.HasPrefix(key, repositoriesAt) && n%50 == 0:
			links++
			content := get(t, server.URL+"/"+bucketName+"/"+key)
			if md5.Sum(content) != o.etag || int64(len(content)) != o.size {
				t.Fatalf("%s: %s", key, content)
			}
			if !strings.HasSuffix(key, "/current/link") && string(content) != "sha256:"+digits {
				t.Fatalf("%s: %s", key, content)
			}
		}
	}
	if manifests != len(s.manifests) || links == 0 {
		t.Errorf("%d manifests, of %d; %d links", manifests, len(s.manifests), links)
	}
}

// Nobody may mistake what is not there, or has no content, for something.
func TestRefusals(t *testing.T) {
	s, server := open(t, small)
	c := cursor{s: s}
	layer := ""
	for n := 0; layer == ""; n++ {
		if c.read(n); c.object.image < 0 {
			layer = string(c.object.key)
		}
	}
	for path, want := range map[string]int{
		"/other?list-type=2":                            http.StatusNotFound,
		"/" + bucketName + "/no/such/key":               http.StatusNotFound,
		"/" + bucketName + "/" + layer:                  http.StatusNotImplemented,
		"/" + bucketName + "?list-type=2&delimiter=%2F": http.StatusNotImplemented,
		"/" + bucketName + "?list-type=2&max-keys=x":    http.StatusBadRequest,
	} {
		response, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, response.Status, want)
		}
	}
}

// The program finds in a simulated registry what is there, be it of one repository or of
// many, and of memory takes what it may.
func TestProgramFindsWhatIsSimulated(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "regsweep")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "regsweep").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for name, of := range map[string]shape{
		"some":       {Blobs: 20_000, Links: 100_000, Repositories: 20, Layers: 50, Garbage: 0.1},
		"one":        {Blobs: 20_000, Links: 20_000, Repositories: 1, Layers: 20, Garbage: 0.5},
		"many":       {Blobs: 20_000, Links: 100_000, Repositories: 2000, Layers: 5, Garbage: 0.5},
		"no garbage": {Blobs: 20_000, Links: 40_000, Repositories: 20, Layers: 50},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := measure(t.Context(), binary, of)
			if err != nil {
				t.Fatal(err)
			}
			if m.Blobs != of.Blobs || m.Links < of.Links*9/10 {
				t.Errorf("%d blobs and %d links are simulated, of %+v", m.Blobs, m.Links, of)
			}
			if m.Truth.LiveBlobs == 0 || (m.Truth.GarbageLinks == 0) != (of.Garbage == 0) {
				t.Errorf("%+v proves little", m.Truth)
			}
			if m.peak < 10<<20 || m.peak > 512<<20 || m.cpu == 0 {
				t.Errorf("%d bytes, %s", m.peak, m.cpu)
			}
			// What is not there is noticed.
			m.Truth.GarbageBytes++
			if m.check() == nil {
				t.Error("a wrong result passes")
			}
		})
	}
}

// The flags make one registry of each size.
func TestFlags(t *testing.T) {
	got, err := options{blobs: "100,2000", links: "300,9000"}.shapes()
	if err != nil || len(got) != 2 || got[1].Blobs != 2000 || got[1].Links != 9000 || got[0].Repositories < 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, wrong := range []options{{blobs: "x"}, {blobs: "1", links: "1,2"}, {blobs: "1", links: "-"}} {
		if got, err := wrong.shapes(); err == nil {
			t.Errorf("%+v: %+v", wrong, got)
		}
	}
	var line bytes.Buffer
	if err := serve(shape{Blobs: 1, Links: 0, Layers: 1, Repositories: 1}, strings.NewReader(""), &line); err == nil {
		t.Error("a registry that can't be is served")
	}
}
