//go:build !race

package main

const stride = 1 // see stride_race_test.go
