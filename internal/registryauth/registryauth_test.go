package registryauth

import (
	"fmt"
	"testing"
)

func TestChallengesAreTakenApart(t *testing.T) {
	for header, want := range map[string][]Challenge{
		`Basic realm="a b"`: {{"basic", map[string]string{"realm": "a b"}}},
		`Bearer realm="https://auth.example.com/t?x=1,2",service="reg",scope="repository:a/b:pull,push"`: {
			{"bearer", map[string]string{"realm": "https://auth.example.com/t?x=1,2", "service": "reg", "scope": "repository:a/b:pull,push"}}},
		`Negotiate, BASIC realm=plain , bearer Realm="q\"uo\\te"`: {
			{"negotiate", map[string]string{}}, {"basic", map[string]string{"realm": "plain"}}, {"bearer", map[string]string{"realm": `q"uo\te`}}},
		`realm="nothing before"`: nil,
		`Basic realm="open\`:     {{"basic", map[string]string{"realm": `"open\`}}},
		``:                       nil,
	} {
		got := Challenges([]string{header})
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", header, got, want)
		}
	}
}
