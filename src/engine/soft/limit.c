/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is this offset inside its segment, and may one do that there?
 *
 * In 64-bit mode the question is not asked. Elsewhere nearly all segments are flat,
 * and then it need not be: vcpu_update_mode() finds that out when a segment is
 * loaded (segment_is_flat()), and translated code adds a base, or not even that.
 * What is left comes here: real mode, 16-bit programs, null selectors, and handlers
 * in C, which have time. Translated code asks by SITE_SEGMENT, everybody else by
 * name.
 *
 * Loading segments is segment.c's; the page tables have their say afterwards.
 *
 * Tour 6.920: Limits of segments
 */
#include "engine/soft/segment.h"

bool segment_reaches(const struct segment *segment, u64 base, u64 offset, unsigned length)
{
	u64 last = offset + length - 1;

	if (segment->s && !(segment->type & TYPE_CODE) && segment->type & TYPE_EXPAND_DOWN)
		return offset > segment->limit && last <= (segment->db ? UINT32_MAX : UINT16_MAX);
	/*
	 * At the end of 4 GiB manuals leave it open, and the silicon looks at the base: an operand
	 * goes on at 0 if that is 0.
	 */
	return last <= segment->limit || (segment->limit == UINT32_MAX && !base);
}

bool segment_permits(const struct segment *segment, bool write)
{
	if (!segment->present || !segment->s)
		return false;
	if (segment->type & TYPE_CODE)
		return !write && segment->type & TYPE_READABLE;
	return !write || segment->type & TYPE_WRITABLE;
}

bool segment_is_flat(const struct vcpu *vcpu, unsigned which)
{
	const struct segment *segment = &vcpu->seg[which];

	if (segment->limit != UINT32_MAX)
		return false;
	if (!system_protected(vcpu))
		return true;
	return segment_permits(segment, which != CS) &&
	       !(!(segment->type & TYPE_CODE) && segment->type & TYPE_EXPAND_DOWN);
}

/* Real mode knows no rights, only limits: Intel SDM 3B, "Real-Address Mode Operation". */
bool segment_access(struct vcpu *vcpu, unsigned which, u64 offset, unsigned length,
		    enum access access, u64 *linear)
{
	const struct segment *segment = &vcpu->seg[which];

	if (vcpu_64bit(vcpu)) {
		*linear = offset + (which == FS || which == GS ? vcpu->ctx.base[which] : 0);
		return true;
	}
	if ((system_protected(vcpu) && !segment_permits(segment, access & ACCESS_WRITE)) ||
	    !segment_reaches(segment, vcpu->ctx.base[which], offset, length))
		return raise_error(vcpu, which == SS ? VECTOR_SS : VECTOR_GP, 0);
	*linear = (u32)(vcpu->ctx.base[which] + offset);
	return true;
}

static u64 insn_offset(const struct vcpu *vcpu, const struct insn *insn)
{
	u64 offset = insn->displacement;

	if (insn->base == OPERAND_RIP)
		offset += vcpu->insn_rip + insn->length;
	else if (insn->base != OPERAND_NONE)
		offset += vcpu->ctx.gpr[insn->base];
	if (insn->index != OPERAND_NONE)
		offset += vcpu->ctx.gpr[insn->index] * insn->scale;
	return offset & width_mask(insn->addrsize);
}

u64 insn_address(const struct vcpu *vcpu, const struct insn *insn)
{
	u64 offset = insn_offset(vcpu, insn);

	if (!vcpu_64bit(vcpu))
		return (u32)(offset + vcpu->ctx.base[insn->segment]);
	if (insn->segment == FS || insn->segment == GS)
		offset += vcpu->ctx.base[insn->segment];
	return offset;
}

bool insn_access(struct vcpu *vcpu, const struct insn *insn, unsigned at, unsigned length,
		 enum access access, u64 *address)
{
	return segment_access(vcpu, insn->segment, insn_offset(vcpu, insn) + at, length, access,
			      address);
}
