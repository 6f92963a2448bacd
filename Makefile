# SPDX-License-Identifier: GPL-2.0-or-later
#
# lguest: everything that is made goes to build/, the program is build/lguest.
#
#   make               the program
#   make run           boot a guest: KERNEL= INITRD= MEM= ARGS= to choose your own
#   make check         every test that takes minutes; check-long: the rest
#   make unit guests   parts of it
#   make lint          clang-tidy, cppcheck, clang-format
#   make bench fuzz    figures; fuzzers for FUZZ_SECONDS each
#   make install       into $(DESTDIR)$(PREFIX)
#   make clean
#
# SANITIZE=address,undefined or SANITIZE=thread builds a variant beside the plain one.

CC	 ?= gcc
PREFIX	 ?= /usr/local
SANITIZE ?=

comma	 := ,
BUILD	 := build$(if $(SANITIZE),/$(subst $(comma),-,$(SANITIZE)))
VERSION	 := 0.1

WARN	 := -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wshadow -Wvla
CFLAGS	 ?= -O2 -g
ALL_CFLAGS = -std=gnu11 $(CFLAGS) $(WARN) -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 \
	   -DLGUEST_VERSION='"$(VERSION)"' -Isrc -I$(BUILD) -MMD -MP -pthread \
	   $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer)
ALL_LDFLAGS = $(LDFLAGS) -pthread $(if $(SANITIZE),-fsanitize=$(SANITIZE))

SOURCES	 := $(sort $(shell find src -name '*.c'))
OBJECTS	 := $(SOURCES:src/%.c=$(BUILD)/%.o)
LIBRARY	 := $(BUILD)/liblguest.a
UNIT	 := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))
UNIT_COMMON := $(patsubst tests/unit/%.c,$(BUILD)/unit/%.o,$(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c)))

.PHONY: all unit clean
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BUILD)/lguest

$(BUILD)/lguest: $(BUILD)/main.o $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^

$(LIBRARY): $(filter-out $(BUILD)/main.o,$(OBJECTS))
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# The DSDT: ASL, compiled into a C array. The C preprocessor first, for the numbers of layout.h.
$(BUILD)/board/dsdt.hex: src/board/dsdt.asl src/board/layout.h
	@mkdir -p $(@D)
	$(CC) -E -P -undef -x c -Isrc -o $(@:.hex=.asl) $<
	iasl -p $(@:.hex=) -tc $(@:.hex=.asl) >$(@:.hex=.log) || { cat $(@:.hex=.log); exit 1; }
	sed -i 's/^unsigned char/static const &/' $@

$(BUILD)/board/acpi.o: $(BUILD)/board/dsdt.hex

# Unit tests: one program each, against the whole of lguest but main().
$(BUILD)/unit/%.o: tests/unit/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Itests/unit -c -o $@ $<

$(BUILD)/unit/test_%: $(BUILD)/unit/test_%.o $(UNIT_COMMON) $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ -lcmocka

unit: $(UNIT)
	@status=0; for t in $(UNIT); do $$t || status=1; done; exit $$status

clean:
	rm -rf build

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
