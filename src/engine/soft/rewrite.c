/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that the translator knows by heart, because what they do to memory or to the
 * stack is more than their operands tell: LEA and XLAT, bit strings, PUSH and POP.
 *
 * Tour 6.250: Instructions that are known by heart
 */
#include "engine/soft/translation.h"

/* Write a host register to a guest one, as an operand of `size` bytes. Scratch registers only as
 * `from`. */
void put_gpr(struct translation *t, unsigned gpr, unsigned size, unsigned from)
{
	struct emit *e = &t->e;

	if (size == 4)
		emit_mov32(e, from, from);
	if (register_home[gpr] == NOT_A_HOME) {
		if (size == 2) {
			emit_u8(e, 0x66);
			emit_gs(e, OPCODE_STORE, false, from, CTX_GPR + 8 * gpr);
		} else {
			emit_store_gs(e, CTX_GPR + 8 * gpr, from);
		}
		return;
	}
	if (size == 2)
		emit_u8(e, 0x66);
	emit_rex(e, size == 8, from, 0, register_home[gpr]);
	emit_u8(e, 0x89);
	emit_modrm(e, 3, from, register_home[gpr]);
}

void put_lea(struct translation *t)
{
	unsigned size = t->zi.operand_width / 8;

	put_effective(t, &t->op[1], 0);
	put_truncation(t);
	put_gpr(t, gpr_of(t->op[0].reg.value), size, H_ADDRESS);
}

void put_mov_offset(struct translation *t)
{
	bool store = t->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
	const ZydisDecodedOperand *memory = &t->op[store ? 0 : 1];
	struct late *late;

	put_address(t, memory, 0);
	late = begin_access(t, memory->size / 8, store, 0);
	put_move(&t->e, store, memory->size / 8, H_RAX);
	end_access(t, late);
}

/* The bit may be far from where the operand says: 2^3 times as far as the register reaches. */
void put_bit_string(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedOperand *memory = &t->op[0];
	unsigned size = memory->size / 8, gpr = gpr_of(t->op[1].reg.value), reg;
	bool locked = t->zi.attributes & ZYDIS_ATTRIB_HAS_LOCK;
	struct late *late;

	put_effective(t, memory, 0);
	/* r9 += (register >> 4, 5, 6) * 2, 4, 8 */
	emit_mov_imm32(e, H_SCRATCH, size == 8 ? 6 : size == 4 ? 5 : 4);
	reg = use_gpr(e, gpr, H_ADDEND);
	if (size < 8) {
		emit_movsx(e, H_ADDEND, reg, size);
		reg = H_ADDEND;
	}
	emit_sarx(e, H_ADDEND, reg, H_SCRATCH);
	emit_lea(e, is_address64(t), H_ADDRESS, H_ADDRESS, H_ADDEND, size, 0);
	put_segment(t, memory);
	late = begin_access(t, size, operand_writes(memory),
			    SITE_READS | (is_stack(memory) ? SITE_STACK : 0) |
				    (locked ? SITE_LOCKED : 0));
	reg = use_gpr(e, gpr, H_SCRATCH);
	emit_pext_gs(e, H_SCRATCH, reg, CTX_LOW + (size == 8 ? 16 : size == 4 ? 8 : 0));
	if (locked)
		emit_u8(e, 0xf0);
	if (size == 2)
		emit_u8(e, 0x66);
	emit_rex(e, size == 8, H_SCRATCH, H_ADDEND, H_ADDRESS);
	emit_u8(e, 0x0f);
	emit_u8(e, t->zi.opcode);
	emit_memory(e, H_SCRATCH, H_ADDRESS, H_ADDEND, 1, 0);
	end_access(t, late);
}

void put_xlat(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedOperand *memory = &t->op[1];

	for (unsigned i = 0; i < t->zi.operand_count; i++)
		if (t->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
			memory = &t->op[i];
	emit_movzx8(e, H_ADDRESS, H_RAX);
	emit_lea(e, is_address64(t), H_ADDRESS, H_ADDRESS, H_RBX, 1, 0);
	put_segment(t, memory);
	put_load(t, 1, 0, H_RAX);
}

/*
 * Outside 64-bit mode there are eight vector registers, and the others keep what 64-bit mode left
 * in them. A move of 128 bits onto itself clears what is above.
 */
void put_zero(struct translation *t)
{
	const u8 vmovaps = 0x28, vxorps = 0x57;
	bool all = t->zi.mnemonic == ZYDIS_MNEMONIC_VZEROALL;

	for (unsigned i = 0; i < 8; i++) {
		emit_u8(&t->e, 0xc5);
		emit_u8(&t->e, 0x80 | (all ? ~i & 15 : 15) << 3);
		emit_u8(&t->e, all ? vxorps : vmovaps);
		emit_modrm(&t->e, 3, i, i);
	}
}

/* Stack operations are translated where the stack is flat. */
bool stack_is_flat(const struct translation *t)
{
	return t->wide || (t->mode & (MODE_FLAT | MODE_STACK_16)) == MODE_FLAT;
}

static unsigned stack_size(const struct translation *t)
{
	return t->zi.operand_width / 8;
}

/* r9 = where the stack is, plus that. */
void put_stack_address(struct translation *t, int32_t displacement)
{
	if (t->wide && !displacement)
		emit_mov(&t->e, H_ADDRESS, H_GUEST_RSP);
	else
		emit_lea(&t->e, t->wide, H_ADDRESS, H_GUEST_RSP, NO_REGISTER, 1, displacement);
}

void put_stack_move(struct translation *t, int32_t displacement)
{
	emit_lea(&t->e, t->wide, H_GUEST_RSP, H_GUEST_RSP, NO_REGISTER, 1, displacement);
}

/* A memory operand into gs:[CTX_TARGET]. */
static void put_operand_aside(struct translation *t, const ZydisDecodedOperand *memory,
			      unsigned size)
{
	put_address(t, memory, 0);
	put_load(t, size, is_stack(memory) ? SITE_STACK : 0, H_SCRATCH);
	emit_store_gs(&t->e, CTX_TARGET, H_SCRATCH);
}

/* The register that has what is pushed. */
static unsigned put_pushed(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedOperand *operand = &t->op[0];

	if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER)
		return use_gpr(e, gpr_of(operand->reg.value), H_SCRATCH);
	if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
		emit_load_gs(e, H_SCRATCH, CTX_TARGET);
	else
		emit_mov_imm64(e, H_SCRATCH, operand->imm.value.u);
	return H_SCRATCH;
}

/*
 * PUSH: a store below the stack pointer, which moves only when the store has been granted. So
 * a push that faults has not happened.
 *
 * Tour 6.251
 */
void put_push(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedOperand *operand = &t->op[0];
	unsigned size = stack_size(t);
	struct late *late;

	if (!stack_is_flat(t)) {
		put_near(t, near_push, false);
		return;
	}
	if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
		put_operand_aside(t, operand, size);
	if (begin_following(t, size, true)) {
		put_move_at(e, true, size, put_pushed(t), H_GUEST_RSP, -(int32_t)size);
		put_stack_move(t, -(int32_t)size);
		return;
	}
	put_stack_address(t, -(int32_t)size);
	late = begin_access(t, size, true, SITE_STACK);
	put_move(e, true, size, put_pushed(t));
	emit_mov(e, H_GUEST_RSP, H_ADDRESS);
	end_access(t, late);
}

/* Into a register: it gets its value last, for it may be rsp. */
static void put_pop_register(struct translation *t, unsigned gpr, unsigned size)
{
	struct emit *e = &t->e;
	unsigned home = register_home[gpr];

	if (!begin_following(t, size, false)) {
		put_stack_address(t, 0);
		put_load(t, size, SITE_STACK, H_SCRATCH);
	} else if (size == 8 && home != NOT_A_HOME && gpr != RSP) {
		put_move_at(e, false, size, home, H_GUEST_RSP, 0);
		put_stack_move(t, size);
		return;
	} else {
		put_move_at(e, false, size, H_SCRATCH, H_GUEST_RSP, 0);
	}
	put_stack_move(t, size);
	put_gpr(t, gpr, size, H_SCRATCH);
}

void put_pop(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedOperand *operand = &t->op[0];
	unsigned size = stack_size(t);
	struct late *late;

	if (!stack_is_flat(t)) {
		put_near(t, near_pop, false);
		return;
	}
	if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		put_pop_register(t, gpr_of(operand->reg.value), size);
		return;
	}
	put_stack_address(t, 0);
	put_load(t, size, SITE_STACK, H_SCRATCH);
	/* The address is that after the pop, but a fault must find rsp as it was. */
	emit_store_gs(e, CTX_TARGET, H_SCRATCH);
	put_address(t, operand, gpr_of(operand->mem.base) == RSP ? size : 0);
	late = begin_access(t, size, true, is_stack(operand) ? SITE_STACK : 0);
	emit_load_gs(e, H_SCRATCH, CTX_TARGET);
	put_move(e, true, size, H_SCRATCH);
	put_stack_move(t, size);
	end_access(t, late);
}

void put_leave(struct translation *t)
{
	struct emit *e = &t->e;
	unsigned size = stack_size(t);

	if (!stack_is_flat(t)) {
		put_near(t, near_leave, false);
		return;
	}
	emit_lea(e, t->wide, H_ADDRESS, H_RBP, NO_REGISTER, 1, 0);
	put_load(t, size, SITE_STACK, H_SCRATCH);
	emit_lea(e, t->wide, H_GUEST_RSP, H_RBP, NO_REGISTER, 1, size);
	put_gpr(t, RBP, size, H_SCRATCH);
}
