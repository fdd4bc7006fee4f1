# The plan of `make study`: the cells, their prerequisites and their order. A finished cell is not computed again, so the
# same command resumes an interrupted study; rm -r out/study starts from scratch.

STUDY ?= out/study
SEEDS ?= 0 1 2 3 4
ENVIRONMENTS ?= polite detail hedge
# FIRST is complete for every seed before REST begins.
FIRST ?= text_only standard shortcut_aware shortcut_aware_warmup inverse_propensity
REST ?= product_of_experts without_vision tiny label_smoothing reward_centering margin standard_clean shortcut_aware_clean standard_long shortcut_aware_long
export STUDY

cell = $(STUDY)/cells/$(1).$(2).$(3).json
plan = $(foreach seed,$(SEEDS),$(foreach environment,$(ENVIRONMENTS),$(foreach method,$(1),$(call cell,$(seed),$(environment),$(method)))))
CELLS := $(call plan,$(FIRST)) $(call plan,$(REST))
export CELLS_IN_ALL := $(words $(CELLS))

.PHONY: study
study: $(CELLS)
	@scripts/study/step report

data = $(STUDY)/seed-$(1)/$(2)/data
start = $(STUDY)/seed-$(1)/sft/checkpoint-last

define SEED
$(call start,$(1)): | $(call data,$(1),polite)
	@scripts/study/step sft $(1)
endef

define ENVIRONMENT
$(call data,$(1),$(2)):
	@scripts/study/step data $(1) $(2)
endef

# Shortcut-failure degradation is measured with the text-only model of the same seed and environment. Without the rule for
# REST, make would start any cell that it can.
first := $(call plan,$(FIRST))
define CELL
$(call cell,$(1),$(2),$(3)): | $(call start,$(1)) $(call data,$(1),$(2)) $(if $(filter-out text_only,$(3)),$(call cell,$(1),$(2),text_only))
$(if $(filter $(3),$(REST)),$(call cell,$(1),$(2),$(3)): | $(first))
	@scripts/study/step cell $(1) $(2) $(3)
endef

$(foreach seed,$(SEEDS),$(eval $(call SEED,$(seed))))
$(foreach seed,$(SEEDS),$(foreach environment,$(sort polite $(ENVIRONMENTS)),$(eval $(call ENVIRONMENT,$(seed),$(environment)))))
$(foreach seed,$(SEEDS),$(foreach environment,$(ENVIRONMENTS),$(foreach method,$(FIRST) $(REST),$(eval $(call CELL,$(seed),$(environment),$(method))))))
