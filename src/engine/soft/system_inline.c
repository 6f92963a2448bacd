/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System instructions that C need not execute: those of them that kernels use all the time, in the
 * case that is the usual one. What a program may not do, what traps, and what takes more than a few
 * instructions of the host's is left to the handlers (system.c, control.c, segment.c), which say
 * what these instructions mean; here is only how to do the same with less. A block says by its mode
 * who runs it, so most questions are answered before there is any code: hence MODE_MIDDLE and its
 * neighbours. What is not known until it runs is asked without touching the flags, and one answer
 * of two leads to the handler.
 *
 * put_form() asks here before it puts a call of the handler. `--soft-without=system` leaves all of
 * this out.
 *
 * Tour 6.720: The same, without C
 */
#include "engine/soft/system.h"
#include "engine/soft/translation.h"

/* ------------------------------------------------------------------ who runs it */

static bool is_kernel(const struct translation *t)
{
	return (t->mode & MODE_VIEW) != VIEW_USER && !(t->mode & MODE_MIDDLE);
}

/* Of a general register, in bytes, whatever the prefixes say. */
static unsigned register_size(const struct translation *t)
{
	return t->wide ? 8 : 4;
}

/* ------------------------------------------------------------------ what is asked first */

void put_unless(struct translation *t, const struct form *form)
{
	u8 *fast = emit_jrcxz(&t->e);

	put_handler(t, form);
	emit_jrcxz_here(&t->e, fast);
}

void put_direction(struct translation *t)
{
	emit_load_gs(&t->e, H_SCRATCH, CTX_STEP);
	emit_lea(&t->e, true, H_SCRATCH, H_SCRATCH, NO_REGISTER, 1, -1);
}

/* ------------------------------------------------------------------ flags */

static void put_cli(struct translation *t)
{
	emit_store_imm_gs(&t->e, 1, CTX_INTFLAG, 0);
}

/*
 * The next instruction runs before any interrupt. That is so if it is in the same block, because
 * nothing in between looks whether one came. One that waits already is for the handler; so is a
 * data breakpoint, for which the next instruction might have to be begun again.
 */
static void put_sti(struct translation *t, struct form *form)
{
	struct emit *e = &t->e;

	emit_load32_gs(e, H_SCRATCH, CTX_POLL);
	emit_load_small_gs(e, H_ADDRESS, 1, VCPU(interrupt_waiting));
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
	emit_load_small_gs(e, H_ADDRESS, 1, VCPU(watch.armed));
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
	put_unless(t, form);
	emit_store_imm_gs(e, 1, CTX_INTFLAG, 1);
	form->last = false;
}

/* It is nearly always clear: then there is nothing to do. */
static void put_cld(struct translation *t, const struct form *form)
{
	put_direction(t);
	put_unless(t, form);
}

/* Of 64 bits. RF is clear wherever one block goes on to the next without C, and VM is in no such
 * mode. */
static void put_pushf(struct translation *t)
{
	const u8 pushfq = 0x9c, pop_rcx = 0x58 | H_SCRATCH;
	struct emit *e = &t->e;
	struct late *late;

	emit_u8(e, pushfq);
	emit_u8(e, pop_rcx);
	emit_pext_gs(e, H_SCRATCH, H_SCRATCH, CTX_ARITHMASK);
	emit_pdep_gs(e, H_SCRATCH, H_SCRATCH, CTX_ARITHMASK);
	emit_load_gs(e, H_ADDRESS, VCPU(sysflags));
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
	emit_load_small_gs(e, H_ADDRESS, 1, CTX_INTFLAG);
	emit_rorx(e, H_ADDRESS, H_ADDRESS, 64 - X86_EFLAGS_IF_BIT);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
	emit_store_gs(e, CTX_TARGET, H_SCRATCH);
	put_stack_address(t, -(int32_t)sizeof(u64));
	late = begin_access(t, sizeof(u64), true, SITE_STACK);
	emit_load_gs(e, H_SCRATCH, CTX_TARGET);
	put_move(e, true, sizeof(u64), H_SCRATCH);
	emit_mov(e, H_GUEST_RSP, H_ADDRESS);
	end_access(t, late);
}

/* ------------------------------------------------------------------ views */

void put_check_of_cache(struct translation *t, u32 mode, const struct form *form)
{
	struct emit *e = &t->e;

	if (t->user)
		emit_load32(e, H_SCRATCH, H_RSP, t->lookup + offsetof(struct lookup, jump_mode));
	else
		emit_load32_gs(e, H_SCRATCH, t->lookup + offsetof(struct lookup, jump_mode));
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, NO_REGISTER, 1, -(int32_t)mode);
	put_unless(t, form);
}

/*
 * To the next instruction by way of the view's own jump cache: what is there is noted for when the
 * page goes.
 */
static void put_next_in_view(struct translation *t)
{
	emit_load_gs(&t->e, H_ADDRESS, CTX_PAGE);
	emit_lea(&t->e, t->wide, H_ADDRESS, H_ADDRESS, NO_REGISTER, 1, t->next);
	put_jump_indirect(t, 0);
}

/*
 * With SMAP, AC is clear in one of the kernel's views and set in the other: so it is known, and so
 * is the mode to change to.
 */
static void put_change_of_ac(struct translation *t, enum view view, const struct form *form)
{
	const int32_t bit = X86_EFLAGS_AC, ac = view == VIEW_KERNEL_AC ? bit : -bit;
	u32 mode = (t->mode & ~MODE_VIEW) | view;
	struct emit *e = &t->e;

	translation_set_view(t, view);
	put_check_of_cache(t, mode, form);
	emit_load_gs(e, H_SCRATCH, VCPU(sysflags));
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, NO_REGISTER, 1, ac);
	emit_store_gs(e, VCPU(sysflags), H_SCRATCH);
	emit_store_imm_gs(e, 4, VCPU(mode), mode);
	put_next_in_view(t);
}

static bool put_ac(struct translation *t, enum view view, struct form *form)
{
	if (!is_kernel(t) || !t->flat || !(t->mode & MODE_SMAP))
		return false;
	if ((t->mode & MODE_VIEW) == view)
		form->last = false; /* it is so already */
	else
		put_change_of_ac(t, view, form);
	return true;
}

/* ------------------------------------------------------------------ registers */

static void put_swapgs(struct translation *t)
{
	struct emit *e = &t->e;

	emit_load_gs(e, H_SCRATCH, CTX_BASE + 8 * GS);
	emit_load_gs(e, H_ADDRESS, VCPU(kernel_gs_base));
	emit_store_gs(e, VCPU(kernel_gs_base), H_SCRATCH);
	emit_store_gs(e, CTX_BASE + 8 * GS, H_ADDRESS);
}

static bool put_read_base(struct translation *t, unsigned segment)
{
	if (!t->wide || !(t->mode & MODE_FSGSBASE))
		return false;
	emit_load_gs(&t->e, H_SCRATCH, CTX_BASE + 8 * segment);
	put_gpr(t, gpr_of(t->op[0].reg.value), t->zi.operand_width == 64 ? 8 : 4, H_SCRATCH);
	return true;
}

/* All that has to be true of 64 bits is that the upper 17 are alike. */
static bool put_write_base(struct translation *t, unsigned segment, const struct form *form)
{
	const unsigned unused = 16;
	struct emit *e = &t->e;
	unsigned reg;

	if (!t->wide || !(t->mode & MODE_FSGSBASE))
		return false;
	reg = use_gpr(e, gpr_of(t->op[0].reg.value), H_ADDRESS);
	if (t->zi.operand_width != 64) {
		emit_mov32(e, H_ADDRESS, reg);
	} else {
		emit_mov(e, H_ADDRESS, reg);
		emit_mov_imm32(e, H_SCRATCH, unused);
		emit_shlx(e, H_ADDEND, H_ADDRESS, H_SCRATCH);
		emit_sarx(e, H_ADDEND, H_ADDEND, H_SCRATCH);
		emit_not(e, H_ADDEND);
		emit_lea(e, true, H_SCRATCH, H_ADDRESS, H_ADDEND, 1, 1);
		put_unless(t, form);
	}
	emit_store_gs(e, CTX_BASE + 8 * segment, H_ADDRESS);
	return true;
}

/* Of those that are a word in struct vcpu. Writing them is C's, and ends the block. */
static bool put_read_control(struct translation *t, struct form *form)
{
	static const struct {
		ZydisRegister reg;
		u32 offset;
	} words[] = {
		{ZYDIS_REGISTER_CR0, VCPU(cr0)},
		{ZYDIS_REGISTER_CR2, VCPU(cr2)},
		{ZYDIS_REGISTER_CR3, VCPU(cr3)},
		{ZYDIS_REGISTER_CR4, VCPU(cr4)},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		if (t->op[1].reg.value != words[i].reg)
			continue;
		emit_load_gs(&t->e, H_SCRATCH, words[i].offset);
		put_gpr(t, gpr_of(t->op[0].reg.value), register_size(t), H_SCRATCH);
		form->last = false;
		return true;
	}
	return false;
}

static bool put_read_selector(struct translation *t)
{
	unsigned segment = segment_of(t->op[1].reg.value);

	emit_load_small_gs(&t->e, H_SCRATCH, sizeof(u16),
			   VCPU(seg[0].selector) + segment * (u32)sizeof(struct segment));
	put_gpr(t, gpr_of(t->op[0].reg.value), t->zi.operand_width / 8, H_SCRATCH);
	return true;
}

/* MOV to a register from a control or segment register: all other kinds are left to C. */
static bool put_mov(struct translation *t, struct form *form)
{
	ZydisRegisterClass from;

	if (operand_gpr(&t->op[0]) == NO_REGISTER || t->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	from = ZydisRegisterGetClass(t->op[1].reg.value);
	if (from == ZYDIS_REGCLASS_SEGMENT)
		return put_read_selector(t);
	return from == ZYDIS_REGCLASS_CONTROL && is_kernel(t) && put_read_control(t, form);
}

/* ------------------------------------------------------------------ time, and the like */

static bool put_rdtsc(struct translation *t, bool with_number)
{
	const unsigned half = 32;
	struct emit *e = &t->e;

	if (t->mode & MODE_TSD && !is_kernel(t))
		return false;
	emit_u8(e, 0x0f);
	emit_u8(e, 0x31);
	emit_rorx(e, H_RDX, H_RDX, half);
	emit_lea(e, true, H_RDX, H_RDX, H_RAX, 1, 0);
	emit_load_gs(e, H_SCRATCH, VCPU(tsc_adjust));
	emit_lea(e, true, H_RDX, H_RDX, H_SCRATCH, 1, 0);
	emit_mov32(e, H_RAX, H_RDX);
	emit_rorx(e, H_RDX, H_RDX, half);
	emit_mov32(e, H_RDX, H_RDX);
	if (with_number)
		emit_load32_gs(e, H_GUEST_RCX, CTX_AUX);
	return true;
}

/* Which register is said by ECX, and there is one. */
static bool put_rdpkru(struct translation *t, const struct form *form)
{
	struct emit *e = &t->e;

	if (!(t->mode & MODE_PKE))
		return false;
	emit_mov32(e, H_SCRATCH, H_GUEST_RCX);
	put_unless(t, form);
	emit_load32_gs(e, H_RAX, VCPU(pkru));
	emit_mov_imm32(e, H_RDX, 0);
	return true;
}

/* ------------------------------------------------------------------ all of them */

static bool put_for_kernel(struct translation *t, struct form *form)
{
	switch (t->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CLI:
		put_cli(t);
		return true;
	case ZYDIS_MNEMONIC_STI:
		if (!another_follows(t))
			return false;
		put_sti(t, form);
		return true;
	case ZYDIS_MNEMONIC_SWAPGS:
		if (!t->wide)
			return false;
		put_swapgs(t);
		return true;
	default:
		return false;
	}
}

bool put_system(struct translation *t, struct form *form)
{
	if (t->mode & MODE_SINGLE)
		return false;
	if (t->zi.mnemonic == ZYDIS_MNEMONIC_SYSCALL)
		return put_syscall(t, form);
	if (t->zi.mnemonic == ZYDIS_MNEMONIC_SYSRET)
		return is_kernel(t) && put_sysret(t, form);
	if (without(t, WITHOUT_SYSTEM))
		return false;
	switch (t->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CLD:
		put_cld(t, form);
		return true;
	case ZYDIS_MNEMONIC_PUSHFQ:
		put_pushf(t);
		return true;
	case ZYDIS_MNEMONIC_CLAC:
		return put_ac(t, VIEW_KERNEL, form);
	case ZYDIS_MNEMONIC_STAC:
		return put_ac(t, VIEW_KERNEL_AC, form);
	case ZYDIS_MNEMONIC_RDFSBASE:
		return put_read_base(t, FS);
	case ZYDIS_MNEMONIC_RDGSBASE:
		return put_read_base(t, GS);
	case ZYDIS_MNEMONIC_WRFSBASE:
		return put_write_base(t, FS, form);
	case ZYDIS_MNEMONIC_WRGSBASE:
		return put_write_base(t, GS, form);
	case ZYDIS_MNEMONIC_MOV:
		return put_mov(t, form);
	case ZYDIS_MNEMONIC_RDTSC:
		return put_rdtsc(t, false);
	case ZYDIS_MNEMONIC_RDTSCP:
		return put_rdtsc(t, true);
	case ZYDIS_MNEMONIC_RDPKRU:
		return put_rdpkru(t, form);
	default:
		return is_kernel(t) && put_for_kernel(t, form);
	}
}
