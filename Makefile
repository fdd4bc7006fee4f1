# The entry point. Downloads are placed in third_party/, builds in target/.
# DEVICE=cuda fetches the engines for NVIDIA GPUs and makes cargo build with them until DEVICE=cpu.

.PHONY: help setup build demo study test test-ray check-cuda wheel bench real dist lint

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

setup: ## fetch LibTorch, ONNX Runtime and the demo and test material into third_party/
	@command -v python3 >/dev/null || { echo "setup: error: python3 is missing; on Debian and Ubuntu: sudo apt install python3 python3-pip" >&2; exit 2; }
	@python3 scripts/setup.py $(if $(DEVICE),--device $(DEVICE))

build: setup ## build every program, optimised
	cargo build --workspace --release

demo: build ## train, export and score reward models on real images; numbers and a plot in out/demo/
	@scripts/demo

study: build ## the demo crossed: three shortcuts, five seeds; hours, resumable; out/study/
	@$(MAKE) --no-print-directory -j2 -f scripts/study/plan.mk

test: setup ## every test of every crate and of the Python package, with clients of others, which it fetches
	@python3 scripts/setup.py --clients
	cargo test --workspace
	@scripts/wheel.py

test-ray: setup ## scoring on a local Ray cluster, parts of which are killed; fetches Ray
	@scripts/wheel.py --ray

CUDA_TORCH = third_party/cuda/torch
check-cuda: ## compile with the engines for NVIDIA GPUs, NCCL included, and train with them on the CPU; fetches 2.8 GB
	@python3 scripts/setup.py --cuda
	LIBTORCH=$(CURDIR)/$(CUDA_TORCH) CARGO_TARGET_DIR=target/cuda cargo test -p seeward-train -- world processes

wheel: setup ## the Python package for all Linux systems, optimised, in dist/
	@scripts/wheel.py --release

bench: build ## speed of scoring, serving and training compared with PyTorch and transformers, which it fetches; hours
	@python3 scripts/setup.py --peer
	cargo build --release -p seeward-train --example step
	@scripts/bench/runtime.py --full 24
	@scripts/bench/serve.py
	@scripts/bench/train.py

real: build ## errors of every precision on a small published language model, which it fetches; out/real/
	@python3 scripts/setup.py --peer --real
	@scripts/bench/real.py

dist: build ## a tarball of the programs for other machines, run in an empty root; out/dist/
	@scripts/dist.py $(if $(DEVICE),--device $(DEVICE))

lint: setup ## format, clippy and rustdoc without warnings, and cargo-deny if it is installed
	cargo fmt --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	@if cargo deny --version >/dev/null 2>&1; then cargo deny check bans licenses sources; fi
