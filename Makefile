# Five words run everything, here and in CI: demo, test, check, bench, clean.
# Each target makes .venv once and re-uses it; it is rebuilt when pyproject.toml or the list of files changes.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
FILES := $(shell find sdk compile targets calibration -name '*.py' | LC_ALL=C sort)

.PHONY: demo test check bench clean FORCE

demo: $(VENV)/installed
	$(BIN)/python -m examples.scene_qa.demo

test: $(VENV)/installed
	$(BIN)/python -m pytest -q

check: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p sanderling
	$(BIN)/mypy examples tests benchmarks
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_layout.py tests/test_public_names.py

bench: $(VENV)/installed
	$(BIN)/python -m benchmarks.clip_vit_b16
	$(BIN)/python -m benchmarks.runtime_overhead
	$(BIN)/python -m benchmarks.scene_qa_passes

clean:
	rm -rf $(VENV) build dist out *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch comes first and by exact version: a range may resolve to a build with gigabytes of GPU libraries.
$(VENV)/dependencies: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -e '.[compile,train,dev]' --config-settings editable_mode=strict
	touch $@

# A strict editable install sees edits at once but a new file only when it is made again.
$(VENV)/files: FORCE
	@mkdir -p $(VENV)
	@echo '$(FILES)' | cmp -s - $@ || echo '$(FILES)' > $@

$(VENV)/installed: $(VENV)/dependencies $(VENV)/files
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e . --config-settings editable_mode=strict
	touch $@
