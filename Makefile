# Everything a developer runs. `make test` needs only cargo: it installs the rest itself.

CARGO ?= cargo
# Integration tests wait for media in real time more than they compute.
WAITING_TESTS ?= 8

.PHONY: help run build test test-deps test-unit test-integration soak lint fuzz bench \
	bench-instructions gate-selftest bench-peers peers-xiu bench-hooks

help:
	@echo "make run               build and run the server, release profile (ARGS='…' for its options)"
	@echo "make test              install what tests need, build, run all tests"
	@echo "make test-unit         unit and property tests only"
	@echo "make test-integration  real clients against the real server (TEST=name for one file)"
	@echo "make soak              ten minutes of forty ffmpegs that publish and forty that play, beside"
	@echo "                       2,000 viewers; 10,000 push clients; release profile"
	@echo "make lint              formatting, clippy, documentation: no warning"
	@echo "make fuzz              every fuzz target for 30 s from its corpus (FUZZ_SECONDS=n); fails below"
	@echo "                       85 % of a parser's lines run by the corpora"
	@echo "make bench             micro-benchmarks"
	@echo "make bench-instructions  their instructions per operation, into benches/instructions.txt"
	@echo "                       (ARGS=--check compares with that file)"
	@echo "make gate-selftest     makes a hot path heavier on purpose; fails unless the gate finds it"
	@echo "make bench-hooks       hooks per second beside wrk's figure (ARGS=--quick: 40 s, not 3 minutes)"
	@echo "make bench-peers       this server beside nginx-rtmp, for hours (ARGS='--quick --scenario a"
	@echo "                       --viewers 500' for ten minutes)"
	@echo "make peers-xiu         the same with xiu beside them: builds it, 10 minutes"

run:
	$(CARGO) run --release -- $(ARGS)

# The tests use the dev profile (opt-level 1): the overflow checks and debug assertions stay on in
# the server under test, its load there is small, and dependencies are built once for unit and
# integration tests. --tests and --bins in one command, so that features agree and nothing is
# built a second time.
build: test-deps
	$(CARGO) build --workspace --bins --tests

test: test-deps build test-unit test-integration

test-deps:
	@scripts/test-deps

test-unit: build
	$(CARGO) test --workspace --lib --bins
	$(CARGO) test --workspace --doc

test-integration: build
	RUST_TEST_THREADS=$(WAITING_TESTS) scripts/test-integration $(TEST)

# Builds as for users: memory and latency are judged.
soak: test-deps
	$(CARGO) build --release --workspace --bins
	$(CARGO) test --release --workspace --test at_scale --test push_members --test come_and_go -- --ignored --nocapture

lint:
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml --check
	$(CARGO) clippy --all-targets --workspace -- -D warnings
	RUSTDOCFLAGS=-Dwarnings $(CARGO) doc --no-deps --workspace

fuzz:
	@scripts/test-deps cargo-fuzz
	@scripts/test-deps llvm-tools
	@scripts/fuzz $(or $(FUZZ_SECONDS),30)

# By name: without names cargo builds the unit tests once more, in the bench profile.
bench:
	$(CARGO) bench --bench codec --bench stream_log --bench mesh --bench rt_wait --bench rt_egress

bench-instructions:
	@command -v valgrind >/dev/null || scripts/test-deps valgrind
	@scripts/bench-instructions $(ARGS)

gate-selftest:
	@command -v valgrind >/dev/null || scripts/test-deps valgrind
	@scripts/bench-instructions --selftest

bench-peers:
	@scripts/test-deps nginx libnginx-mod-rtmp gnuplot-nox
	$(CARGO) build --release --workspace
	$(CARGO) bench --bench peers -- $(ARGS)

# Its own lock file, so that it is the same program each time. It links with a library in C.
peers-xiu:
	@scripts/test-deps pkg-config libopus-dev
	$(CARGO) install xiu --version 0.14.0 --locked --root target/xiu
	$(MAKE) bench-peers ARGS="--xiu $(CURDIR)/target/xiu/bin/xiu $(ARGS)"

bench-hooks:
	@scripts/test-deps wrk
	$(CARGO) build --release --workspace
	$(CARGO) bench --bench hooks -- $(ARGS)
