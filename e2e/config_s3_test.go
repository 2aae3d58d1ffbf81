package e2e

import (
	"strings"
	"testing"
)

// TestWrongStorageSectionIsAUsageError: the run ends with 2 and names the file and the key.
func TestWrongStorageSectionIsAUsageError(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for section, want := range map[string]string{
		"s3: {region: x}":                                     "set storage.s3.bucket",
		"s3: {bucket: b}":                                     "set storage.s3.region",
		"s3: {bucket: registry/folder, region: x}":            "set bucket: registry and rootdirectory: /folder",
		"s3: {bucket: b, region: x, secure: perhaps}":         "secure is not a boolean",
		"s3: {bucket: b, region: x, chunksize: many}":         "chunksize is not a number",
		"s3: {bucket: b, regionendpoint: 'ftp://there'}":      "regionendpoint is not an http or https address",
		"filesystem: {rootdirectory: /tmp, maxthreads: many}": "maxthreads is not a number: many",
		"filesystem: {rootdirectory: /tmp, maxthreads: 1.5}":  "maxthreads is not a number: 1.5",
	} {
		file := s.config("version: 0.1\nstorage: {" + section + "}\nhttp: {addr: ':5000'}\n")
		code, _, stderr := regsweep(s, "gc", file, "-d", "--registry-stopped", "--no-cache")
		if code != 2 || !strings.Contains(stderr, file) || !strings.Contains(stderr, want) {
			t.Errorf("%s: ends with %d: %s", section, code, stderr)
		}
	}
	if code, _, stderr := regsweep(s, "gc", "s3://bucket/prefix", "-d"); code != 2 || stderr != "regsweep: s3://bucket/prefix: no region: add ?region=…, or ?endpoint=… for a server that is not Amazon's\n" {
		t.Errorf("ends with %d: %s", code, stderr)
	}
	if code, _, stderr := regsweep(s, "gc", "s3://bucket?endpoint=ftp://there", "-d", "--registry-stopped"); code != 2 || !strings.Contains(stderr, "regionendpoint") {
		t.Errorf("ends with %d: %s", code, stderr)
	}
}
