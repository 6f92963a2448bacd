/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How one block goes on to the next: jumps, calls, returns, loops.
 *
 * Where CS is flat, an offset in it is a linear address: there jumps inside a page are linked, and
 * others find their way through the jump cache. Where it is not, each jump leaves through C, which
 * compares it with the limit (run.c: SITE_JUMP). Operands of 16 bits cut the target to as many.
 *
 * Tour 6.270: From block to block
 */
#include "engine/soft/translation.h"

/* Is the instruction pointer that this one makes one of 16 bits? */
static bool is_narrow(const struct translation *t)
{
	return !t->wide && t->zi.operand_width == 16;
}

static void put_narrowing(struct translation *t)
{
	if (is_narrow(t))
		emit_movzx16(&t->e, H_ADDRESS, H_ADDRESS);
}

#define RETURN_TAG    offsetof(struct return_cache, tag)
#define RETURN_CODE   offsetof(struct return_cache, code)
#define OPCODE_POP    0x8f
#define EXTENSION_POP 0

/* By RET, which is a jump through the stack, and what the processor expects behind a call. */
static void put_host_return(struct translation *t, u32 table)
{
	put_with_table(t, false, OPCODE_GROUP5, EXTENSION_PUSH, table);
	emit_ret(&t->e);
}

/* rcx = 0: r9 is in the jump cache, as number r10. */
static void put_jump_probe(struct translation *t)
{
	struct emit *e = &t->e;

	emit_rorx(e, H_ADDEND, H_ADDRESS, 12);
	emit_lea(e, true, H_ADDEND, H_ADDEND, H_ADDRESS, 1, 0);
	emit_pext_gs(e, H_ADDEND, H_ADDEND, CTX_JUMPMASK);
	put_from_table(t, H_SCRATCH, t->jump + offsetof(struct jump_cache, tag));
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
}

void put_jump_indirect(struct translation *t, s64 undo)
{
	struct emit *e = &t->e;
	u8 *hit;

	if (t->mode & MODE_SINGLE || !t->flat) {
		put_site(e, SITE_JUMP, 0, 0, t->offset, undo);
		return;
	}
	put_jump_probe(t);
	hit = emit_jrcxz(e);
	put_site(e, SITE_JUMP, 0, 0, t->offset, undo);
	emit_jrcxz_here(e, hit);
	put_with_table(t, false, OPCODE_GROUP5, EXTENSION_JMP,
		       t->jump + offsetof(struct jump_cache, code));
}

static void put_late_return(struct translation *t, const struct late *late)
{
	struct emit *e = &t->e;
	u8 *hit;

	put_jump_probe(t);
	hit = emit_jrcxz(e);
	put_site(e, SITE_JUMP, 0, 0, late->offset, late->undo);
	emit_jrcxz_here(e, hit);
	put_host_return(t, t->jump + offsetof(struct jump_cache, code));
}

/* That jump goes on behind the unit's end. */
static struct late *put_off(struct translation *t, unsigned kind, u8 *distance, int32_t target)
{
	struct late *late = &t->late[t->lates++];

	*late = (struct late){
		.kind = kind,
		.jump = distance,
		.offset = t->offset,
		.next = t->next,
		.target = target,
		.view = t->view,
	};
	return late;
}

static void late_link(struct translation *t, u8 *distance, int32_t target)
{
	put_off(t, LATE_LINK, distance, target);
	unit_want(t, target);
}

void put_stub(struct translation *t, struct link *link, int32_t target)
{
	link->stub = t->e.at;
	put_site(&t->e, SITE_LINK, 0, 0, target, (u64)link);
}

static void jump_to_part(struct translation *t, const struct block *part)
{
	t->loops |= part == t->block;
}

static void put_late_link(struct translation *t, const struct late *late)
{
	struct cache *cache = t->vcpu->cache;
	struct block *to = unit_part_at(t, late->target);
	struct link *link;

	if (to) {
		jump_to_part(t, to);
		emit_set_jump(late->jump, to->inner - t->e.shift);
		return;
	}
	link = cache_alloc(cache, sizeof(*link));
	link->distance = late->jump;
	put_stub(t, link, late->target);
	to = cache_find(t->vcpu, align_down(t->block->gpa, PAGE_SIZE) + late->target, 0, t->mode);
	if (to && !to->crosses)
		cache_link(cache, link, to);
}

void put_page(struct translation *t, int32_t offset)
{
	emit_lea(&t->e, true, H_ADDRESS, H_ADDRESS, NO_REGISTER, 1, -offset);
	emit_store_gs(&t->e, CTX_PAGE, H_ADDRESS);
}

static bool inside_page(int32_t target)
{
	return target >= 0 && target < (int32_t)PAGE_SIZE;
}

/* r9 = the offset in CS of what is at that offset from ctx.page. */
static void put_code_offset(struct translation *t, int32_t target)
{
	struct emit *e = &t->e;

	emit_load_gs(e, H_ADDRESS, CTX_PAGE);
	if (!t->flat) {
		/* Minus the base, without touching flags. */
		emit_load_gs(e, H_SCRATCH, CTX_BASE + 8 * CS);
		emit_not(e, H_SCRATCH);
		emit_lea(e, false, H_ADDRESS, H_ADDRESS, H_SCRATCH, 1, 1);
	}
	emit_lea(e, t->wide, H_ADDRESS, H_ADDRESS, NO_REGISTER, 1, target);
}

/*
 * A jump forward costs nothing. A loop must notice that somebody wants us: so a jump backward
 * looks at `poll` first, and by JRCXZ, because the flags are still the guest's.
 *
 * Tour 6.271: Forward is free, backward is asked
 */
static void put_link_back(struct translation *t, int32_t target)
{
	struct emit *e = &t->e;
	const struct block *part = unit_part_at(t, target);
	u8 *quiet;

	emit_load32_gs(e, H_SCRATCH, CTX_POLL);
	if (part && emit_jrcxz_to(e, part->inner - e->shift)) {
		jump_to_part(t, part);
		put_off(t, LATE_GO, emit_jmp(e), target);
		return;
	}
	quiet = emit_jrcxz(e);
	put_off(t, LATE_GO, emit_jmp(e), target);
	emit_jrcxz_here(e, quiet);
	late_link(t, emit_jmp(e), target);
}

/* Go on in the same page. */
static void put_link(struct translation *t, int32_t target)
{
	if (target <= t->offset)
		put_link_back(t, target);
	else
		late_link(t, emit_jmp(&t->e), target);
}

static bool is_linked(const struct translation *t, int32_t target)
{
	/* Copies are for what is rare. */
	return t->flat && inside_page(target) && !(t->mode & MODE_CROSSING) && !t->plain &&
	       !without(t, WITHOUT_LINKS);
}

/* Jump to that offset from ctx.page. Whoever calls this late has no instruction to look at. */
static void put_wide_jump(struct translation *t, int32_t target, s64 undo)
{
	if (is_linked(t, target)) {
		put_link(t, target);
	} else {
		put_code_offset(t, target);
		put_jump_indirect(t, undo);
	}
}

/* The same, as wide as the instruction says. */
static void put_jump(struct translation *t, int32_t target, s64 undo)
{
	if (is_narrow(t)) {
		put_code_offset(t, target);
		put_narrowing(t);
		put_jump_indirect(t, undo);
	} else if (t->flat && t->mode & MODE_SINGLE) {
		put_site(&t->e, SITE_GO, 0, 0, target, 0);
	} else {
		put_wide_jump(t, target, undo);
	}
}

/* That is no jump: if it is outside the limit, it is the fetch that says so. */
void put_fall(struct translation *t)
{
	if (!t->flat || t->mode & MODE_SINGLE) {
		put_site(&t->e, SITE_GO, 0, 0, t->next, 0);
	} else if (is_linked(t, t->next)) {
		put_link(t, t->next);
	} else {
		put_code_offset(t, t->next);
		put_jump_indirect(t, 0);
	}
}

static int32_t relative_target(const struct translation *t)
{
	return t->next + (int32_t)t->op[0].imm.value.s;
}

/* Of a target, and of the return address. */
static unsigned target_size(const struct translation *t)
{
	if (t->wide)
		return 8;
	return is_narrow(t) ? 2 : 4;
}

/* r9 = the target of an indirect jump or call. */
static void put_indirect_target(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedOperand *operand = &t->op[0];

	if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		put_address(t, operand, 0);
		put_load(t, target_size(t), is_stack(operand) ? SITE_STACK : 0, H_ADDRESS);
	} else {
		unsigned reg = use_gpr(e, gpr_of(operand->reg.value), H_ADDRESS);

		if (t->wide)
			emit_mov(e, H_ADDRESS, reg);
		else
			emit_mov32(e, H_ADDRESS, reg);
	}
	put_narrowing(t);
}

void put_jmp(struct translation *t)
{
	if (t->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		put_jump(t, relative_target(t), 0);
		return;
	}
	put_indirect_target(t);
	put_jump_indirect(t, 0);
}

/* Is it noted where calls return to? See jump.c. */
static bool has_returns(const struct translation *t)
{
	return t->flat && !is_narrow(t) && !(t->mode & MODE_SINGLE) && !without(t, WITHOUT_RETURNS);
}

/*
 * A call has put its return address, rcx, at r9 on the stack. r10 becomes the number of its entry,
 * less one.
 */
static void put_return_tag(struct translation *t)
{
	emit_pext_gs(&t->e, H_ADDEND, H_ADDRESS, CTX_CALLMASK);
	emit_not(&t->e, H_SCRATCH);
	put_with_table(t, true, OPCODE_STORE, H_SCRATCH, t->returns + RETURN_TAG + sizeof(u64));
}

/* Here is what a return comes to; the call itself goes on elsewhere. */
static void put_return_point(struct translation *t)
{
	t->landing = t->e.at + t->e.shift;
	put_page(t, t->next);
	unit_go_on(t);
}

/* Where it goes when the return address is pushed: to what is in a register, or in CTX_TARGET. */
static void put_target_jump(struct translation *t, unsigned gpr, s64 undo)
{
	struct emit *e = &t->e;

	if (gpr == NO_REGISTER)
		emit_load_gs(e, H_ADDRESS, CTX_TARGET);
	else
		emit_mov(e, H_ADDRESS, use_gpr(e, gpr, H_ADDRESS));
	put_jump_indirect(t, undo);
}

/* The register that has the target as it is, also when the return address is pushed. */
static unsigned target_register(const struct translation *t)
{
	unsigned gpr = operand_gpr(&t->op[0]);

	return t->wide && gpr != RSP ? gpr : NO_REGISTER;
}

/* The rest of the entry in the return cache, and the call. */
static void put_late_call(struct translation *t, const struct late *late)
{
	put_with_table(t, false, OPCODE_POP, EXTENSION_POP, t->returns + RETURN_CODE + sizeof(u64));
	if (late->direct)
		put_wide_jump(t, late->target, late->undo);
	else
		put_target_jump(t, late->gpr, late->undo);
}

/*
 * The return address goes to the guest's stack, which is an access to memory like any other.
 * Where the return cache can be told of it, the jump that follows is a CALL of the host's:
 * nobody wants what it pushes, but the processor now expects a return.
 *
 * Tour 6.272: A call
 */
void put_call(struct translation *t)
{
	struct emit *e = &t->e;
	bool direct = t->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	bool noted = has_returns(t) && is_linked(t, t->next);
	unsigned size = target_size(t), gpr = target_register(t);
	struct late *late;

	if (!stack_is_flat(t)) {
		put_near(t, near_call, true);
		return;
	}
	if (!direct && gpr == NO_REGISTER) {
		put_indirect_target(t);
		emit_store_gs(e, CTX_TARGET, H_ADDRESS);
	}
	put_stack_address(t, -(int32_t)size);
	late = begin_access(t, size, true, SITE_STACK | SITE_KEEP);
	emit_load_gs(e, H_SCRATCH, CTX_PAGE);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, NO_REGISTER, 1, t->next);
	put_move(e, true, size, H_SCRATCH);
	emit_mov(e, H_GUEST_RSP, H_ADDRESS);
	if (noted)
		put_return_tag(t);
	end_access(t, late);
	if (noted) {
		late = put_off(t, LATE_CALL, emit_call(e), direct ? relative_target(t) : 0);
		late->direct = direct;
		late->gpr = gpr;
		late->undo = size;
		put_return_point(t);
	} else if (direct) {
		put_jump(t, relative_target(t), size);
	} else {
		put_target_jump(t, gpr, size);
	}
}

/*
 * r9: where to, and the stack is beyond it. Not found: late.
 *
 * The same question as at a call, asked from the other side: is this the address that was noted at
 * this place of the stack? Then the code for it is known, and the host's own RET leads there, as
 * its processor foresaw when it saw the CALL.
 *
 * Tour 6.273: And its return
 */
static void put_return(struct translation *t, int32_t more)
{
	struct emit *e = &t->e;
	struct late *late;
	u8 *hit;

	emit_pext_gs(e, H_ADDEND, H_GUEST_RSP, CTX_RETURNMASK);
	if (more)
		put_stack_move(t, more);
	put_from_table(t, H_SCRATCH, t->returns + RETURN_TAG);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 1);
	hit = emit_jrcxz(e);
	late = put_off(t, LATE_RETURN, emit_jmp(e), 0);
	late->undo = -(s64)(target_size(t) + more);
	emit_jrcxz_here(e, hit);
	put_host_return(t, t->returns + RETURN_CODE);
}

void put_ret(struct translation *t)
{
	unsigned size = target_size(t);
	int32_t more = 0;

	if (!stack_is_flat(t)) {
		put_near(t, near_ret, true);
		return;
	}
	if (t->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		more = t->op[0].imm.value.u & 0xffff;
	put_stack_address(t, 0);
	put_load(t, size, SITE_STACK, H_ADDRESS);
	if (has_returns(t)) {
		put_stack_move(t, size);
		put_return(t, more);
		return;
	}
	put_narrowing(t);
	put_stack_move(t, size + more);
	put_jump_indirect(t, -(s64)(size + more));
}

void put_jcc(struct translation *t)
{
	struct emit *e = &t->e;
	u8 condition = t->zi.opcode & 15, *taken;
	int32_t target = relative_target(t);

	if (!t->flat || is_narrow(t) || t->mode & MODE_SINGLE) {
		taken = emit_jcc(e, condition);
		put_fall(t);
		emit_set_jump(taken, e->at);
		put_jump(t, target, 0);
		return;
	}
	if (!is_linked(t, target)) {
		put_off(t, LATE_LEAVE, emit_jcc(e, condition), target);
	} else if (target > t->offset) {
		late_link(t, emit_jcc(e, condition), target);
	} else {
		put_short(e, SHORT_JCC | (condition ^ 1), &taken);
		put_link_back(t, target);
		emit_jrcxz_here(e, taken);
	}
	unit_go_on(t);
}

void put_late_flow(struct translation *t, const struct late *late)
{
	t->offset = late->offset;
	t->next = late->next;
	translation_set_view(t, late->view);
	switch (late->kind) {
	case LATE_LINK:
		put_late_link(t, late);
		break;
	case LATE_LEAVE:
		put_wide_jump(t, late->target, late->undo);
		break;
	case LATE_GO:
		put_site(&t->e, SITE_GO, 0, 0, late->target, 0);
		break;
	case LATE_CALL:
		put_late_call(t, late);
		break;
	case LATE_RETURN:
		put_late_return(t, late);
		break;
	case LATE_ACCESS:
	case LATE_LEADER:
		break;
	}
}

/* rcx - 1, as wide as the address size, without touching flags; of 16 bits above, nothing. */
static void put_count_down(struct translation *t)
{
	struct emit *e = &t->e;
	unsigned width = t->zi.address_width;

	if (width != 16) {
		emit_lea(e, width == 64, H_GUEST_RCX, H_GUEST_RCX, NO_REGISTER, 1, -1);
		return;
	}
	emit_lea(e, false, H_SCRATCH, H_GUEST_RCX, NO_REGISTER, 1, -1);
	put_gpr(t, RCX, 2, H_SCRATCH);
}

void put_loop(struct translation *t)
{
	struct emit *e = &t->e;
	bool loop = t->zi.mnemonic == ZYDIS_MNEMONIC_LOOP ||
		    t->zi.mnemonic == ZYDIS_MNEMONIC_LOOPE ||
		    t->zi.mnemonic == ZYDIS_MNEMONIC_LOOPNE;
	unsigned width = t->zi.address_width;
	u8 *other = NULL, *zero, *more;

	if (!t->flat) {
		put_near(t, near_loop, true);
		return;
	}
	if (loop)
		put_count_down(t);
	if (width == 64)
		emit_mov(e, H_SCRATCH, H_GUEST_RCX);
	else if (width == 32)
		emit_mov32(e, H_SCRATCH, H_GUEST_RCX);
	else
		emit_movzx16(e, H_SCRATCH, H_GUEST_RCX);
	if (t->zi.mnemonic == ZYDIS_MNEMONIC_LOOPE)
		put_short(e, SHORT_JNZ, &other);
	if (t->zi.mnemonic == ZYDIS_MNEMONIC_LOOPNE)
		put_short(e, SHORT_JZ, &other);
	zero = emit_jrcxz(e);
	more = emit_jmp(e);
	emit_jrcxz_here(e, zero);
	if (other)
		emit_jrcxz_here(e, other);
	if (loop)
		put_fall(t);
	else
		put_jump(t, relative_target(t), 0);
	emit_set_jump(more, e->at);
	if (loop)
		put_jump(t, relative_target(t), 0);
	else
		put_fall(t);
}
