/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SYSCALL and SYSRET of 64-bit mode without C. What they mean is said in syscall.c, which also gets
 * ready what they load (struct crossing); here the same is copied, by code of the block that has
 * the instruction, and the way goes on through the jump cache of the other side. Segments and flags
 * are all there when it gets there: nobody who looks at struct vcpu can tell which way was taken.
 *
 * Each has a few questions first. While they are asked the flags are still the guest's, and one
 * wrong answer leads to the handler. Then the flags are about to be replaced, and any instruction
 * will do. Interrupts: behind SYSCALL there are none; SYSRET allows them at once, so one that waits
 * is for the handler. One that comes from here on finds the jump at the end, or the next one.
 *
 * Not asked: TF and RF, which are clear in all blocks but those of one instruction, which are not
 * made here. `--soft-without=syscalls` leaves this out.
 *
 * Tour 6.790: System calls without C
 */
#include "engine/soft/system.h"
#include "engine/soft/translation.h"

#define OPCODE_OR     0x0b
#define OPCODE_AND    0x23
#define OPCODE_STORE8 0x88

_Static_assert(SS == CS + 1 && sizeof(struct segment) % 8 == 0,
	       "they are copied as words, at once");

#define H_AH 4 /* among registers of one byte, without REX */

/* What the opcode leaves to ModRM.reg. */
enum { EXTENSION_ADD = 0, EXTENSION_AND = 4, EXTENSION_SHL = 4, EXTENSION_SHR = 5 };

/* op reg32, value */
static void emit_alu_imm(struct emit *e, unsigned extension, unsigned reg, u32 value)
{
	emit_rex(e, false, 0, 0, reg);
	emit_u8(e, 0x81);
	emit_modrm(e, 3, extension, reg);
	emit_u32(e, value);
}

/* shl or shr reg32, count */
static void emit_shift(struct emit *e, unsigned extension, unsigned reg, u8 count)
{
	emit_rex(e, false, 0, 0, reg);
	emit_u8(e, 0xc1);
	emit_modrm(e, 3, extension, reg);
	emit_u8(e, count);
}

/* rcx += a byte of struct vcpu; uses r10. Nothing here is negative, so a sum is 0 if all are. */
static void put_and_byte(struct translation *t, u32 offset)
{
	emit_load_small_gs(&t->e, H_ADDEND, 1, offset);
	emit_lea(&t->e, true, H_SCRATCH, H_SCRATCH, H_ADDEND, 1, 0);
}

/* CS, SS, the privilege level and the mode are those of the other side. Flags stay. */
static void put_side(struct translation *t, u32 segments, unsigned cpl, u32 mode)
{
	struct emit *e = &t->e;

	for (u32 i = 0; i < 2 * sizeof(struct segment); i += sizeof(u64)) {
		emit_load_gs(e, H_SCRATCH, segments + i);
		emit_store_gs(e, VCPU(seg[CS]) + i, H_SCRATCH);
	}
	emit_store_imm_gs(e, 1, VCPU(cpl), cpl);
	emit_store_imm_gs(e, 4, VCPU(mode), mode);
}

/* ------------------------------------------------------------------ in */

/* RFLAGS into R11, and what the mask leaves of it into sysflags. */
static void put_flags_aside(struct translation *t)
{
	const u8 pushfq = 0x9c, pop_rcx = 0x58 | H_SCRATCH;
	struct emit *e = &t->e;

	emit_u8(e, pushfq);
	emit_u8(e, pop_rcx);
	emit_alu_imm(e, EXTENSION_AND, H_SCRATCH, FLAGS_ARITH);
	emit_gs(e, OPCODE_OR, true, H_SCRATCH, VCPU(sysflags));
	emit_load_small_gs(e, H_ADDRESS, 1, CTX_INTFLAG);
	emit_shift(e, EXTENSION_SHL, H_ADDRESS, X86_EFLAGS_IF_BIT);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
	emit_store_gs(e, CTX_GPR + 8 * 11, H_SCRATCH);
	emit_load_gs(e, H_ADDRESS, VCPU(sysflags));
	emit_gs(e, OPCODE_AND, true, H_ADDRESS, VCPU(crossing.kept));
	emit_store_gs(e, VCPU(sysflags), H_ADDRESS);
	emit_store_imm_gs(e, 1, CTX_INTFLAG, 0);
}

/* All arithmetic flags are clear: those of 1 + 0. */
static void put_no_flags(struct translation *t)
{
	emit_mov_imm32(&t->e, H_SCRATCH, 1);
	emit_alu_imm(&t->e, EXTENSION_ADD, H_SCRATCH, 0);
}

/*
 * The same as code of a block: some questions, a dozen moves, and a jump through the kernel's
 * jump cache. False: it is for the handler.
 *
 * Tour 6.791
 */
bool put_syscall(struct translation *t, const struct form *form)
{
	u32 mode = (t->mode & ~(MODE_VIEW | MODE_ALIGN)) + VIEW_KERNEL;
	struct emit *e = &t->e;

	if (without(t, WITHOUT_SYSCALLS) || !t->wide || !t->user)
		return false;
	translation_set_view(t, VIEW_KERNEL);
	put_check_of_cache(t, mode, form);
	put_direction(t);
	put_unless(t, form);
	emit_load_small_gs(e, H_SCRATCH, 1, VCPU(crossing.slow));
	put_unless(t, form);

	put_flags_aside(t);
	emit_load_gs(e, H_GUEST_RCX, CTX_PAGE);
	emit_lea(e, true, H_GUEST_RCX, H_GUEST_RCX, NO_REGISTER, 1, t->next);
	put_side(t, VCPU(crossing.kernel), 0, mode);
	put_no_flags(t);
	emit_load_gs(e, H_ADDRESS, VCPU(lstar));
	put_jump_indirect(t, 0);
	return true;
}

/* ------------------------------------------------------------------ out */

/* The flags in r9, of which none is odd. Uses rcx and r10. */
static void put_flags_back(struct translation *t)
{
	const u8 add_al = 0x04, sahf = 0x9e;
	struct emit *e = &t->e;

	emit_mov32(e, H_SCRATCH, H_ADDRESS);
	emit_shift(e, EXTENSION_SHR, H_SCRATCH, X86_EFLAGS_IF_BIT);
	emit_alu_imm(e, EXTENSION_AND, H_SCRATCH, 1);
	emit_gs(e, OPCODE_STORE8, false, H_SCRATCH, CTX_INTFLAG);
	emit_store_imm_gs(e, 8, VCPU(sysflags), X86_EFLAGS_FIXED);
	/* As in enter.S: OF by an addition, the others by SAHF. */
	emit_mov(e, H_ADDEND, H_RAX);
	emit_mov32(e, H_SCRATCH, H_ADDRESS);
	emit_mov32(e, H_RAX, H_ADDRESS);
	emit_shift(e, EXTENSION_SHR, H_RAX, X86_EFLAGS_OF_BIT);
	emit_alu_imm(e, EXTENSION_AND, H_RAX, 1);
	emit_u8(e, add_al);
	emit_u8(e, 0x7f);
	emit_u8(e, OPCODE_STORE8); /* mov ah, cl */
	emit_modrm(e, 3, H_SCRATCH, H_AH);
	emit_u8(e, sahf);
	emit_mov(e, H_RAX, H_ADDEND);
}

bool put_sysret(struct translation *t, const struct form *form)
{
	u32 mode = (t->mode & ~MODE_VIEW) | VIEW_USER;
	struct emit *e = &t->e;

	if (without(t, WITHOUT_SYSCALLS) || !t->wide || t->zi.operand_width != 64)
		return false;
	translation_set_view(t, VIEW_USER);
	put_check_of_cache(t, mode, form);
	put_direction(t);
	put_unless(t, form);
	emit_load_gs(e, H_ADDRESS, CTX_GPR + 8 * 11);
	emit_pext_gs(e, H_SCRATCH, H_ADDRESS, VCPU(crossing.odd));
	emit_pext_gs(e, H_ADDEND, H_GUEST_RCX, VCPU(crossing.high));
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDEND, 1, 0);
	emit_load32_gs(e, H_ADDEND, CTX_POLL);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDEND, 1, 0);
	put_and_byte(t, VCPU(interrupt_waiting));
	put_and_byte(t, VCPU(crossing.slow));
	put_unless(t, form);

	put_side(t, VCPU(crossing.user), 3, mode);
	put_flags_back(t);
	emit_mov(e, H_ADDRESS, H_GUEST_RCX);
	put_jump_indirect(t, 0);
	return true;
}
