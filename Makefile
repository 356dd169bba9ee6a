# One command for each thing that is done here. `make` alone lists them.

PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
BIN := $(VENV)/bin
PROTO_VENV := $(VENV)/proto
PROTO_OUT := $(PROTO_VENV)/out
GENERATED := fedn/wire/pb

INSTALL := $(PY) -m pip install --quiet --no-compile --disable-pip-version-check
PROTOC := $(PROTO_VENV)/bin/python -m grpc_tools.protoc -I $(GENERATED)=proto
# Of one example, what its own file asks for; else what EXTRAS names: EXTRAS='keras plot', or all.
ALL_EXTRAS := keras torch sklearn plot pandas mlflow tensorboard
ABOUT := $(firstword $(wildcard examples/$(EXAMPLE)/example.yaml $(EXAMPLE)/example.yaml))
EXTRAS ?= $(if $(ABOUT),$(shell sed -n 's/^extras: *\[\(.*\)\].*/\1/p' $(ABOUT) | tr , ' '))
EXTRA_STAMPS := $(addprefix $(VENV)/.extra-,$(if $(filter all,$(EXTRAS)),$(ALL_EXTRAS),$(EXTRAS)))
SANDBOX_FLAGS := $(if $(EXAMPLE),--example $(EXAMPLE)) $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(CLIENTS),--clients $(CLIENTS)) \
	$(if $(COMBINERS),--combiners $(COMBINERS))
CHAOS_FLAGS := $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS))

.DEFAULT_GOAL := help
.PHONY: help dev check test fuzz sandbox proto proto-check golden format bench chaos mutants search env rehearse screenshots dist clean

help: ## List these commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  ARGS=... is passed on by most of them, for example: make test ARGS='-k codec -x'"

dev: $(VENV)/.dev $(PROTO_VENV)/.ready $(EXTRA_STAMPS) ## Make .venv with everything that working on fedn needs (EXTRAS=all)

check: $(VENV)/.dev proto-check ## Format, lint, types, layers, generated code, known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@$(PY) .ci/audit.py

test: $(VENV)/.dev ## Run the tests (TOGETHER= how many at once; most of them wait for processes, not for the processor)
	$(PY) -m pytest -n $(or $(TOGETHER),3) --dist worksteal $(ARGS)

fuzz: $(VENV)/.dev ## Hostile inputs for everything that reads what others send (RUNS=10000, SEED=)
	@$(INSTALL) atheris || echo "atheris can't be installed here"
	FEDN_FUZZ_RUNS=$(or $(RUNS),10000) FEDN_FUZZ_SEED=$(SEED) $(PY) -m pytest tests/fuzz --timeout=3600 $(ARGS)
	$(PY) tests/fuzz/guided.py $(or $(RUNS),10000)

sandbox: $(VENV)/.sandbox $(EXTRA_STAMPS) ## Train a whole federation on this machine (EXAMPLE=, ROUNDS=, CLIENTS=, COMBINERS=)
	@exec $(BIN)/fedn sandbox $(SANDBOX_FLAGS) $(ARGS)

proto: $(PROTO_VENV)/.ready ## Generate the wire code from proto/fedn.proto
	$(PROTOC) --python_out=. --pyi_out=. --grpc_python_out=. $(GENERATED)/fedn.proto

proto-check: $(PROTO_VENV)/.ready
	@rm -rf $(PROTO_OUT) && mkdir -p $(PROTO_OUT)
	@$(PROTOC) --python_out=$(PROTO_OUT) --pyi_out=$(PROTO_OUT) --grpc_python_out=$(PROTO_OUT) $(GENERATED)/fedn.proto
	@diff -r --exclude=__init__.py --exclude=__pycache__ $(PROTO_OUT)/$(GENERATED) $(GENERATED) \
		|| { echo "$(GENERATED) does not belong to proto/fedn.proto: run 'make proto' and commit the result"; exit 1; }

golden: $(VENV)/.dev ## Write down the wire's bytes anew, after a deliberate change
	$(PY) tests/golden/test_wire_golden.py

format: $(VENV)/.dev ## Format the code and fix what can be fixed by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.sandbox ## Measure, beside the floors of this machine
	$(PY) -m benchmarks $(ARGS)

chaos: $(VENV)/.dev ## Break a federation of real processes at random, and judge it (SECONDS=, SEED=, KILLS=)
	@exec $(PY) tests/chaos/run.py $(CHAOS_FLAGS) $(ARGS)

search: $(VENV)/.dev ## Walk through every course that one round can take, and count the states
	@exec $(PY) tests/property/search.py $(ARGS)

mutants: $(VENV)/.dev ## Break the promises one by one, and see that the chaos suite notices
	@exec $(PY) tests/chaos/mutants.py $(ARGS)

env: ## Write .env for the containers: .env.example with a random password behind every bare `=`
	@test ! -e .env || { echo ".env is there already; it is left as it is"; exit 1; }
	@umask 077; while IFS= read -r line; do case "$$line" in \
		[A-Z]*=) echo "$$line$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')";; \
		*) printf '%s\n' "$$line";; esac; done < .env.example > .env
	@echo "Passwords are in .env, which only you can read."

rehearse: $(VENV)/.dev ## Run the containers' own files without an engine, and train with them (needs root)
	@exec $(PY) tests/rehearsal/rehearse.py $(ARGS)

screenshots: $(VENV)/.dev ## Take the pictures in docs/images anew (needs Chromium)
	@exec $(PY) tests/browser/screenshots.py

dist: $(VENV)/.dev ## Build the wheel and the source archive into dist/
	$(PY) -m build --no-isolation

clean: ## Remove what was built; data and .venv stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The environment. Stamps make a second run instant; a changed pyproject.toml installs again.
# pip would compile every file of every package one by one; compiling only what runs, on all cores,
# saves seconds here and spares each process of the sandbox from doing it.

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.sandbox: pyproject.toml | $(PY)
	@echo "Installing into $(VENV) (once; well under a minute) ..."
	@$(INSTALL) --editable '.[sandbox]'
	@$(PY) -m compileall -q -j 0 -x '/(tests?|pip|setuptools|pygments/lexers)/' $(VENV)/lib >/dev/null || true
	@touch $@

$(VENV)/.dev: pyproject.toml | $(PY)
	@echo "Installing the development tools into $(VENV) ..."
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.sandbox

# After the others: they install fedn itself. TORCH= is what pip is told to install for PyTorch, where that
# is not to be the newest with CUDA.
$(VENV)/.extra-%: pyproject.toml | $(VENV)/.sandbox
	@echo "Installing what '$*' needs into $(VENV) (once) ..."
	@$(if $(and $(TORCH),$(filter torch,$*)),$(INSTALL) $(TORCH))
	@$(INSTALL) --editable '.[$*]'
	@touch $@

$(PROTO_VENV)/.ready: | $(PY)
	$(PY) -m venv $(PROTO_VENV)
	$(PROTO_VENV)/bin/python -m pip install --quiet --disable-pip-version-check grpcio-tools==1.76.0
	@touch $@
