# Plain pip into .venv; nothing but Python ≥ 3.11 and make need be there first.
# PIP_ARGS passes options to pip, e.g. a CPU-only index for PyTorch; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
EXTRAS_VENV ?= .venv-extras
PIP_ARGS ?=
TORCH ?= torch==2.13.0
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help install demo test check format test-extras benchmark clean

help:
	@echo "make demo         the whole road in under ten minutes: runs/demo/report.html"
	@echo "make test         the default tests"
	@echo "make check        format, lint, types, imports"
	@echo "make test-extras  tests that need optional packages or Chromium, in an environment of their own"
	@echo "make benchmark    speed and memory against Hugging Face, d3rlpy, faiss and scikit-learn, as Markdown"

install: $(VENV)/.stamp

$(VENV)/.stamp: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -q $(PIP_ARGS) -c constraints.txt "$(TORCH)" -e ".[dev]"
	touch $@

$(EXTRAS_VENV)/.stamp: pyproject.toml constraints.txt
	test -x $(EXTRAS_VENV)/bin/python || $(PYTHON) -m venv $(EXTRAS_VENV)
	$(EXTRAS_VENV)/bin/python -m pip install -q $(PIP_ARGS) -c constraints.txt "$(TORCH)" -e ".[dev,baselines,text,parquet,collect,crosscheck,ray]"
	touch $@

demo: $(VENV)/.stamp
	HF_HUB_OFFLINE=1 $(VENV)/bin/wikirl demo

test: $(VENV)/.stamp
	$(VENV)/bin/python -m pytest -n 2

check: $(VENV)/.stamp
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.stamp
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

test-extras: $(EXTRAS_VENV)/.stamp
	command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null)
	$(EXTRAS_VENV)/bin/python -m pytest -m extras

# BENCHMARK passes options, e.g. BENCHMARK="--smoke" or BENCHMARK="--only training --out page.md".
benchmark: $(EXTRAS_VENV)/.stamp
	$(EXTRAS_VENV)/bin/python benchmarks/speed.py $(BENCHMARK)

clean:
	rm -rf $(VENV) $(EXTRAS_VENV) .mypy_cache .ruff_cache .pytest_cache
