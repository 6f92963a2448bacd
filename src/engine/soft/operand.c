/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory operands in translated code: the address as the instruction forms it, the
 * segment, and the probe of the TLB that makes it a host address. Also the two things that
 * everything in a block is made of: sites, and marks.
 *
 * Tour 6.400: An operand becomes a host address
 */
#include "engine/soft/translation.h"

#define OPERAND_BYTES 108 /* the longest: FRSTOR's */

const u8 register_home[16] = {
	H_RAX, H_GUEST_RCX, H_RDX,	H_RBX,	    H_GUEST_RSP, H_RBP, H_RSI, H_RDI,
	8,     NOT_A_HOME,  NOT_A_HOME, NOT_A_HOME, 12,		 13,	14,    NOT_A_HOME,
};

/* ------------------------------------------------------------------ events and jumps */

void put_site(struct emit *e, enum site_kind kind, u8 flags, u16 size, int32_t offset, u64 arg)
{
	struct site site = {
		.kind = kind, .flags = flags, .size = size, .offset = offset, .arg = arg};

	emit_call_event(e);
	__builtin_memcpy(e->at, &site, sizeof(site));
	e->at += sizeof(site);
}

void put_mark(struct translation *t, int32_t offset)
{
	t->mark[t->marks++] = (struct mark){
		.host = t->e.at + t->e.shift - t->block->code,
		.guest = offset - t->block->offset,
	};
}

/* ------------------------------------------------------------------ memory operands */

unsigned gpr_of(ZydisRegister reg)
{
	if (reg >= ZYDIS_REGISTER_RAX && reg <= ZYDIS_REGISTER_R15)
		return reg - ZYDIS_REGISTER_RAX;
	if (reg >= ZYDIS_REGISTER_EAX && reg <= ZYDIS_REGISTER_R15D)
		return reg - ZYDIS_REGISTER_EAX;
	if (reg >= ZYDIS_REGISTER_AX && reg <= ZYDIS_REGISTER_R15W)
		return reg - ZYDIS_REGISTER_AX;
	if (reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_R15B)
		return reg - ZYDIS_REGISTER_SPL + 4;
	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH)
		return reg - ZYDIS_REGISTER_AH;
	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_BL)
		return reg - ZYDIS_REGISTER_AL;
	return NO_REGISTER;
}

/* The general register that an operand is, or NO_REGISTER. */
unsigned operand_gpr(const ZydisDecodedOperand *operand)
{
	return operand->type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr_of(operand->reg.value)
							    : NO_REGISTER;
}

bool is_high_byte(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
}

unsigned segment_of(ZydisRegister reg)
{
	return reg == ZYDIS_REGISTER_NONE ? DS : (unsigned)(reg - ZYDIS_REGISTER_ES);
}

/* The host register that has this guest register: its home, or `scratch` loaded from the context.
 */
unsigned use_gpr(struct emit *e, unsigned gpr, unsigned scratch)
{
	if (gpr == NO_REGISTER)
		return NO_REGISTER;
	if (register_home[gpr] != NOT_A_HOME)
		return register_home[gpr];
	emit_load_gs(e, scratch, CTX_GPR + 8 * gpr);
	return scratch;
}

static bool fits_int32(s64 value)
{
	return value == (int32_t)value;
}

/* With addresses of 16 bits: r9 is one. */
void put_truncation(struct translation *t)
{
	if (t->zi.address_width == 16)
		emit_movzx16(&t->e, H_ADDRESS, H_ADDRESS);
}

/*
 * r9 = the effective address, without the segment, and not yet truncated to 16 bits. Uses r10, and
 * rcx if it must.
 */
void put_effective(struct translation *t, const ZydisDecodedOperand *operand, s64 more)
{
	struct emit *e = &t->e;
	s64 displacement = operand->mem.disp.value + more;
	unsigned base, index, scale = operand->mem.scale ? operand->mem.scale : 1;

	if (operand->mem.base == ZYDIS_REGISTER_RIP || operand->mem.base == ZYDIS_REGISTER_EIP) {
		emit_load_gs(e, H_ADDRESS, CTX_PAGE);
		displacement += t->next;
		base = H_ADDRESS;
		index = NO_REGISTER;
	} else {
		base = use_gpr(e, gpr_of(operand->mem.base), H_ADDRESS);
		index = use_gpr(e, gpr_of(operand->mem.index), H_ADDEND);
	}
	if (!fits_int32(displacement) && base == NO_REGISTER && index == NO_REGISTER) {
		emit_mov_imm64(e, H_ADDRESS, displacement);
		return;
	}
	if (!fits_int32(displacement)) {
		/* At the end of what rip can reach, or rsp after a pop. */
		emit_mov_imm64(e, H_SCRATCH, displacement);
		if (index != NO_REGISTER)
			emit_lea(e, true, H_SCRATCH, H_SCRATCH, index, scale, 0);
		index = H_SCRATCH;
		scale = 1;
		displacement = 0;
	}
	/* A move takes no time at all. */
	if (index == NO_REGISTER && !displacement && is_address64(t) && base != NO_REGISTER)
		emit_mov(e, H_ADDRESS, base);
	else
		emit_lea(e, is_address64(t), H_ADDRESS, base, index, scale, displacement);
}

/* r9: from an offset in the segment to a linear address; outside 64-bit mode begin_access() does
 * it.
 */
void put_segment(struct translation *t, const ZydisDecodedOperand *operand)
{
	struct emit *e = &t->e;
	unsigned segment = segment_of(operand->mem.segment);

	put_truncation(t);
	t->segment = NO_SEGMENT;
	if (!t->wide) {
		t->segment = segment;
		t->masked = evex_masked(t, operand);
		t->wraps = t->zi.address_width != 16 &&
			   (operand->mem.base || operand->mem.index ||
			    (u32)operand->mem.disp.value > UINT32_MAX - OPERAND_BYTES);
	} else if (segment == FS || segment == GS) {
		emit_load_gs(e, H_SCRATCH, CTX_BASE + 8 * segment);
		emit_lea(e, true, H_ADDRESS, H_ADDRESS, H_SCRATCH, 1, 0);
	}
}

void put_address(struct translation *t, const ZydisDecodedOperand *operand, s64 more)
{
	put_effective(t, operand, more);
	put_segment(t, operand);
}

bool is_stack(const ZydisDecodedOperand *operand)
{
	return operand->mem.segment == ZYDIS_REGISTER_SS;
}

static bool is_cache_maintenance(const struct translation *t)
{
	return t->zi.mnemonic == ZYDIS_MNEMONIC_CLFLUSH ||
	       t->zi.mnemonic == ZYDIS_MNEMONIC_CLFLUSHOPT || t->zi.mnemonic == ZYDIS_MNEMONIC_CLWB;
}

static void put_segment_event(struct translation *t, unsigned size, bool write, u8 flags)
{
	struct masked masked;
	u64 arg;

	__builtin_memcpy(&masked, &t->masked, sizeof(masked));
	masked.segment = t->segment | (write ? SEGMENT_WRITES : 0) |
			 (is_cache_maintenance(t) ? SEGMENT_CACHE : 0);
	__builtin_memcpy(&arg, &masked, sizeof(arg));
	put_site(&t->e, SITE_SEGMENT, flags, size, t->offset, arg);
}

/*
 * FS and GS without limits. They have one at 4 GiB, because they have a base (limit.c has the whole
 * of it): what goes over that is not for us.
 */
static void put_base(struct translation *t, unsigned size, bool write, u8 flags)
{
	struct emit *e = &t->e;
	u8 *inside, *done = NULL;

	if (t->wraps && size > 1) {
		emit_lea(e, true, H_SCRATCH, H_ADDRESS, NO_REGISTER, 1, size - 1);
		emit_rorx(e, H_SCRATCH, H_SCRATCH, 32);
		emit_mov32(e, H_SCRATCH, H_SCRATCH);
		inside = emit_jrcxz(e);
		put_segment_event(t, size, write, flags);
		put_short(e, SHORT_JMP, &done);
		emit_jrcxz_here(e, inside);
	}
	emit_load_gs(e, H_SCRATCH, CTX_BASE + 8 * t->segment);
	emit_lea(e, false, H_ADDRESS, H_ADDRESS, H_SCRATCH, 1, 0);
	if (done)
		emit_jrcxz_here(e, done);
}

/* r9: what put_segment() left to do, now that it is known what for. */
static void put_linear(struct translation *t, unsigned size, bool write, u8 flags)
{
	unsigned segment = t->segment;

	if (segment == NO_SEGMENT)
		return;
	if (segment == FS || segment == GS) {
		if (t->mode & (segment == FS ? MODE_FS_FLAT : MODE_GS_FLAT))
			put_base(t, size, write, flags);
		else
			put_segment_event(t, size, write, flags);
	} else if (!t->flat || (segment == CS && write)) {
		put_segment_event(t, size, write, flags);
	}
	t->segment = NO_SEGMENT;
}

static bool is_aligned_only(const struct translation *t, unsigned size)
{
	return t->mode & MODE_ALIGN && (size == 2 || size == 4 || size == 8);
}

void put_short(struct emit *e, u8 opcode, u8 **distance)
{
	emit_u8(e, opcode);
	emit_u8(e, 0);
	*distance = e->at - 1;
}

/* rcx = 0 if that byte of the access, at r9 + r10, is surely in RAM. */
static void put_check_byte(struct emit *e, unsigned byte)
{
	emit_load_gs(e, H_SCRATCH, CTX_CHECKBASE);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
	emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDEND, 1, byte);
	emit_pext_gs(e, H_SCRATCH, H_SCRATCH, CTX_CHECKMASK);
}

/* The checking build: are r9 + r10 and what is behind it the guest's? Only rcx changes. */
static void put_check(struct translation *t, unsigned size)
{
	struct emit *e = &t->e;
	u8 *first, *last, *outside;

	put_check_byte(e, 0);
	first = emit_jrcxz(e);
	put_short(e, SHORT_JMP, &outside);
	emit_jrcxz_here(e, first);
	put_check_byte(e, size - 1);
	last = emit_jrcxz(e);
	emit_jrcxz_here(e, outside);
	put_site(e, SITE_CHECK, 0, size, t->offset, 0);
	emit_jrcxz_here(e, last);
}

void put_with_table(struct translation *t, bool w, u8 opcode, unsigned extension, u32 table)
{
	if (t->user)
		emit_op_indexed(&t->e, w, opcode, extension, H_RSP, H_ADDEND, table);
	else
		emit_op_gs_indexed(&t->e, w, opcode, extension, H_ADDEND, table);
}

void put_from_table(struct translation *t, unsigned reg, u32 table)
{
	put_with_table(t, true, OPCODE_LOAD, reg, table);
}

/* r10 = which entry of the TLB is for the address in that register. */
static void put_index(struct translation *t, unsigned address)
{
	u32 mask = t->tlb + offsetof(struct tlb, mask);

	if (t->user)
		emit_pext_memory(&t->e, H_ADDEND, address, H_RSP, mask);
	else
		emit_pext_gs(&t->e, H_ADDEND, address, mask);
}

void put_lookup(struct translation *t, unsigned address, bool write)
{
	u32 part = t->tlb + offsetof(struct tlb, part[write ? TLB_WRITE : TLB_READ]);

	put_index(t, address);
	put_from_table(t, H_SCRATCH, part + offsetof(struct tlb_part, tag));
	put_from_table(t, H_ADDEND, part + offsetof(struct tlb_part, addend));
}

/*
 * The probe itself: r9 plus `low` is the first of so many bytes. It skips the jump that is put
 * here, and whose distance is returned, if they are all there; r10 is the addend then.
 *
 * A hit costs six instructions: PEXT for the index, two loads, an addition, a shift, JRCXZ.
 *
 * Tour 6.401: The probe, in six host instructions
 */
static u8 *put_probe(struct translation *t, int32_t low, unsigned length, bool write)
{
	struct emit *e = &t->e;
	u8 *hit, *jump;

	if (low)
		emit_lea(e, true, H_ADDEND, H_ADDRESS, NO_REGISTER, 1, low);
	put_lookup(t, low ? H_ADDEND : H_ADDRESS, write);
	if (is_aligned_only(t, length)) {
		emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
		emit_pext_gs(e, H_SCRATCH, H_SCRATCH, CTX_ALIGN + 8 * (__builtin_ctz(length) - 1));
	} else {
		emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, low + (s64)length - 1);
		emit_shrx(e, H_SCRATCH, H_SCRATCH, H_RSP);
	}
	hit = emit_jrcxz(e);
	jump = emit_jmp(e);
	emit_jrcxz_here(e, hit);
	return jump;
}

/*
 * The first access of a group asks for all of it; the others find what it was told: in r10, if
 * that was not used for anything else meanwhile.
 */
static void put_group(struct translation *t, struct group *group)
{
	struct emit *e = &t->e;

	if (group->live) {
		if (t->held != group)
			emit_load_gs(e, H_ADDEND, CTX_SLOT + 8 * group->slot);
		t->held = group;
		return;
	}
	t->late[t->lates++] = (struct late){
		.kind = LATE_LEADER,
		.jump = put_probe(t, group->low - group->at, group->high - group->low,
				  group->write),
		.leader = t->current,
		.view = t->view,
	};
	if (group->stored)
		emit_store_gs(e, CTX_SLOT + 8 * group->slot, H_ADDEND);
	group->live = true;
	t->held = group;
}

/*
 * r9 is an address: probe the TLB, so that r9 + r10 is where it is on the host. What is put
 * until end_access() may be run out of line instead, on a copy. See mmu_load() and mmu_store().
 */
struct late *begin_access(struct translation *t, unsigned size, bool write, u8 flags)
{
	struct group *group = group_of_access(t, size, write);
	struct late *late = &t->no_late;

	t->access++;
	if (group) {
		put_group(t, group);
	} else {
		t->held = NULL;
		put_linear(t, size, write, flags);
		late = &t->late[t->lates++];
		*late = (struct late){
			.kind = LATE_ACCESS,
			.write = write,
			.flags = flags,
			.size = size,
			.jump = put_probe(t, 0, size, write),
			.offset = t->offset,
			.next = t->next,
		};
	}
	late->begin = t->e.at;
	if (t->vcpu->soft->checked)
		put_check(t, size);
	put_mark(t, t->offset);
	return late;
}

bool begin_following(struct translation *t, unsigned size, bool write)
{
	struct group *group = group_of_access(t, size, write);

	/* The check wants the address. */
	if (!group || !group->live || t->vcpu->soft->checked)
		return false;
	t->access++;
	put_group(t, group);
	put_mark(t, t->offset);
	return true;
}

void end_access(struct translation *t, struct late *late)
{
	late->end = t->e.at;
}

void put_move_at(struct emit *e, bool store, unsigned size, unsigned reg, unsigned base,
		 int32_t displacement)
{
	if (size == 2)
		emit_u8(e, 0x66);
	emit_rex(e, size == 8, reg, H_ADDEND, base);
	emit_u8(e, (store ? 0x88 : 0x8a) + (size > 1));
	emit_memory(e, reg, base, H_ADDEND, 1, displacement);
}

void put_move(struct emit *e, bool store, unsigned size, unsigned reg)
{
	put_move_at(e, store, size, reg, H_ADDRESS, 0);
}

void put_load(struct translation *t, unsigned size, u8 flags, unsigned reg)
{
	struct late *late = begin_access(t, size, false, flags);

	put_move(&t->e, false, size, reg);
	end_access(t, late);
}
