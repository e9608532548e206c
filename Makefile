# The commands of the platform; `make` alone lists them. Each target is one line: the work is in infra/ and the phases.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The services of each phase; a phase needs those of the phases before it.
PHASE1 := kafka schema-registry producer
PHASE2 := $(PHASE1) minio spark-master spark-worker spark-streaming
PHASE3 := $(PHASE2) trino postgres airflow-metrics airflow-api-server airflow-scheduler airflow-dag-processor airflow-triggerer
PHASE4 := $(PHASE3) mlflow redis fraud-api feature-stream scorer model-quality rules-worker shadow training explainer
PHASE5 := $(PHASE4) kafka-exporter drift redis-exporter postgres-exporter alertmanager prometheus superset

# What a person passes to a command travels by environment, never through a shell, and without make's own $ expansion.
ARGUMENTS := FILE MAP CHECK START LAST REASON STAGE OFFSET ALL SET FORCE GO SELECT FULL USER_ID MINUTES LABEL_MINUTES TO FROM \
  K PARTS UPGRADE SEEDS DAYS USERS PROFILE PERMUTATIONS ROUNDS SEED STACK \
  RULE RULE_VERSION WHEN ANSWER QUEUE COMPARE_TO THRESHOLD
$(foreach name,$(ARGUMENTS),$(eval override export $(name) := $$(value $(name))))

.PHONY: help
help: ## This list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}'

.PHONY: doctor up phase1-up phase2-up phase3-up phase4-up phase5-up down clean build
doctor: ## Look at this machine: cores, memory, disk, ports, engine, registry
	@infra/scripts/doctor.sh
up: phase5-up ## Everything up, from a machine with nothing, and the table of addresses
phase1-up: ## Phase 1: Kafka, schema registry, simulated transactions
	@infra/scripts/up.sh $(PHASE1)
phase2-up: ## Phase 2: MinIO, the Spark cluster, every transaction in Delta Bronze
	@infra/scripts/up.sh $(PHASE2)
phase3-up: ## Phase 3: Trino, Airflow; Silver and Gold by dbt, every 15 minutes
	@infra/scripts/up.sh $(PHASE3)
phase4-up: ## Phase 4: MLflow, Redis, a first model, every payment scored
	@infra/scripts/up.sh $(PHASE4)
phase5-up: ## Phase 5: Prometheus, alerts, Grafana, Superset
	@infra/scripts/up.sh $(PHASE5)
down: ## Stop everything; the data stays
	docker compose down --remove-orphans
clean: ## Stop everything and delete all data (asks first)
	@infra/scripts/clean.sh
build: ## Build the images in which something changed
	@rm -f .images-pulled && infra/scripts/env.sh && infra/docker/engine.sh && infra/docker/build.sh $(PHASE5)

.PHONY: backup restore restore-drill support sbom pull push addresses ports
backup: ## TO=folder: all data and .env there; the stack is stopped meanwhile
	@infra/scripts/backup.sh
restore: ## FROM=folder: what make backup has kept, into a stack without data
	@infra/scripts/restore.sh
restore-drill: ## FROM=folder: try a backup out beside the stack: restore it, start the stores, count everything, compare
	@infra/scripts/restore_drill.sh
support: ## One archive for a bug report: versions, settings without secrets, states, an hour of logs and metrics
	@infra/scripts/support.sh
sbom: ## What is in each image, as CycloneDX JSON in reports/sbom/, and all licences in docs/licences.md
	@infra/scripts/sbom.sh $(PHASE5)
pull: ## Take the images of this commit from IMAGE_REGISTRY instead of building them
	@infra/scripts/pull.sh $(PHASE5)
push: ## Share the images of this commit through IMAGE_REGISTRY
	@infra/scripts/push.sh $(PHASE5)
addresses: ## The table of addresses and logins
	@infra/scripts/addresses.sh
ports: ## What each published port gives without credentials, tried
	@infra/scripts/ports.sh

.PHONY: test unit phase1-test phase2-test phase3-test phase4-test phase5-test phase2-drills fuzz rules-parity chaos dashboards lint e2e bench lock
test: ## [K=name]: all tests, in Docker, against real services that start once
	@infra/scripts/test.sh
unit: ## [K=name]: every test that needs no service, in one container, under a minute once it is built
	@infra/scripts/unit.sh
phase1-test: ## [K=name]: the tests of phase 1, or only those whose names match
	@infra/scripts/test.sh 1
phase2-test: ## [K=name]: the tests of phase 2
	@infra/scripts/test.sh 2
phase3-test: ## [K=name]: the tests of phase 3
	@infra/scripts/test.sh 3
phase4-test: ## [K=name]: the tests of phase 4
	@infra/scripts/test.sh 4
phase5-test: ## [K=name]: the tests of phase 5
	@infra/scripts/test.sh 5
fuzz: ## [REQUESTS=5000] [MESSAGES=100000] [SEED=1]: so many generated requests, and messages of each topic; each is used or refused
	@FUZZ_REQUESTS="$${REQUESTS:-5000}" FUZZ_MESSAGES="$${MESSAGES:-100000}" FUZZ_SEED="$${SEED:-1}" PYTEST=--capture=no K="fuzz or mutated" infra/scripts/test.sh 2 4
rules-parity: ## [ROWS=100000] [RULES=200] [SEED=1]: random rules over random payments; Python and a real Trino agree on each
	@infra/scripts/rules_parity.sh
phase2-drills: ## kill -9 of driver, executor, broker and MinIO, three times each under load, and the table of counts
	@CRASH_ROUNDS=3 PYTEST=--capture=no K="exactly_once or hundred_thousand" infra/scripts/test.sh 2
chaos: ## [ROUNDS=24] [SEED=1] [STACK=running]: kills, stops, freezes and network cuts under load, then everything counted
	@infra/scripts/chaos.sh
lint: ## Ruff, mypy, shellcheck, hadolint, sqlfluff
	@infra/scripts/lint.sh
e2e: ## The whole stack end to end, on its own project and volumes
	@infra/scripts/e2e.sh
bench: ## [PARTS="kafka bronze transforms api stream backlog dlq soak"]: the measurements in docs/benchmarks.md
	@infra/scripts/bench.sh
lock: ## [UPGRADE=1]: write the requirements.txt files from their .in files; UPGRADE takes the newest versions
	@infra/scripts/lock.sh
dashboards: ## Write the Grafana dashboards' JSON from their code
	@infra/scripts/dashboards.sh

.PHONY: kafka-lag replay dlq-show dlq-redrive
kafka-lag: ## Lag of every consumer group
	docker compose exec kafka kafka-consumer-groups --bootstrap-server localhost:29092 --describe --all-groups
replay: ## FILE=… [MAP=…] [CHECK=1] [START=row]: your own transactions through the same topics; CHECK sends nothing
	@infra/scripts/replay.sh
dlq-show: ## [LAST=10]: what is in the dead letter topic, and why
	@infra/scripts/dlq.sh show
dlq-redrive: ## REASON=… | STAGE=… | OFFSET=… [FORCE=1] | ALL=1 [SET=field=value] [GO=1]: send dead letters back, repaired (dry run without GO=1)
	@infra/scripts/dlq.sh redrive

.PHONY: dbt-run dbt-test dbt-docs
dbt-run: ## [SELECT=…] [FULL=1]: build Silver and Gold now; FULL from the beginning
	@infra/scripts/dbt.sh build --exclude-resource-type test unit_test
dbt-test: ## [SELECT=…]: test the data now
	@infra/scripts/dbt.sh test --exclude-resource-type unit_test
dbt-docs: ## Serve the documentation of all models until Ctrl-C
	@infra/scripts/dbt_docs.sh

.PHONY: rules
rules: ## All rules: state, answer, hits of the last seven days, owner, expiry
	@docker compose --progress quiet run --rm --no-deps fraud-db-init python3 -m rules.command

.PHONY: ml-train ml-models ml-rollback score-examples rules-backtest rules-suggest predict-test redis-features \
  feature-quality world-quality rules-value
ml-train: ## A training run now: trains, compares with Production, promotes under the rules
	docker compose run --rm --no-deps training python3 -m training_runs.client
ml-models: ## All model versions: stage, metrics, age
	docker compose run --rm --no-deps training python3 -m training.models list
ml-rollback: ## Back to the model that was Production before
	docker compose run --rm --no-deps training python3 -m training.models rollback
score-examples: ## Scores by the model that serves for the training examples without one, for backtests of rules
	docker compose run --rm --no-deps training python3 -m training_runs.client --program score
rules-backtest: ## RULE=… | WHEN='…' | THRESHOLD=…, [DAYS=30] [FROM=…] [TO=…]: what a rule would have done, and was it right
	@infra/scripts/rules_backtest.sh
rules-suggest: ## [DAYS=30]: rules for frauds that neither the model nor a live rule has acted upon, as SQL to edit
	docker compose run --rm --no-deps training python3 -m training.suggest_rules --days "$${DAYS:-30}"
predict-test: ## One prediction, printed
	@infra/scripts/predict_test.sh
redis-features: ## [USER_ID=…]: feature keys, and one decoded value of each kind, of stream and snapshots
	@docker compose exec fraud-api python3 -m feature_store.redis_features $${USER_ID:+--user "$$USER_ID"}
feature-quality: ## [PARTS="groups live"] [MINUTES=15] [LABEL_MINUTES=60]: what features are worth, by group and by scenario
	@infra/scripts/feature_quality.sh --minutes "$${MINUTES:-15}" --label-minutes "$${LABEL_MINUTES:-60}"
world-quality: ## [SEEDS="42 1"] [DAYS=45] [USERS=20000] [PROFILE=cards] [FEATURE_GROUPS=1]: what a model reaches in simulated worlds; no stack
	@infra/scripts/world_quality.sh
rules-value: ## [SEEDS="42 1"] [DAYS=45] [USERS=20000]: what the starter rules find, and what they add to the model; no stack
	@infra/scripts/rules_value.sh
