# What can be done here: `make help`. CI calls these targets and nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
export CARGO_TARGET_DIR ?= $(CURDIR)/target
# Static; make build TARGET=aarch64-unknown-linux-musl builds for the other architecture, without a C toolchain for it. Of several,
# each is linked while the others are.
TARGET ?= $(shell uname -m)-unknown-linux-musl
built = $(TARGET:%=$(CARGO_TARGET_DIR)/%/release/pss-guard$(1))
BINARY := $(firstword $(call built))
# A workspace of its own, so that nothing it needs reaches the lock file of the gate.
AGENT := --manifest-path agent/Cargo.toml --target-dir $(CARGO_TARGET_DIR)/agent
# No path of this machine gets into a static program, so a build has the same bytes wherever it is made. Cargo adds these to the
# flags of .cargo/config.toml, which RUSTFLAGS would replace.
UNNAMED := $(CURDIR)=/pss-guard $(CARGO_TARGET_DIR)=/target $(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS := $(UNNAMED:%=--remap-path-prefix=%)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUSTFLAGS := $(UNNAMED:%=--remap-path-prefix=%)
# The agent's TLS has C in it, which needs a compiler and nothing of a C library.
define c-compiler
export CC_$(1)_unknown_linux_musl ?= $(if $(filter $(1),$(shell uname -m)),cc,$(1)-linux-gnu-gcc)
export CFLAGS_$(1)_unknown_linux_musl ?= $(addprefix -ffile-prefix-map=,$(UNNAMED))
endef
$(foreach machine,x86_64 aarch64,$(eval $(call c-compiler,$(machine))))
SCRIPTS := benches/manifests.sh scripts/install-deps scripts/node-parts integration-tests/support/machine.sh integration-tests/e2e/systemd.sh \
	integration-tests/vm/base integration-tests/vm/inside integration-tests/vm/machine integration-tests/vm/story \
	.ci/run benches/jq-hook.sh benches/jq-scan.sh deploy/dist deploy/licenses deploy/reproducible deploy/tarball/install.sh deploy/image/build \
	integration-tests/dist/debian $(addprefix deploy/packages/scripts/,postinstall postremove preremove)
ROOT := $(filter 0,$(shell id -u))

# Runs the tests, shows everything, and closes with their summaries and skips. $(1): a name, $(2): cargo's arguments, one
# string a run; each runs whatever became of the one before.
define run-tests
	log="$(CARGO_TARGET_DIR)/$(1).log"; status=0; : >"$$log"; \
	for arguments in $(2); do \
		$(CARGO) test --locked --no-fail-fast $$arguments 2>&1 | tee -a "$$log" || status=$$?; \
	done; \
	echo; echo "$(1):"; grep -aoE '^test result.*|SKIPPED .*|^error.*' "$$log" || true; exit $$status
endef

# $(1): programs, which must be static.
define show-static
	for program in $(1); do \
		if readelf --wide --program-headers $$program | grep -q INTERP; then \
			echo "$$program asks for a dynamic loader" >&2; exit 1; fi; \
		file $$program; \
		stat --format '%s' $$program | awk '{ printf "%.2f MB\n", $$1 / 1048576 }'; done
endef

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install what the tests need (as root on Debian; elsewhere say what is missing)
	@scripts/install-deps

.PHONY: node-deps
node-deps: ## And what real engines need: fetched and built, about twenty minutes the first time
	@scripts/install-deps --node

.PHONY: build
build: ## The release binaries, static, and the proof that they are
	$(CARGO) build --release --locked $(TARGET:%=--target %) --bin pss-guard
	# By itself, so that it has no feature that only the tool needs.
	$(CARGO) build --release --locked $(TARGET:%=--target %) --package pss-guard-gate
	@$(call show-static,$(call built) $(call built,-gate))

.PHONY: build-agent
build-agent: ## The agent's, which needs a C compiler
	$(CARGO) build --release --locked $(TARGET:%=--target %) --manifest-path agent/Cargo.toml
	@$(call show-static,$(call built,-agent))

.PHONY: dist-deps
dist-deps: ## And what a release is made with: nfpm, cargo-cyclonedx, lintian, rpmlint, minisign
	@scripts/install-deps --dist

# Which architectures, and which version the files say they are.
ARCHITECTURES ?= x86_64 aarch64
export VERSION

.PHONY: dist
dist: $(if $(ROOT),dist-deps) ## Tarballs, packages, image, SBOM and checksums of a release, for both architectures
	@deploy/dist build $(ARCHITECTURES)
	@deploy/dist package $(ARCHITECTURES)
	@deploy/dist lint $(ARCHITECTURES)

.PHONY: dist-reproducible
dist-reproducible: ## Build a release again in another folder with another home, and compare (after make dist)
	@deploy/reproducible

# What ships: STAGE/{x86_64,aarch64}/pss-guard{,-gate,-agent}.
STAGE ?= $(CARGO_TARGET_DIR)/dist/stage

.PHONY: image-deps
image-deps: ## And a C compiler for the agent of the other architecture
	@scripts/install-deps --image

.PHONY: stage
stage: $(if $(ROOT),image-deps)
	@deploy/dist build

.PHONY: image
image: stage ## The image of both platforms as an OCI archive: no registry, no container engine, the same digest twice
	@deploy/image/build $(STAGE) $(CARGO_TARGET_DIR)/dist

.PHONY: demo
demo: $(if $(ROOT),deps) ## Seven containers at every level and mode, by hook and by runtime, under a real runc (needs root)
	@$(CARGO) build --quiet --locked --package pss-guard --package pss-guard-gate --bins --example demo
	@$(CARGO_TARGET_DIR)/debug/examples/demo

.PHONY: check
check: ## The inner loop, about a minute: formatting, clippy, unit tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --lib --bins -- -D warnings
	@$(CARGO) test --locked --quiet --workspace --lib

# What `make test` runs before real engines; nothing where `make e2e` runs the same with the release binary.
ENGINES ?= "--workspace --test engines"

.PHONY: test
test: $(if $(ROOT),deps) lint ## Lints, unit tests, the contract, and what this machine has of runtimes and engines
	@$(call run-tests,test,"--workspace" "$(AGENT)" $(ENGINES))

.PHONY: lint
lint: ## Formatting, clippy, fuzz targets, documentation, shell scripts
	$(CARGO) fmt --all --check
	$(CARGO) check --locked --package pss --lib
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace --test engines --test e2e --test dist --test matrix --test cluster --test soak -- -D warnings
	$(CARGO) fmt --check --manifest-path agent/Cargo.toml
	$(CARGO) clippy --locked $(AGENT) --all-targets -- -D warnings
	@$(MAKE) --no-print-directory -C fuzz check
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	shellcheck --external-sources $(SCRIPTS)

.PHONY: e2e
e2e: $(if $(ROOT),node-deps) build build-agent image ## The release binaries before real runtimes and engines, and on whole nodes (needs root)
	@export PSS_GUARD_REQUIRE=all PSS_GUARD_BINARY=$(BINARY) PSS_GUARD_AGENT=$(BINARY)-agent PSS_GUARD_DIST=$(CARGO_TARGET_DIR)/dist; $(call run-tests,e2e,"--workspace --test engines --test e2e")

.PHONY: matrix-deps
matrix-deps: ## And other versions of engines and runtimes, about twenty minutes more the first time
	@scripts/install-deps --matrix

.PHONY: e2e-matrix
e2e-matrix: $(if $(ROOT),matrix-deps) build ## Every version of every engine with every runtime, as docs/compatibility.md has it (needs root)
	@rm -f "$(CARGO_TARGET_DIR)/matrix.md"
	@export PSS_GUARD_REQUIRE=all PSS_GUARD_BINARY=$(BINARY); failed=0; \
		($(call run-tests,e2e-matrix,"--test matrix")) || failed=$$?; \
		echo; cat "$(CARGO_TARGET_DIR)/matrix.md"; exit $$failed

.PHONY: e2e-cluster
e2e-cluster: $(if $(ROOT),node-deps) build build-agent ## The agent on clusters of up to three nodes: exactness, races, faults; about an hour (needs root)
	@export PSS_GUARD_REQUIRE=all PSS_GUARD_BINARY=$(BINARY) PSS_GUARD_AGENT=$(BINARY)-agent; \
	$(call run-tests,e2e-cluster,"--test e2e daemonset -- --nocapture" "--test cluster -- --nocapture --test-threads=1")

.PHONY: soak
soak: $(if $(ROOT),deps) build ## Thousands of starts under load while everything changes, and under faults; five minutes (needs root)
	@export PSS_GUARD_REQUIRE=all PSS_GUARD_BINARY=$(BINARY); $(call run-tests,soak,"--test soak -- --nocapture --test-threads=1")

# How many agents, and behind a comma how many namespaces. An agent is a process of 5 MB.
FLEET ?= 400

.PHONY: e2e-fleet
e2e-fleet: $(if $(ROOT),node-deps) build build-agent ## What hundreds of agents cost one API server; twenty minutes, with nothing else beside it (needs root)
	@export PSS_GUARD_REQUIRE=all PSS_GUARD_BINARY=$(BINARY) PSS_GUARD_AGENT=$(BINARY)-agent PSS_GUARD_FLEET=$(FLEET); \
	$(call run-tests,e2e-fleet,"--test cluster fleet:: -- --nocapture")

.PHONY: e2e-vm
e2e-vm: $(if $(ROOT),node-deps) build ## Whole machines under qemu: systemd, AppArmor, SELinux, reboots, power cuts (needs root once)
	@PSS_GUARD_BINARY=$(BINARY) integration-tests/vm/story

# Packages of two versions, whose programs do the same and differ in bytes.
TRIED := $(CARGO_TARGET_DIR)/dist-test

.PHONY: dist-test
dist-test: $(if $(ROOT),node-deps dist-deps) ## The packages by dpkg and rpm, with a gate and containers that start all the time (needs root)
	@deploy/dist build x86_64
	@rm -rf $(TRIED); for version in old new; do \
		mkdir -p $(TRIED)/$$version/dist/stage; cp -r $(CARGO_TARGET_DIR)/dist/stage/x86_64 $(TRIED)/$$version/dist/stage/; done
	@for program in $(TRIED)/old/dist/stage/x86_64/*; do echo old >>$$program; done
	@VERSION=0.0.1 CARGO_TARGET_DIR=$(TRIED)/old deploy/dist package x86_64
	@VERSION=0.0.2 CARGO_TARGET_DIR=$(TRIED)/new deploy/dist package x86_64
	@VERSION=0.0.2 CARGO_TARGET_DIR=$(TRIED)/new deploy/dist lint x86_64
	@export PSS_GUARD_REQUIRE=all PSS_GUARD_PACKAGES=$(TRIED) PSS_GUARD_BINARY=$(TRIED)/new/dist/stage/x86_64/pss-guard; \
	PSS_GUARD_DEBIAN=$$(integration-tests/dist/debian); export PSS_GUARD_DEBIAN; $(call run-tests,dist-test,"--test dist")

.PHONY: bench
bench: build ## What a container start costs, beside a program that does nothing
	$(CARGO) build --release --locked --target $(TARGET) --example bench
	for program in noop noop_hook; do \
		rustc --edition 2024 -O -C strip=symbols -C panic=abort --target $(TARGET) benches/$$program.rs \
			-o $(CARGO_TARGET_DIR)/$(TARGET)/release/examples/$$program; done
	@$(CARGO_TARGET_DIR)/$(TARGET)/release/examples/bench
	@echo; echo "evaluate_pod, a compliant pod of three containers at restricted:"
	@$(CARGO) run --quiet --release --locked --target $(TARGET) --package pss --features testing --example cost
	@benches/manifests.sh $(BINARY)

.PHONY: bench-check
bench-check: build ## The same in numbers that no other load changes, with bounds (as root; strace and valgrind)
	@export PSS_GUARD_REQUIRE=all PSS_GUARD_BINARY=$(BINARY); \
	$(call run-tests,bench-check,"--test engines -- cost:: --nocapture")

.PHONY: docs
docs: ## Write docs/controls.md again, from the table of controls
	@mkdir -p docs
	$(CARGO) run --quiet --locked --bin pss-guard -- explain --format markdown >docs/controls.md.new
	@mv docs/controls.md.new docs/controls.md

.PHONY: fuzz-deps
fuzz-deps: ## And what fuzzing needs: cargo-fuzz
	@scripts/install-deps --fuzz

.PHONY: fuzz
fuzz: $(if $(ROOT),fuzz-deps) ## Throw bytes at everything that reads them (FUZZ_SECONDS each)
	@$(MAKE) --no-print-directory -C fuzz

.PHONY: mutants-deps
mutants-deps: ## And cargo-mutants
	@scripts/install-deps --mutants

# Against which commit the change is.
REV ?= main

.PHONY: mutants
mutants: $(if $(ROOT),mutants-deps) ## Break what a change touches in crates/, one line at a time: each time a test must fail (REV=main)
	@git diff --merge-base $(REV) -- crates >"$(CARGO_TARGET_DIR)/mutants.diff"
	CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) mutants --workspace --in-diff "$(CARGO_TARGET_DIR)/mutants.diff" --output "$(CARGO_TARGET_DIR)"
