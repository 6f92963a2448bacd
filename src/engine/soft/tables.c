/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptor tables: loading and storing the registers that point to them, and
 * looking into them on somebody's behalf (LAR, LSL, VERR, VERW).
 *
 * A descriptor is eight bytes in which the 80286 left two unused; the 386 put
 * what did not fit into those, and long mode put another eight bytes behind. So
 * a base address is collected from up to four places. Loading segment registers,
 * and transfers through these tables, are in segment.c; interrupts in
 * interrupt.c.
 *
 * Tour 6.760: Descriptor tables
 */
#include "engine/soft/segment.h"
#include "engine/soft/system.h"

/* Of a system descriptor's second eight bytes: where the type of another would be, 0. */
#define UPPER_TYPE (0x1full << 40)

/* What LAR shows of a descriptor's upper half: all that is neither base nor the limit's low part.
 */
#define LAR_RIGHTS 0x00ffff00u

#define OFFSET_ACCESS  5u /* of a descriptor's byte with the type */
#define ACCESS_DPL     5  /* bits in it: from here, two */
#define ACCESS_PRESENT (1u << 7)

/* ------------------------------------------------------------------ GDTR and IDTR */

/* A limit of 2 bytes and a base of 8 or 4. */
static bool store_table(struct vcpu *vcpu, const struct insn *insn,
			const struct descriptor_table *table)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) image = {table->limit, table->base};

	const unsigned length = vcpu_64bit(vcpu) ? 10 : 6;
	u64 address;

	/*
	 * The operand size is ignored: AMD APM 3, "SGDT". Intel's manual speaks of 24 bits, its
	 * processors of 32.
	 */
	return system_may_know(vcpu) &&
	       insn_access(vcpu, insn, 0, length, ACCESS_WRITE, &address) &&
	       mem_write(vcpu, address, &image, length, ACCESS_WRITE);
}

static bool load_table(struct vcpu *vcpu, const struct insn *insn, struct descriptor_table *table)
{
	bool wide = vcpu_64bit(vcpu);
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) image = {0, 0};
	const unsigned length = wide ? 10 : 6;
	u64 address;

	if (!system_privileged(vcpu) ||
	    !insn_access(vcpu, insn, 0, length, ACCESS_READ, &address) ||
	    !mem_read(vcpu, address, &image, length, ACCESS_READ))
		return false;
	if (!system_canonical(image.base))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (!wide && insn->opsize == 2)
		image.base &= 0xffffff;
	table->limit = image.limit;
	table->base = image.base;
	return true;
}

bool system_sgdt(struct vcpu *vcpu, const struct insn *insn)
{
	return store_table(vcpu, insn, &vcpu->gdt);
}

bool system_sidt(struct vcpu *vcpu, const struct insn *insn)
{
	return store_table(vcpu, insn, &vcpu->idt);
}

bool system_lgdt(struct vcpu *vcpu, const struct insn *insn)
{
	return load_table(vcpu, insn, &vcpu->gdt);
}

bool system_lidt(struct vcpu *vcpu, const struct insn *insn)
{
	return load_table(vcpu, insn, &vcpu->idt);
}

/* ------------------------------------------------------------------ LDTR and TR */

/*
 * What LLDT and LTR have in common: a system descriptor in the GDT, of 16 bytes in long mode. Types
 * are the caller's to check, and to do so before presence.
 */
static bool find_system(struct vcpu *vcpu, u16 selector, struct descriptor *descriptor)
{
	u32 error = selector_error(selector);
	u64 upper = 0;

	if (selector & SELECTOR_LOCAL)
		return raise_error(vcpu, VECTOR_GP, error);
	if (!descriptor_find(vcpu, selector, VECTOR_GP, 0, descriptor))
		return false;
	if (!vcpu_long_mode(vcpu))
		return true;
	if ((selector & SELECTOR_INDEX) + 15 > vcpu->gdt.limit)
		return raise_error(vcpu, VECTOR_GP, error);
	if (!mem_read_u64(vcpu, descriptor->address + 8, &upper, ACCESS_READ | ACCESS_SYSTEM))
		return false;
	descriptor->segment.base |= upper << 32;
	if (upper & UPPER_TYPE || !system_canonical(descriptor->segment.base))
		return raise_error(vcpu, VECTOR_GP, error);
	return true;
}

/* The r/m operand of an instruction that only exists in protected mode. */
static bool selector_operand(struct vcpu *vcpu, const struct insn *insn, u16 *selector)
{
	u64 value;

	if (!system_protected(vcpu))
		return raise_fault(vcpu, VECTOR_UD);
	if (!rm_read(vcpu, insn, 2, &value))
		return false;
	*selector = value;
	return true;
}

/* The same, for the kernel only: that is asked before memory is touched. */
static bool system_selector(struct vcpu *vcpu, const struct insn *insn, u16 *selector)
{
	if (system_protected(vcpu) && !system_privileged(vcpu))
		return false;
	return selector_operand(vcpu, insn, selector);
}

bool system_lldt(struct vcpu *vcpu, const struct insn *insn)
{
	struct descriptor ldt = {0};
	u16 selector = 0;

	if (!system_selector(vcpu, insn, &selector))
		return false;
	if (selector_is_null(selector)) {
		vcpu->ldt = (struct segment){.selector = selector};
		return true;
	}
	if (!find_system(vcpu, selector, &ldt))
		return false;
	if (ldt.segment.s || ldt.segment.type != SYSTEM_LDT)
		return raise_error(vcpu, VECTOR_GP, selector_error(selector));
	if (!ldt.segment.present)
		return raise_error(vcpu, VECTOR_NP, selector_error(selector));
	vcpu->ldt = ldt.segment;
	return true;
}

static bool is_available_tss(const struct vcpu *vcpu, const struct segment *segment)
{
	return !segment->s && (segment->type == SYSTEM_TSS ||
			       (segment->type == SYSTEM_TSS_16 && !vcpu_long_mode(vcpu)));
}

bool system_ltr(struct vcpu *vcpu, const struct insn *insn)
{
	struct descriptor tss = {0};
	u16 selector = 0;
	u8 access;

	if (!system_selector(vcpu, insn, &selector))
		return false;
	if (selector_is_null(selector))
		return raise_error(vcpu, VECTOR_GP, 0);
	if (!find_system(vcpu, selector, &tss))
		return false;
	if (!is_available_tss(vcpu, &tss.segment))
		return raise_error(vcpu, VECTOR_GP, selector_error(selector));
	if (!tss.segment.present)
		return raise_error(vcpu, VECTOR_NP, selector_error(selector));
	/* One task at a time: so says the table from now on. */
	tss.segment.type |= SYSTEM_BUSY;
	access = tss.segment.type | tss.segment.dpl << ACCESS_DPL | ACCESS_PRESENT;
	if (!mem_write(vcpu, tss.address + OFFSET_ACCESS, &access, 1, ACCESS_WRITE | ACCESS_SYSTEM))
		return false;
	vcpu->tr = tss.segment;
	return true;
}

static bool store_selector(struct vcpu *vcpu, const struct insn *insn, u16 selector)
{
	if (!system_protected(vcpu))
		return raise_fault(vcpu, VECTOR_UD);
	return system_may_know(vcpu) &&
	       rm_write(vcpu, insn, insn->has_memory ? 2 : insn->opsize, selector);
}

bool system_sldt(struct vcpu *vcpu, const struct insn *insn)
{
	return store_selector(vcpu, insn, vcpu->ldt.selector);
}

bool system_str(struct vcpu *vcpu, const struct insn *insn)
{
	return store_selector(vcpu, insn, vcpu->tr.selector);
}

/* ------------------------------------------------------------------ LAR, LSL, VERR, VERW */

/* False: a fault on the way. *found false: no such descriptor, which is an answer, not a fault. */
static bool peek(struct vcpu *vcpu, const struct insn *insn, struct descriptor *descriptor,
		 bool *found)
{
	u32 limit = vcpu->gdt.limit;
	u16 selector = 0;

	if (!selector_operand(vcpu, insn, &selector))
		return false;
	*found = false;
	if (selector & SELECTOR_LOCAL) {
		if (!vcpu->ldt.present)
			return true;
		limit = vcpu->ldt.limit;
	}
	if (selector_is_null(selector) || (selector & SELECTOR_INDEX) + 7u > limit)
		return true;
	*found = true;
	return descriptor_find(vcpu, selector, VECTOR_GP, 0, descriptor);
}

/* What LAR and LSL tell about, among system descriptors: bits by type. */
static bool tells_rights(const struct vcpu *vcpu, unsigned type)
{
	u32 both = 1u << SYSTEM_LDT | 1u << SYSTEM_TSS | 1u << SYSTEM_TSS_BUSY |
		   1u << SYSTEM_CALL_GATE;
	u32 legacy = 1u << SYSTEM_TSS_16 | 1u << SYSTEM_TSS_16_BUSY | 1u << SYSTEM_CALL_GATE_16 |
		     1u << SYSTEM_TASK_GATE;

	return (both | (vcpu_long_mode(vcpu) ? 0 : legacy)) >> type & 1;
}

static bool tells_limit(const struct vcpu *vcpu, unsigned type)
{
	u32 gates = 1u << SYSTEM_CALL_GATE | 1u << SYSTEM_CALL_GATE_16 | 1u << SYSTEM_TASK_GATE;

	return tells_rights(vcpu, type) && !(gates >> type & 1);
}

/* Conforming code is everybody's; of all else one needs the privilege, under both names. */
static bool may_see(const struct vcpu *vcpu, const struct segment *segment)
{
	return segment_is_conforming(segment) ||
	       (segment->dpl >= vcpu->cpl && segment->dpl >= (segment->selector & SELECTOR_RPL));
}

/* The same for what LAR and LSL tell about: code, data, and such system descriptors. */
static bool peek_visible(struct vcpu *vcpu, const struct insn *insn, struct descriptor *at,
			 bool (*tells)(const struct vcpu *vcpu, unsigned type), bool *found)
{
	if (!peek(vcpu, insn, at, found))
		return false;
	*found = *found && may_see(vcpu, &at->segment) &&
		 (at->segment.s || tells(vcpu, at->segment.type));
	return true;
}

/* ZF is the answer; the register only changes with a good one. */
static bool answer(struct vcpu *vcpu, bool yes)
{
	vcpu->ctx.arith &= ~X86_EFLAGS_ZF;
	if (yes)
		vcpu->ctx.arith |= X86_EFLAGS_ZF;
	return true;
}

bool system_lar(struct vcpu *vcpu, const struct insn *insn)
{
	struct descriptor at = {0};
	bool found;

	if (!peek_visible(vcpu, insn, &at, tells_rights, &found))
		return false;
	if (found)
		gpr_write(vcpu, insn->reg, insn->opsize, at.raw >> 32 & LAR_RIGHTS);
	return answer(vcpu, found);
}

bool system_lsl(struct vcpu *vcpu, const struct insn *insn)
{
	struct descriptor at = {0};
	bool found;

	if (!peek_visible(vcpu, insn, &at, tells_limit, &found))
		return false;
	if (found)
		gpr_write(vcpu, insn->reg, insn->opsize, at.segment.limit);
	return answer(vcpu, found);
}

/* Data may always be read, code never be written; else the type's bit decides. */
static bool permits(const struct segment *segment, bool write)
{
	if (segment_is_code(segment))
		return !write && segment->type & TYPE_READABLE;
	return !write || segment->type & TYPE_WRITABLE;
}

static bool verify(struct vcpu *vcpu, const struct insn *insn, bool write)
{
	struct descriptor at = {0};
	bool found;

	if (!peek(vcpu, insn, &at, &found))
		return false;
	return answer(vcpu, found && at.segment.s && may_see(vcpu, &at.segment) &&
				    permits(&at.segment, write));
}

bool system_verr(struct vcpu *vcpu, const struct insn *insn)
{
	return verify(vcpu, insn, false);
}

bool system_verw(struct vcpu *vcpu, const struct insn *insn)
{
	return verify(vcpu, insn, true);
}
