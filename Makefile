# make help lists the targets.

GO ?= go

# How many inputs each fuzz target is given, in `make fuzz` and in `make test`. A time
# would do too, but before Go 1.27 a busy machine then fails now and then with
# "context deadline exceeded" and no input that fails: https://go.dev/issue/75804.
FUZZTIME ?= 2000000x
TESTFUZZTIME ?= 20000x

# Released tools come from the module proxy, apart from go.mod: nobody who uses this
# module should have to take them on.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
NFPM = github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.48.0

# The race detector needs a C compiler. Without one the tests still run.
RACE := $(shell command -v $$($(GO) env CC) >/dev/null 2>&1 && echo -race)

# A program with the race detector in it sleeps for a second before it ends, in case that
# another thread has something to report: the tests start hundreds.
export GORACE = atexit_sleep_ms=0

# The version is that of the checkout, where there is one that git will read.
VCS := $(shell git status --porcelain >/dev/null 2>&1 && echo true || echo false)

# What the machine says about AWS is not for tests and demos: the SDKs heed it.
unexport $(filter AWS_%,$(.VARIABLES))

.DEFAULT_GOAL := help
.PHONY: help build programs image packages demo bench bench-scale test check servers fuzz-briefly fuzz all race quiet-demo faults pulls soak cosign clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# -s -w leave out the symbols and the debugging information: 33 MB instead of 46. Stack traces
# stay as they are. The tag leaves out what urfave/cli has to write manual pages.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(VCS) -ldflags "-s -w" -tags urfave_cli_no_docs

build: ## build bin/regsweep
	$(BUILD) -o bin/regsweep .

# What is made for others goes here.
BIN ?= bin

programs:
	GOOS=linux GOARCH=amd64 $(BUILD) -o $(BIN)/linux-amd64/regsweep .
	GOOS=linux GOARCH=arm64 $(BUILD) -o $(BIN)/linux-arm64/regsweep .

# PUSH=registry.example.com/regsweep:v1 pushes it, with the password of docker login. BASE=IMAGE puts
# the program on an image that has what the commands of a window need, such as kubectl. If that image is
# for one architecture alone, say so with ARCH.
ARCH ?= amd64 arm64
image: programs ## make an OCI image in bin/image: see BASE and PUSH in the Makefile
	@rm -rf $(BIN)/image
	@$(GO) run ./build/image -programs $(BIN) -o $(BIN)/image -arch '$(ARCH)' -base '$(BASE)' -push '$(PUSH)'

demo: ## make a registry and collect it before your eyes
	@$(GO) run ./demo

packages: programs ## make deb and rpm packages in bin/packages
	@rm -rf $(BIN)/packages && mkdir $(BIN)/packages
	@$(GO) run ./build/packages -programs $(BIN) -nfpm '$(GO) run $(NFPM)'

# BENCHFLAGS=-help lists the flags; -quick takes a few minutes.
bench: ## compare with registry garbage-collect, an hour or more: see BENCHFLAGS
	@$(GO) run ./bench $(BENCHFLAGS)

# make test runs every test once, and then with the race detector what that can find something
# in: -short leaves out cases that are alike. The packages of bench start whole programs, in which
# the race detector of a test sees nothing.
test: begun := $(shell date +%s)
test: ## check everything, and run all tests
	@echo 'make test takes 11 to 15 minutes on two cores. The first time it also builds registries and'
	@echo 'S3 servers, which takes longer. It needs some 7 GB: Go modules, the build cache, and these servers.'
	@set -e; stage() { \
		printf '\n== Stage %s of 6, after %d s: %s\n' "$$1" $$(($$(date +%s) - $(begun))) "$$2"; $(MAKE) --no-print-directory "$$3"; \
	}; \
	stage 1 'gofmt, vet and staticcheck' check; \
	stage 2 'registries and S3 servers are built and tested' servers; \
	stage 3 'each fuzz target' fuzz-briefly; \
	stage 4 'all tests, without the race detector' all; \
	stage 5 'all tests, with the race detector and fewer cases' race; \
	stage 6 'the demo' quiet-demo
	@printf '\nmake test: all tests passed: checks, fuzz targets, tests, tests %s, demo. It took %d min.\n' \
		'$(if $(RACE),with the race detector,with -short (no C compiler: no race detector))' $$((($$(date +%s) - $(begun) + 59) / 60))

check:
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l .) || exit 1; \
	if [ -n "$$unformatted" ]; then printf 'not formatted by gofmt:\n%s\n' "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...

# These tests build the servers that all other tests use. They go
# first, with a patience that a test of regsweep should not have.
servers:
	$(GO) test -timeout 40m ./internal/registrytest ./internal/miniotest

fuzz-briefly: FUZZTIME = $(TESTFUZZTIME)
fuzz-briefly: fuzz

# go test fuzzes one target of one package at a time. A package's targets are listed
# before the package. To make one interesting input small may otherwise take a minute.
fuzz: ## fuzz each target with FUZZTIME inputs (2000000x), or for as long (10m)
	@list=$$($(GO) test -list '^Fuzz' ./...) || { printf '%s\n' "$$list"; exit 1; }; \
	targets=$$(printf '%s\n' "$$list" | awk '/^Fuzz/ { t[++n] = $$1 } $$1 == "ok" { for (i = 1; i <= n; i++) print $$2, t[i] } !/^Fuzz/ { n = 0 }'); \
	if [ -z "$$targets" ]; then echo 'no fuzz target found'; exit 1; fi; \
	printf '%s\n' "$$targets" | while read -r package target; do \
		echo "$(GO) test -run '^$$' -fuzz '^$$target$$' -fuzztime $(FUZZTIME) $$package"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1000x "$$package" </dev/null || exit 1; \
	done

# Many tests wait most of the time, for the intervals of a proof or of a lock: more packages, and more
# tests of each, run at once than there are cores.
GOTEST = $(GO) test -count=1 -timeout 30m -p 3 -parallel 4

all:
	$(GOTEST) ./...

# The race detector finds nothing in a disk: the files of its tests are in memory, if that has room
# and programs can be started there.
MEMORY = $(shell [ "0$$(df -Pk /dev/shm 2>/dev/null | awk 'END { print $$4 }')" -gt 4000000 ] && \
	! grep -q ' /dev/shm .*noexec' /proc/mounts && echo /dev/shm)
race: export TMPDIR := $(or $(TMPDIR),$(MEMORY),/tmp)
race:
	packages=$$($(GO) list ./... | grep -v '/bench') && $(GOTEST) $(RACE) -short $$packages

quiet-demo:
	$(GO) run ./demo >/dev/null

faults: ## fail every system call and every request to S3 in every way, for hours
	$(GO) test -count=1 -timeout 0 -v -run 'TestEachSystemCallFails|TestEachSystemCallOfAQuarantineFails|TestEachRequestToS3Fails|TestEachSystemCallOfARepairFails|TestARunThatRemovesTagsDiesAtEachOperation|TestAQuarantineOfTagsDiesAtEachOperation|TestFaultsOfARunThatRemovesTags' ./e2e -every-fault

pulls: ## damage 200 random registries, and compare verify with what a registry fails to serve
	$(GO) test -count=1 -timeout 0 -run 'TestVerifyFindsWhatFailsToPull|TestVerifyRepairsWhatHasItsBytes|TestVerifyMakesRoomForPushes|TestVerifyUntagsWhatIsLost' ./e2e -verify-seeds 200

# How long, and from which seed: what it prints repeats a soak, as far as kills allow.
SOAK ?= 10m
SEED ?= 0

soak: ## random registries, faults, kills and pushes, for SOAK (10m), from SEED
	$(GO) test $(RACE) -run '^TestSoak$$' -count=1 -timeout 0 -v ./e2e -soak $(SOAK) -soak-seed $(SEED)

# In make test this test does itself what cosign and oras would do.
cosign: ## a policy on images that the real cosign has signed; builds cosign and oras
	$(GO) test -count=1 -timeout 40m -v -run '^TestAPolicyOnSignedImages$$' ./e2e -real-clients

# It wants some 12 minutes of two idle cores.
bench-scale: ## measure memory and time on up to 10 million blobs, simulated
	$(GO) test -run '^$$' -bench 'ListingPath|DecodeListing' ./storage/s3
	$(GO) test -run '^$$' -bench Parse ./manifest
	$(GO) run ./bench/simulate -rounds 3 -limit 1024

clean: ## remove what was built here
	rm -rf bin
