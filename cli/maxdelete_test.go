package cli

import "testing"

func TestMaxDeleteIsRead(t *testing.T) {
	for text, want := range map[string]maxDelete{
		"30%":    {unit: '%', percent: 30},
		"2.5%":   {unit: '%', percent: 2.5},
		"0":      {unit: '#'},
		"500":    {unit: '#', count: 500},
		"200GB":  {unit: 'B', bytes: 200e9},
		"1.5GiB": {unit: 'B', bytes: 3 << 29},
		"10k":    {unit: 'B', bytes: 10 << 10},
		"7 B":    {unit: 'B', bytes: 7},
	} {
		var got maxDelete
		want.text = text
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%q is %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "%", "-1", "101%", "1.5", "many", "30%%", "1e9", "9e18GB", "10 bytes", "NaN", "inf", "+5", "1_000"} {
		if err := new(maxDelete).Set(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
