# `make check` is the gate: it formats nothing and changes nothing, it only says yes or no.

CARGO ?= cargo
# Rounds of the kill test and of the power test; a few are part of the suite.
N ?= 1000

.PHONY: help check fmt-check clippy test doc deny fmt compat bench-peer kill-test power-test watch-faults watch-zero members outside snapshot-kills hash-lists readers churn watch-scale watch-long lease-scale full-disk defragment fuzz metrics-cost memory soak scrapes allocations encode-cost clean-peers

help: ## Lists the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

check: fmt-check clippy test doc ## The gate: formatting, lints, tests, documentation.

fmt-check:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

test: ## All tests, as the README says.
	$(CARGO) test --workspace

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

fmt: ## Formats the tree.
	$(CARGO) fmt --all

deny: ## Advisories, licences and sources of all dependencies (needs cargo-deny).
	$(CARGO) deny check

compat: ## Runs etcdctl, kvorumctl and foreign clients against kvorum and etcd 3.5.1.
	tests/compat/run

hash-lists: ## Plays N seeded lists of commands to kvorum and etcd 3.5.1 and compares their HashKV (N=1000).
	$(CARGO) build -p kvorum-server -p kvorum-tests --bins --examples
	tests/compat/fetch-etcd
	tests/compat/hash-lists $(N)

bench-peer: ## Measures kvorum beside etcd 3.5.1 and prints the table of ratios.
	tests/bench/peer

kill-test: ## Kills and restarts members N times under load (N=1000).
	$(CARGO) build --release --workspace --bins
	KVORUM_TEST_KILLS=$(N) $(CARGO) test --release -p kvorum-tests --test first_light -- kills --nocapture

power-test: ## Takes the power from members on simulated disks in N rounds (N=1000).
	KVORUM_TEST_POWER_ROUNDS=$(N) $(CARGO) test --release -p kvorum-tests --test first_light -- power --nocapture

members: N = 20
members: ## Grows to five and shrinks to one under load N times, and replaces members 50 times (N=20).
	$(CARGO) build --release --workspace --bins
	KVORUM_TEST_MEMBER_ROUNDS=$(N) KVORUM_TEST_MEMBER_REPLACEMENTS=50 $(CARGO) test --release -p kvorum-tests --test cluster -- grow --nocapture

snapshot-kills: N = 50
snapshot-kills: ## Kills followers while they install snapshots, and their senders, N times each (N=50).
	KVORUM_TEST_SNAPSHOT_ROUNDS=$(N) $(CARGO) test --release -p kvorum-consensus --test cluster -- install_crashes --nocapture

outside: N = 50
outside: ## Judges all that clients of processes are told, through N rounds of each kind of fault, as root (N=50).
	$(CARGO) build --release --workspace --bins
	KVORUM_TEST_OUTSIDE_ROUNDS=$(N) $(CARGO) test --release -p kvorum-tests --test outside -- --nocapture --test-threads 1

watch-faults: N = 20
watch-faults: ## Watches through kills, leader changes, compactions and snapshots, N rounds of each (N=20).
	$(CARGO) build --release --workspace --bins
	KVORUM_TEST_WATCH_ROUNDS=$(N) $(CARGO) test --release -p kvorum-tests --test watch -- faults --nocapture

watch-zero: N = 10000
watch-zero: ## Creates N watches from now on while 8 clients put (N=10000).
	KVORUM_TEST_WATCH_ZERO=$(N) $(CARGO) test --release -p kvorum-tests --test watch -- zero --nocapture

readers: ## A million steps of readers, a writer and a compaction at once, against the model.
	KVORUM_MVCC_STEPS=1000000 $(CARGO) test --release -p kvorum-mvcc --test concurrency

churn: ## Overwrites and compacts for five minutes; disk and memory must level off.
	$(CARGO) build --release --workspace --bins
	tests/bench/churn

watch-scale: ## What very many watchers cost, and one that does not read; each figure against its bound.
	$(CARGO) build --release --workspace --bins
	tests/bench/watchers

watch-long: N = 600
watch-long: ## 237 watching clients and 20 writers on three members for N seconds (N=600).
	$(CARGO) build --release --workspace --bins
	tests/bench/watchers --long $(N)

lease-scale: ## What very many leases cost: their expiry, a killed leader, memory; each figure against its bound.
	$(CARGO) build --release --workspace --bins
	tests/bench/leases

full-disk: ## Fills real filesystems, as root: what clients are told, and what is there afterwards.
	$(CARGO) build --release --workspace --bins
	tests/bench/full-disk

defragment: ## Defragments a member with 4 GiB of garbage under load, and judges what clients notice.
	$(CARGO) build --release --workspace --bins
	tests/bench/defragment

memory: ## What memory policies cost and give back: puts, 10 MB lists, a burst of 1 GB.
	$(CARGO) build --release --workspace --bins
	tests/bench/memory

soak: MINUTES = 10
soak: ## Everything at once on three members, with restarts; memory, files and p99 must level off (MINUTES=10).
	$(CARGO) build --release --workspace --bins
	tests/bench/soak --minutes $(MINUTES)

fuzz: N = 60
fuzz: ## Runs every fuzz target under libFuzzer for N seconds each (N=60; needs cargo-fuzz and a nightly toolchain).
	tests/fuzz/run $(N)

metrics-cost: ## What a counter, a histogram and a lookup cost; 64 threads and 10 million exact increments.
	$(CARGO) run --release -p kvorum-metrics --example figures

scrapes: ## 50 scrapes of /metrics a second beside full put load: what either costs the other.
	$(CARGO) build --release --workspace --bins
	tests/bench/scrapes

allocations: ## What one put allocates in a leader of three members.
	$(CARGO) build --release --workspace --bins
	tests/bench/allocations

encode-cost: ## What the encoding of entries allocates, with pooled buffers and without.
	$(CARGO) run --release -p kvorum-consensus --example encode

clean-peers: ## Removes what compat and bench-peer fetched.
	rm -rf .peers
