//go:build !race

package e2e

const stride = 1 // see stride_race_test.go
