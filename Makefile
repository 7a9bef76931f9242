# mlproject: `make help` lists what there is. Needs git, make and Python 3.11 or newer; everything else is installed into .venv.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
# Other torch wheels: make install TORCH_INDEX=https://download.pytorch.org/whl/cpu   (or …/rocm6.4)
TORCH_INDEX ?=

export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true
export PLOOMBER_STATS_ENABLED := false
export PYTHONWARNINGS := ignore::SyntaxWarning
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# what `make run` passes on
RUN_ARGS = $(if $(DATA),--data "$(DATA)") $(if $(WEIGHTS),--weights "$(WEIGHTS)") $(if $(OUT),--out "$(OUT)") $(ARGS)

.PHONY: help install run demo test test-lessons test-all lab export notebooks readme doctor coverage clean distclean wheel \
	bench-main bench-real bench-speed bench-build bench-survey bench-data bench-curation lock

help:  ## this list
	@echo "mlproject: from photos and field notes to a servable animal species classifier"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo "  options        DATA=path (your photos)  WEIGHTS=file.safetensors  OUT=folder  ARGS='--epochs 3'  TORCH_INDEX=url"

# not pyproject.toml: nbdev-export touches it each time
$(READY): requirements.lock requirements-torch.lock
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer with venv is needed (Debian: apt-get install python3 python3-venv)"; exit 1; }
	@command -v git >/dev/null || { echo "make: git is needed (Debian: apt-get install git)"; exit 1; }
	@echo "installing into $(VENV) (a few minutes, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX) torch==2.14.1 torchvision==0.29.1,--no-deps -r requirements-torch.lock)
	@$(BIN)/python -m pip install -q --no-deps -r requirements.lock
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $@

install: $(READY)  ## make the environment (.venv) from the lock files

export: $(READY)  ## notebooks -> package
	@$(BIN)/nbdev-export

run: export  ## the main job: built-in survey, or your photos with DATA=path
	@$(BIN)/mlproject run $(RUN_ARGS)

demo: export  ## a small model, a prediction and a report, in about a minute
	@$(BIN)/mlproject demo

lab: $(READY)  ## JupyterLab on nbs/, with nbdev's git hooks for this clone
	@$(BIN)/mlproject lab

test: export doctor  ## lessons, integration and end-to-end tests, with coverage
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m coverage run -p -m mlproject.cli lessons
	@$(BIN)/python -m pytest --cov --cov-report= --cov-append
	@$(MAKE) -s coverage

# `make test` runs the lessons against the package, to measure its coverage; this runs the notebooks as they are
test-lessons: $(READY)
	@$(BIN)/nbdev-test --n-workers 2 --skip-folder-re '^([_.].*|reports|tutorials)$$'

test-all: export test-lessons  ## the heavier checks: main job end to end on real photos, resumes, README commands, tutorials
	@$(BIN)/python -m pytest -m slow

coverage:
	@$(BIN)/python -m coverage combine -q --append 2>/dev/null || true
	@$(BIN)/python -m coverage report --skip-covered --sort=cover | tail -40

doctor: $(READY)  ## check notebooks and package against the rules of the house
	@$(BIN)/mlproject doctor

notebooks: export  ## execute all lessons again and keep their outputs
	@$(BIN)/mlproject notebooks

readme: $(READY)  ## README.md from nbs/index.ipynb
	@$(BIN)/mlproject readme

wheel: export  ## dist/*.whl
	@$(BIN)/python -m pip wheel -q --no-deps --no-build-isolation -w dist .

# real photos for the benchmarks: one subfolder a species
PHOTOS ?= ../shared/data/photos/caltech101_animals
bench-main: export  ## main job on the survey: minutes, memory, top-1
	@$(BIN)/python benchmarks/main_job.py
bench-real: export  ## fine-tuning on real photos (three split seeds)
	@$(BIN)/python benchmarks/real_photos.py
bench-speed: export  ## training images/s against torchvision's reference recipe
	@$(BIN)/python benchmarks/training_speed.py
	@test ! -d $(PHOTOS) || $(BIN)/python benchmarks/training_speed.py $(PHOTOS) --network mobilenet_v2 --size 160 --photos 256
bench-build: export  ## a build with nothing to do against ploomber status
	@$(BIN)/python benchmarks/noop_build.py
bench-survey: export  ## how hard the survey is for a linear classifier
	@$(BIN)/python benchmarks/survey_hardness.py

# the data steps, one by one
SCRIPT_bench-load := load_text
SCRIPT_bench-text := text_steps
SCRIPT_bench-pii := pii
SCRIPT_bench-names := person_names
SCRIPT_bench-formats := formats
SCRIPT_bench-enrichment := enrichment
SCRIPT_bench-annotators := annotators
SCRIPT_bench-tokens := tokens
SCRIPT_bench-photos := photos
SCRIPT_bench-datatrove := datatrove_chain
SCRIPT_bench-near-duplicates := near_duplicates
DATA_BENCHES := bench-load bench-photos bench-text bench-pii bench-names bench-formats bench-enrichment bench-annotators bench-tokens bench-near-duplicates
.PHONY: $(DATA_BENCHES)
$(DATA_BENCHES): export
	@$(BIN)/python benchmarks/$(SCRIPT_$@).py $(ARGS)
bench-data: $(DATA_BENCHES)  ## what each data step reaches and costs, on planted truth and on real texts and photos
# how many documents the nine steps are measured on: 10000000 takes about an hour and 30 GB of disk
ROWS ?= 1000000
bench-curation: export  ## the nine steps over ROWS documents of 1 KB: records/s, memory, disk
	@$(BIN)/python benchmarks/curation.py $(ROWS) --publish
	@$(BIN)/python benchmarks/curation.py $(ROWS) --steps all --publish

# the server: speed beside its peers, behaviour past its limits (a quiet machine; `wrk` from your distribution)
.PHONY: drill bench-serving bench-overload bench-release bench-capture bench-engine bench-batch bench-hostile bench-drift bench-drill bench-console fuzz serve lock-serve proto
serve: export  ## answer photos over HTTP with the newest model
	@$(BIN)/mlproject serve $(ARGS)
bench-serving: export  ## requests/s and CPU-ms beside LitServe, BentoML and FastAPI + torch
	@$(BIN)/python benchmarks/serving.py $(ARGS)
bench-overload: export  ## three times too much load, killed workers, SIGTERM, slow and huge requests
	@$(BIN)/python benchmarks/overload.py $(ARGS)
bench-release: export  ## weight changes and version swaps under load
	@$(BIN)/python benchmarks/release.py --publish $(ARGS)
bench-capture: export  ## what keeping requests costs, and what SIGKILL loses
	@$(BIN)/python benchmarks/capture.py --publish $(ARGS)
bench-engine: export
	@$(BIN)/python benchmarks/engine.py --publish $(ARGS)
bench-batch: export
	@$(BIN)/python benchmarks/batch.py $(ARGS)
bench-hostile: export
	@$(BIN)/python benchmarks/hostile_inputs.py $(ARGS)
# NAME: the stored traffic, made once from a build and photos: python benchmarks/shifted.py NAME BUILD PHOTOS
NAME ?= survey
bench-drift: export  ## drift, live accuracy and canary decisions, on simulated traffic
	@$(BIN)/python benchmarks/drift_grid.py $(NAME)
	@$(BIN)/python benchmarks/live_accuracy.py $(NAME)
	@$(BIN)/python benchmarks/promotion.py $(NAME)
# seconds for photos and forms, and again for the doors of a real server
SECONDS ?= 180
fuzz: export  ## several minutes of hostile requests to every door (SECONDS=180 each)
	@$(BIN)/python tests/fuzz_inputs.py --seconds $(SECONDS)
	@$(BIN)/python tests/fuzz_doors.py --seconds $(SECONDS)
drill: export  ## the loop of monitoring, retraining and release rehearsed against a real server, with known truth
	@$(BIN)/mlproject drill $(ARGS)
bench-drill: export  ## three drills: accuracy before, during and after, labels, minutes
	@$(BIN)/python benchmarks/drill.py $(ARGS)
bench-console: export  ## the console with a million requests kept and ten thousand photos to review
	@$(BIN)/python benchmarks/console.py $(ARGS)
proto:  ## the messages of gRPC from their definition
	@$(BIN)/python -m grpc_tools.protoc -Imlproject/serving --descriptor_set_out=mlproject/serving/inference.binpb mlproject/serving/inference.proto
lock-serve: $(READY)  ## requirements-serve.lock: what the container installs
	@$(BIN)/python deploy/lock.py

TORCH_PACKAGES := ^(torch|torchvision|triton|nvidia-[a-z0-9-]*|cuda-[a-z]*)==
lock: $(READY)  ## upgrade within pyproject.toml's bounds and write the lock files again
	@$(BIN)/python -m pip install -q --upgrade --upgrade-strategy eager -e .[dev]
	@$(BIN)/python -m pip freeze --all --exclude-editable --exclude pip | grep -vE '$(TORCH_PACKAGES)' > requirements.lock
	@$(BIN)/python -m pip freeze --all --exclude-editable | grep -E '$(TORCH_PACKAGES)' \
		| sed -E '/^torch/! s/$$/ ; sys_platform == "linux"/' > requirements-torch.lock

clean:  ## remove what runs made (build/, mlruns/)
	@rm -rf build mlruns dist .coverage .coverage.* .pytest_cache .hypothesis

distclean: clean  ## and the environment
	@rm -rf $(VENV) *.egg-info
