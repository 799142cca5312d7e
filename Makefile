# SPDX-License-Identifier: MIT
# A fresh clone needs `make score` or `make test`, nothing else; a second run costs nothing extra.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet

# Which torch, for the baselines. Remembered until `make clean` or another TORCH=.
TORCH ?= $(or $(patsubst $(VENV)/torch-%,%,$(firstword $(wildcard $(VENV)/torch-*))),auto)
GPU := $(if $(filter gpu,$(TORCH)),yes,$(if $(filter auto,$(TORCH)),$(shell command -v nvidia-smi 2>/dev/null)))
LOCK := requirements/$(if $(GPU),gpu,cpu).txt

# The first Python that is new enough; asked for only where .venv has to be made.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: help score test soak demo evolve lint clean compiler
.DEFAULT_GOAL := help

help:
	@echo 'make score            score the kernel on this machine (ARGS="--avo-target cpu" passes options on)'
	@echo 'make test             run the tests               (ARGS="-k name" passes options on)'
	@echo 'make soak             run the long form of the tests'
	@echo 'make demo             the gate at work in a scratch repository: no GPU, no key, no network'
	@echo 'make evolve           search for better constants of the CPU kernel: at most 10 minutes, no key'
	@echo 'make lint             ruff and mypy'
	@echo 'make clean            remove .venv, caches and builds; records in .avo/runs stay'
	@echo 'TORCH=cpu|gpu|none    which torch to install (default: the GPU build where nvidia-smi is found,'
	@echo '                      else what the package index serves; cpu asks for the small CPU build)'
	@echo 'PYTHON=python3.12     which Python to use (3.11 or newer)'

score: $(VENV)/installed $(VENV)/torch-$(TORCH) | compiler
	@$(PY) -m pytest --avo-score $(ARGS)

# Two at a time, then those that measure. That nothing was chosen (5) is fine for one of them.
test: $(VENV)/installed-dev $(VENV)/torch-$(TORCH) | compiler
	@$(PY) -m pytest --numprocesses 2 --dist loadfile -m 'not soak and not alone' $(call report,first) $(ARGS) || [ $$? -eq 5 ]
	@$(PY) -m pytest -m 'alone and not soak' $(call report,alone) $(ARGS) || [ $$? -eq 5 ]
report = $(if $(REPORTS),--junitxml=$(REPORTS)/$(1).xml)

soak: $(VENV)/installed-dev $(VENV)/torch-$(TORCH) | compiler
	@$(PY) -m pytest -m soak --hypothesis-profile=drawn $(ARGS)

demo: $(VENV)/installed-dev
	@rm -rf .avo/demo
	@$(PY) -m avo_pytest demo --keep .avo/demo

# In repositories of its own below .avo/evolve: your branches and origin are left alone.
evolve: $(VENV)/installed-agent | compiler
	@$(PY) -m agent evolve --operator sweep --target cpu --steps 1 --max-hours 0.14 $(ARGS)

lint: $(VENV)/installed-dev
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy

clean:
	rm -rf $(VENV) .avo/cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

compiler:
	@command -v g++ >/dev/null || command -v clang++ >/dev/null || command -v c++ >/dev/null || { \
		echo 'No C++ compiler. Fix: sudo apt-get install -y g++     (macOS: xcode-select --install)' >&2; exit 1; }

$(VENV)/created:
	@test -n "$(PYTHON)" && "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo 'No Python 3.11 or newer. Fix: sudo apt-get install -y python3 python3-venv     (macOS: brew install python@3.13)' >&2; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
		echo 'This Python has no venv. Fix: sudo apt-get install -y python3-venv     (macOS: brew install python@3.13)' >&2; exit 1; }
	@"$(PYTHON)" -m venv $(VENV)
	@touch $@

$(VENV)/installed: pyproject.toml requirements/cpu.txt requirements/gpu.txt | compiler $(VENV)/created
	@echo 'Installing into $(VENV) (about a minute) ...'
	@$(PIP) --constraint $(LOCK) --editable '.[cuda]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@$(PIP) --constraint $(LOCK) --editable '.[dev,report,ci,agent]'
	@touch $@

$(VENV)/installed-agent: $(VENV)/installed
	@$(PIP) --constraint $(LOCK) --editable '.[agent]'
	@touch $@

# Without torch its baselines are missing and everything else works, so a failure here is no error.
# cpu: uv knows where the small CPU builds are on every platform; pip takes what the index serves.
$(VENV)/torch-auto $(VENV)/torch-gpu: | $(VENV)/installed
	@echo 'Installing torch (TORCH=cpu asks for the small CPU build, TORCH=none goes without) ...'
	@$(PIP) --constraint $(LOCK) --editable '.[$(if $(GPU),gpu,cpu)]' || echo '$(TORCH_FAILED)' >&2
	@rm -f $(VENV)/torch-*; touch $@

$(VENV)/torch-cpu: | $(VENV)/installed
	@echo 'Installing the CPU build of torch ...'
	@{ $(PIP) 'uv>=0.6' && $(PY) -m uv pip install --quiet --python $(PY) --torch-backend cpu --constraint requirements/cpu.txt torch; } \
		|| echo '$(TORCH_FAILED)' >&2
	@rm -f $(VENV)/torch-*; touch $@

$(VENV)/torch-none: | $(VENV)/installed
	@rm -f $(VENV)/torch-*; touch $@

TORCH_FAILED := torch could not be installed: its baselines will be missing. To try again: make clean
