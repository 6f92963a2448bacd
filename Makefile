# SPDX-License-Identifier: GPL-2.0-or-later
#
# lguest: everything that is made goes to build/, the program is build/lguest.
#
#   make               the program
#   make run           boot a guest: KERNEL= INITRD= MEM= ARGS= to choose your own
#   make check         every test that takes minutes; check-long: the rest
#   make unit guests systest powercut	parts of it
#   make tour          the source in reading order: here, and as build/tour/index.html
#   make lint          clang-format, clang-tidy, cppcheck, tests/vectors.sh
#   make bench-guest   how fast guests run on the soft engine: part of make bench
#   make bench fuzz    figures; fuzzers for FUZZ_SECONDS each
#   make forms         what the soft engine does with each instruction there is
#   make example       lguest with the guide's worked device: build/lguest-balloon
#   make outer CMD=... a shell command in a VM that has KVM, where this machine has none
#   make install       into $(DESTDIR)$(PREFIX); uninstall, deb, bundle: packaging/packaging.mk
#   make clean
#
# SANITIZE=address,undefined or SANITIZE=thread builds a variant beside the plain one; so does
# CHECKED=1, whose soft engine checks where each of the guest's accesses goes.

# make itself says cc, which may be anything.
ifeq ($(origin CC),default)
CC	 := gcc
endif
SANITIZE ?=
CHECKED	 ?=

comma	 := ,
BUILD	 := build$(if $(SANITIZE),/$(subst $(comma),-,$(SANITIZE)))$(if $(CHECKED),/checked)
VERSION	 := 0.1

WARN	 := -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wshadow -Wvla \
	    -Wno-gnu-variable-sized-type-not-at-end # the headers of KVM are made for it
CFLAGS	 ?= -O2 -g
# Paths as seen from here: the same source makes the same program, wherever it lies.
ALL_CFLAGS = -std=gnu11 $(CPPFLAGS) $(CFLAGS) $(WARN) -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 \
	   -ffile-prefix-map='$(CURDIR)'=. \
	   -DLGUEST_VERSION='"$(VERSION)"' -Isrc -I$(BUILD) -MMD -MP -pthread \
	   $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer) \
	   $(if $(CHECKED),-DSOFT_CHECKED)
ALL_LDFLAGS = $(LDFLAGS) -pthread $(if $(SANITIZE),-fsanitize=$(SANITIZE))

LIBS	 := -lZydis -luring -lseccomp

SOURCES	 := $(filter-out %/cell_stub.c,$(sort $(shell find src -name '*.c' -o -name '*.S')))
OBJECTS	 := $(patsubst src/%,$(BUILD)/%.o,$(basename $(SOURCES)))
LIBRARY	 := $(BUILD)/liblguest.a
UNIT	 := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/test_*.c))
UNIT_COMMON := $(patsubst tests/unit/%.c,$(BUILD)/unit/%.o,$(filter-out tests/unit/test_%,$(wildcard tests/unit/*.c)))

.PHONY: all run forms unit unit-programs unit-threads guests systest powercut fuzzers fuzzers-clang fuzz check check-long \
	lint outer example bench bench-guest clean tour
.DELETE_ON_ERROR:
.SECONDARY:

all: $(BUILD)/lguest

$(BUILD)/lguest: $(BUILD)/main.o $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(LIBRARY): $(filter-out $(BUILD)/main.o,$(OBJECTS))
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/%.o: src/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/%.o: src/%.S
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

# Called while the guest's vector and x87 registers are in the host's.
$(BUILD)/engine/soft/%.o: ALL_CFLAGS += -mgeneral-regs-only \
	$(if $(findstring clang,$(CC)),-fno-builtin,-fno-tree-loop-distribute-patterns)
$(BUILD)/engine/topology.o: ALL_CFLAGS += -mgeneral-regs-only

# The program in a cell (cell.h), which is linked by itself, and then part of lguest.
STUB_CFLAGS := -ffreestanding -fno-stack-protector -fpie -fcf-protection=none -mgeneral-regs-only \
	-mno-red-zone -fno-asynchronous-unwind-tables
$(BUILD)/engine/soft/cell_stub.elf: src/engine/soft/cell_stub.c src/engine/soft/cell_stub.ld src/engine/soft/cell.h
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 $(WARN) -Isrc $(STUB_CFLAGS) -nostdlib -static \
		-Wl,-T,src/engine/soft/cell_stub.ld -Wl,--build-id=none -o $@ $<

$(BUILD)/engine/soft/cell_image.o: $(BUILD)/engine/soft/cell_stub.elf
$(BUILD)/engine/soft/cell_image.o: ALL_CFLAGS += -Wa,-I$(BUILD)

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

$(BUILD)/unit/%.o: tests/unit/%.S
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Itests/unit -c -o $@ $<

# It has guests of its own, and looks at each event, with their vector registers in the host's.
$(BUILD)/unit/test_soft_signals: $(BUILD)/unit/soft_signals.o
$(BUILD)/unit/test_soft_signals.o: ALL_CFLAGS += -mgeneral-regs-only
$(BUILD)/unit/test_soft_signals: ALL_LDFLAGS += -Wl,--wrap=soft_event

# The kernel's answers to a launcher that is signalled at an unlucky moment.
$(BUILD)/unit/test_soft_cell: ALL_LDFLAGS += -Wl,--wrap=poll,--wrap=ioctl

# What it takes for the time, and how long it sleeps.
$(BUILD)/unit/test_net: ALL_LDFLAGS += -Wl,--wrap=clock_gettime,--wrap=ppoll

$(BUILD)/unit/test_%: $(BUILD)/unit/test_%.o $(UNIT_COMMON) $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) -lcmocka

unit: $(UNIT)
	@status=0; for t in $(UNIT); do $$t || status=1; done; exit $$status

# Those in which threads meet; check.sh has them built once more with SANITIZE=thread.
UNIT_THREADS := queue queue_threads virtio_pci console net block block_flight bus pci ioapic serial terminal soft_lapic soft_debugger kvm_debug
unit-threads: $(filter $(UNIT_THREADS:%=$(BUILD)/unit/test_%),$(UNIT))
unit-programs: $(UNIT)

# Freestanding guests, each a kernel of a page or two.
-include tests/guests/guests.mk

# Programs for users of a stock kernel in a guest, to be had there as a disk: whole sectors, so.
USERS := $(patsubst tests/users/%.c,$(BUILD)/users/%,$(wildcard tests/users/*.c))

$(BUILD)/users/%: tests/users/%.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 $(WARN) -D_GNU_SOURCE -Isrc -static -pthread -o $@ $<
	truncate -s %512 $@

guests: $(USERS)

# System tests: one program, which knows lguest only by its command line.
SYSTEST := $(patsubst tests/system/%.c,$(BUILD)/system/%.o,$(wildcard tests/system/*.c))

$(BUILD)/system/%.o: tests/system/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/systest: $(SYSTEST)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^

# And one lguest that is told to break out of its sandbox.
$(BUILD)/prisoner: $(BUILD)/prisoner.o $(BUILD)/main.o $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -Wl,--wrap=main,--wrap=rng_init -o $@ $^ $(LIBS)

$(BUILD)/prisoner.o: tests/prisoner/prisoner.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

systest: $(BUILD)/systest $(BUILD)/prisoner

# The soft engine beside this machine's own CPU, instruction by instruction.
DIFF := $(patsubst tests/diff/%.c,$(BUILD)/differential/%.o,$(wildcard tests/diff/*.c))

$(BUILD)/differential/%.o: tests/diff/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/diff: $(DIFF) $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

# Power cuts: lguest with a disk that forgets in the place of host/disk.c, and who cuts.
$(BUILD)/powercut/%.o: tests/powercut/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/lguest-powercut: $(BUILD)/main.o $(BUILD)/powercut/volatile_disk.o $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/powercut/powercut: $(BUILD)/powercut/main.o
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^

powercut: $(BUILD)/lguest-powercut $(BUILD)/powercut/powercut $(BUILD)/guests/powercut

# What the soft engine makes of every instruction there is; docs/forms.md says why.
FORMS := $(patsubst tests/forms/%.c,$(BUILD)/form-list/%.o,$(wildcard tests/forms/*.c))

$(BUILD)/form-list/%.o: tests/forms/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/forms: $(FORMS) $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

forms:
	@$(MAKE) --no-print-directory -s $(BUILD)/forms
	@$(BUILD)/forms

# Fuzzers: with clang, and so in a folder of their own.
FUZZ_SECONDS ?= 30
FUZZERS	     := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_COMMON  := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%.o,$(filter-out tests/fuzz/fuzz_%,$(wildcard tests/fuzz/*.c)))

$(BUILD)/fuzz/%.o: tests/fuzz/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -Itests/unit -c -o $@ $<

# Some stand in for parts of lguest: those come before it, and only where they are needed.
$(BUILD)/fuzz/common.a: $(FUZZ_COMMON) $(BUILD)/unit/fake_driver.o $(BUILD)/unit/fake_debug.o
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/fuzz/fuzz_%: $(BUILD)/fuzz/fuzz_%.o $(BUILD)/fuzz/common.a $(LIBRARY)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS)

fuzzers: $(FUZZERS)

fuzzers-clang:
	@$(MAKE) --no-print-directory CC=clang SANITIZE=fuzzer-no-link,address,undefined fuzzers

fuzz:
	@scripts/deps build check
	@$(MAKE) --no-print-directory fuzzers-clang
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tests/check.sh fuzz

check check-long:
	@scripts/deps build guest check tour
	@MAKE='$(MAKE)' UNIT_THREADS='$(UNIT_THREADS)' tests/check.sh $@

tour:
	@scripts/deps tour
	@scripts/tour

lint:
	@scripts/deps build check
	@$(MAKE) --no-print-directory all
	@tests/lint.sh

outer: $(BUILD)/lguest
	@scripts/deps guest check
	@scripts/guest cloud outer
	@tests/system/outer.sh build "$$CMD"

# A guest to boot, and the options that are lguest's own among ARGS go before the kernel's.
KERNEL ?= build/guest/cloud/vmlinuz
INITRD ?= $(if $(filter build/guest/cloud/vmlinuz,$(KERNEL)),build/guest/cloud/initrd.img)
MEM    ?= 512
ARGS   ?= console=ttyS0 quiet

run:
	@scripts/deps build
	@$(MAKE) --no-print-directory all
	@scripts/guest cloud
	$(BUILD)/lguest $(MEM) $(KERNEL) $(if $(INITRD),--initrd=$(INITRD)) $(ARGS)

# The device that docs/guide/new-device.md makes, in a lguest of its own: the launcher's files are
# copied, told of the device by a patch, and compiled once more; all else is the library.
EXAMPLE := $(BUILD)/example

$(EXAMPLE)/patched: examples/device/plug-in.patch $(wildcard src/*.[ch])
	@rm -rf $(@D) && mkdir -p $(@D)/src
	cp src/*.[ch] $(@D)/src
	patch -s -p1 -F0 -d $(@D) <$<
	@touch $@

$(BUILD)/lguest-balloon: $(EXAMPLE)/patched examples/device/balloon.c examples/device/balloon.h $(LIBRARY)
	$(CC) -Iexamples/device -I$(EXAMPLE)/src $(filter-out -MMD -MP,$(ALL_CFLAGS)) $(ALL_LDFLAGS) \
		-o $@ examples/device/balloon.c $(EXAMPLE)/src/*.c $(LIBRARY) $(LIBS)

example:
	@scripts/deps build example
	@$(MAKE) --no-print-directory $(BUILD)/lguest-balloon

# What it costs to have a guest, beside another hypervisor.
$(GUEST_OUT)/beacon: $(GUEST_OBJ)/bench/beacon.o $(GUEST_DIR)/lib/guest.ld
	$(GUEST_LD) -o $@ $(filter %.o,$^)

$(GUEST_OUT)/load: $(GUEST_OBJ)/lib/entry-pvh.o $(GUEST_OBJ)/bench/load.o $(GUEST_OBJ)/libguest.a \
		   $(GUEST_DIR)/lib/guest.ld
	$(GUEST_LD) -o $@ $(filter %.o %.a,$^)

$(GUEST_OBJ)/bench/%.o: bench/%.c
	@mkdir -p $(@D)
	$(CC) $(GUEST_FLAGS) -c -o $@ $<

$(GUEST_OBJ)/bench/%.o: bench/%.S
	@mkdir -p $(@D)
	$(CC) $(GUEST_FLAGS) -c -o $@ $<

BENCH := $(patsubst bench/%.c,$(BUILD)/benchmark/%.o,$(filter-out bench/load.c,$(wildcard bench/*.c)))

$(BUILD)/benchmark/%.o: bench/%.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(BUILD)/bench: $(BENCH)
	$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -lm

# The same program on the host and in guests: what it is made with does not follow CFLAGS.
build/kernels/kernels: $(wildcard bench/guest/*.[ch])
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 -static $(WARN) -D_GNU_SOURCE -o $@ $(filter %.c,$^) -lm

bench:
	@scripts/deps build guest check
	@$(MAKE) --no-print-directory all guests build/bench build/guests/beacon build/guests/load \
		build/kernels/kernels
	@bench/run

# Only what a guest can compute, on the soft engine: ARGS are options of build/bench.
bench-guest:
	@scripts/deps build guest check
	@$(MAKE) --no-print-directory all build/bench build/kernels/kernels
	@bench/run guest $(filter --%,$(ARGS))

include packaging/packaging.mk

clean:
	rm -rf build

# Not those that belong to the root file systems of tests/examples and tests/guide.
-include $(shell find $(BUILD) \( -path build/examples -o -path 'build/clean-root.*' \) -prune -o -type f -name '*.d' -print 2>/dev/null)
