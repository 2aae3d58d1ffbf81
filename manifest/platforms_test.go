package manifest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestPlatforms(t *testing.T) {
	a, b, c := digest.FromString("a"), digest.FromString("b"), digest.FromString("c")
	index := fmt.Sprintf(`{"manifests":[
		{"digest":%q,"platform":{"os":"linux","architecture":"arm64","variant":"v8"}},
		{"digest":%q,"platform":{"os":"windows","architecture":"amd64","os.version":"10"}},
		{"digest":%q},
		{"digest":%[1]q,"platform":{"os":"linux","architecture":"arm"}}]}`, a, b, c)
	got := fmt.Sprint(Platforms([]byte(index)))
	if want := fmt.Sprint(map[digest.Digest]string{a: "linux/arm64/v8", b: "windows/amd64"}); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, odd := range []string{"", "[]", `{"manifests":7}`, strings.Repeat("[", 100)} {
		if got := Platforms([]byte(odd)); len(got) != 0 {
			t.Errorf("%q has the platforms %v", odd, got)
		}
	}
}
