# Everything a developer runs. Each target works on a fresh clone: .venv is made on first use.
#
#   make test             the suite on SQLite; on PostgreSQL and MariaDB too where TEST_POSTGRES_URL and
#                         TEST_MYSQL_URL are set. make test ARGS="-k sleep -x" hands arguments to pytest.
#   make demo             a day in a shop, a worker that is killed amid a payment, another one amid an undo, and what
#                         became of it all;
#                         make demo SERVE=1 then starts the shop and its admin
#   make lint             all of: make style (ruff), types (mypy), contracts (import-linter), migrations
#   make grid             from the built wheel, through tox: the whole suite on PostgreSQL with the oldest Python and
#                         Django, and on MariaDB with the next; a short selection of it for the other pairs of these
#                         with a database. Both URLs must be set. ARGS="-e py311-django52" runs one of the three
#   make whole-grid       the whole suite with each of the three on each of the three databases
#   make bench            how fast it is, beside what the database itself gives; make bench ARGS="w1 --repeat 5"
#   make bench-peers      the same beside Absurd, DBOS and django-absurd, in an environment of their own
#   make chaos            5,000 runs among workers that are killed at random; the suite takes 300
#   make limits           5,000 runs through a queue whose limit is changed while its workers are killed; the suite takes 400
#   make crash            a crash right before and right after each write of the engine, one at a time; the suite takes a
#                         sample of these
#   make walk             every page of the admin in a browser, with a strict policy and axe, in every look and with two
#                         filters at once: some minutes; the suite goes through each kind of page
#   make docs             the pages as HTML in docs/_build/html; every warning is an error
#   make screenshots      take the pictures in docs/images anew, while the tests in a browser click through the pages
#   make reference        write anew what docs/reference takes from the code: signatures and docstrings
#   make messages         look for texts to be translated anew, and compile canx_flow/locale; needs GNU gettext
#   make format           let ruff put the code in order
#   make coverage         the suite on SQLite with branch coverage
#   make clean            remove everything that was made here, .venv too

VENV := .venv
PYTHON := $(VENV)/bin/python
ARGS :=

# Images of Python often have it: the thousands of processes that the suite starts would each compile what they import.
unexport PYTHONDONTWRITEBYTECODE

# A .venv whose making was cut short is made again.
.DELETE_ON_ERROR:
.PHONY: chaos limits crash walk docs reference screenshots env test demo lint style types contracts migrations grid whole-grid format coverage clean

# One file in .venv per thing installed there; each is made anew when pyproject.toml changes.
env: $(VENV)/dev $(if $(TEST_MYSQL_URL),$(VENV)/mysql)

$(PYTHON):
	python=$$(scripts/find-python) && $$python -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade "pip>=25.1"

$(VENV)/demo: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --editable . --group demo
	touch $@

$(VENV)/dev: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --editable ".[postgres]" --group dev
	touch $@ $(VENV)/demo

$(VENV)/docs: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --editable . --group docs
	touch $@

# Compiled here, so it needs a C compiler, pkg-config and libmariadb-dev (or libmysqlclient-dev).
$(VENV)/mysql: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --editable ".[mysql]"
	touch $@

test: env
	$(PYTHON) scripts/run_tests.py $(ARGS)

chaos: env
	CHAOS_RUNS=5000 $(PYTHON) -m pytest tests/faults/test_chaos.py $(ARGS)

limits: env
	LIMITED_RUNS=5000 $(PYTHON) -m pytest tests/faults/test_queue_limits.py $(ARGS)

crash: env
	CRASH_POINTS=0 $(PYTHON) -m pytest -o faulthandler_timeout=0 tests/faults/test_crashes.py $(ARGS)

.PHONY: bench bench-peers
bench: env
	$(PYTHON) -m tests.benchmarks $(ARGS)

PEERS := .bench/peers
bench-peers: env $(PEERS)/installed
	$(PYTHON) -m tests.benchmarks --peers $(ARGS)

$(PEERS)/installed: tests/benchmarks/peers/requirements.txt | $(PYTHON)
	$(PYTHON) -m venv --clear $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --requirement tests/benchmarks/peers/requirements.txt
	touch $@

walk: env
	WALK=1 $(PYTHON) -m pytest tests/browser/test_every_page.py

demo: $(VENV)/demo
	$(PYTHON) testproject/demo.py $(if $(SERVE),--serve)

lint: style types contracts migrations

style: env
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: env
	$(VENV)/bin/mypy

contracts: env
	$(VENV)/bin/lint-imports

migrations: env
	$(PYTHON) testproject/manage.py makemigrations --check --dry-run

# tox does not find a Python of pyenv's that is not switched on, so it is told where they are.
grid: $(VENV)/dev
	$(VENV)/bin/tox run --discover $$(for version in 3.13 3.12 3.11; do PYTHON_VERSIONS=$$version scripts/find-python; done) $(ARGS)

whole-grid:
	$(MAKE) grid ARGS='$(ARGS) -- --tier SQLite --tier PostgreSQL --tier MariaDB'

docs: $(VENV)/docs
	$(PYTHON) -m sphinx --fresh-env --fail-on-warning --keep-going --quiet --builder html docs docs/_build/html
	@echo "docs/_build/html/index.html"

reference: env
	$(PYTHON) scripts/write_reference.py

.PHONY: messages
messages: env
	$(PYTHON) scripts/write_messages.py

screenshots: env
	SCREENSHOTS=docs/images $(PYTHON) -m pytest tests/browser -p no:randomly $(ARGS)

format: env
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

coverage: env
	$(VENV)/bin/coverage run -m pytest $(ARGS)
	$(VENV)/bin/coverage combine
	$(VENV)/bin/coverage report

clean:
	rm -rf $(VENV) .tox .demo .bench .coverage .coverage.* htmlcov docs/_build build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
