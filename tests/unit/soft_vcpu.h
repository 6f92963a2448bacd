/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vCPU of the soft engine on a megabyte of RAM, for tests of what single
 * instructions do to its state. No guest code runs: a test puts the vCPU into a
 * mode, calls a handler as the run loop would, and looks at what became of it.
 */
#ifndef SOFT_VCPU_H
#define SOFT_VCPU_H

#include "board/board.h"
#include "engine/soft/segment.h"
#include "engine/soft/system.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RAM_SIZE MiB(1)
#define RIP	 0x7000u
#define LENGTH	 2u

/* Where things are in RAM; in 64-bit mode it is mapped one to one. */
#define PML4	 0x1000u
#define PDPT	 0x2000u
#define PD	 0x3000u
#define PT	 0x4000u
#define GDT	 0x8000u
#define LDT	 0x9000u
#define TSS	 0xa000u
#define DATA	 0x10000u
#define STACK	 0x20000u
#define ABSENT	 0x50000u /* a page that is not */
#define PTE_USER 7u	  /* present, writable */

/* A device that answers with what it was asked, and remembers what it was told. */
#define PORT_BASE 0x500u
#define PORT_SIZE 0x100u

#define NON_CANONICAL (1ull << 47)

struct port_log {
	unsigned reads, writes, len;
	u64 offset, value;
	u64 written[16];
};

struct fixture {
	struct soft *soft;
	struct vcpu *vcpu;
	struct board board;
	struct machine machine;
	struct port_log log;
	struct region region;
	u8 *ram;
};

static inline u64 log_read(void *opaque, u64 offset, unsigned len)
{
	struct port_log *log = opaque;

	log->offset = offset;
	log->len = len;
	return 0x1122334455667788 + log->reads++;
}

static inline void log_write(void *opaque, u64 offset, unsigned len, u64 value)
{
	struct port_log *log = opaque;

	log->offset = offset;
	log->len = len;
	log->value = value;
	log->written[log->writes++ % ARRAY_SIZE(log->written)] = value;
}

static const struct region_ops log_ops = {log_read, log_write};

static inline void put64(struct fixture *f, u64 at, u64 value)
{
	memcpy(f->ram + at, &value, sizeof(value));
}

static inline u64 get64(struct fixture *f, u64 at)
{
	u64 value;

	memcpy(&value, f->ram + at, sizeof(value));
	return value;
}

static inline void page_tables(struct fixture *f)
{
	put64(f, PML4, PDPT | PTE_USER);
	put64(f, PDPT, PD | PTE_USER);
	put64(f, PD, PT | PTE_USER);
	for (u64 page = 0; page < RAM_SIZE; page += PAGE_SIZE)
		if (page != ABSENT)
			put64(f, PT + page / PAGE_SIZE * 8, page | PTE_USER);
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	static const struct cpu_state reset;
	struct problem why;

	f->soft = calloc(1, sizeof(*f->soft) + sizeof(f->soft->vcpus[0]));
	f->ram = aligned_alloc(PAGE_SIZE, RAM_SIZE);
	memset(f->ram, 0, RAM_SIZE);
	page_tables(f);
	if (machine_init(&f->machine))
		return -1;
	f->board.machine = &f->machine;
	f->board.bus = bus_new();
	f->region = (struct region){PORT_BASE, PORT_SIZE, &log_ops, &f->log, "log"};
	bus_add(f->board.bus, PORT, &f->region);

	f->soft->engine.board = &f->board;
	f->soft->options.soft_cache = MiB(1);
	f->soft->tsc_hz = 2500000000;
	f->soft->ram[0] = (struct ram){0, RAM_SIZE, f->ram,
				       calloc(RAM_SIZE / PAGE_SIZE, sizeof(_Atomic u64))};
	f->soft->ram_count = 1;
	f->soft->vcpu_count = f->soft->vcpus_added = 1;
	f->vcpu = vcpu_new(f->soft, 0, &reset, &why);
	if (!f->vcpu)
		return -1;
	f->soft->vcpus[0] = f->vcpu;
	f->vcpu->vectors_saved = true; /* there is no guest's state in our registers */
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;

	vcpu_free(f->vcpu);
	bus_free(f->board.bus);
	machine_destroy(&f->machine);
	free((void *)f->soft->ram[0].pages);
	free(f->soft);
	free(f->ram);
	free(f);
	return 0;
}

/* ------------------------------------------------------------------ modes */

static inline void set_segments(struct vcpu *vcpu, struct segment segment, bool l)
{
	segment.type = TYPE_WRITABLE | TYPE_ACCESSED;
	for (unsigned i = 0; i < 6; i++)
		if (i != CS)
			vcpu_set_segment(vcpu, i, &segment);
	segment.type |= TYPE_CODE;
	segment.l = l;
	segment.db = segment.db && !l;
	vcpu_set_segment(vcpu, CS, &segment);
}

static inline void enter(struct vcpu *vcpu, unsigned cpl)
{
	vcpu->cpl = cpl;
	vcpu->cr3 = PML4;
	vcpu->ctx.gpr[RSP] = STACK;
	vcpu_update_mode(vcpu);
	tlb_flush(vcpu, true);
}

/* All of 4 GiB, of that privilege. */
static inline struct segment flat(unsigned dpl)
{
	return (struct segment){
		.limit = ~0u, .s = true, .present = true, .db = true, .g = true, .dpl = dpl};
}

static inline void mode_64(struct vcpu *vcpu, unsigned cpl)
{
	vcpu->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_PG;
	vcpu->cr4 = X86_CR4_PAE;
	vcpu->efer = EFER_LME | EFER_LMA;
	set_segments(vcpu, flat(cpl), true);
	enter(vcpu, cpl);
}

static inline void mode_32(struct vcpu *vcpu, unsigned cpl)
{
	vcpu->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_NE;
	vcpu->cr4 = 0;
	vcpu->efer = 0;
	set_segments(vcpu, flat(cpl), false);
	enter(vcpu, cpl);
}

static inline void mode_real(struct vcpu *vcpu)
{
	vcpu->cr0 = X86_CR0_ET;
	vcpu->cr4 = 0;
	vcpu->efer = 0;
	set_segments(vcpu, (struct segment){.limit = 0xffff, .s = true, .present = true}, false);
	enter(vcpu, 0);
}

static inline void set_iopl(struct vcpu *vcpu, u64 iopl)
{
	vcpu_set_rflags(vcpu, (vcpu_rflags(vcpu) & ~X86_EFLAGS_IOPL) | iopl << X86_EFLAGS_IOPL_BIT);
}

/* ------------------------------------------------------------------ running one */

static const struct insn plain = {.length = LENGTH,
				  .opsize = 4,
				  .addrsize = 8,
				  .base = OPERAND_NONE,
				  .index = OPERAND_NONE,
				  .rm = OPERAND_NONE,
				  .segment = DS};

static inline struct insn with_memory(u64 address)
{
	struct insn insn = plain;

	insn.has_memory = true;
	insn.displacement = address;
	return insn;
}

static inline struct insn with_register(unsigned rm, unsigned opsize)
{
	struct insn insn = plain;

	insn.rm = rm;
	insn.opsize = opsize;
	return insn;
}

/* Between a control or debug register and RDX. 0F 20 to 0F 23; what writes has bit 1. */
#define MOV_CR_OPCODE 0x20
#define MOV_DR_OPCODE 0x21

static inline struct insn mov_special(u8 opcode, unsigned number, bool write)
{
	struct insn insn = with_register(RDX, 8);

	insn.reg = number;
	insn.opcode = opcode | (write ? 2 : 0);
	return insn;
}

static inline struct insn mov_cr(unsigned cr, bool write)
{
	return mov_special(MOV_CR_OPCODE, cr, write);
}

static inline struct insn mov_dr(unsigned dr, bool write)
{
	return mov_special(MOV_DR_OPCODE, dr, write);
}

/* As the run loop does it. */
static inline bool run(struct fixture *f, handler *what, struct insn insn)
{
	struct vcpu *vcpu = f->vcpu;
	bool done;

	memset(&vcpu->exception, 0, sizeof(vcpu->exception));
	vcpu->insn_rip = RIP;
	vcpu->ctx.rip = RIP + insn.length;
	done = what(vcpu, &insn);
	assert_int_equal(done, !vcpu->exception.pending);
	return done;
}

#define assert_done(f, what, insn)                                                                 \
	do {                                                                                       \
		assert_true(run(f, what, insn));                                                   \
		assert_int_equal((f)->vcpu->ctx.rip, RIP + LENGTH);                                \
	} while (0)
#define assert_fault(f, what, insn, number)                                                        \
	do {                                                                                       \
		assert_false(run(f, what, insn));                                                  \
		assert_int_equal((f)->vcpu->exception.vector, number);                             \
	} while (0)
#define assert_error(f, what, insn, number, code)                                                  \
	do {                                                                                       \
		assert_fault(f, what, insn, number);                                               \
		assert_true((f)->vcpu->exception.has_error);                                       \
		assert_int_equal((f)->vcpu->exception.error, code);                                \
	} while (0)

/* False: #GP. */
static inline bool write_cr(struct fixture *f, unsigned cr, u64 value)
{
	f->vcpu->ctx.gpr[RDX] = value;
	if (run(f, system_mov_cr, mov_cr(cr, true)))
		return true;
	assert_int_equal(f->vcpu->exception.vector, VECTOR_GP);
	assert_int_equal(f->vcpu->exception.error, 0);
	return false;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
