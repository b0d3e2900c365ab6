# make demo · make test · make check · make page · make setup · make lint · make types · make peers · make bench · make mutants · make reproduce · make notebooks · make docs · make gpu
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# Compiled modules are kept: without them each process that imports torch compiles it anew, four seconds of a core.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup gpu notebooks peers demo browser page test check calibrate lint types bench mutants reproduce docs figures lock wheel clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	grep -v '^torch==' constraints.txt > .venv/hashed.txt
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes --requirement .venv/hashed.txt
	$(BIN)/python -m pip install --quiet --no-compile "$$(grep -o '^torch==[^ ]*' constraints.txt)"
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
	$(BIN)/python -m pip check
	touch $@

demo: setup
	$(BIN)/transect demo --out runs/demo

test: setup browser
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# The fast loop: lint, types and the quick tests, about a minute of one core.
check: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/inference tests/measures tests/numeric tests/house/test_house.py tests/work/test_keys.py

# Type-I error of every test, coverage of every interval, power of the change-layer rules: writes docs/calibration.md.
calibrate: setup
	OMP_NUM_THREADS=1 $(BIN)/python bench/calibrate.py $(if $(DRAWS),--draws $(DRAWS))

# What the page tests need beside Python: a browser and axe-core. What cannot be had is said by the tests.
browser:
	@test -d web/node_modules/axe-core || ! command -v npm > /dev/null || (cd web && npm ci --silent) || true
	@command -v chromium > /dev/null || ! command -v apt-get > /dev/null || test "$$(id -u)" != 0 || \
		(apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium > /dev/null) || true

# The page in the package is built from web/ and committed, so that nobody needs Node to use it.
page:
	cd web && npm ci && npm run format:check && npm run build && npm test

# The notebooks of examples/, from first cell to last.
notebooks: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/house/test_notebooks.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/pyright

# The libraries that the benches are beside, in an environment of their own that also reads this one.
PEERS := .venv-peers/.installed
peers: $(PEERS)

$(PEERS): $(STAMP) bench/peers.txt
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')')" \
		> "$$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')/transect.pth"
	grep -o '^[A-Za-z0-9_.-]*==[^ ;]*' constraints.txt > .venv-peers/pins.txt
	.venv-peers/bin/python -m pip install --quiet --no-compile --constraint .venv-peers/pins.txt --requirement bench/peers.txt
	touch $@

# Every bench in one run, about half an hour of one core: writes docs/benchmarks.md. QUICK=1 for a small one.
bench: $(PEERS)
	.venv-peers/bin/python bench/run.py $(if $(QUICK),--quick)

# Values and speed on a CUDA device beside the processor, at most eight minutes: writes docs/gpu.md. GPU_PYTHON runs it where the
# torch in .venv has no CUDA. Without CLOUDS (bench/clouds.py) the clouds are planted.
gpu:
	OMP_NUM_THREADS=1 PYTHONPATH=src $(or $(GPU_PYTHON),$(BIN)/python) bench/gpu.py $(if $(CLOUDS),--clouds $(CLOUDS))

# Each planted fault must be caught by the tests: writes docs/mutants.md. JOBS=4 for four at a time.
mutants: setup
	$(BIN)/python bench/mutants.py --jobs $(or $(JOBS),1)

# The headline claims of the five programs that this one replaces, beside corrected numbers: writes docs/reproduction.md.
reproduce: setup
	OMP_NUM_THREADS=1 $(BIN)/python bench/reproduce.py

docs: setup
	$(BIN)/python docs/generate.py
	$(BIN)/mkdocs build --strict

figures: demo
	mkdir -p docs/figures
	cp runs/demo/figures/drift.png runs/demo/figures/excess.png runs/demo/figures/pairs.png docs/figures/

# Hashes of every pinned file, from the package index.
lock: setup
	$(BIN)/python .ci/lock.py

wheel: setup
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv dist build .pytest_cache .ruff_cache
