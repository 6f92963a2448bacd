/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Control and debug registers of the soft engine: which values they take, what
 * sticks, and who is told.
 */
#include "soft_vcpu.h"

#include "board/layout.h"
#include "engine/soft/translate.h"

#define MSR_EFER 0xc0000080

static u64 read_cr(struct fixture *f, unsigned cr)
{
	assert_done(f, system_mov_cr, mov_cr(cr, false));
	return f->vcpu->ctx.gpr[RDX];
}

/* ------------------------------------------------------------------ control registers */

static void test_cr_numbers(void **state)
{
	struct fixture *f = *state;

	mode_64(f->vcpu, 0);
	for (unsigned cr = 0; cr < 16; cr++) {
		bool exists = cr == 0 || (cr >= 2 && cr <= 4) || cr == 8;

		if (exists)
			assert_done(f, system_mov_cr, mov_cr(cr, false));
		else
			assert_fault(f, system_mov_cr, mov_cr(cr, false), VECTOR_UD);
	}
	/* That it does not exist comes before that you may not. */
	f->vcpu->cpl = 3;
	assert_fault(f, system_mov_cr, mov_cr(1, true), VECTOR_UD);
}

static void test_cr0(void **state)
{
	struct fixture *f = *state;
	u64 flushes;

	mode_32(f->vcpu, 0);
	assert_false(write_cr(f, 0, X86_CR0_PG));
	assert_false(write_cr(f, 0, X86_CR0_PE | X86_CR0_NW));
	assert_int_equal(f->vcpu->cr0, X86_CR0_PE | X86_CR0_ET | X86_CR0_NE);
	/* What is undefined does not stick, ET does. */
	assert_true(write_cr(f, 0, X86_CR0_PE | X86_CR0_CD | X86_CR0_NW | 0x1ff8ffc0));
	assert_int_equal(read_cr(f, 0), X86_CR0_PE | X86_CR0_CD | X86_CR0_NW | X86_CR0_ET);
	flushes = f->vcpu->stats.tlb_flushes_all;
	assert_true(write_cr(f, 0, X86_CR0_PE | X86_CR0_WP | X86_CR0_AM));
	assert_true(f->vcpu->stats.tlb_flushes_all > flushes);
	flushes = f->vcpu->stats.tlb_flushes_all;
	assert_true(write_cr(f, 0, X86_CR0_PE | X86_CR0_WP | X86_CR0_AM | X86_CR0_TS));
	assert_int_equal(f->vcpu->stats.tlb_flushes_all, flushes);

	mode_64(f->vcpu, 0);
	assert_false(write_cr(f, 0, f->vcpu->cr0 | 1ull << 32));
	assert_false(write_cr(f, 0, f->vcpu->cr0 & ~X86_CR0_PG));
	assert_true(vcpu_long_mode(f->vcpu));
}

static void test_long_mode_and_back(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	u64 on = X86_CR0_PE | X86_CR0_PG;

	mode_32(vcpu, 0);
	assert_true(msr_write(vcpu, MSR_EFER, EFER_LME));
	assert_false(write_cr(f, 0, on)); /* no PAE */
	assert_true(write_cr(f, 4, X86_CR4_PAE));
	vcpu->seg[CS].l = true;
	assert_false(write_cr(f, 0, on));
	vcpu->seg[CS].l = false;
	vcpu->tr = (struct segment){.present = true, .type = SYSTEM_TSS_16_BUSY};
	assert_false(write_cr(f, 0, on));
	vcpu->tr.type = SYSTEM_TSS_BUSY;
	assert_false(vcpu_long_mode(vcpu));
	assert_false(vcpu->cr0 & X86_CR0_PG);
	assert_true(write_cr(f, 0, on));
	assert_true(vcpu_long_mode(vcpu));
	assert_false(vcpu_64bit(vcpu));

	/* Compatibility mode: LME and PAE are stuck, and the way back is open. */
	assert_false(msr_write(vcpu, MSR_EFER, 0));
	assert_false(write_cr(f, 4, 0));
	assert_true(write_cr(f, 0, X86_CR0_PE));
	assert_int_equal(vcpu->efer, EFER_LME);
	assert_true(msr_write(vcpu, MSR_EFER, 0));
	assert_true(write_cr(f, 4, 0));
	/* Without LME, paging is legacy paging. */
	assert_true(write_cr(f, 0, on));
	assert_false(vcpu_long_mode(vcpu));
}

static void test_cr3(void **state)
{
	struct fixture *f = *state;
	u64 top = 1ull << (cpuid_address_bits() - 1);
	u64 all, some;

	mode_64(f->vcpu, 0);
	all = f->vcpu->stats.tlb_flushes_all;
	some = f->vcpu->stats.tlb_flushes;
	assert_true(write_cr(f, 3, PML4));
	assert_int_equal(f->vcpu->stats.tlb_flushes_all, all);
	assert_true(f->vcpu->stats.tlb_flushes > some);
	assert_true(write_cr(f, 3, top | 0xfff));
	assert_int_equal(read_cr(f, 3), top | 0xfff);
	assert_false(write_cr(f, 3, top << 1));
	assert_false(write_cr(f, 3, 1ull << 63));
	assert_int_equal(read_cr(f, 3), top | 0xfff);
}

/* Code at that address, in every jump cache that is looked at now. */
static void remember(struct vcpu *vcpu, u64 linear)
{
	for (enum view view = 0; view < VIEWS; view++)
		vcpu_lookup(vcpu, view)->jump.tag[soft_jump_index(linear)] = -linear;
}

static bool remembers(struct vcpu *vcpu, enum view view, u64 linear)
{
	return vcpu_lookup(vcpu, view)->jump.tag[soft_jump_index(linear)] == -linear;
}

/* What is the same in all address spaces outlives them; what is not, once. */
static void test_jump_caches(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	mode_64(vcpu, 0);
	remember(vcpu, DATA);
	vcpu->ctx.user->jump_local = true;
	assert_true(write_cr(f, 3, PML4));
	assert_false(remembers(vcpu, VIEW_USER, DATA));
	assert_true(remembers(vcpu, VIEW_KERNEL, DATA));
	remember(vcpu, DATA);
	assert_true(write_cr(f, 3, PML4));
	assert_true(remembers(vcpu, VIEW_USER, DATA));

	for (enum view view = 0; view < VIEWS; view++)
		notes_set(&vcpu_lookup(vcpu, view)->jump_pages, DATA);
	tlb_flush_page(vcpu, DATA + PAGE_SIZE);
	assert_true(remembers(vcpu, VIEW_KERNEL, DATA));
	tlb_flush_page(vcpu, DATA);
	for (enum view view = 0; view < VIEWS; view++)
		assert_false(remembers(vcpu, view, DATA));
	remember(vcpu, STACK);
	tlb_flush_page(vcpu, DATA);
	assert_true(remembers(vcpu, VIEW_KERNEL, STACK));

	tlb_flush(vcpu, true);
	for (enum view view = 0; view < VIEWS; view++)
		assert_false(remembers(vcpu, view, STACK));
}

/* ------------------------------------------------------------------ PCIDs */

#define NO_FLUSH (1ull << 63)

static void test_pcid_rules(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	/* Neither outside long mode, nor while CR3 has what would be a PCID. */
	mode_32(vcpu, 0);
	assert_false(write_cr(f, 4, X86_CR4_PCIDE));
	mode_64(vcpu, 0);
	assert_true(write_cr(f, 3, PML4 | 8));
	assert_false(write_cr(f, 4, X86_CR4_PAE | X86_CR4_PCIDE));
	assert_true(write_cr(f, 3, PML4));
	assert_false(write_cr(f, 3, PML4 | NO_FLUSH));
	assert_true(write_cr(f, 4, X86_CR4_PAE | X86_CR4_PCIDE));
	assert_true(write_cr(f, 3, PML4 | NO_FLUSH | 0xabc));
	assert_int_equal(read_cr(f, 3), PML4 | 0xabc);
	assert_false(write_cr(f, 3, PML4 | 1ull << 62));
	/* It stays on with a PCID, and paging stays on with it. */
	assert_true(write_cr(f, 4, X86_CR4_PAE | X86_CR4_PCIDE | X86_CR4_DE));
	vcpu->seg[CS].l = false;
	assert_false(write_cr(f, 0, vcpu->cr0 & ~X86_CR0_PG));
	assert_true(write_cr(f, 4, X86_CR4_PAE));
	assert_true(write_cr(f, 0, vcpu->cr0 & ~X86_CR0_PG));
}

static struct insn invpcid(u64 type, struct fixture *f, u64 pcid, u64 address)
{
	struct insn insn = with_memory(DATA);

	insn.reg = RDX;
	f->vcpu->ctx.gpr[RDX] = type;
	put64(f, DATA, pcid);
	put64(f, DATA + 8, address);
	return insn;
}

static void test_invpcid_faults(void **state)
{
	struct fixture *f = *state;
	struct insn absent;

	mode_64(f->vcpu, 3);
	assert_error(f, system_invpcid, invpcid(2, f, 0, 0), VECTOR_GP, 0);
	mode_64(f->vcpu, 0);
	for (u64 type = 0; type < 4; type++) {
		assert_done(f, system_invpcid, invpcid(type, f, 0, 0));
		assert_error(f, system_invpcid, invpcid(type, f, 0x1000, 0), VECTOR_GP, 0);
		if (type < 2)
			assert_error(f, system_invpcid, invpcid(type, f, 1, 0), VECTOR_GP, 0);
		else
			assert_done(f, system_invpcid, invpcid(type, f, 1, NON_CANONICAL));
	}
	assert_error(f, system_invpcid, invpcid(0, f, 0, NON_CANONICAL), VECTOR_GP, 0);
	assert_error(f, system_invpcid, invpcid(4, f, 0, 0), VECTOR_GP, 0);
	assert_error(f, system_invpcid, invpcid(1ull << 32, f, 0, 0), VECTOR_GP, 0);
	/* The type comes before the operand. */
	absent = with_memory(ABSENT);
	absent.reg = RDX;
	f->vcpu->ctx.gpr[RDX] = 4;
	assert_error(f, system_invpcid, absent, VECTOR_GP, 0);
	f->vcpu->ctx.gpr[RDX] = 3;
	assert_error(f, system_invpcid, absent, VECTOR_PF, 0);
	f->vcpu->cr4 |= X86_CR4_PCIDE;
	assert_done(f, system_invpcid, invpcid(0, f, 0xfff, 0));
	assert_done(f, system_invpcid, invpcid(1, f, 0xfff, 0));
}

/* A user reads there: does the TLB know it? */
static bool knows(const struct lookup *lookup, enum tlb_kind kind, u64 address)
{
	const struct tlb *tlb = &lookup->tlb;

	return address + tlb->part[kind].tag[tlb_index(tlb, address)] < PAGE_SIZE;
}

static bool user_knows(struct fixture *f, u64 address)
{
	return knows(f->vcpu->ctx.user, TLB_READ, address);
}

/* ... and now it does. */
static void user_reads(struct fixture *f, u64 address)
{
	struct vcpu *vcpu = f->vcpu;

	vcpu->cpl = 3;
	vcpu_update_mode(vcpu);
	assert_non_null(mem_direct(vcpu, address, ACCESS_READ));
	vcpu->cpl = 0;
	vcpu_update_mode(vcpu);
	assert_true(user_knows(f, address));
}

static void set_pcid(struct fixture *f, u64 pcid)
{
	assert_true(write_cr(f, 3, PML4 | pcid | NO_FLUSH));
}

/* Two pages, one of them global, in each of the first PCIDs. */
static void fill_spaces(struct fixture *f, unsigned count)
{
	for (unsigned pcid = count; pcid--;) {
		assert_true(write_cr(f, 3, PML4 | pcid));
		user_reads(f, DATA);
		user_reads(f, STACK);
	}
}

static void mode_pcid(struct fixture *f)
{
	mode_64(f->vcpu, 0);
	put64(f, PT + STACK / PAGE_SIZE * 8, STACK | PTE_USER | 0x100);
	assert_true(write_cr(f, 4, X86_CR4_PAE | X86_CR4_PCIDE | X86_CR4_PGE));
}

/* What each PCID still knows, as bits. */
static unsigned who_knows(struct fixture *f, u64 address)
{
	unsigned know = 0;

	for (unsigned pcid = 0; pcid < 4; pcid++) {
		set_pcid(f, pcid);
		know |= user_knows(f, address) << pcid;
	}
	set_pcid(f, 0);
	return know;
}

/* Those that are named are reached, and nobody else forgets. */
static void test_pcid_flushes(void **state)
{
	struct fixture *f = *state;

	mode_pcid(f);
	fill_spaces(f, 4);
	assert_int_equal(who_knows(f, DATA), 15);
	assert_true(write_cr(f, 3, PML4 | 2));
	assert_int_equal(who_knows(f, DATA), 15 & ~4);
	assert_int_equal(who_knows(f, STACK), 15);
	/* INVLPG: the current one, and what is global everywhere. */
	fill_spaces(f, 4);
	set_pcid(f, 1);
	tlb_flush_page(f->vcpu, DATA);
	assert_int_equal(who_knows(f, DATA), 15 & ~2);
	set_pcid(f, 1);
	tlb_flush_page(f->vcpu, STACK);
	assert_int_equal(who_knows(f, STACK), 0);
	/* INVPCID of an address, here and elsewhere. */
	fill_spaces(f, 4);
	assert_done(f, system_invpcid, invpcid(0, f, 3, DATA));
	assert_int_equal(who_knows(f, DATA), 15 & ~8);
	assert_done(f, system_invpcid, invpcid(0, f, 0, DATA));
	assert_int_equal(who_knows(f, DATA), 15 & ~9);
	assert_int_equal(who_knows(f, STACK), 15);
	/* Of an address space. */
	fill_spaces(f, 4);
	assert_done(f, system_invpcid, invpcid(1, f, 2, 0));
	assert_done(f, system_invpcid, invpcid(1, f, 0, 0));
	assert_int_equal(who_knows(f, DATA), 15 & ~5);
	/* Of all, with global pages and without. */
	fill_spaces(f, 4);
	assert_done(f, system_invpcid, invpcid(3, f, 0, 0));
	assert_int_equal(who_knows(f, DATA), 0);
	assert_int_equal(who_knows(f, STACK) & 1, 1);
	fill_spaces(f, 4);
	assert_done(f, system_invpcid, invpcid(2, f, 0, 0));
	assert_int_equal(who_knows(f, DATA) | who_knows(f, STACK), 0);
	/* So do writes of control registers. */
	fill_spaces(f, 4);
	assert_true(write_cr(f, 4, f->vcpu->cr4 & ~X86_CR4_PGE));
	assert_int_equal(who_knows(f, DATA) | who_knows(f, STACK), 0);
	fill_spaces(f, 4);
	assert_true(write_cr(f, 4, X86_CR4_PAE));
	assert_true(write_cr(f, 4, X86_CR4_PAE | X86_CR4_PCIDE));
	assert_int_equal(who_knows(f, DATA) | who_knows(f, STACK), 0);
}

/* There are only so many: then the one goes that was not used for longest. */
static void test_pcid_eviction(void **state)
{
	struct fixture *f = *state;

	mode_pcid(f);
	fill_spaces(f, SPACES);
	for (unsigned pcid = 0; pcid < SPACES; pcid++) {
		set_pcid(f, pcid);
		assert_true(user_knows(f, DATA));
	}
	set_pcid(f, 0);
	set_pcid(f, 0x123);
	assert_false(user_knows(f, DATA));
	set_pcid(f, 0);
	assert_true(user_knows(f, DATA));
	set_pcid(f, 2);
	assert_true(user_knows(f, DATA));
	set_pcid(f, 1);
	assert_false(user_knows(f, DATA));
}

/* The kernel's views are shared: what is not global there goes with each change. */
static void test_pcid_kernel(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;
	const struct lookup *kernel = &vcpu->ctx.kernel[VIEW_KERNEL];

	mode_pcid(f);
	for (unsigned many = 0; many < 2; many++) {
		set_pcid(f, 0);
		assert_non_null(mem_direct(vcpu, DATA, ACCESS_READ));
		assert_non_null(mem_direct(vcpu, STACK, ACCESS_READ));
		/* More than are listed. */
		for (u64 page = 0; many && page < RAM_SIZE; page += PAGE_SIZE)
			mem_direct(vcpu, page, ACCESS_READ);
		set_pcid(f, 0);
		assert_true(knows(kernel, TLB_READ, DATA));
		set_pcid(f, 1);
		assert_false(knows(kernel, TLB_READ, DATA));
		assert_true(knows(kernel, TLB_READ, STACK));
	}
}

/* Rights to write are taken away in all of them. */
static void test_pcid_write_rights(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	mode_pcid(f);
	for (unsigned pcid = 0; pcid < 3; pcid++) {
		set_pcid(f, pcid);
		vcpu->cpl = 3;
		vcpu_update_mode(vcpu);
		assert_non_null(mem_direct(vcpu, DATA, ACCESS_WRITE));
		vcpu->cpl = 0;
		vcpu_update_mode(vcpu);
	}
	mmu_forget_writable(vcpu, DATA);
	for (unsigned pcid = 0; pcid < 3; pcid++) {
		set_pcid(f, pcid);
		assert_true(user_knows(f, DATA));
		assert_false(knows(vcpu->ctx.user, TLB_WRITE, DATA));
	}
}

static void test_cr4(void **state)
{
	static const u64 flushing[] = {X86_CR4_PGE, X86_CR4_PSE, X86_CR4_SMEP, X86_CR4_SMAP,
				       X86_CR4_PKE};
	static const u64 refused[] = {X86_CR4_VME,  X86_CR4_PVI, X86_CR4_LA57, X86_CR4_VMXE,
				      X86_CR4_SMXE, 1u << 15,	 1u << 19,     X86_CR4_CET,
				      1u << 24,	    1ull << 32};
	static const u64 quiet[] = {X86_CR4_TSD,      X86_CR4_DE,      X86_CR4_MCE,
				    X86_CR4_PCE,      X86_CR4_OSFXSR,  X86_CR4_OSXMMEXCPT,
				    X86_CR4_FSGSBASE, X86_CR4_OSXSAVE, X86_CR4_UMIP};
	struct fixture *f = *state;
	u64 flushes;

	mode_64(f->vcpu, 0);
	assert_false(write_cr(f, 4, 0));
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++)
		assert_false(write_cr(f, 4, X86_CR4_PAE | refused[i]));
	assert_int_equal(read_cr(f, 4), X86_CR4_PAE);
	for (unsigned i = 0; i < ARRAY_SIZE(flushing); i++)
		/* Both ways. */
		for (unsigned way = 0; way < 2; way++) {
			flushes = f->vcpu->stats.tlb_flushes_all;
			assert_true(write_cr(f, 4, X86_CR4_PAE | (way ? 0 : flushing[i])));
			assert_true(f->vcpu->stats.tlb_flushes_all > flushes);
		}
	flushes = f->vcpu->stats.tlb_flushes_all;
	for (unsigned i = 0; i < ARRAY_SIZE(quiet); i++) {
		assert_true(write_cr(f, 4, X86_CR4_PAE | quiet[i]));
		assert_int_equal(read_cr(f, 4), X86_CR4_PAE | quiet[i]);
	}
	assert_int_equal(f->vcpu->stats.tlb_flushes_all, flushes);
}

static void test_cr2_and_cr8(void **state)
{
	struct fixture *f = *state;

	mode_64(f->vcpu, 0);
	assert_true(write_cr(f, 2, NON_CANONICAL));
	assert_int_equal(read_cr(f, 2), NON_CANONICAL);
	assert_true(write_cr(f, 8, 9));
	assert_int_equal(read_cr(f, 8), 9);
	assert_int_equal(lapic_tpr(f->vcpu), 0x90);
	assert_false(write_cr(f, 8, 16));
	assert_int_equal(read_cr(f, 8), 9);
	/* Outside 64-bit mode a register has 32 bits. */
	mode_32(f->vcpu, 0);
	f->vcpu->ctx.gpr[RDX] = 0xfeedfacecafebeef;
	assert_done(f, system_mov_cr, mov_cr(2, true));
	assert_int_equal(read_cr(f, 2), 0xcafebeef);
}

/* A priority that is lowered lets through what it held back. */
static void test_priority(void **state)
{
	const u32 spurious = 0xf0, enable = 0x1ff, vector = 0x51;
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	mode_64(vcpu, 0);
	lapic_write(vcpu, spurious, enable);
	assert_true(write_cr(f, 8, 5));
	lapic_message(f->soft, LAYOUT_LAPIC, vector);
	assert_int_equal(lapic_pending(vcpu), -1);
	atomic_store(&vcpu->ctx.poll, 0);
	assert_true(write_cr(f, 8, 4));
	assert_int_equal(lapic_pending(vcpu), vector);
	assert_true(atomic_load(&vcpu->ctx.poll) & POLL_INTERRUPT);
}

static void test_machine_status_word(void **state)
{
	struct fixture *f = *state;
	struct vcpu *vcpu = f->vcpu;

	mode_real(vcpu);
	vcpu->ctx.gpr[RCX] = 0xffff0000 | X86_CR0_TS | X86_CR0_MP;
	assert_done(f, system_lmsw, with_register(RCX, 2));
	assert_int_equal(vcpu->cr0, X86_CR0_ET | X86_CR0_TS | X86_CR0_MP);
	vcpu->ctx.gpr[RCX] = 0xffff & ~X86_CR0_EM;
	assert_done(f, system_lmsw, with_register(RCX, 2));
	assert_int_equal(vcpu->cr0, X86_CR0_ET | X86_CR0_TS | X86_CR0_MP | X86_CR0_PE);
	/* There is no way back. */
	vcpu->ctx.gpr[RCX] = 0;
	assert_done(f, system_lmsw, with_register(RCX, 2));
	assert_int_equal(vcpu->cr0, X86_CR0_ET | X86_CR0_PE);

	mode_64(vcpu, 3);
	vcpu->ctx.gpr[RBX] = ~0ull;
	assert_done(f, system_smsw, with_register(RBX, 2));
	assert_int_equal(vcpu->ctx.gpr[RBX], (~0ull << 16) | (vcpu->cr0 & 0xffff));
	assert_done(f, system_smsw, with_register(RBX, 4));
	assert_int_equal(vcpu->ctx.gpr[RBX], vcpu->cr0);
	put64(f, DATA, ~0ull);
	assert_done(f, system_smsw, with_memory(DATA));
	assert_int_equal(get64(f, DATA), (~0ull << 16) | (vcpu->cr0 & 0xffff));

	vcpu->cr4 |= X86_CR4_UMIP;
	assert_error(f, system_smsw, with_register(RBX, 2), VECTOR_GP, 0);
	mode_64(vcpu, 0);
	vcpu->cr4 |= X86_CR4_UMIP;
	assert_done(f, system_smsw, with_register(RBX, 2));
	vcpu->cr0 |= X86_CR0_TS;
	assert_done(f, system_clts, plain);
	assert_false(vcpu->cr0 & X86_CR0_TS);
}

static void test_xcr0(void **state)
{
	static const u64 refused[] = {0,	2,    4,    5,	  6,	8 | 7, 1ull << 32 | 7,
				      0x18 | 7, 0x27, 0xc7, 0xe1, 0xe3, 0x2e7};
	static const u64 taken[] = {1, 3, 0xe7, 7};
	struct fixture *f = *state;
	u64 *gpr = f->vcpu->ctx.gpr;

	mode_64(f->vcpu, 0);
	gpr[RCX] = 0;
	assert_fault(f, system_xgetbv, plain, VECTOR_UD);
	assert_fault(f, system_xsetbv, plain, VECTOR_UD);
	assert_true(write_cr(f, 4, X86_CR4_PAE | X86_CR4_OSXSAVE));
	f->soft->cpuid.xsave.components = 0xe7;
	for (unsigned i = 0; i < ARRAY_SIZE(taken); i++) {
		u64 value = taken[i];

		gpr[RAX] = value;
		gpr[RDX] = 0;
		assert_done(f, system_xsetbv, plain);
		gpr[RAX] = gpr[RDX] = ~0ull;
		assert_done(f, system_xgetbv, plain);
		assert_int_equal(gpr[RAX], value);
		assert_int_equal(gpr[RDX], 0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
		gpr[RAX] = (u32)refused[i];
		gpr[RDX] = refused[i] >> 32;
		assert_error(f, system_xsetbv, plain, VECTOR_GP, 0);
	}
	gpr[RAX] = 1;
	gpr[RDX] = 0;
	gpr[RCX] = 1;
	assert_error(f, system_xsetbv, plain, VECTOR_GP, 0);
	gpr[RCX] = 2;
	assert_error(f, system_xgetbv, plain, VECTOR_GP, 0);
	assert_int_equal(f->vcpu->xcr0, 7);
	/* Without AVX-512 there is nothing of it. */
	f->soft->cpuid.xsave.components = 7;
	gpr[RAX] = 0xe7;
	gpr[RCX] = 0;
	assert_error(f, system_xsetbv, plain, VECTOR_GP, 0);
	/* After reset the x87's state is not what XRSTOR calls initial; all other is. */
	gpr[RCX] = 1;
	assert_done(f, system_xgetbv, plain);
	assert_int_equal(gpr[RAX], 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_cr_numbers),		TEST(test_cr0),
		TEST(test_long_mode_and_back),	TEST(test_cr3),
		TEST(test_jump_caches),		TEST(test_cr4),
		TEST(test_cr2_and_cr8),		TEST(test_priority),
		TEST(test_machine_status_word), TEST(test_xcr0),
		TEST(test_pcid_rules),		TEST(test_invpcid_faults),
		TEST(test_pcid_flushes),	TEST(test_pcid_eviction),
		TEST(test_pcid_kernel),		TEST(test_pcid_write_rights),
	};

	return cmocka_run_group_tests_name("soft_control", tests, NULL, NULL);
}
