# dekhand: one makefile for everything. `make help` lists the targets.
#
# BUILD=release (default) | clang | asan | tsan | cover | fuzz: each in a folder of its own.

VERSION := 0.1.0
SOVERSION := 0

BUILD ?= release
OUT_release := build
OUT := $(or $(OUT_$(BUILD)),build/$(BUILD))

ifeq ($(origin CC),default)
CC := gcc
endif
PYTHON ?= $(if $(wildcard /usr/bin/python3),/usr/bin/python3,python3)
PKGS := libcrypto libssl sqlite3 libpq libcurl jansson expat

PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
DATADIR ?= $(PREFIX)/share
MANDIR ?= $(DATADIR)/man
DATA ?= ../shared

# ---- flags -------------------------------------------------------------------------------------
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla \
        -Wpointer-arith -Wcast-qual -Wformat=2 -Wundef
HARDEN := -fstack-protector-strong -fstack-clash-protection -fcf-protection=full \
          -D_FORTIFY_SOURCE=2 -fPIC
LDHARDEN := -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,-z,defs -Wl,--as-needed

# Aligned: where the code of one value happens to lie moves its time by up to 8 %.
CFLAGS_release := -O2 -g -fno-plt -falign-functions=64 -falign-jumps=32:20 $(HARDEN)
LTO_release := -flto=2
MERGE_release := -flinker-output=nolto-rel
CFLAGS_clang := -O2 -g $(HARDEN)
CFLAGS_asan := -O1 -g -fPIC -fno-omit-frame-pointer -fsanitize=address,undefined \
               -fno-sanitize-recover=all -DDK_SANITIZED=1
CFLAGS_tsan := -O1 -g -fPIC -fno-omit-frame-pointer -fsanitize=thread -DDK_SANITIZED=1
CFLAGS_cover := -O0 -g -fPIC --coverage -fprofile-update=atomic -DDK_COVER=1
CFLAGS_fuzz := -O1 -g -fPIC -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
               -fno-sanitize-recover=all -DDK_SANITIZED=1
LDFLAGS_release := $(LDHARDEN)
LDFLAGS_clang := $(LDHARDEN)
LDFLAGS_asan := -fsanitize=address,undefined
LDFLAGS_tsan := -fsanitize=thread
LDFLAGS_cover := --coverage
LDFLAGS_fuzz := -fsanitize=address,undefined
# What is counted is src/.
TESTS_cover := -O1 -fno-profile-arcs -fno-test-coverage
ifneq ($(filter $(BUILD),clang fuzz),)
CC := clang
endif
# Links the test programs in a third of the time, where there is one.
GOLD := $(if $(shell command -v ld.gold),-fuse-ld=gold)

# Absolute paths stay out of what is built (__FILE__, debug info).
DK_CPPFLAGS = -D_GNU_SOURCE -DDK_VERSION='"$(VERSION)"' -Iinclude -Isrc -I$(OUT)/gen \
              $(shell pkg-config --cflags $(PKGS))
DK_CFLAGS = -std=c11 -pthread $(WARN) $(CFLAGS_$(BUILD)) -ffile-prefix-map=$(CURDIR)=. \
            -fvisibility=hidden $(CFLAGS)
DK_LDFLAGS = -pthread $(LDFLAGS_$(BUILD)) $(LDFLAGS)
DK_LIBS = $(shell pkg-config --libs $(PKGS))

# ---- sources -----------------------------------------------------------------------------------
ROOMS := base crypto net provider store keys
LIB_SRC := $(foreach r,$(ROOMS),$(sort $(wildcard src/$(r)/*.c))) $(sort $(wildcard src/*.c))
CLI_SRC := $(sort $(wildcard src/cli/*.c))
UNIT_SRC := $(sort $(wildcard tests/unit/*_test.c tests/contract/*_test.c tests/scenario/*_test.c \
                              tests/vectors/*_test.c))
SUPPORT_SRC := $(sort $(wildcard tests/support/*.c))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/*_fuzz.c))
SQL := $(sort $(wildcard sql/*/*.sql))

obj = $(patsubst %.c,$(OUT)/obj/%.o,$(1))
LIB_OBJ := $(call obj,$(LIB_SRC)) $(OUT)/obj/gen/migrations.o
CLI_OBJ := $(call obj,$(CLI_SRC))
SUPPORT_OBJ := $(call obj,$(SUPPORT_SRC))
TEST_BIN := $(patsubst tests/%.c,$(OUT)/tests/%,$(UNIT_SRC))
DRIVER := $(OUT)/tests/driver/driver
FUZZ_BIN := $(patsubst tests/fuzz/%.c,$(OUT)/fuzz/%,$(FUZZ_SRC))
FUZZ_OBJ := $(call obj,$(FUZZ_SRC))
# Of the CLI only the pure parts are fuzzed; jansson says what JSON is.
FUZZ_CLI_OBJ := $(call obj,src/cli/csv_row.c src/cli/jsonl_row.c)
FUZZ_ARGS_OBJ := $(OUT)/obj/src/cli/args.o

SO := $(OUT)/libdekhand.so.$(SOVERSION)
AR_LIB := $(OUT)/libdekhand.a
BIN := $(OUT)/dekhand

.PHONY: all help demo quick check check-shared san fuzz valgrind cover bench bench-postgres bench-kms soak format \
        layers size docs install clean tests fuzzers need-build need-test need-fuzz need-valgrind
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BIN) $(SO) $(AR_LIB) $(OUT)/dekhand.pc

help:
	@sed -n 's/^## //p' Makefile

## make                 build build/dekhand, build/libdekhand.so.0, build/libdekhand.a
## make demo            install what the build lacks, build, run `dekhand demo`
## make check           every test (starts and stops what it needs)
## make quick           what a change needs before each commit, about a minute
## make check-shared    the tests that use data from DATA=../shared
## make san             the tests under ASan + UBSan, then TSan
## make fuzz            each fuzz target for FUZZ_SECONDS=60
## make valgrind        unit, contract and some scenario tests under memcheck, 5 to 20 minutes
## make cover           line and branch coverage, with its gates
## make bench           the figures, as JSON
## make bench-postgres  those of PostgreSQL, on a server of its own with fsync, and with 1 million
##                      tenants the pages of the health query; into build/bench-postgres.json
## make bench-kms       those of AWS KMS, on a fake of it; into build/bench-kms.json
## make soak            a file of 1 million rows, there and back; 20,000 lives over power cuts;
##                      a cut at every message of PostgreSQL
## make format layers size docs install clean

# ---- what a fresh machine lacks ----------------------------------------------------------------
need-build:
	@scripts/need.sh build
need-test: need-build
	@scripts/need.sh test
need-fuzz: need-build
	@scripts/need.sh fuzz
need-valgrind: need-test
	@scripts/need.sh valgrind

# ---- rules -------------------------------------------------------------------------------------
# Objects follow the flags above. What a compiler and its libraries need is there before the first.
$(OUT)/obj/%.o: %.c Makefile | need-build
	@mkdir -p $(@D)
	$(CC) $(DK_CPPFLAGS) $(DK_CFLAGS) $(EXTRA_CPPFLAGS) -MMD -MP -c $< -o $@

# Of the library the compiler writes only what LTO reads. Test programs and the CLI link the object
# that is shipped, optimised once, and not again for each of them.
$(LIB_OBJ): EXTRA_CPPFLAGS = $(LTO_$(BUILD))
$(OUT)/obj/tests/%.o: EXTRA_CPPFLAGS = -Itests -Wno-missing-prototypes $(TESTS_$(BUILD)) $(FUZZ_NAMES)

# tests/unit/corpus_test.c calls the targets: beside each other they have names of their own.
ifneq ($(BUILD),fuzz)
$(FUZZ_OBJ): FUZZ_NAMES = -DLLVMFuzzerTestOneInput=$(basename $(@F))
endif
$(OUT)/obj/tests/unit/corpus_test.o: $(FUZZ_SRC)
$(OUT)/obj/tests/unit/corpus_test.o: FUZZ_NAMES = \
    -DFUZZ_TARGETS='$(foreach s,$(FUZZ_SRC),X($(basename $(notdir $(s)))))'

$(OUT)/gen/migrations.c: $(SQL) scripts/embed_sql.sh
	@mkdir -p $(@D)
	scripts/embed_sql.sh sql/sqlite sql/postgres > $@

$(OUT)/obj/gen/migrations.o: $(OUT)/gen/migrations.c Makefile | need-build
	@mkdir -p $(@D)
	$(CC) $(DK_CPPFLAGS) $(DK_CFLAGS) $(EXTRA_CPPFLAGS) -MMD -MP -c $< -o $@

# The whole library as one object, optimised across its files where the compiler can (gcc: LTO).
# Shared library, archive and program are made from it. gcc names its files' own functions anew and
# leaves them visible: the program may have some of the same name.
ALL_OBJ := $(OUT)/obj/libdekhand_all.o
$(ALL_OBJ): $(LIB_OBJ)
	$(CC) $(filter-out -pthread,$(DK_CFLAGS)) $(LTO_$(BUILD)) $(MERGE_$(BUILD)) -r -nostdlib -o $@ $(LIB_OBJ)
	objcopy --wildcard --localize-symbol='*.lto_priv.*' $@

$(SO): $(ALL_OBJ) src/libdekhand.map
	$(CC) -shared $(DK_LDFLAGS) -Wl,-soname,$(@F) -Wl,--version-script=src/libdekhand.map \
	    -o $@ $(ALL_OBJ) $(DK_LIBS)
	ln -sf $(@F) $(OUT)/libdekhand.so

# Hidden names made local: an application that links the archive sees dekhand_* only.
$(AR_LIB): $(ALL_OBJ)
	objcopy --localize-hidden $(ALL_OBJ) $(OUT)/obj/libdekhand.o
	rm -f $@
	ar rcs $@ $(OUT)/obj/libdekhand.o

# The program runs from the build folder and shares base/ with the library in it.
$(BIN): $(CLI_OBJ) $(ALL_OBJ)
	$(CC) -pie $(DK_LDFLAGS) -o $@ $(CLI_OBJ) $(ALL_OBJ) $(DK_LIBS)

$(OUT)/dekhand.pc: scripts/dekhand.pc.in Makefile
	@mkdir -p $(@D)
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' $< > $@

$(OUT)/tests/%: $(OUT)/obj/tests/%.o $(SUPPORT_OBJ) $(ALL_OBJ)
	@mkdir -p $(@D)
	$(CC) -pie $(DK_LDFLAGS) $(GOLD) -o $@ $^ $(DK_LIBS) $(FUZZ_LIBS) -lcmocka

$(OUT)/fuzz/jsonl_fuzz: FUZZ_LIBS := -ljansson
$(OUT)/tests/unit/corpus_test: FUZZ_LIBS := -ljansson
$(OUT)/tests/unit/corpus_test: $(FUZZ_OBJ) $(FUZZ_CLI_OBJ) $(FUZZ_ARGS_OBJ)

$(OUT)/fuzz/args_fuzz: $(FUZZ_ARGS_OBJ)
$(OUT)/fuzz/%: $(OUT)/obj/tests/fuzz/%.o $(FUZZ_CLI_OBJ) $(LIB_OBJ)
	@mkdir -p $(@D)
	$(CC) -fsanitize=fuzzer $(DK_LDFLAGS) -o $@ $^ $(DK_LIBS) $(FUZZ_LIBS)

tests: $(TEST_BIN) $(DRIVER)
fuzzers: $(FUZZ_BIN)

# ---- targets -----------------------------------------------------------------------------------
demo: all
	@$(BIN) demo

check: need-test
	@$(PYTHON) tests/run.py check

quick: need-test
	@$(PYTHON) tests/run.py quick

check-shared: need-test
	@$(PYTHON) tests/run.py shared --data $(DATA)

san: need-test
	@$(PYTHON) tests/run.py san

cover: need-test
	@$(PYTHON) tests/run.py cover

fuzz: need-fuzz
	@$(MAKE) --no-print-directory BUILD=fuzz fuzzers
	@$(PYTHON) tests/run.py fuzz --seconds $(or $(FUZZ_SECONDS),60)

# Not the sweeps, nor what kills, measures or fills memory; not the cache's crowd of 500 threads, nor
# http_retry_test, which measures time, http_fork_test, whose children leave what another thread had in
# its hands, nor secret_test, whose children touch guard pages on purpose.
VALGRIND_SCENARIOS := audit clock first_use health prune rekey roles rotate trouble
valgrind: need-valgrind
	@$(MAKE) --no-print-directory -s tests
	@scripts/valgrind.sh $(OUT)/valgrind \
	    $(filter-out %/cache_test %/http_fork_test %/http_retry_test %/secret_test, \
	        $(filter $(OUT)/tests/unit/% $(OUT)/tests/contract/%,$(TEST_BIN))) \
	    $(VALGRIND_SCENARIOS:%=$(OUT)/tests/scenario/%_test)

soak: need-test all
	@$(PYTHON) tests/run.py soak

bench: all
	@$(BIN) bench --json

BENCH_POSTGRES ?= --tenants 100000 --postgres-tenants 1000000
bench-postgres: need-test all
	@$(PYTHON) tests/bench_postgres.py $(BIN) $(OUT)/bench-postgres.json $(BENCH_POSTGRES)

bench-kms: need-test all
	@$(PYTHON) tests/bench_kms.py $(BIN) $(OUT)/bench-kms.json $(BENCH_KMS)

format: need-test
	clang-format -i $(shell find src include tests docs/examples -name '*.[ch]')

layers:
	@$(PYTHON) scripts/layers.py

size:
	@$(PYTHON) scripts/size.py

docs: all
	@$(PYTHON) scripts/docs.py

# A shell's completion script into its place; whatever the caller's own settings are.
complete = env -i $(BIN) completion $(1) --env-file /dev/null > $(OUT)/completion.$(1) && \
    install -D -m 644 $(OUT)/completion.$(1) $(DESTDIR)$(DATADIR)/$(2)

install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 755 $(BIN) $(DESTDIR)$(PREFIX)/bin/dekhand
	install -m 755 $(SO) $(DESTDIR)$(LIBDIR)/
	ln -sf libdekhand.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/libdekhand.so
	install -m 644 $(AR_LIB) $(DESTDIR)$(LIBDIR)/
	install -m 644 include/dekhand.h include/dekhand_admin.h $(DESTDIR)$(PREFIX)/include/
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|' \
	    scripts/dekhand.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/dekhand.pc
	$(call complete,bash,bash-completion/completions/dekhand)
	$(call complete,zsh,zsh/site-functions/_dekhand)
	$(call complete,fish,fish/vendor_completions.d/dekhand.fish)
	install -d $(addprefix $(DESTDIR)$(MANDIR)/man,1 3 5 7)
	for n in 1 3 5 7; do install -m 644 docs/man/*.$$n $(DESTDIR)$(MANDIR)/man$$n/ || exit 1; done

clean:
	rm -rf build

-include $(shell find $(OUT)/obj -name '*.d' 2>/dev/null)
