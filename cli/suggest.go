package cli

import "strings"

// closest returns the name that a mistyped one most likely means, or the shortest one that
// begins with it; "" where none is near.
func closest(typed string, names []string) string {
	longer := ""
	for _, name := range names {
		if strings.HasPrefix(name, typed) && len(typed) > 1 && (longer == "" || len(name) < len(longer)) {
			longer = name
		}
	}
	if longer != "" {
		return longer
	}
	best, least := "", 1+max(1, len(typed)/3)
	for _, name := range names {
		if d := distance(typed, name); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance counts the letters to insert, remove, change or swap with their
// neighbour to make b of a.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			changed := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				changed++
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, changed)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
