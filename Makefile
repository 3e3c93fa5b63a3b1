# rumpus: `make run` boots the kernel of config.yaml, `make test` passes the tests.
# Both work on a fresh machine with Go and make, unprivileged.

GO      ?= go
PLUGINS := vfs net dev
# The race detector needs a C compiler; without one the tests run without it.
RACE    := $(shell command -v "$$($(GO) env CC)" >/dev/null 2>&1 && echo -race)

.PHONY: all build build-bench run bench test vet cross fuzz soak chaos mutants clean help

all: build

help: ## show what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## bin/rumpus and bin/plugins/{vfs,net,dev}
	@mkdir -p bin/plugins
	CGO_ENABLED=0 $(GO) build -o bin/rumpus ./host
	CGO_ENABLED=0 $(GO) build -o bin/plugins/ $(PLUGINS:%=./plugins/%)

build-bench: build ## bin/rumpus-bench
	CGO_ENABLED=0 $(GO) build -o bin/rumpus-bench ./host/bench

bench: build-bench ## measure, and append to host/bench/RESULTS.md (PATTERN=, T=)
	@bin/rumpus-bench -t $(or $(T),300ms) --results host/bench/RESULTS.md '$(PATTERN)'

run: build ## boot the kernel of config.yaml in the foreground
	@bin/rumpus run

test: ## vet, and all tests under the race detector
	@[ -n "$(RACE)" ] || echo "no C compiler: testing without the race detector"
	$(GO) vet ./...
	$(GO) test $(RACE) -timeout 9m ./...

cross: ## the SDK and the kernel build for platforms that have no rings, too
	@for t in linux/arm64 linux/386 linux/riscv64 darwin/arm64 freebsd/amd64; do \
	  echo "$$t"; CGO_ENABLED=0 GOOS=$${t%/*} GOARCH=$${t#*/} $(GO) build ./modapi/... ./kernel/... || exit 1; \
	done

fuzz: ## every fuzzer for FUZZTIME (default 30s) each
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p 2>/dev/null | grep '^Fuzz'); do \
	    echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),30s) -fuzzminimizetime 5x $$p || exit 1; \
	  done; done

soak: build-bench ## kill clients for a minute, components for a long time (KILLS=1000); OPS=1e8 operations leave nothing behind
	RUMPUS_LONG=1 $(GO) test $(RACE) -count 1 -timeout 10m -run TestStressKiller -v ./kernel/rumpclient
	RUMPUS_KILLS=$(or $(KILLS),1000) $(GO) test -count 1 -timeout 60m -run 'TestKillAnyComponent|TestDiskKill' -v ./host/run
	RUMPUS_KILLS=$(or $(KILLS),1000) $(GO) test -count 1 -timeout 60m -run TestRedoKill -v ./kernel
	RUMPUS_LONG=1 $(GO) test -count 1 -timeout 10m -run TestScale -v ./kernel/vfs
	RUMPUS_IMAGES=$(or $(IMAGES),100000) $(GO) test -count 1 -timeout 60m -run TestMutated -v ./plugins/vfs/fat
	bin/rumpus-bench -files $(or $(FILES),1000000)
	bin/rumpus-bench -soak $(or $(OPS),1e8)

chaos: ## break components, hosts and disks under load: MINUTES=60 SEED=7; a row a fault in bin/chaos.csv
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -o bin/rumpus-chaos ./host/chaos
	@bin/rumpus-chaos -minutes $(or $(MINUTES),1) -seed $(or $(SEED),0) -csv bin/chaos.csv

mutants: ## break the recovery code in one place at a time: the tests have to notice each
	@mkdir -p bin
	$(GO) build -o bin/rumpus-mutants ./host/chaos/mutants
	@bin/rumpus-mutants

clean: ## remove what build made
	rm -rf bin
