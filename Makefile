# Each target does its own set-up on a machine that has a Rust toolchain and Node.
.DEFAULT_GOAL := help
.PHONY: help run test bench drill fmt lint conformance

help: ## says what the targets do
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: ## builds Portico and starts it with a demo server (RELEASE=1 for the release build; ARGS="--listen …")
	@tests/scripts/run.sh $(ARGS)

test: ## everything that has to pass before a change lands
	@tests/scripts/test.sh

bench: ## measures the gateway beside nginx and a bare hyper proxy
	@tests/bench/bench.sh $(ARGS)

drill: ## breaks a platform of separate services in every way, under load (ONLY=name; SMOKE=1 for the short ones)
	@ONLY=$(ONLY) SMOKE=$(SMOKE) tests/drills/drill.sh $(ARGS)

fmt: ## formats the Rust code
	@cargo fmt --all

lint: ## formatting, clippy, dependency and proto rules, without running a test
	@tests/scripts/test.sh lint

conformance: ## the MCP conformance suite against URL=… (TOKEN=… where one is needed)
	@tests/scripts/conformance.sh setup && tests/scripts/conformance.sh run "$(URL)" $(TOKEN)
