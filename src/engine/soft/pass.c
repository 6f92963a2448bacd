/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instructions that pass: put together again from their own bits, with other registers.
 * What they compute is the silicon's affair.
 *
 * Tour 6.230: Instructions that pass
 */
#include "engine/soft/translation.h"

static bool has_rex(const struct translation *t)
{
	return t->wide && t->zi.attributes & ZYDIS_ATTRIB_HAS_REX;
}

/* The registers of the ModRM byte, as REX makes them. */
unsigned modrm_reg(const struct translation *t)
{
	return t->zi.raw.modrm.reg | (has_rex(t) && t->zi.raw.rex.R ? 8 : 0);
}

unsigned modrm_rm(const struct translation *t)
{
	return t->zi.raw.modrm.rm | (has_rex(t) && t->zi.raw.rex.B ? 8 : 0);
}

void put_operand_bytes(struct translation *t, const struct renamed *r, unsigned reg, unsigned rm)
{
	struct emit *e = &t->e;
	const ZydisDecodedInstruction *zi = &t->zi;
	unsigned tail = zi->raw.modrm.offset + 1;

	if (r->memory)
		emit_memory(e, reg, r->base, r->index, 1, r->displacement);
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
u8 repeat_prefix(const ZydisDecodedInstruction *zi)
{
	u8 found = 0;

	for (unsigned i = 0; i < zi->raw.prefix_count; i++)
		if (zi->raw.prefixes[i].value == 0xf2 || zi->raw.prefixes[i].value == 0xf3)
			found = zi->raw.prefixes[i].value;
	return found;
}

/* Fences, and MOVNTI: 66 would make them undefined. */
static bool refuses_size(const ZydisDecodedInstruction *zi)
{
	return zi->opcode_map == ZYDIS_OPCODE_MAP_0F && (zi->opcode == 0xae || zi->opcode == 0xc3);
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
	bool narrow = code16 && !vector && zi->operand_width == 16 && !refuses_size(zi),
	     lock = false;
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
		/* 64-bit mode has lost the second name of 80. */
		if (zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && zi->opcode == 0x82)
			e->at[-1] = 0x80;
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
		       zi->opcode == 0x6e || zi->opcode == 0x7e || zi->opcode == 0x92 ||
		       zi->opcode == 0x93;
	case ZYDIS_OPCODE_MAP_0F38:
		return zi->opcode >= 0xf0;
	case ZYDIS_OPCODE_MAP_0F3A:
		return zi->opcode == 0x16 || zi->opcode == 0x22 || zi->opcode == 0x60 ||
		       zi->opcode == 0x61 || zi->opcode == 0xf0;
	default:
		return false;
	}
}

/* A vector register in the upper half of the last byte. */
static bool names_register_last(const struct translation *t)
{
	for (unsigned i = 0; i < t->zi.operand_count; i++)
		if (t->op[i].encoding == ZYDIS_OPERAND_ENCODING_IS4)
			return true;
	return false;
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
	if (!t->wide && names_register_last(t))
		e->at[-1] &= 0x7f;
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
		case ZYDIS_REGCLASS_ZMM:
		case ZYDIS_REGCLASS_MASK:
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
			uses->rcx_store |= operand_writes(operand);
		}
	}
	return true;
}

/* Of a source that is 0, BSF and BSR leave the destination as it was, whatever manuals say. */
static bool may_keep(const struct translation *t)
{
	return t->zi.mnemonic == ZYDIS_MNEMONIC_BSF || t->zi.mnemonic == ZYDIS_MNEMONIC_BSR;
}

/*
 * Give each register operand a host register, and load those that are not at home in one.
 *
 * Tour 6.231: Other registers
 */
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
		host = register_home[gpr];
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
			if ((operand_reads(operand) || operand->size < 32 || may_keep(t) ||
			     operand->actions & ZYDIS_OPERAND_ACTION_CONDWRITE) &&
			    !use->load) {
				use->load = true;
				if (host == NOT_A_HOME)
					emit_load_gs(e, use->host, CTX_GPR + 8 * gpr);
				else
					emit_mov(e, use->host, host);
			}
			use->store |= operand_writes(operand);
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
		if (register_home[use->gpr] == NOT_A_HOME)
			emit_store_gs(e, CTX_GPR + 8 * use->gpr, use->host);
		else
			emit_mov(e, register_home[use->gpr], use->host);
	}
}

static void put_renamed(struct translation *t, const struct renamed *r)
{
	if (t->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
		put_evex(t, r);
	else if (t->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
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

		if (gpr != NO_REGISTER && register_home[gpr] == NOT_A_HOME)
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
	case ZYDIS_MNEMONIC_VMOVDQA32:
	case ZYDIS_MNEMONIC_VMOVDQA64:
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
	return (operand_reads(memory) || t->unit == UNIT_X87 ? SITE_READS : 0) |
	       (is_stack(memory) ? SITE_STACK : 0) |
	       (wants_alignment(&t->zi, memory) ? SITE_ALIGNED : 0) | (waits(t) ? SITE_WAITS : 0) |
	       (locks(&t->zi) ? SITE_LOCKED : 0);
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
	emit_rorx(&t->e, H_RCX, register_home[gpr_of(t->op[1].reg.value)], 8);
	r->no_rex = false;
	r->rm = H_RCX;
	r->reg = register_home[gpr_of(t->op[0].reg.value)];
	put_renamed(t, r);
}

/*
 * A follower of a group whose address needs no register but one that has a home; and its
 * displacement is in bytes, which EVEX's are not.
 */
static bool put_following(struct translation *t, const ZydisDecodedOperand *memory,
			  struct renamed *r, struct uses *uses)
{
	unsigned base = gpr_of(memory->mem.base), scratch = !uses->rcx_taken;

	if (base == NO_REGISTER || register_home[base] == NOT_A_HOME || memory->mem.index ||
	    uses->high || homeless(t) > scratch ||
	    t->zi.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
	    !begin_following(t, access_size(t, memory), operand_writes(memory)))
		return false;
	r->memory = true;
	r->base = register_home[base];
	r->index = H_ADDEND;
	r->displacement = memory->mem.disp.value;
	rename_registers(t, r, uses, scratch ? BIT(H_RCX) : 0);
	put_renamed(t, r);
	store_registers(t, uses);
	return true;
}

/*
 * An instruction that passes. Without memory, it is itself with other registers; with memory,
 * first comes the address, then the probe of the TLB, and then the instruction again, whose
 * operand is now r9 + r10. A mark notes which of the guest's instructions this is, should it
 * trap. False: one of its operands is not of a kind that we know.
 *
 * Tour 6.232: The instruction that it was
 */
bool put_pass(struct translation *t)
{
	struct renamed r = {false,	 false,	      NO_REGISTER,
			    NO_REGISTER, NO_REGISTER, NO_REGISTER,
			    NO_REGISTER, NO_REGISTER, 0};
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
		put_mark(t, t->offset);
		rename_registers(t, &r, &uses,
				 BIT(H_ADDRESS) | BIT(H_ADDEND) |
					 (uses.rcx_taken ? 0 : BIT(H_RCX)));
		put_renamed(t, &r);
		store_registers(t, &uses);
		return true;
	}
	if (put_following(t, memory, &r, &uses))
		return true;
	put_address(t, memory, 0);
	late = begin_access(t, access_size(t, memory), operand_writes(memory),
			    access_flags(t, memory));
	late->masked = evex_masked(t, memory);
	put_in_memory(t, &r, &uses);
	end_access(t, late);
	return true;
}
