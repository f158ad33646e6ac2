# Two commands for a newcomer: `make demo` and `make test`. Both make .venv on a fresh machine.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Names at the end what this machine cannot check: for want of pdflatex, a browser, a GPU.
SKIPPED := -rs --no-fold-skipped

.PHONY: demo test slow lint format homeobjects controls audit clean

demo: $(READY)
	$(BIN)/mgx demo

test: $(READY)
	$(BIN)/python -m pytest $(SKIPPED)

slow: $(READY)
	$(BIN)/python -m pytest $(SKIPPED) -m slow
	$(BIN)/python -m pytest $(SKIPPED) -n0 -m ray $$(grep -rl --include='*.py' 'mark\.ray' tests)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	# The default editable install hides the rooms from the checkers: show them through links.
	mkdir -p $(VENV)/links/mgx
	for room in extract learn select shared data_manifests; do ln -sfn $(CURDIR)/$$room $(VENV)/links/mgx/$$room; done
	MYPYPATH=$(VENV)/links $(BIN)/mypy
	PYTHONPATH=$(VENV)/links $(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Builds the data set again from the furniture models (see data_manifests/build_homeobjects.py --help).
homeobjects: $(READY)
	$(BIN)/pip install -q -c constraints.txt -e '.[homeobjects]'
	$(BIN)/python data_manifests/build_homeobjects.py --furniture $(FURNITURE) \
		--out data_manifests/homeobjects.zip --sheet docs/homeobjects.png

# The demo's controls: a silhouette in place of depth, heads bound on shuffled pairs.
controls: $(READY)
	$(BIN)/python benchmarks/controls.py

# The pinned versions against known advisories; exit code 3: the database cannot be reached.
audit: $(READY)
	$(BIN)/python benchmarks/audit.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	# Python compiles a file when it is first imported: all of them, at once, would take a minute more.
	$(BIN)/python -m pip install -q --no-compile --disable-pip-version-check -c constraints.txt -e '.[demo,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
