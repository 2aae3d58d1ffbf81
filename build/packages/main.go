// Command packages makes deb and rpm packages of regsweep, with nfpm. The same commit gives the same
// bytes.
package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"

	"regsweep/build/release"
)

func main() {
	programs := flag.String("programs", "bin", "take `DIR`/linux-ARCH/regsweep, and write DIR/packages")
	nfpm := flag.String("nfpm", "nfpm", "the `COMMAND` that runs nfpm")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *programs, strings.Fields(*nfpm)); err != nil {
		fmt.Fprintln(os.Stderr, "packages:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, programs string, nfpm []string) error {
	output := filepath.Join(programs, "packages")
	for _, arch := range []string{"amd64", "arm64"} {
		program := filepath.Join(programs, "linux-"+arch, "regsweep")
		of, err := release.Of(program)
		if err != nil {
			return err
		}
		// This directory has what the packages contain and the checkout does not.
		made := filepath.Join(programs, "linux-"+arch, "made")
		if err := writeMade(ctx, made, of); err != nil {
			return err
		}
		for _, format := range []string{"deb", "rpm"} {
			command := exec.CommandContext(ctx, nfpm[0], append(nfpm[1:], "package", "-f", "build/packages/nfpm.yaml", "-p", format, "-t", output)...)
			command.Env = append(os.Environ(), "ARCH="+arch, "VERSION="+version(of), "PROGRAM="+program, "MADE="+made,
				fmt.Sprint("SOURCE_DATE_EPOCH=", of.Time.Unix()))
			command.Stdout, command.Stderr = os.Stdout, os.Stderr
			if err := command.Run(); err != nil {
				return fmt.Errorf("nfpm: %w", err)
			}
		}
	}
	return nil
}

// writeMade writes the manual pages, as packages have them, and the completions of shells.
func writeMade(ctx context.Context, dir string, of release.Release) error {
	files := map[string][]byte{}
	pages, err := manual(ctx, of)
	if err != nil {
		return err
	}
	for name, page := range pages {
		var packed bytes.Buffer
		writer, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
		if err != nil {
			return err
		}
		if _, err := writer.Write([]byte(page)); err != nil {
			return err
		}
		if err := writer.Close(); err != nil {
			return err
		}
		files["man/"+name+".gz"] = packed.Bytes()
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		script, err := regsweep(ctx, "completion", shell)
		if err != nil {
			return err
		}
		files[shell] = []byte(script)
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// version returns the version as deb and rpm order it: v1.2.3-rc.1 is 1.2.3~rc.1, and comes before 1.2.3.
func version(of release.Release) string {
	version, found := strings.CutPrefix(of.Version, "v")
	if !found {
		return "0.0.0~devel"
	}
	number, pre, isPre := strings.Cut(version, "-")
	if isPre {
		number += "~" + strings.ReplaceAll(pre, "-", ".")
	}
	return number
}
