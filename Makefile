# The front door. Each target is one command of `python -m calico_lab`; set-up runs by itself before the first one.

PYTHON := .venv/bin/python
READY  := .venv/.ready

# A value as it was typed, in single quotes: neither make nor the shell reads anything into it.
quoted = '$(subst ','\'',$(value $(1)))'
option = $(if $(value $(2)),$(1) $(call quoted,$(2)))
each   = $(foreach word,$(value $(2)),$(1) $(call quoted,word))

# make would otherwise expand these once more to hand them on in the environment.
unexport SCENARIO PROVIDER LANG_REPORT RECORDING SET WIKI RECORDINGS SCENARIOS RESUME DASK PARAM VALUES FROM DO \
    INVENTORY TRUST A B KUBECONFIG CONTEXT CLUSTER OTHER_CNI FORCE JOURNAL

# Which cluster, and how to get at it. Many people's environment has a KUBECONFIG, which is not meant for other providers.
provider = $(call option,--provider,PROVIDER) $(call option,--inventory,INVENTORY) $(if $(filter first-use,$(value TRUST)),--trust-first-use) \
    $(if $(filter kube,$(value PROVIDER)),$(call option,--kubeconfig,KUBECONFIG) $(call option,--context,CONTEXT)) \
    $(call option,--cluster,CLUSTER) $(call option,--other-cni,OTHER_CNI) $(if $(filter yes,$(value FORCE)),--force)

# Only the local lab uses this machine's network tools.
lab_packages = $(if $(filter-out lab,$(value PROVIDER)),,.venv/.packages-lab)

.NOTPARALLEL:
.PHONY: help list report capture restore predict remedies import compare matrix sweep publish cluster lab doctor test test-e2e check fix bench lock clean

help: ## print these targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | while IFS='	' read -r target text; do \
	    printf '  make %-8s %s\n' "$$target" "$$text"; done

list: $(READY) ## the scenarios
	@$(PYTHON) -m calico_lab list

report: $(READY) $(lab_packages) ## review SCENARIO=name [PROVIDER=lab|ssh|kube|mcks|replay] [LANG_REPORT=ko|en] [RECORDING=folder] [SET="key=value ..."]
	@$(PYTHON) -m calico_lab report $(call option,,SCENARIO) $(provider) $(call option,--lang,LANG_REPORT) $(call option,--recording,RECORDING) $(call each,--set,SET)

capture: $(READY) $(lab_packages) ## record SCENARIO=name and write no document [PROVIDER=lab|ssh|kube|mcks]
	@$(PYTHON) -m calico_lab capture $(call option,,SCENARIO) $(provider) $(call each,--set,SET)

restore: $(READY) ## undo what a run changed on a Kubernetes cluster: JOURNAL=outputs/name/changes.jsonl KUBECONFIG=file [CONTEXT=name]
	@$(PYTHON) -m calico_lab restore $(call option,--journal,JOURNAL) $(call option,--kubeconfig,KUBECONFIG) $(call option,--context,CONTEXT)

predict: $(READY) ## the verdict that follows from SCENARIO=name alone, and why; runs nothing [SET="key=value ..."] [LANG_REPORT=ko|en]
	@$(PYTHON) -m calico_lab predict $(call option,,SCENARIO) $(call option,--lang,LANG_REPORT) $(call each,--set,SET)

remedies: $(READY) .venv/.packages-lab ## apply remedies to SCENARIO=name in labs, measure again, and write its report [LANG_REPORT=ko|en]
	@$(PYTHON) -m calico_lab remedies $(call option,,SCENARIO) $(call option,--lang,LANG_REPORT)

import: $(READY) ## make a recording for SCENARIO=name of what was captured by hand: FROM=folder with <node>/<command>.txt, or a bundle of calicoctl (.tar.gz or folder)
	@$(PYTHON) -m calico_lab import $(call option,,SCENARIO) $(call option,--from,FROM)

compare: $(READY) ## compare two recordings by their facts: A=folder or scenario B=folder or scenario [LANG_REPORT=ko|en]
	@$(PYTHON) -m calico_lab compare $(call option,--a,A) $(call option,--b,B) $(call option,--lang,LANG_REPORT)

matrix: $(READY) $(lab_packages) ## review all scenarios side by side [SCENARIOS="name ..."] [RESUME=yes] [DASK=address] [LANG_REPORT=ko|en]
	@$(PYTHON) -m calico_lab matrix $(call each,,SCENARIOS) $(call option,--lang,LANG_REPORT) $(call option,--dask,DASK) $(if $(filter yes,$(value RESUME)),--resume)

sweep: $(READY) $(lab_packages) ## measure SCENARIO=name with PARAM=key and VALUES=a,b,... [DASK=address] [LANG_REPORT=ko|en]
	@$(PYTHON) -m calico_lab sweep $(call option,,SCENARIO) $(call option,--param,PARAM) $(call option,--values,VALUES) $(call option,--lang,LANG_REPORT) $(call option,--dask,DASK)

publish: $(READY) ## send the report of SCENARIO=name to WIKI=git address or folder
	@$(PYTHON) -m calico_lab publish $(call option,,SCENARIO) $(call option,--wiki,WIKI)

cluster: $(READY) ## clusters of MCKS: DO="create|list|show|nodes|key|kubeconfig|add|remove|delete [NAME] ..." [SCENARIO=name]
	@$(PYTHON) -m calico_lab cluster $(call each,,DO) $(call option,--scenario,SCENARIO)

# JupyterLab refuses to run as root, the usual user of a container, unless told that it may.
lab: $(READY) ## open the notebooks in JupyterLab
	@$(PYTHON) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

doctor: $(READY) ## what this machine has, lacks and can do
	@$(PYTHON) -m calico_lab doctor

test: $(READY) .venv/.packages-tests ## run the tests
	@$(PYTHON) -m pytest

# A kubeconfig of the environment is not meant for this: it may be of a cluster that people work on.
test-e2e: $(READY) ## run the tests of the Kubernetes part on a real API server, which needs no nodes: KUBECONFIG=file
	@$(if $(filter command,$(origin KUBECONFIG)),$(PYTHON) -m pytest tests/e2e $(call option,--kubeconfig,KUBECONFIG),echo 'name the cluster: make test-e2e KUBECONFIG=file' >&2; exit 2)

check: $(READY) ## lint, format and types; edits nothing
	@$(PYTHON) -m ruff check
	@$(PYTHON) -m ruff format --check
	@$(PYTHON) -m mypy

fix: $(READY) ## what `make check` can mend by itself
	@$(PYTHON) -m ruff check --fix
	@$(PYTHON) -m ruff format

bench: $(READY) .venv/.packages-lab ## measure: prints ratios within one run
	@set -e; for script in benchmarks/*.py; do $(PYTHON) "$$script"; done

lock: $(READY) ## refresh requirements.lock from pyproject.toml
	@.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --extra dev --extra dask --output-file requirements.lock pyproject.toml

clean: $(READY) ## empty outputs/, but for recordings unless RECORDINGS=yes
	@$(PYTHON) -m calico_lab clean $(if $(filter yes,$(value RECORDINGS)),--recordings)

$(READY): requirements.lock pyproject.toml setup.sh
	@./setup.sh python

.venv/.packages-%: calico_lab/doctor.py $(READY)
	@./setup.sh packages $*
