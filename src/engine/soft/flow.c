/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How one block goes on to the next: jumps, calls, returns, loops.
 */
#include "engine/soft/translation.h"

/* r9: where to; adding `undo` takes back what was done to rsp. The one way out to other pages. */
static void put_jump_indirect(struct translation *t, s64 undo)
{
	struct emit *e = &t->e;
	u8 *hit;

	if (t->mode & MODE_SINGLE) {
		put_site(e, SITE_JUMP, 0, 0, t->offset, undo);
		return;
	}
	emit_rorx(e, H_ADDEND, H_ADDRESS, 12);
	emit_lea(e, true, H_ADDEND, H_ADDEND, H_ADDRESS, 1, 0);
	emit_pext_gs(e, H_ADDEND, H_ADDEND, CTX_JUMPMASK);
	emit_load_gs_indexed(e, H_SCRATCH, H_ADDEND, t->jump + offsetof(struct jump_cache, tag));
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
	hit = emit_jrcxz(e);
	put_site(e, SITE_JUMP, 0, 0, t->offset, undo);
	emit_jrcxz_here(e, hit);
	emit_jmp_gs_indexed(e, H_ADDEND, t->jump + offsetof(struct jump_cache, code));
}

static void late_link(struct translation *t, u8 *distance, int32_t target)
{
	struct link *link = &t->block->links[t->links++];

	link->distance = distance;
	t->late[t->lates++] =
		(struct late){.kind = LATE_LINK, .jump = distance, .offset = target, .link = link};
}

static bool inside_page(int32_t target)
{
	return target >= 0 && target < (int32_t)PAGE_SIZE;
}

/* Go on at that offset from ctx.page. */
static void put_jump_undo(struct translation *t, int32_t target, s64 undo)
{
	struct emit *e = &t->e;

	if (t->mode & MODE_SINGLE) {
		put_site(e, SITE_GO, 0, 0, target, 0);
		return;
	}
	if (!inside_page(target) || t->mode & MODE_CROSSING) {
		emit_load_gs(e, H_ADDRESS, CTX_PAGE);
		emit_lea(e, t->wide, H_ADDRESS, H_ADDRESS, NO_REGISTER, 1, target);
		put_jump_indirect(t, undo);
		return;
	}
	/* A loop must notice that somebody wants us. */
	if (target <= t->offset) {
		u8 *quiet;

		emit_gs(e, 0x8b, false, H_SCRATCH, CTX_POLL);
		quiet = emit_jrcxz(e);
		put_site(e, SITE_GO, 0, 0, target, 0);
		emit_jrcxz_here(e, quiet);
	}
	late_link(t, emit_jmp(e), target);
}

void put_jump(struct translation *t, int32_t target)
{
	put_jump_undo(t, target, 0);
}

static int32_t relative_target(const struct translation *t)
{
	return t->next + (int32_t)t->op[0].imm.value.s;
}

/* r9 = the target of an indirect jump or call. */
static void put_indirect_target(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedOperand *operand = &t->op[0];

	if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		put_address(t, operand, 0);
		put_load(t, t->wide ? 8 : 4, is_stack(operand) ? SITE_STACK : 0, H_ADDRESS);
	} else {
		unsigned reg = use_gpr(e, gpr_of(operand->reg.value), H_ADDRESS);

		if (t->wide)
			emit_mov(e, H_ADDRESS, reg);
		else
			emit_mov32(e, H_ADDRESS, reg);
	}
}

bool put_jmp(struct translation *t)
{
	if (t->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		if ((t->mode & MODE_CODE) == MODE_CODE_16)
			return false;
		put_jump(t, relative_target(t));
		return true;
	}
	if (!stack_is_flat(t))
		return false;
	put_indirect_target(t);
	put_jump_indirect(t, 0);
	return true;
}

bool put_call(struct translation *t)
{
	struct emit *e = &t->e;
	bool direct = t->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	unsigned size = t->wide ? 8 : 4;
	struct late *late;

	if (!stack_is_flat(t) || (t->mode & MODE_CODE) == MODE_CODE_16)
		return false;
	if (!direct) {
		put_indirect_target(t);
		emit_store_gs(e, CTX_TARGET, H_ADDRESS);
	}
	put_stack_address(t, -(int32_t)size);
	late = begin_access(t, size, true, SITE_STACK | SITE_KEEP);
	emit_load_gs(e, H_SCRATCH, CTX_PAGE);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, NO_REGISTER, 1, t->next);
	put_move(e, true, size, H_SCRATCH);
	emit_mov(e, H_GUEST_RSP, H_ADDRESS);
	end_access(t, late);
	if (direct) {
		put_jump_undo(t, relative_target(t), size);
	} else {
		emit_load_gs(e, H_ADDRESS, CTX_TARGET);
		put_jump_indirect(t, size);
	}
	return true;
}

bool put_ret(struct translation *t)
{
	unsigned size = t->wide ? 8 : 4;
	int32_t more = 0;

	if (!stack_is_flat(t) || (t->mode & MODE_CODE) == MODE_CODE_16)
		return false;
	if (t->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		more = t->op[0].imm.value.u & 0xffff;
	put_stack_address(t, 0);
	put_load(t, size, SITE_STACK, H_ADDRESS);
	put_stack_move(t, size + more);
	put_jump_indirect(t, -(s64)(size + more));
	return true;
}

bool put_jcc(struct translation *t)
{
	struct emit *e = &t->e;
	int32_t target = relative_target(t);
	u8 *taken;

	if ((t->mode & MODE_CODE) == MODE_CODE_16 && !inside_page(target))
		return false;
	taken = emit_jcc(e, t->zi.opcode & 15);
	put_jump(t, t->next);
	emit_set_jump(taken, e->at);
	put_jump(t, target);
	return true;
}

bool put_loop(struct translation *t)
{
	struct emit *e = &t->e;
	bool loop = t->zi.mnemonic == ZYDIS_MNEMONIC_LOOP ||
		    t->zi.mnemonic == ZYDIS_MNEMONIC_LOOPE ||
		    t->zi.mnemonic == ZYDIS_MNEMONIC_LOOPNE;
	unsigned width = t->zi.address_width;
	u8 *other = NULL, *zero;

	if (width == 16)
		return false;
	if (loop)
		emit_lea(e, width == 64, H_GUEST_RCX, H_GUEST_RCX, NO_REGISTER, 1, -1);
	if (width == 64)
		emit_mov(e, H_SCRATCH, H_GUEST_RCX);
	else
		emit_mov32(e, H_SCRATCH, H_GUEST_RCX);
	if (t->zi.mnemonic == ZYDIS_MNEMONIC_LOOPE)
		put_short(e, SHORT_JNZ, &other);
	if (t->zi.mnemonic == ZYDIS_MNEMONIC_LOOPNE)
		put_short(e, SHORT_JZ, &other);
	zero = emit_jrcxz(e);
	put_jump(t, loop ? relative_target(t) : t->next);
	emit_jrcxz_here(e, zero);
	if (other)
		emit_jrcxz_here(e, other);
	put_jump(t, loop ? t->next : relative_target(t));
	return true;
}
