/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator: a guest's basic block becomes a host's.
 *
 * It knows what few instructions do, and of all others only where their operands
 * live. Registers are renamed where the guest's cannot be in the host's of the same
 * name, a memory operand becomes r9 + r10 behind a probe of the TLB, and the rest
 * of the instruction is copied bit by bit. The probes and all that we add leave the
 * flags alone.
 *
 * What is rare - TLB misses, jumps that are not linked, system instructions - is an
 * event: a call with a struct site behind it, out of line where possible.
 */
#include "engine/soft/forms.h"
#include "engine/soft/translate.h"

#include <stddef.h>

#define LATE_MAX   (BLOCK_INSNS * 3)
#define MARKS_MAX  (BLOCK_INSNS * 4)
#define NOT_A_HOME NO_REGISTER

/* Where the guest's registers live while it runs: see context.h. */
static const u8 home[16] = {
	H_RAX, H_GUEST_RCX, H_RDX,	H_RBX,	    H_GUEST_RSP, H_RBP, H_RSI, H_RDI,
	8,     NOT_A_HOME,  NOT_A_HOME, NOT_A_HOME, 12,		 13,	14,    NOT_A_HOME,
};

/* What goes behind the block's end. */
struct late {
	enum { LATE_ACCESS, LATE_LINK } kind;
	bool write;
	u8 flags;
	u16 size;
	u8 *jump;	 /* the distance of the jump that leads here */
	u8 *begin, *end; /* the instruction itself, for accesses */
	int32_t offset, next;
	struct link *link;
};

struct translation {
	struct vcpu *vcpu;
	struct emit e;
	struct block *block;
	u32 mode;
	bool wide;	 /* 64-bit mode */
	u32 tlb, jump;	 /* offsets in the context of the view's */
	const u8 *bytes; /* of this instruction */
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	int32_t offset, next; /* of this instruction and the one behind, from ctx.page */
	bool ended;
	enum form_unit unit; /* of this instruction */
	unsigned links;
	unsigned lates, marks;
	struct late late[LATE_MAX];
	struct mark mark[MARKS_MAX];
};

/* ------------------------------------------------------------------ events and jumps */

static void put_site(struct emit *e, enum site_kind kind, u8 flags, u16 size, int32_t offset,
		     u64 arg)
{
	struct site site = {
		.kind = kind, .flags = flags, .size = size, .offset = offset, .arg = arg};

	emit_call_event(e);
	__builtin_memcpy(e->at, &site, sizeof(site));
	e->at += sizeof(site);
}

static void mark(struct translation *t, int32_t offset)
{
	t->mark[t->marks++] = (struct mark){
		.host = t->e.at + t->e.shift - t->block->code,
		.guest = offset - t->block->offset,
	};
}

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

static void put_jump(struct translation *t, int32_t target)
{
	put_jump_undo(t, target, 0);
}

/* ------------------------------------------------------------------ memory operands */

static unsigned gpr_of(ZydisRegister reg)
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
static unsigned operand_gpr(const ZydisDecodedOperand *operand)
{
	return operand->type == ZYDIS_OPERAND_TYPE_REGISTER ? gpr_of(operand->reg.value)
							    : NO_REGISTER;
}

static bool is_high_byte(ZydisRegister reg)
{
	return reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH;
}

static unsigned segment_of(ZydisRegister reg)
{
	return reg == ZYDIS_REGISTER_NONE ? DS : (unsigned)(reg - ZYDIS_REGISTER_ES);
}

/* The host register that has this guest register: its home, or `scratch` loaded from the context.
 */
static unsigned use_gpr(struct emit *e, unsigned gpr, unsigned scratch)
{
	if (gpr == NO_REGISTER)
		return NO_REGISTER;
	if (home[gpr] != NOT_A_HOME)
		return home[gpr];
	emit_load_gs(e, scratch, CTX_GPR + 8 * gpr);
	return scratch;
}

static bool fits_int32(s64 value)
{
	return value == (int32_t)value;
}

/* Addresses of 64 bits; else the upper half is clear. */
static bool is_address64(const struct translation *t)
{
	return t->zi.address_width == 64;
}

/* With addresses of 16 bits: r9 is one. */
static void put_truncation(struct translation *t)
{
	if (t->zi.address_width == 16)
		emit_movzx16(&t->e, H_ADDRESS, H_ADDRESS);
}

/*
 * r9 = the effective address, without the segment, and not yet truncated to 16 bits. Uses r10, and
 * rcx if it must.
 */
static void put_effective(struct translation *t, const ZydisDecodedOperand *operand, s64 more)
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
	emit_lea(e, is_address64(t), H_ADDRESS, base, index, scale, displacement);
}

/* r9: from an offset in the segment to a linear address. */
static void put_segment(struct translation *t, const ZydisDecodedOperand *operand)
{
	struct emit *e = &t->e;
	unsigned segment = segment_of(operand->mem.segment);

	put_truncation(t);
	if (segment == FS || segment == GS || (!t->wide && !(t->mode & MODE_FLAT))) {
		emit_load_gs(e, H_SCRATCH, CTX_BASE + 8 * segment);
		emit_lea(e, t->wide, H_ADDRESS, H_ADDRESS, H_SCRATCH, 1, 0);
	}
}

/* r9 = the linear address of a memory operand. */
static void put_address(struct translation *t, const ZydisDecodedOperand *operand, s64 more)
{
	put_effective(t, operand, more);
	put_segment(t, operand);
}

static bool is_stack(const ZydisDecodedOperand *operand)
{
	return operand->mem.segment == ZYDIS_REGISTER_SS;
}

static bool is_aligned_only(const struct translation *t, unsigned size)
{
	return t->mode & MODE_ALIGN && (size == 2 || size == 4 || size == 8);
}

#define SHORT_JNZ 0x75
#define SHORT_JZ  0x74
#define SHORT_JMP 0xeb

static void put_short(struct emit *e, u8 opcode, u8 **distance)
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

/*
 * r9 is an address: probe the TLB, so that r9 + r10 is where it is on the host. What is put
 * until end_access() may be run out of line instead, on a copy. See mmu_load() and mmu_store().
 */
static struct late *begin_access(struct translation *t, unsigned size, bool write, u8 flags)
{
	struct emit *e = &t->e;
	struct late *late = &t->late[t->lates++];
	u8 *hit;

	emit_pext_gs(e, H_ADDEND, H_ADDRESS, CTX_TLBMASK);
	emit_load_gs_indexed(
		e, H_SCRATCH, H_ADDEND,
		t->tlb + (write ? offsetof(struct tlb, write) : offsetof(struct tlb, read)));
	if (is_aligned_only(t, size)) {
		emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, 0);
		emit_pext_gs(e, H_SCRATCH, H_SCRATCH, CTX_ALIGN + 8 * (__builtin_ctz(size) - 1));
	} else {
		emit_lea(e, true, H_SCRATCH, H_SCRATCH, H_ADDRESS, 1, size - 1);
		emit_pext_gs(e, H_SCRATCH, H_SCRATCH, CTX_PAGEMASK);
	}
	hit = emit_jrcxz(e);
	*late = (struct late){
		.kind = LATE_ACCESS,
		.write = write,
		.flags = flags,
		.size = size,
		.jump = emit_jmp(e),
		.offset = t->offset,
		.next = t->next,
	};
	emit_jrcxz_here(e, hit);
	emit_load_gs_indexed(e, H_ADDEND, H_ADDEND, t->tlb + offsetof(struct tlb, addend));
	late->begin = e->at;
	if (t->vcpu->soft->checked)
		put_check(t, size);
	mark(t, t->offset);
	return late;
}

static void end_access(struct translation *t, struct late *late)
{
	late->end = t->e.at;
}

/* mov [r9 + r10], reg, or the other way round. */
static void put_move(struct emit *e, bool store, unsigned size, unsigned reg)
{
	if (size == 2)
		emit_u8(e, 0x66);
	emit_rex(e, size == 8, reg, H_ADDEND, H_ADDRESS);
	emit_u8(e, (store ? 0x88 : 0x8a) + (size > 1));
	emit_memory(e, reg, H_ADDRESS, H_ADDEND, 1, 0);
}

static void put_load(struct translation *t, unsigned size, u8 flags, unsigned reg)
{
	struct late *late = begin_access(t, size, false, flags);

	put_move(&t->e, false, size, reg);
	end_access(t, late);
}

/* ------------------------------------------------------------------ instructions that pass */

/* How the bytes of an instruction are put together again. */
struct renamed {
	bool no_rex;
	bool memory;
	unsigned base, index;		/* of the memory operand */
	unsigned reg, rm, opcode, vvvv; /* registers of the fields; NO_REGISTER: as it was */
};

static bool has_rex(const struct translation *t)
{
	return t->wide && t->zi.attributes & ZYDIS_ATTRIB_HAS_REX;
}

/* The registers of the ModRM byte, as REX makes them. */
static unsigned modrm_reg(const struct translation *t)
{
	return t->zi.raw.modrm.reg | (has_rex(t) && t->zi.raw.rex.R ? 8 : 0);
}

static unsigned modrm_rm(const struct translation *t)
{
	return t->zi.raw.modrm.rm | (has_rex(t) && t->zi.raw.rex.B ? 8 : 0);
}

static void put_operand_bytes(struct translation *t, const struct renamed *r, unsigned reg,
			      unsigned rm)
{
	struct emit *e = &t->e;
	const ZydisDecodedInstruction *zi = &t->zi;
	unsigned tail = zi->raw.modrm.offset + 1;

	if (r->memory)
		emit_memory(e, reg, r->base, r->index, 1, 0);
	else
		emit_modrm(e, 3, reg, rm);
	if (zi->raw.modrm.mod != 3) {
		tail += zi->raw.sib.offset != 0;
		tail += zi->raw.disp.size / 8;
	}
	while (tail < zi->length)
		emit_u8(e, t->bytes[tail++]);
}

/* Of F2 and F3 the last counts. 0: there is none. */
static u8 repeat_prefix(const ZydisDecodedInstruction *zi)
{
	u8 found = 0;

	for (unsigned i = 0; i < zi->raw.prefix_count; i++)
		if (zi->raw.prefixes[i].value == 0xf2 || zi->raw.prefixes[i].value == 0xf3)
			found = zi->raw.prefixes[i].value;
	return found;
}

/*
 * Each prefix once, or what we add makes an instruction longer than 15 bytes. Segments and address
 * sizes were dealt with; REX is made anew.
 */
static void put_prefixes(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedInstruction *zi = &t->zi;
	bool code16 = (t->mode & MODE_CODE) == MODE_CODE_16;
	bool vector = t->unit != UNIT_INTEGER && zi->opcode_map != ZYDIS_OPCODE_MAP_DEFAULT;
	/* What is 16 bits wide by default in the guest needs to say so here. */
	bool narrow = code16 && !vector && zi->operand_width == 16, lock = false;
	u8 repeat = repeat_prefix(zi);

	for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
		u8 prefix = zi->raw.prefixes[i].value;

		if (prefix == 0x66)
			narrow |=
				!code16 || zi->raw.prefixes[i].type == ZYDIS_PREFIX_TYPE_MANDATORY;
		lock |= prefix == 0xf0;
	}
	if (lock)
		emit_u8(e, 0xf0);
	if (narrow)
		emit_u8(e, 0x66);
	if (repeat)
		emit_u8(e, repeat);
}

static void put_legacy(struct translation *t, const struct renamed *r)
{
	struct emit *e = &t->e;
	const ZydisDecodedInstruction *zi = &t->zi;
	bool modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
	unsigned reg = r->reg != NO_REGISTER ? r->reg : modrm_reg(t);
	unsigned rm = r->rm != NO_REGISTER ? r->rm : modrm_rm(t);
	unsigned at = zi->raw.prefix_count, end;
	bool w = t->wide && zi->raw.rex.W, rex = has_rex(t);

	put_prefixes(t);
	if (!r->no_rex) {
		unsigned base = r->opcode != NO_REGISTER ? r->opcode : r->memory ? r->base : rm;

		if (!modrm && r->opcode == NO_REGISTER)
			base = 0;
		rex |= w || (modrm && reg > 7) || base > 7 ||
		       (r->memory && r->index != NO_REGISTER && r->index > 7);
		if (rex)
			emit_rex(e, w, modrm ? reg : 0, r->memory ? register_or_0(r->index) : 0,
				 base);
	}
	/* INC and DEC of 32-bit mode in one byte are REX here. */
	if (!t->wide && zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && (zi->opcode & 0xf0) == 0x40) {
		emit_u8(e, 0xff);
		emit_modrm(e, 3, zi->opcode >> 3 & 1, r->opcode);
		return;
	}
	if (modrm) {
		while (at < zi->raw.modrm.offset)
			emit_u8(e, t->bytes[at++]);
		put_operand_bytes(t, r, reg, rm);
		return;
	}
	end = at + (zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT ? 1
		    : zi->opcode_map == ZYDIS_OPCODE_MAP_0F    ? 2
							       : 3);
	while (at < end)
		emit_u8(e, t->bytes[at++]);
	if (r->opcode != NO_REGISTER)
		e->at[-1] = (e->at[-1] & ~7) | (r->opcode & 7);
	while (at < zi->length)
		emit_u8(e, t->bytes[at++]);
}

/* Does VEX.W choose between 32 and 64 bits of a general register, or of memory in its place? */
static bool vex_w_is_width(const ZydisDecodedInstruction *zi)
{
	switch (zi->opcode_map) {
	case ZYDIS_OPCODE_MAP_0F:
		return zi->opcode == 0x2a || zi->opcode == 0x2c || zi->opcode == 0x2d ||
		       zi->opcode == 0x6e || zi->opcode == 0x7e;
	case ZYDIS_OPCODE_MAP_0F38:
		return zi->opcode >= 0xf0;
	case ZYDIS_OPCODE_MAP_0F3A:
		return zi->opcode == 0x16 || zi->opcode == 0x22 || zi->opcode == 0xf0;
	default:
		return false;
	}
}

static void put_vex(struct translation *t, const struct renamed *r)
{
	struct emit *e = &t->e;
	const ZydisDecodedInstruction *zi = &t->zi;
	const u8 *vex = t->bytes + zi->raw.vex.offset;
	/* R, X, B and vvvv are stored upside down. */
	u8 first = vex[0] == 0xc4 ? vex[1] : 0x61 | (vex[1] & 0x80);
	u8 second = vex[0] == 0xc4 ? vex[2] : vex[1] & 0x7f;
	bool modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
	unsigned index = r->memory ? register_or_0(r->index) : 0;
	unsigned reg, rm, base;

	/* Outside 64-bit mode there are eight registers of 32 bits, whatever these bits say. */
	if (!t->wide) {
		first |= 0x20;
		second |= 0x40;
		if (vex_w_is_width(zi))
			second &= 0x7f;
	}
	reg = r->reg != NO_REGISTER ? r->reg : zi->raw.modrm.reg | (first & 0x80 ? 0 : 8);
	rm = r->rm != NO_REGISTER ? r->rm : zi->raw.modrm.rm | (first & 0x20 ? 0 : 8);
	base = r->memory ? r->base : rm;
	if (r->vvvv != NO_REGISTER)
		second = (second & 0x87) | (~r->vvvv & 15) << 3;
	emit_u8(e, 0xc4);
	if (modrm)
		first = (first & 0x1f) | (reg & 8 ? 0 : 0x80) | (index & 8 ? 0 : 0x40) |
			(base & 8 ? 0 : 0x20);
	emit_u8(e, first);
	emit_u8(e, second);
	emit_u8(e, zi->opcode);
	if (modrm)
		put_operand_bytes(t, r, reg, rm);
}

/* A general register among the operands. */
struct use {
	unsigned gpr;
	unsigned host;
	bool load, store;
};

struct uses {
	unsigned count;
	struct use use[4];
	bool rcx_taken; /* by the guest's rcx, for those that cannot name another */
	bool rcx_store;
	bool high; /* AH, CH, DH or BH is there: no REX */
};

static bool reads(const ZydisDecodedOperand *operand)
{
	return operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
}

static bool writes(const ZydisDecodedOperand *operand)
{
	return operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

/* A free scratch register, or NO_REGISTER. r9 and r10 are the operand's, unless it was folded into
 * r9. */
static unsigned take_scratch(u32 *free)
{
	for (unsigned reg = 0; reg < 16; reg++)
		if (*free & 1u << reg) {
			*free &= ~(1u << reg);
			return reg;
		}
	return NO_REGISTER;
}

/* Among the operands, the register that is in this field. */
static unsigned *field_of(struct renamed *r, ZydisOperandEncoding encoding)
{
	switch (encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		return &r->reg;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		return &r->rm;
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		return &r->opcode;
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		return &r->vvvv;
	default:
		return NULL;
	}
}

/* Is every operand of a kind that we know how to rename? The second lock behind the allow-list. */
static bool is_plain(const ZydisDecodedOperand *operand)
{
	ZydisRegister reg = operand->reg.value;

	switch (operand->type) {
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		return !operand->imm.is_relative;
	case ZYDIS_OPERAND_TYPE_MEMORY:
		return operand->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT &&
		       operand->mem.type == ZYDIS_MEMOP_TYPE_MEM;
	case ZYDIS_OPERAND_TYPE_REGISTER:
		switch (ZydisRegisterGetClass(reg)) {
		case ZYDIS_REGCLASS_GPR8:
		case ZYDIS_REGCLASS_GPR16:
		case ZYDIS_REGCLASS_GPR32:
		case ZYDIS_REGCLASS_GPR64:
			return operand->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT ||
			       gpr_of(reg) < 4;
		case ZYDIS_REGCLASS_FLAGS:
		case ZYDIS_REGCLASS_X87:
		case ZYDIS_REGCLASS_MMX:
		case ZYDIS_REGCLASS_XMM:
		case ZYDIS_REGCLASS_YMM:
			return true;
		default:
			return reg == ZYDIS_REGISTER_MXCSR || reg == ZYDIS_REGISTER_X87CONTROL ||
			       reg == ZYDIS_REGISTER_X87STATUS || reg == ZYDIS_REGISTER_X87TAG;
		}
	default:
		return false;
	}
}

static bool collect(struct translation *t, struct uses *uses, const ZydisDecodedOperand **memory)
{
	*uses = (struct uses){0};
	*memory = NULL;
	for (unsigned i = 0; i < t->zi.operand_count; i++) {
		const ZydisDecodedOperand *operand = &t->op[i];
		unsigned gpr = operand_gpr(operand);

		if (!is_plain(operand))
			return false;
		if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
			*memory = operand;
		if (gpr == NO_REGISTER)
			continue;
		if (is_high_byte(operand->reg.value))
			uses->high = true;
		if (operand->encoding == ZYDIS_OPERAND_ENCODING_NONE && gpr == RCX) {
			/* The count of a shift, CMPXCHG16B, PCMPESTRI: it cannot be another
			 * register. */
			uses->rcx_taken = true;
			uses->rcx_store |= writes(operand);
		}
	}
	return true;
}

/* Of a source that is 0, BSF and BSR leave the destination as it was, whatever manuals say. */
static bool may_keep(const struct translation *t)
{
	return t->zi.mnemonic == ZYDIS_MNEMONIC_BSF || t->zi.mnemonic == ZYDIS_MNEMONIC_BSR;
}

/* Give each register operand a host register, and load those that are not at home in one. */
static void rename_registers(struct translation *t, struct renamed *r, struct uses *uses, u32 free)
{
	struct emit *e = &t->e;

	if (uses->rcx_taken)
		emit_mov(e, H_RCX, H_GUEST_RCX);
	for (unsigned i = 0; i < t->zi.operand_count; i++) {
		const ZydisDecodedOperand *operand = &t->op[i];
		unsigned *field = field_of(r, operand->encoding);
		unsigned gpr = operand_gpr(operand), host;
		bool high;

		if (!field || gpr == NO_REGISTER)
			continue;
		high = is_high_byte(operand->reg.value);
		host = home[gpr];
		/* Without a REX prefix only the first eight can be named: what is not at home there
		 * visits rcx. */
		if (host == NOT_A_HOME || (uses->high && host > 7)) {
			struct use *use = NULL;

			for (unsigned k = 0; k < uses->count; k++)
				if (uses->use[k].gpr == gpr)
					use = &uses->use[k];
			if (!use) {
				use = &uses->use[uses->count++];
				*use = (struct use){.gpr = gpr,
						    .host = uses->high ? H_RCX
								       : take_scratch(&free)};
			}
			if ((reads(operand) || operand->size < 32 || may_keep(t) ||
			     operand->actions & ZYDIS_OPERAND_ACTION_CONDWRITE) &&
			    !use->load) {
				use->load = true;
				if (host == NOT_A_HOME)
					emit_load_gs(e, use->host, CTX_GPR + 8 * gpr);
				else
					emit_mov(e, use->host, host);
			}
			use->store |= writes(operand);
			host = use->host;
		}
		*field = high ? host + 4 : host;
	}
}

static void store_registers(struct translation *t, const struct uses *uses)
{
	struct emit *e = &t->e;

	if (uses->rcx_store)
		emit_mov(e, H_GUEST_RCX, H_RCX);
	for (unsigned i = 0; i < uses->count; i++) {
		const struct use *use = &uses->use[i];

		if (!use->store)
			continue;
		if (home[use->gpr] == NOT_A_HOME)
			emit_store_gs(e, CTX_GPR + 8 * use->gpr, use->host);
		else
			emit_mov(e, home[use->gpr], use->host);
	}
}

static void put_renamed(struct translation *t, const struct renamed *r)
{
	if (t->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		put_vex(t, r);
	else
		put_legacy(t, r);
}

/* How many registers of the operands have no home, so need a scratch register. */
static unsigned homeless(const struct translation *t)
{
	u32 seen = 0;

	for (unsigned i = 0; i < t->zi.operand_count; i++) {
		unsigned gpr = operand_gpr(&t->op[i]);

		if (gpr != NO_REGISTER && home[gpr] == NOT_A_HOME)
			seen |= 1u << gpr;
	}
	return __builtin_popcount(seen);
}

#define BIT(reg) (1u << (reg))

static void put_in_memory(struct translation *t, struct renamed *r, struct uses *uses)
{
	struct emit *e = &t->e;
	u32 free = uses->rcx_taken ? 0 : BIT(H_RCX);
	bool borrowed = false;

	r->memory = true;
	r->base = H_ADDRESS;
	r->index = H_ADDEND;
	if (uses->high) {
		bool visits = uses->rcx_taken;

		/* Does another operand want rcx? */
		for (unsigned i = 0; i < t->zi.operand_count; i++) {
			unsigned gpr = operand_gpr(&t->op[i]);

			if (gpr == RCX || gpr == RSP)
				visits = true;
		}
		r->base = visits ? H_RDX : H_RCX;
		r->index = NO_REGISTER;
		borrowed = visits;
		if (borrowed)
			emit_store_gs(e, CTX_SPARE + 8, H_RDX);
		emit_lea(e, true, r->base, H_ADDRESS, H_ADDEND, 1, 0);
	} else if (homeless(t) > (unsigned)__builtin_popcount(free)) {
		emit_lea(e, true, H_ADDRESS, H_ADDRESS, H_ADDEND, 1, 0);
		r->index = NO_REGISTER;
		free |= BIT(H_ADDEND);
	}
	rename_registers(t, r, uses, free);
	put_renamed(t, r);
	if (borrowed)
		emit_load_gs(e, H_RDX, CTX_SPARE + 8);
	store_registers(t, uses);
}

/*
 * 16 bytes of memory had to be aligned before VEX, but for the instructions that were made for
 * those that are not. (Intel SDM 2A, "Exceptions Type 1", "2" and "4".)
 */
static bool wants_alignment(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *memory)
{
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_VMOVAPS:
	case ZYDIS_MNEMONIC_VMOVAPD:
	case ZYDIS_MNEMONIC_VMOVDQA:
	case ZYDIS_MNEMONIC_VMOVNTPS:
	case ZYDIS_MNEMONIC_VMOVNTPD:
	case ZYDIS_MNEMONIC_VMOVNTDQ:
	case ZYDIS_MNEMONIC_VMOVNTDQA:
		return true;
	case ZYDIS_MNEMONIC_MOVUPS:
	case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU:
	case ZYDIS_MNEMONIC_LDDQU:
	case ZYDIS_MNEMONIC_PCMPESTRI:
	case ZYDIS_MNEMONIC_PCMPESTRM:
	case ZYDIS_MNEMONIC_PCMPISTRI:
	case ZYDIS_MNEMONIC_PCMPISTRM:
		return false;
	default:
		return zi->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && memory->size == 128;
	}
}

/* Does it wait for the x87's exceptions? All of x87 and MMX does that accesses memory, but two. */
static bool waits(const struct translation *t)
{
	if (t->zi.mnemonic == ZYDIS_MNEMONIC_FNSTCW || t->zi.mnemonic == ZYDIS_MNEMONIC_FNSTSW)
		return false;
	for (unsigned i = 0; i < t->zi.operand_count; i++)
		if (t->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(t->op[i].reg.value) == ZYDIS_REGCLASS_MMX)
			return true;
	return t->unit == UNIT_X87;
}

/* MOVSXD to 16 bits reads no more than that; Zydis thinks otherwise. */
static unsigned access_size(const struct translation *t, const ZydisDecodedOperand *memory)
{
	if (t->zi.mnemonic == ZYDIS_MNEMONIC_MOVSXD && t->zi.operand_width == 16)
		return 2;
	return memory->size / 8;
}

static u8 access_flags(const struct translation *t, const ZydisDecodedOperand *memory)
{
	/* With an unmasked exception an x87 store stores nothing. */
	return (reads(memory) || t->unit == UNIT_X87 ? SITE_READS : 0) |
	       (is_stack(memory) ? SITE_STACK : 0) |
	       (wants_alignment(&t->zi, memory) ? SITE_ALIGNED : 0) | (waits(t) ? SITE_WAITS : 0);
}

/*
 * MOVSX, MOVZX and CRC32 of AH, CH, DH or BH: the only ones where such a register meets rsp. As a
 * low byte in rcx it meets everybody.
 */
static bool has_high_source(const struct translation *t)
{
	return (t->zi.mnemonic == ZYDIS_MNEMONIC_MOVSX || t->zi.mnemonic == ZYDIS_MNEMONIC_MOVZX ||
		t->zi.mnemonic == ZYDIS_MNEMONIC_CRC32) &&
	       t->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER && is_high_byte(t->op[1].reg.value);
}

static void put_high_source(struct translation *t, struct renamed *r)
{
	emit_rorx(&t->e, H_RCX, home[gpr_of(t->op[1].reg.value)], 8);
	r->no_rex = false;
	r->rm = H_RCX;
	r->reg = home[gpr_of(t->op[0].reg.value)];
	put_renamed(t, r);
}

static bool put_pass(struct translation *t)
{
	struct renamed r = {false,	 false,	      NO_REGISTER, NO_REGISTER,
			    NO_REGISTER, NO_REGISTER, NO_REGISTER, NO_REGISTER};
	const ZydisDecodedOperand *memory;
	struct uses uses;
	struct late *late;

	if (!collect(t, &uses, &memory))
		return false;
	r.no_rex = uses.high;
	if (has_high_source(t)) {
		put_high_source(t, &r);
		return true;
	}
	if (!memory) {
		mark(t, t->offset);
		rename_registers(t, &r, &uses,
				 BIT(H_ADDRESS) | BIT(H_ADDEND) |
					 (uses.rcx_taken ? 0 : BIT(H_RCX)));
		put_renamed(t, &r);
		store_registers(t, &uses);
		return true;
	}
	put_address(t, memory, 0);
	late = begin_access(t, access_size(t, memory), writes(memory), access_flags(t, memory));
	put_in_memory(t, &r, &uses);
	end_access(t, late);
	return true;
}

/* ------------------------------------------------------------------ instructions with a form of
 * their own */

/* Write a host register to a guest one, as an operand of `size` bytes. Scratch registers only as
 * `from`. */
static void put_gpr(struct translation *t, unsigned gpr, unsigned size, unsigned from)
{
	struct emit *e = &t->e;

	if (size == 4)
		emit_mov32(e, from, from);
	if (home[gpr] == NOT_A_HOME) {
		if (size == 2) {
			emit_u8(e, 0x66);
			emit_gs(e, 0x89, false, from, CTX_GPR + 8 * gpr);
		} else {
			emit_store_gs(e, CTX_GPR + 8 * gpr, from);
		}
		return;
	}
	if (size == 2)
		emit_u8(e, 0x66);
	emit_rex(e, size == 8, from, 0, home[gpr]);
	emit_u8(e, 0x89);
	emit_modrm(e, 3, from, home[gpr]);
}

static void put_lea(struct translation *t)
{
	unsigned size = t->zi.operand_width / 8;

	put_effective(t, &t->op[1], 0);
	put_truncation(t);
	put_gpr(t, gpr_of(t->op[0].reg.value), size, H_ADDRESS);
}

static void put_mov_offset(struct translation *t)
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
static void put_bit_string(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedOperand *memory = &t->op[0];
	unsigned size = memory->size / 8, gpr = gpr_of(t->op[1].reg.value), reg;
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
	late = begin_access(t, size, writes(memory),
			    SITE_READS | (is_stack(memory) ? SITE_STACK : 0));
	reg = use_gpr(e, gpr, H_SCRATCH);
	emit_pext_gs(e, H_SCRATCH, reg, CTX_LOW + (size == 8 ? 16 : size == 4 ? 8 : 0));
	if (t->zi.attributes & ZYDIS_ATTRIB_HAS_LOCK)
		emit_u8(e, 0xf0);
	if (size == 2)
		emit_u8(e, 0x66);
	emit_rex(e, size == 8, H_SCRATCH, H_ADDEND, H_ADDRESS);
	emit_u8(e, 0x0f);
	emit_u8(e, t->zi.opcode);
	emit_memory(e, H_SCRATCH, H_ADDRESS, H_ADDEND, 1, 0);
	end_access(t, late);
}

static void put_xlat(struct translation *t)
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

/* Stack operations are translated where the stack is flat. */
static bool stack_is_flat(const struct translation *t)
{
	return t->wide || (t->mode & (MODE_FLAT | MODE_STACK_16)) == MODE_FLAT;
}

static unsigned stack_size(const struct translation *t)
{
	return t->zi.operand_width / 8;
}

/* r9 = where the stack is, plus that. */
static void put_stack_address(struct translation *t, int32_t displacement)
{
	emit_lea(&t->e, t->wide, H_ADDRESS, H_GUEST_RSP, NO_REGISTER, 1, displacement);
}

static void put_stack_move(struct translation *t, int32_t displacement)
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

static bool put_push(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedOperand *operand = &t->op[0];
	unsigned size = stack_size(t), reg = H_SCRATCH;
	struct late *late;

	if (!stack_is_flat(t))
		return false;
	if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
		put_operand_aside(t, operand, size);
	put_stack_address(t, -(int32_t)size);
	late = begin_access(t, size, true, SITE_STACK);
	if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
		emit_load_gs(e, H_SCRATCH, CTX_TARGET);
	else if (operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		emit_mov_imm64(e, H_SCRATCH, operand->imm.value.u);
	else
		reg = use_gpr(e, gpr_of(operand->reg.value), H_SCRATCH);
	put_move(e, true, size, reg);
	emit_mov(e, H_GUEST_RSP, H_ADDRESS);
	end_access(t, late);
	return true;
}

static bool put_pop(struct translation *t)
{
	struct emit *e = &t->e;
	const ZydisDecodedOperand *operand = &t->op[0];
	unsigned size = stack_size(t), gpr;
	struct late *late;

	if (!stack_is_flat(t))
		return false;
	put_stack_address(t, 0);
	put_load(t, size, SITE_STACK, H_SCRATCH);
	if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		gpr = gpr_of(operand->reg.value);
		put_stack_move(t, size);
		put_gpr(t, gpr, size, H_SCRATCH);
		return true;
	}
	/* The address is that after the pop, but a fault must find rsp as it was. */
	emit_store_gs(e, CTX_TARGET, H_SCRATCH);
	put_address(t, operand, gpr_of(operand->mem.base) == RSP ? size : 0);
	late = begin_access(t, size, true, is_stack(operand) ? SITE_STACK : 0);
	emit_load_gs(e, H_SCRATCH, CTX_TARGET);
	put_move(e, true, size, H_SCRATCH);
	put_stack_move(t, size);
	end_access(t, late);
	return true;
}

static bool put_leave(struct translation *t)
{
	struct emit *e = &t->e;
	unsigned size = stack_size(t);

	if (!stack_is_flat(t))
		return false;
	emit_lea(e, t->wide, H_ADDRESS, H_RBP, NO_REGISTER, 1, 0);
	put_load(t, size, SITE_STACK, H_SCRATCH);
	emit_lea(e, t->wide, H_GUEST_RSP, H_RBP, NO_REGISTER, 1, size);
	put_gpr(t, RBP, size, H_SCRATCH);
	return true;
}

/* ------------------------------------------------------------------ control flow */

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

static bool put_jmp(struct translation *t)
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

static bool put_call(struct translation *t)
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

static bool put_ret(struct translation *t)
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

static bool put_jcc(struct translation *t)
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

static bool put_loop(struct translation *t)
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

/* ------------------------------------------------------------------ what C executes */

static u8 segment_for_c(const struct translation *t)
{
	static const struct {
		u64 attribute;
		u8 segment;
	} overrides[] = {
		{ZYDIS_ATTRIB_HAS_SEGMENT_CS, CS}, {ZYDIS_ATTRIB_HAS_SEGMENT_SS, SS},
		{ZYDIS_ATTRIB_HAS_SEGMENT_DS, DS}, {ZYDIS_ATTRIB_HAS_SEGMENT_ES, ES},
		{ZYDIS_ATTRIB_HAS_SEGMENT_FS, FS}, {ZYDIS_ATTRIB_HAS_SEGMENT_GS, GS},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(overrides); i++)
		if (t->zi.attributes & overrides[i].attribute)
			return overrides[i].segment;
	return DS;
}

static void describe_memory(struct insn *insn, const ZydisDecodedOperand *operand)
{
	ZydisRegister base = operand->mem.base, index = operand->mem.index;

	insn->has_memory = true;
	insn->scale = operand->mem.scale ? operand->mem.scale : 1;
	insn->displacement = operand->mem.disp.value;
	insn->segment = segment_of(operand->mem.segment);
	insn->base = base == ZYDIS_REGISTER_RIP || base == ZYDIS_REGISTER_EIP ? OPERAND_RIP
									      : gpr_of(base);
	insn->index = gpr_of(index);
	/* VSIB */
	if (index >= ZYDIS_REGISTER_XMM0 && index <= ZYDIS_REGISTER_YMM31)
		insn->index = ZydisRegisterGetId(index);
}

static const struct insn *describe(struct translation *t, handler *function)
{
	const ZydisDecodedInstruction *zi = &t->zi;
	struct insn *insn = cache_alloc(t->vcpu->cache, sizeof(*insn));
	bool vex = zi->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
	unsigned immediates = 0;

	insn->handler = function;
	insn->mnemonic = zi->mnemonic;
	insn->length = zi->length;
	insn->opsize = zi->operand_width / 8;
	insn->addrsize = zi->address_width / 8;
	insn->repeat = repeat_prefix(zi);
	insn->opcode = zi->opcode;
	insn->base = insn->index = insn->rm = insn->vvvv = OPERAND_NONE;
	insn->segment = segment_for_c(t);
	insn->offset = t->offset;
	if (zi->attributes & ZYDIS_ATTRIB_HAS_MODRM) {
		insn->reg = modrm_reg(t);
		if (zi->raw.modrm.mod == 3)
			insn->rm = modrm_rm(t);
	}
	for (unsigned i = 0; i < zi->operand_count; i++) {
		const ZydisDecodedOperand *operand = &t->op[i];
		bool shown = operand->visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT;

		if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY && shown)
			describe_memory(insn, operand);
		if (operand->type == ZYDIS_OPERAND_TYPE_POINTER) {
			insn->immediate = operand->ptr.offset;
			insn->immediate2 = operand->ptr.segment;
		}
		if (operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			if (immediates++)
				insn->immediate2 = operand->imm.value.u;
			else
				insn->immediate = operand->imm.value.u;
		}
		if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
			ZydisRegister reg = operand->reg.value;

			if (operand->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD)
				insn->vvvv = ZydisRegisterGetId(reg);
			if (vex && operand->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG)
				insn->reg = ZydisRegisterGetId(reg);
			if (vex && operand->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
				insn->rm = ZydisRegisterGetId(reg);
			/* push fs, and registers in the opcode */
			if (ZydisRegisterGetClass(reg) == ZYDIS_REGCLASS_SEGMENT && shown &&
			    !(zi->attributes & ZYDIS_ATTRIB_HAS_MODRM))
				insn->reg = reg - ZYDIS_REGISTER_ES;
		}
	}
	if (vex)
		insn->vlen = zi->raw.vex.L ? 32 : 16;
	return insn;
}

static void put_handler(struct translation *t, const struct form *form)
{
	put_site(&t->e, SITE_INSN, form->last ? SITE_LAST : 0, 0, t->offset,
		 (u64)describe(t, form->handler));
}

static void put_raise(struct translation *t, enum vector vector)
{
	put_site(&t->e, SITE_RAISE, 0, 0, t->offset, vector);
	t->ended = true;
}

/* ------------------------------------------------------------------ the block */

/* May the unit be used? If not, put what happens instead. */
static bool unit_allowed(struct translation *t, enum form_unit unit)
{
	if (unit == UNIT_INTEGER)
		return true;
	if ((unit == UNIT_MMX && t->mode & MODE_NO_MMX) ||
	    (unit == UNIT_SSE && t->mode & MODE_NO_SSE) ||
	    (unit == UNIT_AVX && t->mode & MODE_NO_AVX)) {
		put_raise(t, VECTOR_UD);
		return false;
	}
	if (t->mode & MODE_NO_FPU) {
		put_raise(t, VECTOR_NM);
		return false;
	}
	return true;
}

static bool put_form(struct translation *t, const struct form *form)
{
	switch (form->kind) {
	case FORM_PASS:
		return put_pass(t);
	case FORM_NOTHING:
		return true;
	case FORM_TOUCH:
		put_address(t, &t->op[0], 0);
		end_access(t, begin_access(t, 1, false, is_stack(&t->op[0]) ? SITE_STACK : 0));
		return true;
	case FORM_HANDLER:
		put_handler(t, form);
		return true;
	case FORM_LEA:
		put_lea(t);
		return true;
	case FORM_MOV_OFFSET:
		put_mov_offset(t);
		return true;
	case FORM_BIT_STRING:
		put_bit_string(t);
		return true;
	case FORM_XLAT:
		put_xlat(t);
		return true;
	case FORM_PUSH:
		return put_push(t);
	case FORM_POP:
		return put_pop(t);
	case FORM_LEAVE:
		return put_leave(t);
	case FORM_CALL:
		return put_call(t);
	case FORM_RET:
		return put_ret(t);
	case FORM_JMP:
		return put_jmp(t);
	case FORM_JCC:
		return put_jcc(t);
	case FORM_LOOP:
		return put_loop(t);
	case FORM_UNKNOWN:
		break;
	}
	return false;
}

static void put_instruction(struct translation *t)
{
	struct form form = form_of(&t->zi, t->op);

	t->unit = form.unit;
	if (!unit_allowed(t, form.unit))
		return;
	if (!put_form(t, &form)) {
		put_raise(t, VECTOR_UD);
		return;
	}
	t->ended = form.last;
}

static void put_late(struct translation *t)
{
	struct emit *e = &t->e;

	for (unsigned i = 0; i < t->lates; i++) {
		struct late *late = &t->late[i];

		emit_set_jump(late->jump, e->at);
		if (late->kind == LATE_LINK) {
			late->link->stub = e->at;
			put_site(e, SITE_LINK, 0, 0, late->offset, (u64)late->link);
			continue;
		}
		put_site(e, late->write ? SITE_STORE : SITE_LOAD, late->flags, late->size,
			 late->offset, 0);
		emit_set_jump(emit_jmp(e), late->begin);
		if (!late->write)
			continue;
		mark(t, late->offset);
		for (const u8 *at = late->begin; at < late->end; at++)
			emit_u8(e, *at);
		put_site(e, SITE_COMMIT, late->flags, 0, late->next, 0);
		emit_set_jump(emit_jmp(e), late->end);
	}
}

/* The guest's bytes as they are now: it, or a device, may change them while we look. */
struct window {
	u8 bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
	unsigned length;
};

/* The bytes from this offset of the page on, as far as one instruction can reach. */
static void look(struct window *window, const u8 *page, const u8 *page2, unsigned offset)
{
	window->length = 0;
	while (window->length < ZYDIS_MAX_INSTRUCTION_LENGTH) {
		unsigned at = offset + window->length;

		if (at < PAGE_SIZE)
			window->bytes[window->length] = page[at];
		else if (page2)
			window->bytes[window->length] = page2[at - PAGE_SIZE];
		else
			break;
		window->length++;
	}
}

/* A limit of the architecture: longer ones are #GP, and Zydis says so by a status of its own. */
static void put_undecoded(struct translation *t, ZyanStatus status)
{
	put_raise(t, status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? VECTOR_GP : VECTOR_UD);
}

/* One instruction. False: it does not fit into what is left of this page, or of the block. */
static bool put_next(struct translation *t, const ZydisDecoder *decoder, const u8 *page,
		     const u8 *page2)
{
	struct block *block = t->block;
	struct window window;
	ZyanStatus status;

	look(&window, page, page2, t->next);
	t->bytes = window.bytes;
	t->offset = t->next;
	status = ZydisDecoderDecodeFull(decoder, window.bytes, window.length, &t->zi, t->op);
	if (status == ZYDIS_STATUS_NO_MORE_DATA && !page2)
		return false;
	if (!ZYAN_SUCCESS(status)) {
		block->length += window.length;
		put_undecoded(t, status);
	} else {
		t->next = t->offset + t->zi.length;
		block->length += t->zi.length;
		block->insns++;
		put_instruction(t);
	}
	return true;
}

static void put_body(struct translation *t, const u8 *page, const u8 *page2)
{
	ZydisDecoder decoder;
	unsigned most = page2 || t->mode & MODE_SINGLE ? 1 : BLOCK_INSNS;

	form_decoder(&decoder, t->mode);
	for (unsigned i = 0; i < most && !t->ended && t->next < (int32_t)PAGE_SIZE; i++)
		if (!put_next(t, &decoder, page, page2)) {
			/* It crosses into the next page: a block of its own. */
			t->block->crosses = !i;
			put_site(&t->e, SITE_GO, 0, 0, t->offset, 0);
			return;
		}
	if (!t->ended)
		put_jump(t, t->next);
}

struct block *translate(struct vcpu *vcpu, u64 gpa, u64 gpa2, u32 mode)
{
	struct cache *cache = vcpu->cache;
	static __thread struct translation scratch;
	struct translation *t = &scratch;
	struct block *block;
	unsigned view = mode & MODE_VIEW;
	u64 began;

	cache_reserve(vcpu);
	cache_protect(vcpu, gpa);
	if (gpa2)
		cache_protect(vcpu, gpa2);
	began = clock_tsc();
	vectors_save(vcpu);
	block = cache_alloc(cache, sizeof(*block));
	t->vcpu = vcpu;
	t->block = block;
	t->mode = mode;
	t->wide = (mode & MODE_CODE) == MODE_CODE_64;
	t->tlb = offsetof(struct context, tlb) + view * sizeof(struct tlb);
	t->jump = offsetof(struct context, jump) + view * sizeof(struct jump_cache);
	t->ended = false;
	t->links = t->lates = t->marks = 0;
	t->e = (struct emit){.at = cache->write + cache->used, .shift = cache->run - cache->write};
	t->offset = t->next = gpa % PAGE_SIZE;
	block->gpa = gpa;
	block->gpa2 = gpa2;
	block->mode = mode;
	block->offset = gpa % PAGE_SIZE;
	block->code = t->e.at + t->e.shift;
	emit_lea(&t->e, true, H_ADDRESS, H_ADDRESS, NO_REGISTER, 1, -(int32_t)block->offset);
	emit_store_gs(&t->e, CTX_PAGE, H_ADDRESS);
	block->inner = t->e.at + t->e.shift;
	put_body(t, ram_at(vcpu->soft, align_down(gpa, PAGE_SIZE)),
		 gpa2 ? ram_at(vcpu->soft, gpa2) : NULL);
	put_late(t);
	block->size = t->e.at + t->e.shift - block->code;
	block->marks = t->marks;
	block->mark = cache_alloc(cache, t->marks * sizeof(struct mark));
	for (unsigned i = 0; i < t->marks; i++)
		block->mark[i] = t->mark[i];
	cache->used += align_up(block->size, 16);
	if (block->crosses)
		block->length = PAGE_SIZE - block->offset;
	cache_add(vcpu, block);
	vcpu->stats.blocks_translated++;
	vcpu->stats.insns_translated += block->insns;
	vcpu->stats.bytes_emitted += block->size;
	vcpu->stats.ticks_translating += clock_tsc() - began;
	return block;
}
