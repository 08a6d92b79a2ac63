# Everything a developer runs. Each target works on a fresh clone: .venv is made on first use.
#
#   make test             the suite on SQLite; on PostgreSQL and MariaDB too where TEST_POSTGRES_URL and
#                         TEST_MYSQL_URL are set. make test ARGS="-k sleep -x" hands arguments to pytest.
#   make demo             two workflows, a worker that is killed in the middle of a step, and what became of them
#   make lint             all of: make style (ruff), types (mypy), contracts (import-linter), migrations
#   make grid             the suite on every supported Django, each with its own Python, through tox
#   make chaos            5,000 runs among workers that are killed at random; the suite takes 300
#   make format           let ruff put the code in order
#   make coverage         the suite on SQLite with branch coverage
#   make clean            remove everything that was made here, .venv too

VENV := .venv
PYTHON := $(VENV)/bin/python
ARGS :=

# A .venv whose making was cut short is made again.
.DELETE_ON_ERROR:
.PHONY: chaos env test demo lint style types contracts migrations grid format coverage clean

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

# Compiled here, so it needs a C compiler, pkg-config and libmariadb-dev (or libmysqlclient-dev).
$(VENV)/mysql: pyproject.toml | $(PYTHON)
	$(PYTHON) -m pip install --quiet --editable ".[mysql]"
	touch $@

test: env
	$(PYTHON) scripts/run_tests.py $(ARGS)

chaos: env
	CHAOS_RUNS=5000 $(PYTHON) -m pytest tests/faults/test_chaos.py $(ARGS)

demo: $(VENV)/demo
	$(PYTHON) testproject/demo.py

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
grid: env
	$(VENV)/bin/tox run --discover $$(for version in 3.13 3.12 3.11; do PYTHON_VERSIONS=$$version scripts/find-python; done) $(ARGS)

format: env
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

coverage: env
	$(VENV)/bin/coverage run -m pytest $(ARGS)
	$(VENV)/bin/coverage combine
	$(VENV)/bin/coverage report

clean:
	rm -rf $(VENV) .tox .demo .coverage .coverage.* htmlcov build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
