/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What 64-bit mode has no more, so that the host's CPU cannot do it for us: decimal
 * arithmetic, BOUND, ARPL, and SALC, which Intel did not even document. The only
 * instructions in this folder that are computed in C.
 *
 * Manuals call some of the flags undefined. The silicon always does the same; so do we. Handlers,
 * called from translated code; PUSHA and POPA are in near.c.
 *
 * Tour 6.950: What 64-bit mode has no more
 */
#include "engine/soft/segment.h"

#define SIGN_BIT 0x80u
#define NIBBLE	 0xfu

/* SF, ZF and PF of a byte. */
static u64 result_flags(u8 result)
{
	u64 flags = result & SIGN_BIT ? X86_EFLAGS_SF : 0;

	if (!result)
		flags |= X86_EFLAGS_ZF;
	if (!__builtin_parity(result))
		flags |= X86_EFLAGS_PF;
	return flags;
}

static void set_flags(struct vcpu *vcpu, u8 result, u64 others)
{
	vcpu->ctx.arith = result_flags(result) | others;
}

/* ------------------------------------------------------------------ decimal arithmetic */

/* Is the lower digit none, or did it carry? */
static bool wants_adjustment(const struct vcpu *vcpu)
{
	return (vcpu->ctx.gpr[RAX] & NIBBLE) > 9 || vcpu->ctx.arith & X86_EFLAGS_AF;
}

/* AAA and AAS: a digit in AL, what it carries to AH. */
static bool adjust_unpacked(struct vcpu *vcpu, int adjustment)
{
	const u16 digit_mask = 0xff0f;
	bool adjust = wants_adjustment(vcpu);
	u16 ax = vcpu->ctx.gpr[RAX];

	if (adjust)
		ax += adjustment;
	ax &= digit_mask;
	gpr_write(vcpu, RAX, sizeof(ax), ax);
	set_flags(vcpu, ax, adjust ? X86_EFLAGS_CF | X86_EFLAGS_AF : 0);
	return true;
}

bool legacy_aaa(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	return adjust_unpacked(vcpu, 0x106);
}

bool legacy_aas(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	return adjust_unpacked(vcpu, -0x106);
}

/* DAA and DAS: two digits in AL. */
static bool adjust_packed(struct vcpu *vcpu, bool subtract)
{
	const u8 last = 0x99;
	u8 al = vcpu->ctx.gpr[RAX], adjustment = 0;
	u64 flags = 0;

	if (wants_adjustment(vcpu)) {
		adjustment = 6;
		flags |= X86_EFLAGS_AF;
		if (subtract && al < adjustment)
			flags |= X86_EFLAGS_CF;
	}
	if (al > last || vcpu->ctx.arith & X86_EFLAGS_CF) {
		adjustment += 0x60;
		flags |= X86_EFLAGS_CF;
	}
	al = subtract ? al - adjustment : al + adjustment;
	gpr_write(vcpu, RAX, sizeof(al), al);
	set_flags(vcpu, al, flags);
	return true;
}

bool legacy_daa(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	return adjust_packed(vcpu, false);
}

bool legacy_das(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	return adjust_packed(vcpu, true);
}

/* The number base is an operand, though the name has ten in mind. */
bool legacy_aam(struct vcpu *vcpu, const struct insn *insn)
{
	u8 base = insn->immediate, al = vcpu->ctx.gpr[RAX];

	if (!base)
		return raise_fault(vcpu, VECTOR_DE);
	gpr_write(vcpu, RAX, sizeof(u16), (al / base) << 8 | al % base);
	set_flags(vcpu, al % base, 0);
	return true;
}

/* The flags are those of the addition. */
bool legacy_aad(struct vcpu *vcpu, const struct insn *insn)
{
	u16 ax = vcpu->ctx.gpr[RAX];
	u8 al = ax, more = (ax >> 8) * insn->immediate, sum = al + more;
	u64 flags = (al ^ more ^ sum) & X86_EFLAGS_AF;

	if (sum < al)
		flags |= X86_EFLAGS_CF;
	if (~(al ^ more) & (al ^ sum) & SIGN_BIT)
		flags |= X86_EFLAGS_OF;
	gpr_write(vcpu, RAX, sizeof(ax), sum);
	set_flags(vcpu, sum, flags);
	return true;
}

/* AL = CF ? 0xff : 0. */
bool legacy_salc(struct vcpu *vcpu, const struct insn *insn)
{
	(void)insn;
	gpr_write(vcpu, RAX, 1, vcpu->ctx.arith & X86_EFLAGS_CF ? UINT8_MAX : 0);
	return true;
}

/* ------------------------------------------------------------------ bounds and privilege */

static s64 sign_extend(u64 value, unsigned size)
{
	return size == 2 ? (int16_t)value : (int32_t)value;
}

/* Two signed words in memory: the least index, and the greatest. */
bool legacy_bound(struct vcpu *vcpu, const struct insn *insn)
{
	unsigned size = insn->opsize;
	s64 index = sign_extend(gpr_read(vcpu, insn->reg, size), size);
	u64 address, bounds = 0;

	if (!insn_access(vcpu, insn, 0, 2 * size, ACCESS_READ, &address) ||
	    !mem_read(vcpu, address, &bounds, 2 * size, ACCESS_READ))
		return false;
	return (index >= sign_extend(bounds, size) &&
		index <= sign_extend(bounds >> 8 * size, size)) ||
	       raise_fault(vcpu, VECTOR_BR);
}

/* A selector that somebody gave us shall not have more privilege than he has. */
bool legacy_arpl(struct vcpu *vcpu, const struct insn *insn)
{
	u64 selector;
	u16 theirs = gpr_read(vcpu, insn->reg, sizeof(theirs)) & SELECTOR_RPL;

	if (!system_protected(vcpu))
		return raise_fault(vcpu, VECTOR_UD);
	if (!rm_read(vcpu, insn, sizeof(u16), &selector))
		return false;
	if ((selector & SELECTOR_RPL) >= theirs) {
		vcpu->ctx.arith &= ~(u64)X86_EFLAGS_ZF;
		return true;
	}
	if (!rm_write(vcpu, insn, sizeof(u16), (selector & ~SELECTOR_RPL) | theirs))
		return false;
	vcpu->ctx.arith |= X86_EFLAGS_ZF;
	return true;
}
