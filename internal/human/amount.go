package human

import (
	"math"
	"strconv"
	"strings"
)

// units has the bytes of each unit. A letter alone is a binary unit, as in rclone.
var units = map[string]float64{
	"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50,
	"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40, "pib": 1 << 50,
	"kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "pb": 1e15,
}

// ParseAmount parses a share such as 30%, a number such as 500, or bytes such as 200GB. The unit is then '%',
// '#' or 'B'. It is 0 if the text is none of these. A share is at most 100, a number is whole and below 2^31,
// and bytes are below 2^63.
func ParseAmount(text string) (value float64, unit byte) {
	text = strings.TrimSpace(text)
	digits := strings.TrimRight(text, "%abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	name := strings.ToLower(text[len(digits):])
	value, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if err != nil || value < 0 || strings.Trim(digits, "0123456789. ") != "" {
		return 0, 0
	}
	switch factor, known := units[name]; {
	case name == "%" && value <= 100:
		return value, '%'
	case name == "" && value == math.Trunc(value) && value < math.MaxInt32:
		return value, '#'
	case known && value*factor < math.MaxInt64:
		return value * factor, 'B'
	}
	return 0, 0
}
