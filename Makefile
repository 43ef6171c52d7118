# What can be done here: `make help`. CI calls these targets and nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
export CARGO_TARGET_DIR ?= $(CURDIR)/target
# Static; make build TARGET=aarch64-unknown-linux-musl builds for the other architecture, without a C toolchain for it.
TARGET ?= $(shell uname -m)-unknown-linux-musl
BINARY := $(CARGO_TARGET_DIR)/$(TARGET)/release/pss-guard
SCRIPTS := benches/manifests.sh scripts/install-deps scripts/node-parts integration-tests/support/machine.sh integration-tests/e2e/systemd.sh \
	integration-tests/vm/base integration-tests/vm/inside integration-tests/vm/machine integration-tests/vm/story \
	.ci/run benches/jq-hook.sh benches/jq-scan.sh
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

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## Install what the tests need (as root on Debian; elsewhere say what is missing)
	@scripts/install-deps

.PHONY: node-deps
node-deps: ## And what real engines need: fetched and built, about twenty minutes the first time
	@scripts/install-deps --node

.PHONY: build
build: ## The release binaries, static, and the proof that they are
	$(CARGO) build --release --locked --target $(TARGET) --bin pss-guard
	# By itself, so that it has no feature that only the tool needs.
	$(CARGO) build --release --locked --target $(TARGET) --package pss-guard-gate
	@for program in $(BINARY) $(BINARY)-gate; do \
		if readelf --wide --program-headers $$program | grep -q INTERP; then \
			echo "$$program asks for a dynamic loader" >&2; exit 1; fi; \
		file $$program; \
		stat --format '%s' $$program | awk '{ printf "%.2f MB\n", $$1 / 1048576 }'; done

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
	@$(call run-tests,test,"--workspace" $(ENGINES))

.PHONY: lint
lint: ## Formatting, clippy, fuzz targets, documentation, shell scripts
	$(CARGO) fmt --all --check
	$(CARGO) check --locked --package pss --lib
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --workspace --test engines --test e2e -- -D warnings
	@$(MAKE) --no-print-directory -C fuzz check
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --document-private-items
	shellcheck --external-sources $(SCRIPTS)

.PHONY: e2e
e2e: $(if $(ROOT),node-deps) build ## The release binary before real runtimes and engines, and on whole nodes (needs root)
	@export PSS_GUARD_REQUIRE=all PSS_GUARD_BINARY=$(BINARY); $(call run-tests,e2e,"--workspace --test engines --test e2e")

.PHONY: e2e-vm
e2e-vm: $(if $(ROOT),node-deps) build ## Whole machines under qemu: systemd, AppArmor, SELinux, reboots, power cuts (needs root once)
	@PSS_GUARD_BINARY=$(BINARY) integration-tests/vm/story

.PHONY: bench
bench: build ## What a container start costs, beside a program that does nothing
	$(CARGO) build --release --locked --target $(TARGET) --example bench
	rustc --edition 2024 -O -C strip=symbols -C panic=abort --target $(TARGET) benches/noop.rs \
		-o $(CARGO_TARGET_DIR)/$(TARGET)/release/examples/noop
	@$(CARGO_TARGET_DIR)/$(TARGET)/release/examples/bench
	@echo; echo "evaluate_pod, a compliant pod of three containers at restricted:"
	@$(CARGO) run --quiet --release --locked --target $(TARGET) --package pss --features testing --example cost
	@benches/manifests.sh $(BINARY)

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
