# `make run` and `make test` need python3 >= 3.11, make and the package registries, nothing else.
PYTHON ?= python3
BIN := .venv/bin
RUN := .venv/.run
DEV := .venv/.dev
PEERS := .venv/peers/.bench
PIN := $(BIN)/pip-compile --quiet --upgrade --strip-extras --allow-unsafe --generate-hashes --no-header --no-emit-options

.PHONY: plugin plugin-dist plugin-test plugin-bench run test quick check fix coverage fuzz mutants proto e2e e2e-real docs screenshots pictures soak bench bench-docs wheels image image-requirements snapshots chart-tools clean

run: $(RUN) ## Start the service on loopback and play a recorded attack at it (ONCE=1 ends after it)
	@$(BIN)/falco-correlator demo $(if $(ONCE),--once)

test: $(DEV) chart-tools ## Every test
	$(BIN)/pytest -n 2 -q

quick: $(DEV) ## The tests without servers, processes and long plays: ten seconds on two cores
	PYTHONDONTWRITEBYTECODE= PYTHONPYCACHEPREFIX=$(CURDIR)/.venv/pycache $(BIN)/pytest -q -x --ff -n auto -m "not slow"

check: $(DEV) ## Everything that CI asks for besides the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/falco-correlator check
	$(BIN)/falco-correlator test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	$(BIN)/python bench/instructions.py --check

fix: $(DEV) ## Let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

coverage: $(DEV) ## Lines and branches that the quick tests reach: at least `fail_under` of pyproject.toml; ALL=1 for every test
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n 2 $(if $(ALL),,-m "not slow")
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

fuzz: $(DEV) ## Each way in under a coverage-guided fuzzer, SECONDS (600) each; what it finds is kept in tests/data/crashes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group fuzz
	for target in http protobuf files; do $(BIN)/python fuzz/run.py $$target $(or $(SECONDS),600) || exit 1; done

mutants: $(DEV) ## Mutation testing of alerts, meaning and correlation, MINUTES (60) at most, ONLY='sidecar.alerts.*'; continues where it stopped
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group mutants
	timeout --signal=INT $(or $(MINUTES),60)m $(BIN)/mutmut run $(if $(ONLY),'$(ONLY)') || test $$? -eq 124
	$(BIN)/mutmut export-cicd-stats && cat mutants/mutmut-cicd-stats.json

proto: $(DEV) ## Make sidecar/_proto anew from proto/
	$(BIN)/python -m grpc_tools.protoc -Iproto --python_out=sidecar/_proto --pyi_out=sidecar/_proto \
		falco/outputs.proto correlator/v1/incidents.proto

e2e: $(DEV) ## Scenarios under a live Falco: FALCO=/path/to/falco [PLUGIN=libcontainer.so] [BESIDE=rules.yaml] [LINEAGE=liblineage.so] [ADDRESSES=1] [RECORD=file]
	PYTHONPATH=tests:. $(BIN)/python -m e2e --falco "$(FALCO)" $(if $(PLUGIN),--plugin $(PLUGIN)) $(foreach file,$(BESIDE),--beside $(file)) $(if $(LINEAGE),--lineage $(LINEAGE)) $(if $(ADDRESSES),--addresses) $(if $(RECORD),--record $(RECORD))

e2e-real: $(DEV) ## Real services attacked and at work under a live Falco: FALCO=/path/to/falco [MINUTES=30] [ATTACKS=3] [PLUGIN=libcontainer.so] [LINEAGE=liblineage.so] [RULES=other_rules.yaml] [COMPARE=other_rules.yaml] [KEEP=folder]
	PYTHONPATH=tests:. $(BIN)/python -m e2e.real --falco "$(FALCO)" $(if $(MINUTES),--minutes $(MINUTES)) $(if $(ATTACKS),--attacks $(ATTACKS)) $(if $(PLUGIN),--plugin $(PLUGIN)) $(if $(LINEAGE),--lineage $(LINEAGE)) $(if $(RULES),--rules $(RULES)) $(foreach file,$(COMPARE),--compare $(file)) $(if $(KEEP),--keep $(KEEP))

plugin: ## The Falco plugin, plugin/target/release/liblineage.so (needs cargo)
	cargo build --manifest-path plugin/Cargo.toml --release --locked

plugin-dist: $(RUN) ## The Falco plugin as it is shipped, in dist/plugin, for MACHINES (this one; or x86_64 aarch64) and glibc 2.17 (needs cargo)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group plugin
	for machine in $(or $(MACHINES),$$(uname -m)); do target=$$machine-unknown-linux-gnu; \
	  { ! command -v rustup >/dev/null || rustup target add $$target; } && \
	  PATH=$(CURDIR)/$(BIN):$$PATH cargo zigbuild --manifest-path plugin/Cargo.toml --release --locked --target $$target.2.17 && \
	  install -D -m 755 plugin/target/$$target/release/liblineage.so dist/plugin/$$machine/liblineage.so || exit 1; done

plugin-test: ## Format, lints and tests of the Falco plugin (needs cargo)
	cargo fmt --manifest-path plugin/Cargo.toml --check
	cargo clippy --manifest-path plugin/Cargo.toml --locked --all-targets -- -D warnings
	cargo test --manifest-path plugin/Cargo.toml --locked

plugin-bench: ## Time of an event and memory of a process in the Falco plugin (needs cargo)
	RUST_BACKTRACE=0 cargo test --manifest-path plugin/Cargo.toml --locked --release -- --ignored --nocapture --test-threads=1

docs: $(DEV) ## Make anew what is made from the code: pages of docs/, fields asked of Falco, the chart's values and schema
	PYTHONPATH=tools $(BIN)/python -m secret_patterns
	PYTHONPATH=tools $(BIN)/python -m falco_programs
	PYTHONPATH=tools $(BIN)/python -m falco_fields
	PYTHONPATH=tests:tools $(BIN)/python -m detections > docs/detections.md
	PYTHONPATH=tests:tools $(BIN)/python -m reference
	PYTHONPATH=tests:tools $(BIN)/python -m chart_docs

snapshots: $(DEV) ## Make the snapshots of the rendered chart anew, to be reviewed as a diff
	PYTHONPATH=tests:tools $(BIN)/python -m chart.rendering

chart-tools: $(DEV) ## Helm 3 and 4, checkov and kubernetes-validate, once, into ~/.cache/falco-correlator
	$(BIN)/python tools/chart_tools.py

screenshots: $(DEV) ## Make docs/img anew with the installed Chromium
	PYTHONPATH=tests $(BIN)/python tools/screenshots.py "$$(command -v chromium)"

pictures: $(DEV) ## Make docs/img/integrations anew: FALCOSIDEKICK=/path/to/falcosidekick (needs prometheus-alertmanager and Chromium)
	PYTHONPATH=tests:. $(BIN)/python tools/pictures.py "$$(command -v chromium)"

soak: $(DEV) ## The promises under kill -9, load and outages; SHORT=1 takes less than ten minutes
	PYTHONPATH=tests $(BIN)/python tools/soak.py $(if $(SHORT),--short)

bench: $(DEV) $(PEERS) ## Every goal of speed, memory and scale beside what was measured; SHORT=1 takes less than 20 minutes
	$(BIN)/python bench/run.py --peers $(dir $(PEERS))bin/python $(if $(SHORT),--short) $(foreach part,$(ONLY),--only $(part))

bench-docs: $(DEV) ## Make docs/performance.md and its chart of what the last `make bench` measured
	$(BIN)/python bench/report.py

$(PEERS): $(RUN) # what we are compared with, in an environment of its own
	$(PYTHON) -m venv $(dir $(PEERS))
	$(dir $(PEERS))bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(dir $(PEERS))bin/python -m pip install --quiet --disable-pip-version-check --group bench
	touch $@

wheels: $(RUN) ## The wheels that the image is built of, in dist/wheels, for MACHINES (this one; or x86_64 aarch64)
	rm -rf dist/wheels
	for machine in $(or $(MACHINES),$$(uname -m)); do $(BIN)/python -m pip download --quiet --dest dist/wheels \
	  --only-binary=:all: --python-version 3.11 --platform manylinux_2_28_$$machine --platform manylinux2014_$$machine \
	  --require-hashes -r docker/requirements.txt -r docker/build-requirements.txt || exit 1; done

image-requirements: $(DEV) ## Pin anew what the image installs and what builds our wheel, each with its hashes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group pin
	$(PIN) --all-extras --output-file docker/requirements.txt pyproject.toml
	$(PIN) --only-build-deps --build-deps-for wheel --output-file docker/build-requirements.txt pyproject.toml

image: wheels $(if $(shell command -v cargo),plugin-dist) ## The container image, with ENGINE (docker; podman and buildah do it too), on another BASE
	$(or $(ENGINE),docker) build $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg PIP_NO_INDEX=1 --build-arg REVISION=$$(git rev-parse HEAD) \
	  --build-arg VERSION=$$($(BIN)/falco-correlator version | cut -d ' ' -f 2) \
	  --build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) --tag falco-correlator .

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist build .coverage*

$(RUN): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else 0'
	@echo 'Installing into .venv, once ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[grpc]'
	@touch $@

$(DEV): $(RUN)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev
	touch $@
