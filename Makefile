# `make demo` and `make test` need Python 3.11 or newer and nothing else; the first of them
# makes an environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE :=

CHROMIUM ?= /usr/bin/chromium

.PHONY: demo test wheel slow mutants chaos testbed calibration browser notebooks lint sanitize coverage bench \
	docs lock resolves lowest neuralhydrology shyft parity clean

# More processes than two cores need: tests wait for servers, for Ray, for processes that they kill.
SIDE_BY_SIDE := -n 3 --dist loadfile --no-loadscope-reorder
FAST := $(SIDE_BY_SIDE) -m 'not (benchmark or browser or calibration or chaos or slow or testbed)'
LOCKED := --quiet --no-deps --require-hashes -r

# Three quarters of the modules are never imported: none is compiled now but what every study needs, the
# others when they are first imported.
.venv/ready: pyproject.toml requirements.lock requirements-torch.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		(echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1)
	$(PYTHON) -m venv .venv
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock | $(BIN)/pip install $(LOCKED) /dev/stdin
	$(BIN)/uv pip install --no-config --python $(BIN)/python $(LOCKED) requirements.lock || \
		$(BIN)/pip install $(LOCKED) requirements.lock  # an index that only pip knows
	$(BIN)/pip install --quiet --no-deps --no-compile -r requirements-torch.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -c 'import matplotlib.pyplot, mlflow.pytorch, ray.tune, scipy.stats, sklearn.ensemble, torch.export'
	@touch $@

demo: .venv/ready  ## a real small study on synthetic basins whose truth is known
	PATH="$(CURDIR)/$(BIN):$$PATH" sh search_spaces/demo.sh

test: .venv/ready  ## all tests but the slow ones
	$(BIN)/pytest $(FAST)

slow: .venv/ready  ## tests that take a minute and more
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations=20 -m slow

mutants: .venv/ready  ## twenty faults in a copy, each of which its tests must see
	$(BIN)/python -m tests.mutants

chaos: .venv/ready  ## a study whose every part is killed, beside one that is left in peace
	$(BIN)/pytest -m chaos tests/experiment/test_chaos.py

testbed: .venv/ready  ## a Ray cluster of several hosts (Linux namespaces; root) that loses a worker and its head
	infra/testbed/install.sh
	tests/testbed/run.sh $(CURDIR)/$(BIN)/python

notebooks: .venv/ready  ## run the notebooks: on invented basins, or `make notebooks ROOT=camels_us`
	$(BIN)/python notebooks/execute.py $(if $(ROOT),--root $(ROOT))

calibration: .venv/ready  ## intervals held against known truth: false positives, coverage
	$(BIN)/pytest -q -s -m calibration --timeout=0 tests/calibration

browser: .venv/ready  ## pages in a real browser; screenshots stay in browser/
	CHROMIUM=$(CHROMIUM) $(BIN)/pytest -m browser --timeout=600 tests/browser

lint: .venv/ready  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

wheel: .venv/ready  ## a wheel, built and installed alone, predicts with a bundle of 0.1.0
	mkdir -p .ci/logs/bundle
	tar -xJf tests/fixtures/study_0_1_0.tar.xz -C .ci/logs/bundle --wildcards 'results/*/export/*'
	infra/wheel/check.sh .ci/logs/bundle/results/study_0_1_0/export/ealstm-snow

sanitize: .venv/ready  ## the C code's tests, with its addresses and arithmetic checked (gcc)
	infra/sanitize/run.sh

coverage: .venv/ready  ## lines and branches of study/ that `make test` runs; Ray's workers are not measured
	$(BIN)/pytest -q $(FAST) --cov=study --cov-branch --cov-report=term:skip-covered --no-cov-on-fail

bench: .venv/ready  ## measurements, as ratios
	$(BIN)/pytest -m benchmark -s --timeout=0 --durations=20 tests/benchmarks

docs: .venv/ready  ## docs/spec.md, from the fields of study/spec
	mkdir -p docs && $(BIN)/study explain > docs/spec.md

lock: .venv/ready  ## requirements.lock and constraints.txt of pyproject.toml; versions stay: see its script
	infra/lock/lock.sh

resolves: .venv/ready  ## whether the lock can be installed with Pythons that the tests do not run with
	infra/lock/resolves.sh 3.12 3.13 3.14

lowest: .venv/ready  ## a small study with the lowest versions that pyproject.toml allows
	infra/lowest/run.sh

neuralhydrology:  ## an environment of its own for the peer that `make test` compares with
	PYTHON=$(PYTHON) infra/neuralhydrology/install.sh

shyft:  ## an environment of its own for the hydrological model Shyft
	infra/shyft/install.sh

parity: .venv/ready neuralhydrology  ## how far numbers are from those of other packages, and bundles from studies
	CI=1 $(BIN)/pytest -m 'not benchmark' tests/numerics tests/export/test_parity.py tests/export/test_pretrained.py

clean:
	rm -rf .venv .venv-neuralhydrology .venv-shyft .venv-lowest demo browser
