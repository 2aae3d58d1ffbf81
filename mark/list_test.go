package mark

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestRootsAreRead(t *testing.T) {
	hex := strings.Repeat("0123456789abcdef", 4)
	list, err := ReadRoots("list", strings.NewReader("\ufeff# made by kubectl\r\n\n  team/app:v1\t\r\n#team/app:v0\nteam/app@sha256:"+hex))
	if err != nil || len(list.Entries) != 2 || list.Entries[0].Line != 3 || list.Entries[1].Line != 5 {
		t.Fatalf("%+v, %v", list, err)
	}
	for text, want := range map[string]string{
		"team/app:v1":                              "[team/app] v1 ",
		"app@sha256:" + hex:                        "[app]  sha256",
		"sha256:" + hex:                            "[]  sha256",
		"sha512:" + hex + hex:                      "[]  sha512",
		"team/app:v1@sha256:" + hex:                "[team/app]  sha256",
		"registry.example.com:5000/team/app:v1":    "[registry.example.com:5000/team/app team/app] v1 ",
		"registry.example.com/team/app:v1":         "[registry.example.com/team/app team/app] v1 ",
		"localhost/app:v1":                         "[localhost/app app] v1 ",
		"10.0.0.5:5000/app@sha256:" + hex:          "[10.0.0.5:5000/app app]  sha256",
		"[::1]:5000/app:v1":                        "[[::1]:5000/app app] v1 ",
		"docker-pullable://q.io/app@sha256:" + hex: "[q.io/app app]  sha256",
		"docker://sha256:" + hex:                   "[]  sha256",
		"my.team/app:V1.0_x-y":                     "[my.team/app app] V1.0_x-y ",
		"app:" + hex:                               "[app] " + hex + " ",
	} {
		e := RootEntry{Text: text}
		problem := e.parse()
		alg, _, _ := strings.Cut(string(e.digest), ":")
		if got := fmt.Sprintf("%v %s %s", e.repositories, e.tag, alg); problem != "" || got != want {
			t.Errorf("%q is %q, want %q: %s", text, got, want, problem)
		}
	}
	for _, text := range []string{
		"team/app", "registry.example.com:5000/team/app", "sha256:" + hex[1:], "sha256:" + strings.ToUpper(hex), "app@sha256:1234", "app@md5:" + hex,
		"app@", "@sha256:" + hex, ":v1", "app:", "Team/App:v1", "app:v1 app:v2", "app:v1,app:v2", "app@sha256:" + hex + " # why", "../app:v1", "app:-v",
		"\x00\x00", "a\x00p\x00p\x00", "{\"items\":[]}", hex, "host:port/a:b:c",
	} {
		if list, err := ReadRoots("list", strings.NewReader("app:v1\n"+text)); err == nil || !strings.Contains(err.Error(), "list: line 2: ") {
			t.Errorf("%q is read as %+v, %v", text, list, err)
		}
	}
	if _, err := ReadRoots("list", strings.NewReader("app:v1\n"+strings.Repeat("x", longestRootLine+1))); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a line without an end: %v", err)
	}
	if !slices.IsSortedFunc(list.Entries, func(a, b RootEntry) int { return a.Line - b.Line }) {
		t.Error("lines are in disorder")
	}
}
