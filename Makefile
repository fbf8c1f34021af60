PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
BIN := .venv/bin
# uv if it is installed: it installs the same locks in a fifth of the time.
ifneq ($(shell command -v uv),)
INSTALL := VIRTUAL_ENV=.venv uv pip install --require-hashes --requirement
else
INSTALL := $(BIN)/pip install --disable-pip-version-check --require-hashes --requirement
endif
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header

.DEFAULT_GOAL := help
ARTIFACT ?= model_artifacts/adder/$(shell ls model_artifacts/adder | sort -n | tail -n 1)

.PHONY: help serve test benchmark benchmark-peers train evaluate lock clean

help:  ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

serve: .venv/service.installed  ## Install what serving requires, and serve on 127.0.0.1:8000 (settings: ADDER_PORT etc.).
	@ADDER_LOG_FORMAT=$${ADDER_LOG_FORMAT:-console} exec $(BIN)/gunicorn --config python:service.gunicorn_conf

test: .venv/tests.installed  ## Install what the tests require; run ruff, mypy, import-linter and pytest.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest

benchmark: .venv/tests.installed  ## Measure the speed of the service; write tests/benchmarks/RESULTS.md (half an hour, requires wrk).
	$(BIN)/python -m tests.benchmarks

benchmark-peers: .venv/tests.installed  ## Measure other ways to serve the model; write tests/benchmarks/PEERS.md (an hour, requires wrk).
	$(BIN)/python -m tests.benchmarks.peers

train: .venv/training.installed  ## Install what training requires; train, export, evaluate and report the next version of adder.
	$(BIN)/python -m training train .checkpoints/adder
	artifact=$$($(BIN)/python -m training export .checkpoints/adder --name adder) && \
		$(BIN)/python -m training evaluate $$artifact && $(BIN)/python -m training report $$artifact

evaluate: .venv/training.installed  ## Count the wrong answers of the newest adder (or ARTIFACT=...), and write the count into its metadata.
	$(BIN)/python -m training evaluate $(ARTIFACT)

lock: .venv/tests.installed  ## Renew the requirements files from pyproject.toml.
	$(COMPILE) --group tests --output-file tests/requirements.txt
	for group in service training; do \
		$(COMPILE) --group $$group --constraint tests/requirements.txt --output-file $$group/requirements.txt || exit; \
	done
	$(COMPILE) --group traces --constraint tests/requirements.txt --output-file service/requirements-traces.txt
	$(COMPILE) --group ray --constraint tests/requirements.txt --output-file training/requirements-ray.txt
	$(COMPILE) tests/clients/requirements.in --output-file tests/clients/requirements.txt

clean:  ## Remove the environment and the caches of the tools.
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/%.installed: %/requirements.txt | .venv/bin/python
	$(INSTALL) $<
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] <= (3, 13) else \
		"error: Python 3.11, 3.12 or 3.13 is required, and $(PYTHON) is another version: make PYTHON=<path of python3.11>")'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }
