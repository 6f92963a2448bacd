# SPDX-License-Identifier: GPL-2.0-or-later
#
# Small freestanding guests, each a kernel that fits on a page or two. Included by the main
# Makefile (or used alone: make -f tests/guests/guests.mk BUILD=build guests). What is needed is
# gcc and binutils, nothing else; all goes to $(BUILD)/guests/<name>.
#
# A guest is <name>.c and the runtime in lib/, entered through the PVH note. To write one more, add its
# name to GUEST_PROGRAMS.

CC    ?= gcc
BUILD ?= build

GUEST_PROGRAMS := echo spin flood triplefault reset-acpi reset-keyboard reboot-loop pvpanic hvcecho violate \
		  queue powercut io pci smp irq exceptions jumps returns pagefaults selfmodify \
		  tlb shadows doublefault syscalls fpuimages timer nonsense rng button block hostile \
		  breakpoints avx512 init ipi shootdown splitlocks crossmodify \
		  pcid keys privileges groups
# One source, four ways in.
GUEST_HELLOS   := hello-pvh hello-multiboot hello-linux64 hello-linux32
GUEST_BARE     := poweroff debugged
# Of 32 bits to the end, with the runtime in lib32/.
GUEST_PROGRAMS_32 := segments rings v86 tasks paging32
GUESTS	       := $(GUEST_PROGRAMS) $(GUEST_PROGRAMS_32) $(GUEST_HELLOS) $(GUEST_BARE)

GUEST_DIR   := tests/guests
GUEST_OUT   := $(BUILD)/guests
GUEST_OBJ   := $(GUEST_OUT)/obj

# No SSE, no red zone: an interrupt may come at any instruction, and nobody saves those.
GUEST_FLAGS := -std=gnu11 -Os -g -ffreestanding -fno-pic -fno-stack-protector -fcf-protection=none \
	       -fno-asynchronous-unwind-tables -fno-strict-aliasing -mno-red-zone -mgeneral-regs-only \
	       -Wall -Wextra -Werror -Wmissing-prototypes -Wstrict-prototypes -Wshadow -Wvla \
	       -Isrc -I$(GUEST_DIR) -MMD -MP
GUEST_LD    := ld -nostdlib -static -z noexecstack -z max-page-size=4096 --build-id=none \
	       -T $(GUEST_DIR)/lib/guest.ld

GUEST_LIB   := $(patsubst $(GUEST_DIR)/%.c,$(GUEST_OBJ)/%.o,$(wildcard $(GUEST_DIR)/lib/*.c)) \
	       $(GUEST_OBJ)/lib/start.o $(GUEST_OBJ)/lib/vectors.o $(GUEST_OBJ)/lib/trampoline.o \
	       $(GUEST_OBJ)/lib/trap-entry.o

# What both runtimes have. Addresses of 64 bits in tables of the loader are cut; kernel headers are
# the same for both, but not where a compiler for 32 bits would look.
GUEST_FLAGS_32 := $(filter-out -mno-red-zone,$(GUEST_FLAGS)) -m32 -march=i686 -Wno-int-to-pointer-cast \
		  -Wno-pointer-to-int-cast -idirafter /usr/include/$(shell $(CC) -print-multiarch)
GUEST_LIB_32   := $(patsubst $(GUEST_DIR)/%.c,$(GUEST_OBJ)/32/%.o,$(wildcard $(GUEST_DIR)/lib32/*.c)) \
		  $(GUEST_OBJ)/32/lib32/trap-entry.o $(GUEST_OBJ)/32/lib/guest.o \
		  $(GUEST_OBJ)/32/lib/boot.o $(GUEST_OBJ)/32/lib/cpu.o

.PHONY: guests
guests: $(GUESTS:%=$(GUEST_OUT)/%)

$(GUEST_OBJ)/%.o: $(GUEST_DIR)/%.c
	@mkdir -p $(@D)
	$(CC) $(GUEST_FLAGS) -c -o $@ $<

$(GUEST_OBJ)/%.o: $(GUEST_DIR)/%.S
	@mkdir -p $(@D)
	$(CC) $(GUEST_FLAGS) -c -o $@ $<

$(GUEST_OBJ)/32/%.o: $(GUEST_DIR)/%.c
	@mkdir -p $(@D)
	$(CC) $(GUEST_FLAGS_32) -c -o $@ $<

$(GUEST_OBJ)/32/%.o: $(GUEST_DIR)/%.S
	@mkdir -p $(@D)
	$(CC) $(GUEST_FLAGS_32) -c -o $@ $<

$(GUEST_OBJ)/libguest.a: $(GUEST_LIB)
$(GUEST_OBJ)/libguest32.a: $(GUEST_LIB_32)
$(GUEST_OBJ)/libguest.a $(GUEST_OBJ)/libguest32.a:
	@rm -f $@
	$(AR) rcs $@ $^

# The way in comes first on each command line: the linker takes the rest of the runtime as needed.
$(GUEST_PROGRAMS:%=$(GUEST_OUT)/%): $(GUEST_OUT)/%: $(GUEST_OBJ)/lib/entry-pvh.o $(GUEST_OBJ)/%.o \
				    $(GUEST_OBJ)/libguest.a $(GUEST_DIR)/lib/guest.ld
	$(GUEST_LD) -o $@ $(filter %.o %.a,$^)

$(GUEST_PROGRAMS_32:%=$(GUEST_OUT)/%): $(GUEST_OUT)/%: $(GUEST_OBJ)/32/lib32/entry.o $(GUEST_OBJ)/32/%.o \
				       $(GUEST_OBJ)/libguest32.a $(GUEST_DIR)/lib/guest.ld
	$(GUEST_LD) -m elf_i386 -o $@ $(filter %.o %.a,$^)

$(GUEST_HELLOS:%=$(GUEST_OUT)/%): $(GUEST_OUT)/hello-%: $(GUEST_OBJ)/lib/entry-%.o $(GUEST_OBJ)/hello.o \
				  $(GUEST_OBJ)/libguest.a $(GUEST_DIR)/lib/guest.ld
	$(GUEST_LD) -o $@ $(filter %.o %.a,$^)
	$(if $(filter %-multiboot %-linux32,$@),objcopy -O elf32-i386 $@)

# Guests without a runtime.
$(GUEST_BARE:%=$(GUEST_OUT)/%): $(GUEST_OUT)/%: $(GUEST_OBJ)/%.o $(GUEST_DIR)/lib/guest.ld
	$(GUEST_LD) -o $@ $(filter %.o,$^)
