# make quickstart   set up .venv, fetch a real chat model (98 MB, once), steer it, measure it
# make model        set up .venv, fetch and convert the real chat model, on which tests run that skip without it
# make install      set up .venv alone (LOCKED=1, here and below: by requirements.lock, every package checked by its hash)
# make lock         renew requirements.lock from pyproject.toml
# make sbom         what is installed, as CycloneDX JSON, in build/sbom.json
# make test         set up .venv, then run the tests, in a process a core (WORKERS=1: in one)
# make quantised    the tests of 8 and 4 bits, with bitsandbytes (43 MB) in build/, beside the environment
# make hostile      wrong inputs, mutated files, kills, full disks: all of them (about an hour), with their figures
# make check        lint, types, and the imports between rooms
# make docs         the pages as a site in site/, strict about links

PYTHON ?= python3
OUTPUT ?= runs/quickstart
QUICKSTART ?=            # further options, such as --surgery, or --world tiny for an invented world without network
HOSTILE ?= runs/hostile
WORKERS ?= auto          # processes of `make test`, each with one thread
VENV := .venv
TOOLS := build/tools
UV ?=                    # further options of uv, such as where wheels of torch for the CPU are
READY := $(VENV)/.ready

.PHONY: install lock sbom quickstart model test quantised hostile check docs evidence clean

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.12"'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
ifdef LOCKED
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
else
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
endif
	touch $@

install: $(READY)

# In an environment of its own: what makes the lock and the list is no part of either.
$(TOOLS)/.ready:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8,<1' 'cyclonedx-bom>=7,<8'
	touch $@

lock: $(TOOLS)/.ready
	$(TOOLS)/bin/uv pip compile pyproject.toml --extra dev --generate-hashes --no-annotate --no-header --quiet \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_28 $(UV) -o build/requirements.lock
	{ sed '/^[^#]/,$$d' requirements.lock; cat build/requirements.lock; } > build/renewed.lock
	mv build/renewed.lock requirements.lock

sbom: $(READY) $(TOOLS)/.ready
	$(TOOLS)/bin/cyclonedx-py environment --output-reproducible --of JSON -o build/sbom.json $(VENV)/bin/python

quickstart: $(READY)
	$(VENV)/bin/sa quickstart --output $(OUTPUT) --overwrite true $(QUICKSTART)

model: $(READY)
	$(VENV)/bin/python -c 'from sa_lightning.testbed import real_part; print(real_part("smol", "chat", say=print))'

test: $(READY)
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest -n $(WORKERS) --maxprocesses 8 \
	  --dist loadfile --no-loadscope-reorder

build/quantised/.ready: $(READY)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade \
	  --target build/quantised 'bitsandbytes>=0.50,<1'
	touch $@

quantised: build/quantised/.ready
	PYTHONPATH=build/quantised OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VENV)/bin/python -m pytest -q \
	  tests/models/test_quantised.py

# Some thousand commands and files; a run that was interrupted goes on. `test` has a sample of it.
hostile: $(READY)
	PYTHONPATH=tests OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(VENV)/bin/python -m hostile.attack --place $(HOSTILE) \
	  --page $(HOSTILE)/figures.md

check: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright
	$(VENV)/bin/python -m pytest -q tests/test_rooms.py

$(VENV)/.docs: pyproject.toml $(READY)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	touch $@

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

# The tiny world's table (evidence/README.md), from its committed rows; missing rows are run (some minutes each).
evidence: $(READY)
	HF_HUB_OFFLINE=1 $(VENV)/bin/python evidence/first_table.py

clean:
	rm -rf $(VENV) build dist site *.egg-info
